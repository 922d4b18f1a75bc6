"""Every command line that README and docs show is one that the program it names takes."""

import pytest

from tests.docs.command_lines import faults
from tests.docs.markdown import Page, pages


def test_every_command_line_is_taken_by_its_program():
    lines = [(page.name, line) for page in pages() for line in page.commands()]
    assert len(lines) > 60
    wrong = faults([line for _, line in lines])
    assert not [f"{name}: {line}: {wrong[line]}" for name, line in lines if line in wrong]


@pytest.mark.parametrize(
    "line, message",
    [
        ("stages/py stages/chek.py", "there is no stages/chek.py"),
        ("stages/py stages/check.py --stages-only", "unrecognized arguments"),
        ("stages/py stages/fetch.py --device cpu", "takes no arguments"),
        ("python3.11 requirements/install.py --only py", "unrecognized arguments: --only"),
        ("python -m covpool.rendered --shet out.png", "unrecognized arguments|required"),
        ("covpool.diagnostics", "no known program"),
        ("gti clone x && cd x", "no known program"),
        ("git pull && dvc pll", "dvc does not take it"),
        ("dvc repro --pulled report", "dvc does not take it"),
        ("dvc repro trian@npu", "no stage or file"),
        ("dvc repro train@tpu", "no stage or file"),
        ("dvc repro fetch@cpu", "no stage or file"),
        ("dvc exp run -S train.epoch=2", "no such parameter: train.epoch"),
        ("dvc exp run -S train.epochs=two", "train.epochs"),
        ("dvc exp run -S 'devices=[cpu,tpu]'", "device_options has no entry|tpu"),
        ("dvc exp run -S dataset.sha256=<64 digits> -S training.epochs=2", "no such parameter: training.epochs"),
        ("make tests", "the Makefile has no tests"),
        ("make setup TF_BILD=tf2", "the Makefile has no TF_BILD"),
        ("sh trian.sh", "no such script"),
        ("sh train.sh --data_dri x", "data_dir|data_dri"),
        ("sh train_8npu.sh --dry-rum", "dvc does not take it"),
        ("git commit -m 'open", "No closing quotation"),
    ],
)
def test_a_wrong_line_is_noticed(line, message):
    with pytest.raises(AssertionError, match=message):
        assert not faults([line]), faults([line])


def test_a_wrong_line_for_tensorflow_is_noticed():
    right = "stages/tf -m covpool.diagnostics.parity gpu npu --steps 2"
    lines = [
        right,
        "stages/tf stages/train.py --devcie cpu",
        "stages/tf -m covpool.training.scores --model models/cpu",
        "stages/tf -m covpool.training.score --model models/cpu --face faces.npy --outt scores.npz",
    ]
    assert set(faults(lines)) == set(lines[1:])


PAGE = """# Two words, and `code`!

Run `make test`, or `dvc
repro`; see [there](other.md#part), `params.yaml`.

```
faces/train/happy/0001.jpg

dvc exp run -S a=1 \\
    -S b=2  # why
TF_BUILD=tf2 make setup
```

```python
make = 1
```

    $ stages/py -m pytest
    3 passed
"""


def test_commands_are_found_in_blocks_and_in_lines():
    page = Page("a.md", PAGE)
    assert page.commands() == [
        "dvc exp run -S a=1 -S b=2  # why",
        "TF_BUILD=tf2 make setup",
        "stages/py -m pytest",
        "make test",
        "dvc repro",
    ]
    assert page.spans() == ["code", "make test", "dvc repro", "params.yaml"]
    assert page.links() == ["other.md#part"]
    assert page.anchors() == {"two-words-and-code"}
