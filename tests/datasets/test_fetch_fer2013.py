"""FER2013's table: every cell is used or refused by its line."""

import numpy as np
import pytest
from PIL import Image

from covpool.config.vocabulary import CANONICAL
from covpool.datasets.fer2013 import FER2013_LABELS
from tests.datasets.test_fetch import refusal, run


def fer2013(path, rows, header="emotion,pixels,Usage"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def fer_row(emotion, usage, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, 48 * 48)
    return "{},{},{}".format(emotion, " ".join(map(str, pixels)), usage), pixels.reshape(48, 48)


def test_fer2013_from_its_table(tmp_path, settings):
    usages = [("Training", "train"), ("PublicTest", "val"), ("PrivateTest", "test")]
    made = [
        (emotion, usage, *fer_row(emotion, usage[0], seed))
        for seed, (emotion, usage) in enumerate((emotion, usage) for emotion in range(7) for usage in usages)
    ]
    fer2013(tmp_path / "fer2013.csv", [row for _, _, row, _ in made])
    rows, _ = run(settings(tmp_path / "fer2013.csv", "fer2013"), tmp_path)
    assert len(rows) == 21
    by_source = {row["source"]: row for row in rows}
    names = "anger disgust fear happiness sadness surprise neutral".split()
    for line, (emotion, (_, split), _, pixels) in enumerate(made, 2):
        row = by_source[f"fer2013.csv:{line}"]
        assert (row["class"], row["split"]) == (names[emotion], split)
        with Image.open(tmp_path / "raw" / row["path"]) as image:
            assert image.mode == "L" and np.array_equal(np.asarray(image), pixels)
    assert sorted(FER2013_LABELS.values()) == list(CANONICAL)


def test_fer2013_with_blanks_in_its_header_and_columns_in_another_order(tmp_path, settings):
    folder = tmp_path / "challenge"
    folder.mkdir()
    rows = []
    for usage in ("Training", "PublicTest"):
        emotion, pixels, _ = fer_row(3, usage)[0].split(",")
        rows.append(f"{emotion},{usage},{pixels}")
    fer2013(folder / "icml_face_data.csv", rows, "emotion, Usage, pixels")
    rows, _ = run(settings(folder, "fer2013"), tmp_path)
    assert [(row["split"], row["class"]) for row in rows] == [("train", "happiness"), ("val", "happiness")]


@pytest.mark.parametrize(
    "row, message",
    [
        ("7,1 2,Training", "fer2013.csv:2: expected an emotion from 0 to 6, got '7'"),
        ("x,1 2,Training", "fer2013.csv:2: expected an emotion from 0 to 6, got 'x'"),
        ("1,1 2,Testing", "fer2013.csv:2: expected the Usage Training, PublicTest or PrivateTest, got 'Testing'"),
        ("1,1 2,Training", "fer2013.csv:2: expected 2304 pixels, got 2"),
        ("1,,Training", "fer2013.csv:2: expected 2304 pixels, got 0"),
        ("1," + "256 " * 2304 + ",Training", "expected pixels from 0 to 255, got '256'"),
        ("1,-1 2,Training", "got '-1'"),
        ("1,1_0 2,Training", "fer2013.csv:2: expected pixels from 0 to 255, got '1_0'"),
        ("0_1,1 2,Training", "expected an emotion from 0 to 6, got '0_1'"),
        ("1,١ 2,Training", "expected pixels from 0 to 255, got '١'"),
        ("1,1 2,Training,more", "fer2013.csv:2: expected 3 cells, got 4"),
        ("1,1 2", "fer2013.csv:2: expected 3 cells, got 2"),
        ("1,1e3 2,Training", "fer2013.csv:2: "),
        ("1,99999999999999999999 2,Training", "fer2013.csv:2: "),
        ("1", "fer2013.csv:2: expected 3 cells, got 1"),
        ("1," + "1" * 50000, "fer2013.csv:2 is longer than 32768 bytes"),
        ('1,"1 2,Training', "fer2013.csv:2: "),
    ],
)
def test_fer2013_rows_that_make_no_sense_are_named(tmp_path, settings, row, message):
    fer2013(tmp_path / "fer2013.csv", [row])
    assert message in refusal(settings(tmp_path / "fer2013.csv", "fer2013"), tmp_path)


def test_fer2013_tables_that_are_none(tmp_path, settings):
    source = settings(tmp_path / "fer2013.csv", "fer2013")
    fer2013(tmp_path / "fer2013.csv", [fer_row(0, "Training")[0]])
    assert "has no pictures for val: expected fer2013.csv with the columns" in refusal(source, tmp_path)
    fer2013(tmp_path / "fer2013.csv", [], "name,label")
    assert "has the columns ['name', 'label']: expected" in refusal(source, tmp_path)
    fer2013(tmp_path / "fer2013.csv", [], "emotion,pixels,Usage,usage")
    assert "has the columns ['emotion', 'pixels', 'Usage', 'usage']: expected" in refusal(source, tmp_path)
    (tmp_path / "fer2013.csv").write_bytes(b"")
    assert "has the columns []" in refusal(source, tmp_path)
    (tmp_path / "fer2013.csv").write_bytes(b"\x93NUMPY")
    assert "fer2013.csv:1: " in refusal(source, tmp_path)
    (tmp_path / "folder").mkdir()
    assert "has no table: expected" in refusal(settings(tmp_path / "folder", "fer2013"), tmp_path)
