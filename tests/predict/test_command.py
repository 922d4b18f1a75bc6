"""`covpool predict`: its inputs, files, exit codes, and bad input as rows with reasons."""

import csv
import io
import json
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from covpool.__main__ import main
from covpool.predict import output


@pytest.fixture(scope="module")
def pictures(portrait, tmp_path_factory):
    """A folder of what people have: good pictures, bad ones, an animation and a video."""
    folder = tmp_path_factory.mktemp("pictures")
    face = Image.fromarray(portrait)
    face.save(folder / "a.jpg")
    (folder / "below").mkdir()
    face.convert("CMYK").save(folder / "below" / "cmyk.jpg")
    exif = Image.Exif()
    exif[274] = 6
    face.rotate(90, expand=True).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(np.asarray(face.convert("L")).astype(np.uint16) * 257).save(folder / "sixteen.png")
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    (folder / "empty.jpg").write_bytes(b"")
    small = io.BytesIO()
    Image.new("RGB", (1, 1)).save(small, "PNG")
    head = b"IHDR" + struct.pack(">II", 20_000, 20_000) + small.getvalue()[24:29]
    rest = small.getvalue()[33:]
    (folder / "huge.png").write_bytes(small.getvalue()[:12] + head + struct.pack(">I", zlib.crc32(head)) + rest)
    (folder / "text.png").write_text("no picture")
    (folder / "short.jpg").write_bytes((folder / "a.jpg").read_bytes()[:2000])
    others = [Image.fromarray(np.roll(portrait, place, axis=1)) for place in (2, 4)]
    face.save(folder / "moving.gif", save_all=True, append_images=others, duration=200)
    (folder / "notes.txt").write_text("not looked at")
    video = cv2.VideoWriter(str(folder / "film.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (220, 220))
    for place in range(6):
        video.write(np.roll(portrait, 2 * place, axis=1)[..., ::-1].copy())
    video.release()
    (folder / "none.mp4").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def table(pictures, model_file, tmp_path_factory):
    """The rows of the folder as dictionaries by the name of the source, and all of them."""
    path = tmp_path_factory.mktemp("out") / "rows.csv"
    assert main(["predict", "--model", str(model_file), str(pictures), "--out", str(path)]) == 0
    rows = list(csv.DictReader(path.open()))
    return {os.path.basename(row["source"]): row for row in rows}, rows


@pytest.mark.parametrize("name", ["a.jpg", "cmyk.jpg", "turned.jpg", "sixteen.png"])
def test_every_kind_of_picture_gets_its_face(table, name):
    row = table[0][name]
    assert row["face"] == "1" and row["reason"] == "" and row["frame"] == ""
    scores = {key[2:]: float(value) for key, value in row.items() if key.startswith("p_")}
    assert sum(scores.values()) == pytest.approx(1, abs=1e-4)
    assert row["expression"] == max(scores, key=scores.get)


@pytest.mark.parametrize(
    "name, reason",
    [
        ("dot.png", "no face"),
        ("huge.png", "400000000 pixels"),
        ("empty.jpg", "not a picture"),
        ("text.png", "not a picture"),
        ("short.jpg", ""),
        ("none.mp4", "no frame of this video"),
    ],
)
def test_bad_input_is_a_row_with_its_reason(table, name, reason):
    assert reason in table[0][name]["reason"] and table[0][name]["reason"] and not table[0][name]["expression"]


def test_other_files_of_a_folder_are_not_looked_at(table):
    assert "notes.txt" not in table[0]


@pytest.mark.parametrize("name, count, step", [("moving.gif", 3, 0.2), ("film.mp4", 6, 0.1)])
def test_frames_have_times_one_track_and_raw_scores(table, name, count, step):
    rows = [row for row in table[1] if row["source"].endswith(name)]
    assert [int(row["frame"]) for row in rows] == list(range(count))
    assert [float(row["time"]) for row in rows] == pytest.approx([step * place for place in range(count)])
    assert {row["track"] for row in rows} == {"1"}
    assert all(float(row["raw_p_anger"]) >= 0 for row in rows)


def test_every_takes_some_frames(pictures, model_file, tmp_path):
    path = tmp_path / "rows.jsonl"
    arguments = ["predict", "--model", str(model_file), str(pictures / "film.mp4"), "--every", "3", "--out", str(path)]
    assert main(arguments) == 0
    assert [json.loads(line)["frame"] for line in path.read_text().splitlines()] == [0, 3]


def test_annotated_files_can_be_opened_and_explanations_add_up(pictures, model_file, tmp_path):
    out = tmp_path / "rows.json"
    inputs = [str(pictures / name) for name in ("a.jpg", "film.mp4")]
    options = ["--annotate", str(tmp_path / "seen"), "--explain", "--out", str(out)]
    assert main(["predict", "--model", str(model_file), *inputs, *options]) == 0
    for row in json.loads(out.read_text()):
        assert np.shape(row["explanation"]["map"]) == (12, 12) and row["explanation"]["completeness_error"] < 0.1
    capture = cv2.VideoCapture(str(next((tmp_path / "seen").glob("film*.webm"))))
    assert sum(1 for _ in iter(lambda: capture.read()[0], False)) == 6
    picture = cv2.imread(str(next((tmp_path / "seen").glob("a_jpg*.jpg"))))
    assert np.abs(picture.astype(int) - cv2.imread(str(pictures / "a.jpg"))).max() > 100
    assert len(list((tmp_path / "seen").glob("*face1.png"))) == 7


def test_a_pattern_and_standard_output(pictures, model_file, capsys):
    assert main(["predict", "--model", str(model_file), str(pictures / "**" / "*.jpg")]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [os.path.basename(row["source"]) for row in rows] == [
        "a.jpg",
        "cmyk.jpg",
        "empty.jpg",
        "short.jpg",
        "turned.jpg",
    ]


@pytest.mark.parametrize(
    "name, reason",
    [("none.jpg", "no such file"), ("*.none", "no file fits"), ("camera:99", "no camera 99"), ("camera:x", "expected")],
)
def test_nothing_that_can_be_read_is_an_error(model_file, name, reason, capfd):
    assert main(["predict", "--model", str(model_file), name]) == 1
    assert reason in capfd.readouterr().out


def test_wrong_options_end_with_a_sentence(model_file, tmp_path, capsys):
    with pytest.raises(SystemExit, match="expected a file that ends in .csv, .jsonl, .json"):
        main(["predict", "--model", str(model_file), "a.jpg", "--out", str(tmp_path / "rows.txt")])
    with pytest.raises(SystemExit, match="no such file"):
        main(["predict", "--model", "none.onnx", "a.jpg"])
    assert main(["predicted"]) == 2 and "expected one of predict, serve, export" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_what_was_written_before_the_disk_was_full_can_be_read(tmp_path, monkeypatch, suffix):
    path = tmp_path / ("rows" + suffix)

    class Full:
        """A stream that takes 5 more bytes of what is written, once `left` is 0."""

        def __init__(self, stream):
            self.stream, self.full = stream, False

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def write(self, content):
            if self.full and len(content) > 5:
                self.stream.write(content[:5])
                raise OSError(28, "No space left on device")
            return self.stream.write(content)

    with output.RowFile(path, ("anger",)) as rows:
        rows.write({"source": "a", "reason": "no face"})
        rows._stream = Full(rows._stream)
        rows._stream.full = True
        with pytest.raises(OSError, match="No space"):
            rows.write({"source": "b", "reason": "no face"})
    text = path.read_text()
    found = {
        ".csv": lambda: list(csv.DictReader(text.splitlines())),
        ".jsonl": lambda: [json.loads(line) for line in text.splitlines()],
        ".json": lambda: json.loads(text),
    }[suffix]()
    assert [row["source"] for row in found] == ["a"]
