"""Puts small mistakes into modules, one at a time, and says which of them the tests find.

    stages/py -m tests.mutation --modules covpool/faces/geometry.py --tests tests/faces/test_faces_geometry.py

The tests run in a copy of the project, those below tests/tf in TensorFlow's interpreter. A mutation that survives shows
a line that no test checks, or one that can be written in another way with the same results; the latter are listed in
tests/mutation/equivalent.tsv with the reason.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.mutation.places import Mutation, choose, find_mutations
from tests.mutation.running import Copy, MutationError
from tests.project import ROOT

EQUIVALENT = ROOT / "tests" / "mutation" / "equivalent.tsv"
RESULTS = ("killed", "timeout", "equivalent", "survived")


def parser() -> argparse.ArgumentParser:
    """Return the parser of this program's command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.splitlines()[0])
    parser.add_argument("--modules", nargs="+", required=True, metavar="FILE", help="modules to put mistakes into")
    parser.add_argument("--tests", nargs="+", required=True, metavar="TEST", help="tests to run, as pytest takes them")
    parser.add_argument("--count", type=int, default=30, help="number of mutations, each at another place (default 30)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of places (default 0)")
    parser.add_argument("--limit", type=float, help="seconds per mutation (default 3 x the plain run + 10)")
    parser.add_argument("--list", action="store_true", help="print the chosen mutations and run nothing")
    return parser


def main() -> int:
    arguments = parser().parse_args()
    modules = [Path(module).resolve().relative_to(ROOT).as_posix() for module in arguments.modules]
    found = [each for module in modules for each in find_mutations(module, (ROOT / module).read_bytes())]
    chosen = choose(found, arguments.count, arguments.seed)
    if arguments.list:
        for mutation in chosen:
            print(_describe(mutation))
        return 0
    equivalent = known_equivalents()
    results = []
    with tempfile.TemporaryDirectory(prefix="covpool-mutation-") as folder:
        project = Copy(ROOT, Path(folder), arguments.tests)
        seconds = project.check(modules)
        limit = arguments.limit or 3 * seconds + 10
        print(f"{len(chosen)} of {len(found)} mutations; the tests take {seconds:.1f} s, the limit is {limit:.0f} s")
        for mutation in chosen:
            result = project.run(mutation, limit)
            text = (ROOT / mutation.module).read_text().splitlines()[mutation.line - 1].strip()
            if result == "survived" and (mutation.module, text, mutation.before, mutation.after) in equivalent:
                result = "equivalent"
            results.append((mutation.module, result))
            print(f"{result:10} {_describe(mutation)}", flush=True)
    print()
    print(table(results))
    return 1 if any(result == "survived" for _, result in results) else 0


def known_equivalents() -> set[tuple[str, str, str, str]]:
    """Return (module, text of the line, before, after) of the mutations that change no result."""
    with open(EQUIVALENT, newline="") as stream:
        rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {(row["module"], row["line"], row["before"], row["after"]) for row in rows}


def table(results: list[tuple[str, str]]) -> str:
    """Return a Markdown table of (module, result) pairs: counts per module, and their sum."""
    lines = ["| module | mutations | " + " | ".join(RESULTS) + " |", "|---" * (2 + len(RESULTS)) + "|"]
    modules = list(dict.fromkeys(module for module, _ in results))
    for name in [*modules, "all"]:
        counts = Counter(result for module, result in results if name in (module, "all"))
        cells = [name, str(sum(counts.values())), *(str(counts[result]) for result in RESULTS)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _describe(mutation: Mutation) -> str:
    before, after = (" ".join(text.split()) for text in (mutation.before, mutation.after))
    return f"{mutation.module}:{mutation.line} {mutation.operator}: {before} -> {after}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MutationError as error:
        sys.exit(f"mutation: {error}")
