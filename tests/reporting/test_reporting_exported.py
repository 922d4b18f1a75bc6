"""The report's table of exported networks: real figures, a refused export, and files that hold anything."""

import json
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from covpool.reporting.exported import export_headlines, export_table

RUN = SimpleNamespace(name="cpu", title="CPU", usable=True)
GOOD = {
    "exported": 1,
    "faces": 112,
    "largest_difference": 5.8e-05,
    "same_class": 111,
    "bytes": 72300332,
    "ms_per_face_batch_1": 24.65,
    "ms_per_face_batch_16": 9.63,
}


def table(folder, content):
    (folder / "exports").mkdir(exist_ok=True)
    (folder / "exports/cpu.json").write_text(json.dumps(content))
    return export_table(folder, [RUN])


def test_the_figures_of_an_export(tmp_path):
    assert export_table(tmp_path, [RUN]) is None
    (row,) = table(tmp_path, GOOD).rows
    assert row == ("CPU", "exports/cpu/model.onnx", "72.3", "111", "112", "5.8e-05", "24.6", "9.6")
    (row,) = table(tmp_path, dict(GOOD, exported=0)).rows
    assert row[1] == "refused: see exports/cpu"


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda each: st.lists(each) | st.dictionaries(st.sampled_from([*GOOD, "x"]), each),
    )
)
def test_any_content_gives_a_row(tmp_path_factory, content):
    (row,) = table(tmp_path_factory.mktemp("any"), content).rows
    assert row[0] == "CPU" and all(isinstance(cell, str) for cell in row)


def test_the_headlines_of_an_export(tmp_path):
    run = SimpleNamespace(name="cpu", label="cpu", title="CPU", usable=True)
    assert export_headlines(tmp_path, [run]) == {}
    table(tmp_path, GOOD)
    assert export_headlines(tmp_path, [run]) == {"cpu": {"onnx_mb": 72.3003, "onnx_difference": 5.8e-05}}
    table(tmp_path, dict(GOOD, exported=0))
    assert export_headlines(tmp_path, [run]) == {}
