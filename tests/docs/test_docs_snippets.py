"""Python code in README and docs compiles, names what exists, and calls it with arguments that fit."""

import json
import subprocess

import pytest

from tests.docs import snippets
from tests.docs.markdown import pages
from tests.project import ROOT
from tests.test_rooms import WITHOUT_TENSORFLOW


def faults(sources):
    """Return a list of faults for each source. TensorFlow's interpreter looks at those that import its rooms."""
    found = {source: snippets.faults(source) for source in sources if not _needs_tensorflow(source)}
    rest = [source for source in sources if source not in found]
    if rest:
        command = ["stages/tf", "-m", "tests.docs.snippets"]
        done = subprocess.run(command, cwd=ROOT, input=json.dumps(rest), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.update(zip(rest, json.loads(done.stdout), strict=True))
    return [found[source] for source in sources]


def _needs_tensorflow(source):
    try:
        modules = snippets.imported(source)
    except SyntaxError:
        return False
    rooms = {module.split(".")[1] for module in modules if module.startswith("covpool.")}
    above = {room for room in rooms if (ROOT / "covpool" / room).is_dir()}
    return bool(above - set(WITHOUT_TENSORFLOW))


def test_every_snippet_can_be_run_as_it_stands():
    sources = [(page.name, text) for page in pages() for language, text in page.blocks() if language == "python"]
    assert len(sources) >= 3
    for (name, text), wrong in zip(sources, faults([text for _, text in sources]), strict=True):
        assert not wrong, f"{name}:\n{text}"


RIGHT = """
from covpool.faces import align, create, detect

face = detect(image, create("mtcnn"))
crop = align(image, face.landmarks, size=100)
"""


@pytest.mark.parametrize(
    "right, wrong, message",
    [
        ("import align", "import alin, align", "has no alin"),
        ("covpool.faces", "covpool.face", "No module named"),
        ("face.landmarks", "face.landmark", "has no landmark"),
        ("size=100", "side=100", "unexpected keyword argument"),
        ("(image, create", "(create", "missing a required argument"),
        ('"mtcnn")', '"mtcnn"', "does not compile"),
    ],
)
def test_a_wrong_snippet_is_noticed(right, wrong, message):
    assert faults([RIGHT]) == [[]]
    (found,) = faults([RIGHT.replace(right, wrong)])
    assert any(message in each for each in found)


def test_a_wrong_snippet_for_tensorflow_is_noticed():
    start = "from covpool import devices\nfrom covpool.training.score import Scorer, open_model\n"
    (first, second, third) = faults(
        [
            start + "open_model('models/cpu', 'best', devices.open_cpu())\n",
            start
            + "with Scorer(1, 2, 100, 'model', devices.open_cpu()) as scorer:\n    scorer(images, matrixes=True)\n",
            start + "open_model('models/cpu', 'best', devices.open_cpus(), 1)\n",
        ]
    )
    assert "batch_size" in first[0]
    assert "matrixes" in second[0]
    assert "open_cpus" in third[0]
