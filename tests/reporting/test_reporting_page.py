"""The page: it stands alone, shows what strangers wrote as text, and is the same for the same input."""

import base64
import io
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from covpool.pipeline import artifacts
from covpool.reporting import build_report, charts, gallery
from covpool.reporting.runs import read_run

VOID = {"meta", "link", "img", "br", "path", "use", "wbr"}
HOSTILE = "<script>alert('x')</script>&\"${7*7}"


class Page(HTMLParser):
    """Checks nesting while reading; collects tags, identifiers, links, references and text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.links, self.text = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self._take(tag, dict(attributes))

    def handle_startendtag(self, tag, attributes):
        self._take(tag, dict(attributes))

    def _take(self, tag, attributes):
        self.tags.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [
            (tag, value) for key, value in attributes.items() if key in ("src", "href", "xlink:href", "srcset")
        ]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.text.append(data)


def page(project, devices):
    build_report(project.root, devices=devices, loss_tolerance=0.1)
    return (project.root / "reports/index.html").read_text(encoding="utf-8")


@pytest.fixture
def three(project):
    for name in ("npu", "gpu", "cpu"):
        project.add_run(name)
    return project


def test_the_page_says_what_an_npu_computed_in(project):
    project.add_run("npu", change=lambda record: record["device"].update(options={"precision_mode": "force_fp32"}))
    project.add_run("gpu")
    text = "".join(Page(page(project, ["npu", "gpu"])).text)
    assert "NPU: computed with precision_mode force_fp32." in text and "\nArithmetic" in text


def test_the_page_stands_alone(three):
    html = page(three, ["npu", "gpu", "cpu"])
    found = Page(html)
    assert "script" not in found.tags and "iframe" not in found.tags
    assert "http:" not in html and "https:" not in html and "@import" not in html
    for tag, target in found.links:
        assert target.startswith(("data:", "#")), (tag, target[:80])
        if target.startswith("#"):
            assert target[1:] in found.ids, target
    assert len(found.ids) == len(set(found.ids))
    for reference in re.findall(r"url\(([^)]*)\)", html):
        assert reference.startswith("#") and reference[1:] in found.ids
    assert len(html) < 3_000_000


def test_every_colour_of_a_drawing_is_the_page_s(three):
    html = page(three, ["npu", "gpu", "cpu"])
    drawings = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(drawings) == 8
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", html))
    defined = set(re.findall(r"(--[a-z0-9-]+):", html))
    assert used <= defined
    for drawing in drawings:
        assert not set(re.findall(r"#[0-9a-f]{6}\b", drawing)) - {"#ffffff"}


def test_equal_input_gives_equal_bytes(three):
    devices = ["npu", "gpu", "cpu"]
    first = page(three, devices)
    written = {path.name: path.read_bytes() for path in sorted((three.root / "reports").iterdir())}
    assert page(three, devices) == first
    assert {path.name: path.read_bytes() for path in sorted((three.root / "reports").iterdir())} == written
    assert set(written) == {
        "index.html",
        "comparison.json",
        "comparison.csv",
        "comparison.md",
        "metrics.json",
        "confusion.csv",
        "curves.csv",
        "step_times.csv",
    }


def test_nothing_of_the_machine_is_in_the_report(three):
    page(three, ["npu", "gpu", "cpu", "absent"])
    for path in (three.root / "reports").iterdir():
        assert str(three.root) not in path.read_text(encoding="utf-8")


def test_names_from_data_are_shown_as_text(tmp_path, make_project):
    project = make_project(tmp_path, classes=(HOSTILE, "a|b\nc", "$\\frac$"))
    project.add_run("cpu", change=lambda record: record["device"].update(name=HOSTILE))
    html = page(project, ["cpu"])
    found = Page(html)
    assert "script" not in found.tags
    assert HOSTILE in "".join(found.text)
    markdown = (project.root / "reports/comparison.md").read_text(encoding="utf-8")
    assert "<script" not in markdown.replace("\\<script", "")


def test_a_hostile_title_stays_text_in_a_drawing(three):
    class Odd:
        title = "</svg><script>$x$"
        history = pd.DataFrame({"epoch": [1.0, 2.0], "loss": [1.0, 0.5]})

    svg = charts.curve([Odd, Odd], "odd", [("loss", "train", "-")], description='"><b>')
    assert "<script" not in svg and svg.count("<svg") == svg.count("</svg>") == 1
    assert Odd.title in "".join(Page(str(svg)).text)


@pytest.mark.parametrize("devices", [["cpu"], ["absent"], ["cpu", "absent", "edited"]])
def test_the_page_says_which_runs_it_lacks(project, devices):
    project.add_run("cpu")
    project.add_run("edited", "cpu")
    record = project.root / "runs/edited/run.json"
    record.write_text(record.read_text().replace('"steps": 120', '"steps": 121'))
    text = "".join(Page(page(project, devices)).text)
    assert ("Run absent is missing" in text) == ("absent" in devices)
    assert ("Run edited is refused: run.json was edited" in text) == ("edited" in devices)
    assert "0.6406" in text


def test_a_run_of_one_epoch_without_evaluation_has_a_page(project):
    project.add_run("cpu", evaluate=False)
    for name, columns in (("history", artifacts.HISTORY_COLUMNS), ("times", artifacts.TIMES_COLUMNS)):
        rows = artifacts.read_csv(project.root / f"runs/cpu/{name}.csv")
        project.write_csv(f"runs/cpu/{name}.csv", columns, [dict(rows[-1], epoch=1)])
    project.reseal("cpu")
    html = page(project, ["cpu"])
    text = "".join(Page(html).text)
    assert 'aria-label="Total loss over the epochs"' in html
    assert "No run was evaluated." in text and "not evaluated: evaluation/cpu has no scores" in text
    # A folder of before evaluate wrote one for each split is as good as none: the page says what to run.
    assert "dvc repro evaluate@cpu" in text


def test_what_a_device_was_set_to_is_shown(three):
    three.add_run("npu", change=lambda record: record["device"].update(options={"precision_mode": "force_fp32"}))
    text = " ".join("".join(Page(page(three, ["npu", "gpu"])).text).split())
    assert "Device: options.precision_modeforce_fp32\N{EN DASH}" in text


def test_settings_of_the_environment_are_shown(three):
    three.add_run("npu", change=lambda record: record["host"].update(settings={"KMP_BLOCKTIME": "1"}))
    text = " ".join("".join(Page(page(three, ["npu", "gpu"])).text).split())
    assert "Environment: KMP_BLOCKTIME1\N{EN DASH}" in text


def test_examples_are_the_most_confident(three):
    run = read_run(three.root, "npu")
    faces = gallery.Faces(three.root, "val")
    wrong, right = gallery.examples(run.evaluations["val"].predictions, faces)
    rows = artifacts.read_csv(three.root / "evaluation/npu/val/predictions.csv")
    missed = sorted((float(row["confidence"]) for row in rows if row["actual"] != row["predicted"]), reverse=True)
    assert [example["confidence"] for example in wrong] == missed[: gallery.WRONG_SHOWN]
    for example in right:
        same = [row for row in rows if row["actual"] == row["predicted"] == example["actual"]]
        assert example["confidence"] == max(float(row["confidence"]) for row in same)
    assert len({example["actual"] for example in right}) == len(right)


def test_an_example_shows_its_own_face(three):
    run = read_run(three.root, "npu")
    faces = gallery.Faces(three.root, "val")
    table = artifacts.read_csv(three.root / "data/faces/val.csv")
    pixels = np.load(three.root / "data/faces/val.npy")
    for example in sum(gallery.examples(run.evaluations["val"].predictions, faces), []):
        place = next(number for number, row in enumerate(table) if row["source"] == example["source"])
        assert table[place]["class"] == example["actual"]
        shown = Image.open(io.BytesIO(base64.b64decode(example["image"].split(",", 1)[1])))
        error = np.abs(np.asarray(shown, float) - pixels[place]).mean()
        others = np.abs(np.asarray(shown, float) - pixels).mean(axis=(1, 2, 3))
        assert error < 4 and others.argmin() in np.flatnonzero(np.isclose(others, others[place]))


def test_no_examples_of_other_faces(three):
    three.add_run("npu", change=lambda record: record["data"].update(hash="0" * 64))
    text = "".join(Page(page(three, ["npu"])).text)
    assert "data/faces changed after this run" in text
    assert "the most confident first" not in text


def test_records_are_reported_without_the_faces(three):
    shutil.rmtree(three.root / "data/faces")
    text = "".join(Page(page(three, ["npu"])).text)
    assert "data/faces does not exist" in text and "1.1900" in text


def test_a_mismatched_array_of_faces_is_named(three):
    np.save(three.root / "data/faces/val.npy", np.zeros((3, 8, 8, 3), np.uint8))
    with pytest.raises(artifacts.ArtifactError, match=r"val\.npy: expected uint8 \[35, .* got uint8 \[3, 8, 8, 3\]"):
        gallery.Faces(three.root, "val")


def test_a_pickled_array_is_not_opened(three):
    np.save(three.root / "data/faces/val.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(artifacts.ArtifactError, match=r"is not a NumPy array"):
        gallery.Faces(three.root, "val")


def test_the_data_set_is_counted(three):
    text = " ".join("".join(Page(page(three, ["npu"])).text).split())
    assert "1 (cannot be decoded)" in text
    assert "Smallest 176 × 176, median 176 × 177, largest 176 × 178 pixels" in text
    assert re.search(r"all\s*56\s*35\s*91", text)
    assert re.search(r"fear\s*7\s*1\s*0\s*4\s*1\s*0", text)


def test_pictures_that_two_splits_share_are_told(three):
    path = three.root / "data/validated/manifest.csv"
    rows = artifacts.read_csv(path)
    assert "of another split" not in "".join(Page(page(three, ["npu"])).text)
    first = {split: next(row for row in rows if row["split"] == split) for split in ("train", "val")}
    first["train"]["duplicate_of"], first["val"]["duplicate_of"] = first["val"]["path"], first["train"]["path"]
    three.write_csv("data/validated/manifest.csv", artifacts.VALIDATED_COLUMNS, rows)
    text = " ".join("".join(Page(page(three, ["npu"])).text).split())
    assert "2 show the same as a picture of another split" in text
    # What is left out of train is in no other split any more.
    first["train"]["status"] = "left out"
    three.write_csv("data/validated/manifest.csv", artifacts.VALIDATED_COLUMNS, rows)
    assert "of another split" not in "".join(Page(page(three, ["npu"])).text)


def test_pictures_taken_as_aligned_are_not_told_as_faces_found(three):
    split = {name: {"found": 0, "aligned": 3, "fallback": 0, "dropped": 0} for name in (*three.classes, "all")}
    three.write_json("data/normalise.json", {"train": split, "val": split})
    text = " ".join("".join(Page(page(three, ["npu"])).text).split())
    assert f"Face detection was off: {2 * 3 * len(three.classes)} pictures were used as aligned faces" in text
    assert "Faces found" not in text


def test_without_a_validated_manifest_there_is_no_report(three):
    (three.root / "data/validated/manifest.csv").unlink()
    with pytest.raises(artifacts.ArtifactError, match="manifest.csv is missing"):
        build_report(three.root, devices=["npu"], loss_tolerance=0.1)


def test_curves_are_the_runs_histories(three):
    page(three, ["npu", "gpu"])
    rows = artifacts.read_csv(three.root / "reports/curves.csv")
    assert [row["device"] for row in rows] == ["npu"] * 12 + ["gpu"] * 12
    for name in ("npu", "gpu"):
        history = artifacts.read_csv(three.root / f"runs/{name}/history.csv")
        ours = [row for row in rows if row["device"] == name]
        for column in ("epoch", "loss", "val_accuracy", "learning_rate"):
            assert [float(row[column]) for row in ours] == [float(row[column]) for row in history]


def test_gaps_in_a_history_stay_gaps(three):
    path = three.root / "runs/npu/history.csv"
    rows = artifacts.read_csv(path)
    rows[3]["val_accuracy"], rows[4]["val_cross_entropy"] = "", "nan"
    three.write_csv("runs/npu/history.csv", artifacts.HISTORY_COLUMNS, rows)
    three.reseal("npu")
    page(three, ["npu"])
    curves = artifacts.read_csv(three.root / "reports/curves.csv")
    assert curves[3]["val_accuracy"] == curves[4]["val_cross_entropy"] == ""
