"""The learning rate of an epoch, by the original's two ways and its two schedule files."""

import pytest

from covpool.config import ParamsError, read_schedule_file
from covpool.config.schedules import schedule_pairs
from covpool.training.rates import learning_rate

#: The original's files, as they are published.
MODEL_1 = "# learning rate schedule\n0:  0.005\n80: 0.002\n150:  0.001\n250: 0.0005\n350: 0.0001\n1000: 0.00001\n"
MODEL_2 = "0: 0.1 # warm\n120: 0.01\n\n240: 0.001\n500: 0.0001\n1000: 0.00001\n"


def rates(train, *epochs):
    return [learning_rate(epoch, train) for epoch in epochs]


def test_schedules_of_the_original(params_with):
    train = params_with({"train.schedule": "model1"}).train
    assert rates(train, 0, 79, 80, 149, 150, 249, 250, 349, 350, 999, 1000, 5000) == [
        0.005,
        0.005,
        0.002,
        0.002,
        0.001,
        0.001,
        0.0005,
        0.0005,
        0.0001,
        0.0001,
        0.00001,
        0.00001,
    ]
    train = params_with({"train.schedule": "model2"}).train
    assert rates(train, 0, 119, 120, 239, 240, 499, 500, 999, 1000) == [
        0.1,
        0.1,
        0.01,
        0.01,
        0.001,
        0.001,
        0.0001,
        0.0001,
        0.00001,
    ]


@pytest.mark.parametrize("name, text", [("model1", MODEL_1), ("model2", MODEL_2)])
def test_the_named_schedules_are_the_files(tmp_path, params_with, name, text):
    path = tmp_path / "learning_rate.txt"
    path.write_text(text)
    assert read_schedule_file(path) == schedule_pairs(params_with({"train.schedule": name}).train.schedule)


@pytest.mark.parametrize("line", ["80 0.002", "80: fast", "80: 0", "0.5: 1", "1: 2: 3", "80: -1", "0: 1"])
def test_a_wrong_line_of_a_schedule_file_is_told(tmp_path, line):
    path = tmp_path / "learning_rate.txt"
    path.write_text("0: 0.1\n" + line + "\n")
    with pytest.raises(ParamsError, match="learning_rate.txt"):
        read_schedule_file(path)


def test_a_positive_rate_decays_by_its_factor(params_with):
    train = params_with(
        {
            "train.learning_rate": 0.5,
            "train.learning_rate_decay_epochs": 10,
            "train.learning_rate_decay_factor": 0.1,
        }
    ).train
    assert rates(train, 0, 9, 10, 19, 20) == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005])
    assert rates(params_with({"train.learning_rate": 0.25}).train, 0, 100, 1000) == [0.25, 0.25, 0.25]
    assert rates(params_with({"train.learning_rate": 0.0}).train, 0, 100) == [0, 0]


@pytest.mark.parametrize(
    "scale, workers, factor",
    [
        ("none", 8, 1),
        ("linear", 1, 1),
        ("linear", 8, 8),
        ("sqrt", 1, 1),
        ("sqrt", 16, 4),
    ],
)
def test_the_rate_grows_with_the_workers_if_it_is_to(params_with, scale, workers, factor):
    for rate in (0.25, -1):
        train = params_with({"train.scale_learning_rate": scale, "train.learning_rate": rate}).train
        assert learning_rate(3, train, workers) == factor * learning_rate(3, train)
