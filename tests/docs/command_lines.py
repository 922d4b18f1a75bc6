"""Says what is wrong with a command line that a page shows, by asking the program that it names."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import subprocess
from functools import cache

import yaml

from covpool.config import ParamsError, parse_params
from tests.docs.markdown import PROGRAMS, program_name
from tests.docs.programs import fault as program_fault
from tests.project import ROOT

#: `<this repository>`, `...` and the like, which a reader fills in.
PLACEHOLDER = re.compile(r"<[^<>]*>|\.\.\.")
FILLED = "placeholder"
#: Commands of DVC whose arguments are stages or files of the pipeline.
WITH_TARGETS = ("repro", "commit", "status", "reproduce")


def split(line: str) -> list[list[str]]:
    """Return the commands of a line, each as a list of words: without comments, assignments and placeholders."""
    lexer = shlex.shlex(PLACEHOLDER.sub(FILLED, line), posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("&|;"):
            commands.append([])
        elif commands[-1] or not re.match(r"[A-Z_]+=", word):
            commands[-1].append(word)
    return [command for command in commands if command]


def faults(lines: list[str]) -> dict[str, str]:
    """Return {line: what is wrong} of the wrong ones among `lines`. TensorFlow's programs are asked in one process."""
    found, waiting = {}, []
    for line in lines:
        try:
            commands = split(line)
        except ValueError as error:
            found[line] = str(error)
            continue
        for words in commands:
            wrong = fault(words)
            if wrong is None:
                waiting.append((line, words[1:]))
            elif wrong:
                found.setdefault(line, wrong)
    for (line, _), wrong in zip(waiting, _in_tensorflow([words for _, words in waiting]), strict=True):
        if wrong:
            found.setdefault(line, wrong)
    return found


def fault(words: list[str]) -> str | None:
    """Return what is wrong with one command, '' if nothing is, None if TensorFlow's interpreter has to be asked."""
    name, arguments = program_name(words[0]), words[1:]
    if name not in PROGRAMS:
        return f"no known program: {words[0]}"
    if name == "stages/tf":
        return None if arguments else ""
    if name in ("stages/py", "python"):
        return _python_fault(arguments) if arguments else ""
    if name == "covpool":
        return program_fault(["-m", "covpool", *arguments])
    return {"dvc": dvc_fault, "make": make_fault, "sh": script_fault}.get(name, lambda _: "")(arguments)


def _python_fault(words: list[str]) -> str:
    if words[:2] == ["-m", "dvc"]:
        return dvc_fault(words[2:])
    if words[:2] in (["-m", "pip"], ["-m", "pytest"], ["-m", "ruff"], ["-m", "venv"]):
        return ""
    return program_fault(words)


def _in_tensorflow(requests: list[list[str]]) -> list[str]:
    if not requests:
        return []
    done = subprocess.run(
        ["stages/tf", "-m", "tests.docs.programs"],
        cwd=ROOT,
        input=json.dumps(requests),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def dvc_fault(arguments: list[str]) -> str:
    """Parse a command by DVC's parser; look up its stages and the parameters that it sets."""
    from dvc.cli import DvcParserError
    from dvc.cli.parser import get_main_parser

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            # Prose names groups of commands, too: `dvc plots`.
            parsed = get_main_parser().parse_args(arguments if len(arguments) > 1 else [*arguments, "--help"])
    except DvcParserError as error:
        return f"dvc does not take it: {error}"
    except SystemExit as end:
        return f"dvc does not take it: {said.getvalue().strip()}" if end.code else ""
    wrong = [wrong for wrong in map(parameters_fault, [getattr(parsed, "set_param", None) or []]) if wrong]
    if parsed.cmd in WITH_TARGETS:
        wrong += [f"no stage or file of the pipeline: {each}" for each in parsed.targets if not is_target(each)]
    return "; ".join(wrong)


@cache
def stages() -> dict:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def is_target(name: str) -> bool:
    """Whether DVC can be asked for `name`: a stage, `stage@run` of a stage that there is for each run, or a file."""
    stage, _, run = name.partition("@")
    if stage in stages():
        template = "foreach" in stages()[stage] or "matrix" in stages()[stage]
        return not run or (template and (run == FILLED or run.split("-")[0] in default_content()["device_options"]))
    return (ROOT / name).exists()


@cache
def default_content() -> dict:
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def parameters_fault(assignments: list[str]) -> str:
    """Return what is wrong with params.yaml when `key=value` pairs, as `-S` takes them, are put into it, or ''."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    for assignment in assignments:
        key, equals, value = re.sub(r"^params\.yaml:", "", assignment).partition("=")
        *names, last = key.lstrip("+").split(".")
        place = content
        for name in names:
            place = place.get(name) if isinstance(place, dict) else None
        if not equals or not isinstance(place, dict) or (last not in place and names[:1] != ["device_options"]):
            return f"no such parameter: {key}"
        if FILLED not in value:
            place[last] = yaml.safe_load(value)
    try:
        parse_params(content, "params.yaml")
    except ParamsError as error:
        return str(error)
    return ""


def make_fault(arguments: list[str]) -> str:
    """Look up targets and variables in the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    for word in arguments:
        name, equals, _ = word.partition("=")
        pattern = rf"\$\({name}\)|^{name} \?=" if equals else rf"^{name}:"
        if not re.search(pattern, makefile, re.MULTILINE):
            return f"the Makefile has no {name}"
    return ""


def script_fault(arguments: list[str]) -> str:
    """Parse the command line of `train.sh` and `train_8npu.sh`."""
    if not arguments or not (ROOT / arguments[0]).is_file():
        return "no such script"
    if arguments[0] == "train.sh":
        return program_fault(["-m", "covpool.port.train_sh", *arguments[1:]])
    if arguments[1:] in ([], ["--dry-run"]):
        return ""
    return dvc_fault(["repro", "evaluate@npu", *arguments[1:]])
