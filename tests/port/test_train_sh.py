"""train.sh takes the port's flags, with the port's defaults, and makes them parameters that the schema accepts."""

import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from covpool import config
from covpool.pipeline import artifacts
from covpool.port import train_sh
from tests.project import ROOT


@pytest.fixture
def data(tmp_path):
    for split in ("Train", "val"):
        (tmp_path / "SFEW_100" / split / "Happy").mkdir(parents=True)
        (tmp_path / "SFEW_100" / split / "Happy" / "a.png").write_bytes(b"x")
    return tmp_path / "SFEW_100"


def run(*arguments):
    command = ["sh", str(ROOT / "train.sh"), *arguments, "--dry_run"]
    return subprocess.run(command, text=True, capture_output=True, cwd="/")


def parameters(output):
    """The parameters that DVC makes of a printed command: its own code, applied to a copy of config.yaml."""
    words = shlex.split(output)
    assert words[:3] == ["dvc", "exp", "run"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copy(ROOT / "params.yaml", folder))
        apply_overrides(path, [word for word in words[3:] if word != "-S"])
        return config.load_params(path)


def test_defaults_are_the_published_setting(data):
    found = parameters(run("--data_dir", str(data)).stdout)
    train = found.train
    assert (train.epochs, train.epoch_size, train.batch_size) == (95, 95, 128)
    assert (train.optimizer, train.learning_rate, train.adam.epsilon) == ("ADAM", -1.0, 0.1)
    assert train.schedule == "model1"
    assert (train.weight_decay, train.center_loss_factor, train.center_loss_alfa) == (0.05, 0.01, 0.9)
    assert (train.keep_probability, train.moving_average_decay, train.seed) == (0.8, 0.9999, 666)
    assert not (train.random_crop or train.random_flip or train.random_rotate)
    assert found.network.model_def == "covpoolnet2" and found.network.normalisation == "none"
    assert found.network.batch_norm_decay == 0.995 and found.spd.ridge == 1e-4
    assert found.dataset.kind == "sfew_100" and found.dataset.source == str(data)
    assert found.normalise.detector == "none" and (found.normalise.size, found.normalise.margin) == (100, 0)


def test_every_flag_becomes_its_parameter(data, tmp_path):
    (tmp_path / "rate.txt").write_text("0: 0.1\n5: 0.01\n")
    (tmp_path / "model-1.index").write_bytes(b"x")
    flags = (
        "--image_size 96 --model_def models.covpoolnet --optimizer RMSPROP "
        "--learning_rate 0.02 --learning_rate_decay_epochs 7 --learning_rate_decay_factor 0.5 "
        "--moving_average_decay 0.99 --max_nrof_epochs 3 --epoch_size 4 --batch_size 16 --embedding_size 64 "
        "--keep_probability 1.0 --weight_decay 0 --center_loss_factor 0 --center_loss_alfa 0.5 --random_crop "
        "--random_flip --random_rotate --seed 1 --nrof_preprocess_threads 2 --log_histograms "
        "--gpu_memory_fraction 0.5 --device gpu"
    ).split()
    output = run(
        "--data_dir",
        str(data),
        "--learning_rate_schedule_file",
        str(tmp_path / "rate.txt"),
        "--pretrained_model",
        str(tmp_path / "model-1"),
        *flags,
    ).stdout
    found = parameters(output)
    train = found.train
    assert (found.normalise.size, found.network.model_def) == (96, "covpoolnet")
    assert train.pretrained_model == str(tmp_path / "model-1")
    assert train.pretrained_hash == artifacts.checkpoint_hash(tmp_path / "model-1")
    assert (train.optimizer, train.learning_rate, train.learning_rate_decay_epochs) == ("RMSPROP", 0.02, 7)
    assert (train.learning_rate_decay_factor, train.moving_average_decay, train.epochs) == (0.5, 0.99, 3)
    assert (train.epoch_size, train.batch_size, found.network.embedding_size) == (4, 16, 64)
    assert (train.keep_probability, train.weight_decay, train.center_loss_factor) == (1.0, 0.0, 0.0)
    assert (train.center_loss_alfa, train.seed, train.nrof_preprocess_threads) == (0.5, 1, 2)
    assert train.random_crop and train.random_flip and train.random_rotate and train.log_histograms
    assert train.schedule == ((0, 0.1), (5, 0.01)) and found.normalise.margin == train_sh.CROP_MARGIN
    assert found.devices == ("gpu",) and found.device_options["gpu"].gpu_memory_fraction == 0.5


