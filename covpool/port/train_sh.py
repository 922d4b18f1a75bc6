"""The command line of the Ascend port of CovPoolFER (its `train.sh`), as an experiment of this pipeline.

The flags and their defaults are the port's; each is checked, becomes a parameter, and `dvc exp run` does the rest:
fetch, validate, normalise, train, evaluate, report. Two flags name folders for results, which are copied there at the
end. What the port accepts without effect (augmentation, dropout, moving average) works here.
"""

import argparse
import hashlib
import os
import shlex
import shutil
import sys
from pathlib import Path

from covpool.config import (
    PARAMS_FILE,
    ParamsError,
    load_params,
    parse_params,
    read_schedule_file,
    read_yaml,
    run_options,
)
from covpool.datasets.local_source import source_problem
from covpool.pipeline import artifacts, experiment, project

#: Shift in pixels for --random_crop: the port crops from pictures that are somewhat larger than the input.
CROP_MARGIN = 6

#: Parameters that the port has in its code, not as flags.
FIXED = {
    "dataset.kind": "sfew_100",
    "dataset.url": "",
    "dataset.endpoint": "",
    "dataset.revision": "",
    "dataset.sha256": "",
    "normalise.detector": "none",
    "network.pooling": "covariance",
    "spd.method": "eigh",
    "spd.ridge": 1e-4,
    "spd.epsilon": 1e-4,
    "spd.maximum": 1e4,
    "network.vectorise": "full",
    "network.normalisation": "none",
    "network.batch_norm_decay": 0.995,
    "train.class_weights": "none",
    "train.adam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 0.1},
}


