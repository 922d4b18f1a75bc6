"""dvc.yaml names what its stages depend on: the code that they import and the parameters that they read.

What is named too little leaves a stage's results as they are when the code behind them changes; what is named too much
trains for hours again without need. Both are told from the source, without running a stage.
"""

import ast
from dataclasses import fields

import pytest
import yaml

from covpool.config import Params
from tests.project import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
#: They refuse what is wrong and hand on what params.yaml says as it is (tests/config/test_params.py), or only show
#: progress, so that at most `check` depends on them. See dvc.yaml.
LEFT_TO_CHECK = {"covpool/pipeline/stage_frame.py", "covpool/pipeline/progress.py"} | {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "covpool" / "config").glob("*.py")
    if path.name not in ("vocabulary.py", "plain.py", "schedules.py")
}
#: Module -> the program that it starts under the other interpreter.
STARTED = {"covpool/export/exporting.py": "covpool/export/weights.py"}
SECTIONS = {field.name for field in fields(Params)}


def definition(stage):
    return STAGES[stage].get("do", STAGES[stage])


def declared_code(stage):
    # The source of the default data set is the code that draws it.
    deps = [each.replace("${dataset.source}", "covpool/rendered") for each in definition(stage)["deps"]]
    return {each for each in deps if each.startswith(("covpool/", "stages/"))}


def module_file(name):
    """The file of a module of the project, relative to its root; None for others."""
    base = ROOT.joinpath(*name.split("."))
    path = next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)
    return path and path.relative_to(ROOT).as_posix()


def imported(path):
    """The project's modules that a file imports, wherever in it; a name that a package only hands on counts for the
    module that it comes from."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "covpool":
            yield from (source(node.module, alias.name) for alias in node.names)


def source(module, name):
    """The module that `from module import name` brings something of."""
    if module_file(module + "." + name):
        return module + "." + name
    if module_file(module).endswith("__init__.py"):
        for node in ast.parse((ROOT / module_file(module)).read_text()).body:
            if isinstance(node, ast.ImportFrom) and name in [alias.asname or alias.name for alias in node.names]:
                return source(node.module, name)
    return module


def closure(path, left=()):
    """All files of the project that a script runs with, itself included; nothing that only those of `left` import."""
    found, waiting = set(), [path]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += filter(None, map(module_file, () if path in left else imported(path)))
    return found


def stage_closure(stage):
    launcher, script = definition(stage)["cmd"].split()[:2]
    # stages/py only finds the Python; stages/tf also sets what a step's time depends on.
    left = () if stage == "check" else LEFT_TO_CHECK
    found = closure(script, left) | ({launcher} if launcher == "stages/tf" else set())
    for caller, called in STARTED.items():
        if caller in found:
            found |= {"stages/tf"} | closure(called, left)
    return found


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_depends_on_the_code_that_it_runs_with(stage):
    declared = declared_code(stage)
    used = stage_closure(stage) - (set() if stage == "check" else LEFT_TO_CHECK)
    under = {path: [name for name in declared if path == name or path.startswith(name + "/")] for path in used}
    assert not [path for path, names in under.items() if not names]
    assert declared - {name for names in under.values() for name in names} == set()


def read_parameters(path):
    """`section` or `section.key` of each `params.section.key` in a file (of `settings`, too)."""
    tree = ast.parse((ROOT / path).read_text())
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            names = dotted(node)
            for place in range(1, len(names)):
                if names[place] in SECTIONS and names[place - 1] in ("params", "settings", "load_params()"):
                    yield ".".join(names[place : place + 2])


def dotted(node):
    """`["self", "params", "train"]` of `self.params.train`; a call's name with brackets."""
    if isinstance(node, ast.Attribute):
        return [*dotted(node.value), node.attr]
    if isinstance(node, ast.Call):
        return [*dotted(node.func)[:-1], dotted(node.func)[-1] + "()"]
    return [node.id] if isinstance(node, ast.Name) else [""]


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"check"}))
def test_a_stage_declares_the_parameters_that_it_reads(stage):
    declared = {name.replace(".${item}", "") for name in definition(stage)["params"]}
    files = [path for path in stage_closure(stage) - LEFT_TO_CHECK if path.endswith(".py")]
    read = {name for path in files for name in read_parameters(path)}
    assert read
    assert {name for name in read if not {name, name.split(".")[0]} & declared} == set()
    assert {name for name in declared if not any((each + ".").startswith(name + ".") for each in read)} == set()


def test_check_depends_on_all_parameters():
    assert definition("check")["params"] == [{"params.yaml": None}]


def test_the_record_of_a_run_hashes_the_code_that_train_depends_on():
    declared = {name for name in declared_code("train") if name.startswith("covpool/")}
    tree = ast.parse((ROOT / "covpool/training/record.py").read_text())
    code = next(node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "CODE")
    assert declared == {"covpool/" + name for name in ast.literal_eval(code)}