def test_several_folders_are_merged_by_links(data, tmp_path, monkeypatch):
    other = tmp_path / "more"
    (other / "Train" / "Happy").mkdir(parents=True)
    (other / "Train" / "Happy" / "a.png").write_bytes(b"y")
    monkeypatch.chdir(tmp_path)
    folders = train_sh.data_folders(f"{data}:{other}")
    merged = Path(train_sh.one_source(folders))
    found = {path.relative_to(merged).as_posix(): path.read_bytes() for path in merged.glob("*/*/*")}
    assert found == {"Train/Happy/0_a.png": b"x", "val/Happy/0_a.png": b"x", "Train/Happy/1_a.png": b"y"}
    assert train_sh.one_source(folders) == str(merged)


def test_any_name_of_a_folder_arrives(data, tmp_path):
    odd = tmp_path / "a:b, 'c' \"d\" #e $f ${g} =h \\i [j]{k} ü 日 "
    data.rename(odd)
    (odd / "model-1.index").write_bytes(b"x")
    found = parameters(run("--data_dir", str(odd), "--pretrained_model", str(odd / "model-1")).stdout)
    assert (found.dataset.source, found.train.pretrained_model) == (str(odd), str(odd / "model-1"))
    (tmp_path / "one\nline.index").write_bytes(b"x")
    done = run("--data_dir", str(odd), "--pretrained_model", str(tmp_path / "one\nline"))
    assert (
        done.returncode == 1
        and "train.pretrained_model: expected text in UTF-8 without control characters" in done.stderr
    )


def test_a_link_to_it_works_from_elsewhere(data, tmp_path):
    (tmp_path / "train").symlink_to(ROOT / "train.sh")
    command = [str(tmp_path / "train"), "--data_dir", "SFEW_100", "--dry_run"]
    done = subprocess.run(command, text=True, capture_output=True, cwd=tmp_path)
    assert parameters(done.stdout).dataset.source == str(data), done.stderr


def test_flags_without_effect_are_told(data):
    assert run("--data_dir", str(data)).stderr == ""
    done = run("--data_dir", str(data), "--gpu_memory_fraction", "0.5")
    assert done.returncode == 0 and "gpu_memory_fraction" not in done.stdout
    assert "--gpu_memory_fraction 0.5 is not used: cpu is of kind cpu" in done.stderr


def test_every_flag_is_described_with_its_default():
    shown = subprocess.run(["sh", str(ROOT / "train.sh"), "--help"], text=True, capture_output=True, cwd="/")
    options = " ".join(shown.stdout.split("options:")[1].split()).split(" --")[1:]
    without = [option.split()[0] for option in options if "(default: " not in option]
    assert len(options) == 30 and without == ["help", "data_dir"] and "(required)" in options[1]
    found = {option.split()[0]: option.split("(default: ")[-1].split(")")[0] for option in options[2:]}
    assert (found["batch_size"], found["weight_decay"], found["random_crop"]) == ("128", "0.05", "off")
    assert not {"None", "False", "True", ""} & set(found.values())


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--data_dir", "/nowhere"], "expected a folder in SFEW_100's layout, Train|val/<class>/*, got /nowhere"),
        (["--data_dir", "{data}", "--optimizer", "SGD"], "invalid choice: 'SGD'"),
        (["--data_dir", "{data}", "--batchsize", "3"], "unknown flag --batchsize: did you mean --batch_size?"),
        (["--data_dir", "{data}", "--batch", "3"], "unknown flag --batch"),
        (["--data_dri", "{data}"], "unknown flag --data_dri: did you mean --data_dir?"),
        (["--data_dri={data}"], "unknown flag --data_dri: did you mean --data_dir?"),
        (["--data_dir", "{data}", "--frobnicate"], "unknown flag --frobnicate; --help lists all"),
        (["--data_dir", "{data}", "3"], "unrecognized arguments: 3"),
        (["--data_dir", str(ROOT)], f"dataset.source: '{ROOT}' holds the project itself"),
        (["--data_dir", "{data}", "--batch_size", "1"], "train.batch_size: expected a whole number from 2, got 1"),
        (["--data_dir", "{data}", "--weight_decay", "nan"], "train.weight_decay: expected a number from 0, got nan"),
        (
            ["--data_dir", "{data}", "--device", "tpu"],
            "--device: expected a name from device_options in params.yaml (cpu",
        ),
        (["--data_dir", "{data}", "--learning_rate_schedule_file", "/nowhere.txt"], "nowhere.txt"),
        (["--data_dir", "{data}", "--pretrained_model", "/nowhere/model-1"], "no checkpoint at /nowhere/model-1"),
        ([], "--data_dir"),
    ],
)
def test_wrong_flags_are_refused(data, flags, message):
    done = run(*[flag.format(data=data) for flag in flags])
    assert done.returncode and message in done.stderr and "Traceback" not in done.stderr
