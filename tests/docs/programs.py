"""Parses command lines by the programs' own argument parsers, without running the programs.

    stages/tf -m tests.docs.programs < requests.json

A request is the list of what follows `stages/py` or `stages/tf` on the command line. A program runs up to the end of
its `parse_args`. Standard output gets a list of faults, '' for a command line that the program takes. Written for both
interpreters.
"""

import argparse
import contextlib
import io
import json
import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


class Parsed(BaseException):
    """Raised in place of what a program would do after its arguments are parsed."""


def fault(words):
    """Return what is wrong with the arguments of Python in `words`, or ''."""
    if words[0] == "-m" and len(words) > 1:
        module, arguments = words[1], words[2:]
        base = ROOT.joinpath(*module.split("."))
        path = base / "__main__.py" if base.is_dir() else base.with_suffix(".py")
    else:
        module, arguments, path = None, words[1:], ROOT / words[0]
    if not path.is_file():
        return f"there is no {words[1] if module else words[0]}"
    if "argparse" not in path.read_text(encoding="utf-8"):
        return f"{path.name} takes no arguments" if arguments else ""
    return _parse(module, path, arguments)


def _parse(module, path, arguments):
    saved = sys.argv, argparse.ArgumentParser.parse_args, argparse.ArgumentParser.parse_known_args
    original = argparse.ArgumentParser.parse_known_args
    depth = []

    def parse_known_args(self, *given, **more):
        """Parse, then end the program, but not inside of a parser: subcommands have parsers of their own."""
        depth.append(self)
        try:
            result = original(self, *given, **more)
        finally:
            depth.pop()
        if not depth and not parsing:
            raise Parsed
        return result

    parsing = []

    def parse_args(self, *given, **more):
        parsing.append(self)
        try:
            saved[1](self, *given, **more)
        finally:
            parsing.pop()
        raise Parsed

    sys.argv = [str(path), *arguments]
    argparse.ArgumentParser.parse_args = parse_args
    argparse.ArgumentParser.parse_known_args = parse_known_args
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            if module:
                runpy.run_module(module, run_name="__main__", alter_sys=False)
            else:
                runpy.run_path(str(path), run_name="__main__")
        return "it ended without parsing its arguments"
    except Parsed:
        return ""
    except SystemExit as end:
        return "" if end.code in (0, None) else said.getvalue().strip() or str(end.code)
    finally:
        sys.argv, argparse.ArgumentParser.parse_args, argparse.ArgumentParser.parse_known_args = saved


def main():
    os.chdir(str(ROOT))
    requests = json.loads(sys.stdin.read())
    # What programs print while they are imported must not come between.
    with contextlib.redirect_stdout(sys.stderr):
        faults = [fault(words) for words in requests]
    print(json.dumps(faults))


if __name__ == "__main__":
    main()