def parser():
    flags = argparse.ArgumentParser(
        prog="train.sh",
        allow_abbrev=False,
        description="Train as the Ascend port of CovPoolFER does; results land where `dvc repro` puts them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = flags.add_argument
    add("--logs_base_dir", help="copy history, times, record and TensorBoard events to <this>/<device>")
    add("--models_base_dir", help="copy the checkpoints to <this>/<device>")
    add("--data_dir", required=True, help="SFEW_100's layout, Train|val/<class>/*; several, separated by colons")
    add("--image_size", type=int, default=100, help="side of the network's input in pixels")
    add("--model_def", default="models.covpoolnet2", help="models.covpoolnet or models.covpoolnet2")
    add("--pretrained_model", default="", help="prefix of a checkpoint to start from")
    add("--optimizer", default="ADAM", choices=("ADAGRAD", "ADADELTA", "ADAM", "RMSPROP", "MOM"))
    add("--learning_rate", type=float, default=-1.0, help="negative: by the schedule file")
    add("--learning_rate_schedule_file", help="`epoch: rate` lines; default: the port's own schedule")
    add("--learning_rate_decay_epochs", type=int, default=100)
    add("--learning_rate_decay_factor", type=float, default=1.0)
    add("--moving_average_decay", type=float, default=0.9999)
    add("--max_nrof_epochs", type=int, default=95)
    add("--epoch_size", type=int, default=95, help="steps an epoch")
    add("--batch_size", type=int, default=128)
    add("--embedding_size", type=int, default=128)
    add("--keep_probability", type=float, default=0.8, help="dropout: the share that is kept")
    add("--weight_decay", type=float, default=5e-2)
    add("--center_loss_factor", type=float, default=1e-2)
    add("--center_loss_alfa", type=float, default=0.9)
    add("--random_crop", action="store_true")
    add("--random_flip", action="store_true")
    add("--random_rotate", action="store_true")
    add("--seed", type=int, default=666)
    add("--nrof_preprocess_threads", type=int, default=4)
    add("--log_histograms", action="store_true")
    add("--gpu_memory_fraction", type=float, default=1.0)
    add("--device", default=None, help="run on this entry of device_options; not a flag of the port")
    add("--dry_run", action="store_true", help="print the dvc command and stop; not a flag of the port")
    return flags


def changes(options, device, kind, source):
    """The flags as parameters of the pipeline: {key: value}. device: the run's name, kind: what kind it is."""
    schedule = "model1"
    if options.learning_rate_schedule_file:
        schedule = read_schedule_file(options.learning_rate_schedule_file)
    changed = dict(FIXED)
    changed.update(
        {
            "devices": [device],
            "dataset.source": source,
            "normalise.size": options.image_size,
            "normalise.margin": CROP_MARGIN if options.random_crop else 0,
            "network.model_def": options.model_def.rsplit(".", 1)[-1],
            "network.embedding_size": options.embedding_size,
            "train.epochs": options.max_nrof_epochs,
            "train.epoch_size": options.epoch_size,
            "train.schedule": schedule,
            "train.pretrained_hash": "",
        }
    )
    same_name = (
        "optimizer",
        "learning_rate",
        "learning_rate_decay_epochs",
        "learning_rate_decay_factor",
        "moving_average_decay",
        "batch_size",
        "keep_probability",
        "weight_decay",
        "center_loss_factor",
        "center_loss_alfa",
        "random_crop",
        "random_flip",
        "random_rotate",
        "seed",
        "nrof_preprocess_threads",
        "pretrained_model",
        "log_histograms",
    )
    changed.update({"train." + name: getattr(options, name) for name in same_name})
    if kind == "gpu":
        changed[f"device_options.{device}.gpu_memory_fraction"] = options.gpu_memory_fraction
    return changed


def check(changed):
    """ParamsError where params.yaml would be wrong with `changed`, before DVC writes it and reads the pictures."""
    content = read_yaml(PARAMS_FILE)
    for key, value in changed.items():
        *path, last = key.split(".")
        place = content
        for name in path:
            place = place[name]
        place[last] = value
    problem = source_problem(parse_params(content, "the flags as parameters").dataset)
    if problem:
        raise ParamsError(problem)


def data_folders(data_dir):
    """The folders of --data_dir, absolute: one, or several with colons between them. ParamsError: one is missing."""
    # A folder's own name may have a colon.
    parts = [data_dir] if Path(data_dir).is_dir() else data_dir.split(":")
    folders = [Path(os.path.abspath(part)) for part in parts if part]
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing or not folders:
        raise ParamsError(
            "--data_dir: no folder {}: wanted SFEW_100's layout, Train|val/<class>/*".format(
                ", ".join(missing) or repr(data_dir)
            )
        )
    return folders


def one_source(folders):
    """The one folder; of several, one with links to the pictures of all."""
    if len(folders) == 1:
        return str(folders[0])
    name = hashlib.sha256(":".join(map(str, folders)).encode()).hexdigest()[:16]
    merged = Path(".covpool/merged") / name
    shutil.rmtree(merged, ignore_errors=True)
    for number, folder in enumerate(folders):
        for picture in sorted(path for path in folder.glob("*/*/*") if path.is_file()):
            place = merged / picture.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            # Sets that hold the same file name stay apart by their place in the list.
            os.symlink(picture, place.with_name(f"{number}_{place.name}"))
    return str(merged)


def main(arguments=None):
    options = parser().parse_args(arguments)
    _make_paths_absolute(options)
    try:
        folders = data_folders(options.data_dir)
        os.chdir(project.ROOT)
        params = load_params()
        device = options.device or params.devices[0]
        kind = run_options(params, device).kind
        changed = changes(options, device, kind, one_source(folders))
        check(changed)
        if options.pretrained_model:
            changed["train.pretrained_hash"] = artifacts.checkpoint_hash(options.pretrained_model)
        settings = [word for key, value in changed.items() for word in ("-S", experiment.override(key, value))]
    except (ValueError, OSError, artifacts.ArtifactError) as error:
        sys.exit(f"train.sh: {error}")
    if options.gpu_memory_fraction != 1.0 and kind != "gpu":
        print(
            f"train.sh: --gpu_memory_fraction {options.gpu_memory_fraction} is not used: {device} is of kind {kind}, and only a gpu has it.",
            file=sys.stderr,
        )
    print("dvc exp run " + shlex.join(settings), flush=True)
    if options.dry_run:
        return
    problem = experiment.git_problem()
    if problem:
        sys.exit("train.sh: " + problem)
    code = experiment.run(settings)
    if code:
        sys.exit(code)
    _copy_results(options, device)
    print("train.sh: params.yaml has this setting now; `make back` returns to the last commit's, without training.")


def _make_paths_absolute(options):
    """Paths are meant from where the command was given; DVC runs in the project."""
    for name in ("logs_base_dir", "models_base_dir", "pretrained_model", "learning_rate_schedule_file"):
        if getattr(options, name):
            setattr(options, name, os.path.abspath(getattr(options, name)))


def _copy_results(options, device):
    wanted = (
        (options.models_base_dir, [artifacts.MODELS / device]),
        (options.logs_base_dir, [artifacts.RUNS / device, artifacts.EVALUATION / device, Path("tensorboard") / device]),
    )
    for target, folders in wanted:
        for folder in folders if target else ():
            if folder.is_dir():
                shutil.copytree(folder, Path(target) / device, dirs_exist_ok=True)
                print(f"{folder} -> {Path(target) / device}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
