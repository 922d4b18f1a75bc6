"""The command line of the Ascend port of CovPoolFER (its `train.sh`), run as an experiment of this pipeline.

The flags and their defaults are those of the port. Each flag is checked and becomes a parameter. `dvc exp run` then
fetches, validates, normalises, trains, evaluates and reports. Two flags name folders, to which the results are copied
at the end. The port accepts the flags for augmentation, dropout and moving average but ignores them. Here they have an
effect.
"""

import argparse
import difflib
import hashlib
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from covpool.config import (
    PARAMS_FILE,
    Params,
    ParamsError,
    load_params,
    parse_params,
    read_schedule_file,
    read_yaml,
    run_options,
)
from covpool.datasets.local_source import source_problem
from covpool.pipeline import artifacts, experiment, machine, project
from covpool.port import published_setting

#: Largest shift in pixels for --random_crop. The port crops from pictures that are slightly larger than the input.
CROP_MARGIN = 6

#: Parameters of the data and the network that are fixed in the port's code and have no flag.
FIXED = {
    "dataset.kind": "sfew_100",
    "dataset.url": "",
    "dataset.endpoint": "",
    "dataset.revision": "",
    "dataset.sha256": "",
    "normalise.detector": "none",
    **published_setting.FIXED,
}

#: The parameters of flags whose name differs from the parameter's: {flag: parameter}.
RENAMED = {"image_size": "normalise.size", "max_nrof_epochs": "train.epochs"}


class Parser(argparse.ArgumentParser):
    """A parser that reports an unknown flag, with the most similar known one, before it reports missing flags."""

    def parse_args(
        self, arguments: Optional[Sequence[str]] = None, namespace: Optional[argparse.Namespace] = None
    ) -> argparse.Namespace:
        """Parse the flags.

        Args:
            arguments: The words of the command line; None takes those of this process.
            namespace: The object that gets the values; None creates one.

        Returns:
            The values of the flags.

        Raises:
            SystemExit: A flag is unknown, missing or wrong, or the help was printed.
        """
        words = sys.argv[1:] if arguments is None else arguments
        known = [flag for action in self._actions for flag in action.option_strings]
        for word in words:
            flag = word.partition("=")[0]
            if flag.startswith("--") and flag not in known:
                close = difflib.get_close_matches(flag, known, 1)
                self.error(f"unknown flag {flag}" + (f": did you mean {close[0]}?" if close else "; --help lists all"))
        return super().parse_args(arguments, namespace)


def parser() -> argparse.ArgumentParser:
    """Return a parser of the port's flags, with the defaults of `published_setting`."""
    flags = Parser(
        prog="train.sh",
        allow_abbrev=False,
        description="Train as the Ascend port of CovPoolFER does; results land where `dvc repro` puts them.",
    )

    def add(flag: str, text: str, **options: Any) -> None:
        """Add a flag that sets a parameter; its type and default are those of the published setting."""
        default = published_setting.FLAGS[parameter_of(flag)]
        if isinstance(default, bool):
            options["action"] = "store_true"
        else:
            options.setdefault("type", type(default))
        shown = "off" if default is False else repr(default) if default == "" else default
        flags.add_argument("--" + flag, default=default, help=f"{text} (default: {shown})", **options)

    flags.add_argument(
        "--data_dir", required=True, help="SFEW_100's layout, Train|val/<class>/*; colons join several (required)"
    )
    flags.add_argument(
        "--logs_base_dir", help="copy history, times, record and TensorBoard events to <this>/<device> (default: none)"
    )
    flags.add_argument("--models_base_dir", help="copy the checkpoints to <this>/<device> (default: none)")
    add("image_size", "side of the network's input in pixels")
    flags.add_argument(
        "--model_def",
        default="models.covpoolnet2",
        help="models.covpoolnet or models.covpoolnet2 (default: %(default)s)",
    )
    add("pretrained_model", "prefix of a checkpoint to start from; '' starts from new weights")
    add(
        "optimizer",
        "ADAGRAD, ADADELTA, ADAM, RMSPROP or MOM",
        choices=("ADAGRAD", "ADADELTA", "ADAM", "RMSPROP", "MOM"),
    )
    add("learning_rate", "negative: as the schedule file says")
    flags.add_argument(
        "--learning_rate_schedule_file", help="file of `epoch: rate` lines (default: the port's own schedule)"
    )
    add("learning_rate_decay_epochs", "for a positive learning rate: epochs after which it decays")
    add("learning_rate_decay_factor", "for a positive learning rate: what it is multiplied by")
    add("moving_average_decay", "of the moving averages of the weights, which are evaluated")
    add("max_nrof_epochs", "epochs to train")
    add("epoch_size", "steps in each epoch")
    add("batch_size", "pictures in each step")
    add("embedding_size", "outputs of the layer before the classifier")
    add("keep_probability", "dropout: the share of activations that is kept")
    add("weight_decay", "factor of the L2 loss of the weights")
    add("center_loss_factor", "factor of the center loss")
    add("center_loss_alfa", "inertia of the class centers")
    add("random_crop", f"shift training pictures by up to {CROP_MARGIN} pixels")
    add("random_flip", "mirror half of the training pictures")
    add("random_rotate", "turn training pictures by up to 10 degrees")
    add("seed", "of the weights, the order of the pictures and their augmentation")
    add("nrof_preprocess_threads", "threads that prepare pictures")
    add("log_histograms", "write histograms of the weights for TensorBoard")
    flags.add_argument(
        "--gpu_memory_fraction", type=float, default=1.0, help="share of a GPU's memory (default: %(default)s)"
    )
    flags.add_argument(
        "--device",
        help="the run to train, a name from device_options (default: the first of `devices`); not of the port",
    )
    flags.add_argument(
        "--dry_run", action="store_true", help="print the dvc command and stop (default: off); not of the port"
    )
    return flags


def parameter_of(flag: str) -> str:
    """Return the key of params.yaml that a flag of the port sets.

    Args:
        flag: The name of the flag without dashes.

    Returns:
        The key, such as `train.batch_size`.

    Raises:
        StopIteration: No parameter belongs to the flag.
    """
    if flag in RENAMED:
        return RENAMED[flag]
    return next(key for key in published_setting.FLAGS if key.split(".")[-1] == flag)


def changes(options: argparse.Namespace, device: str, kind: str, source: str) -> Dict[str, Any]:
    """Translate the flags to parameters of the pipeline.

    Args:
        options: The values of the flags.
        device: The name of the run.
        kind: The kind of its device: cpu, gpu or npu.
        source: The folder of the data set.

    Returns:
        The value of each changed parameter, by its key in params.yaml.

    Raises:
        ParamsError: The schedule file can't be read or is wrong.
    """
    changed = dict(FIXED)
    flags = {parameter_of(name): name for name in vars(options) if name in RENAMED or name in _SAME_NAME}
    changed.update({key: getattr(options, name) for key, name in flags.items()})
    changed.update(
        {
            "devices": [device],
            "dataset.source": source,
            "normalise.margin": CROP_MARGIN if options.random_crop else 0,
            "network.model_def": options.model_def.rsplit(".", 1)[-1],
            "train.schedule": published_setting.FLAGS["train.schedule"],
            "train.pretrained_hash": "",
        }
    )
    if options.learning_rate_schedule_file:
        changed["train.schedule"] = read_schedule_file(options.learning_rate_schedule_file)
    if kind == "gpu":
        changed[f"device_options.{device}.gpu_memory_fraction"] = options.gpu_memory_fraction
    return changed


#: Flags whose name is the last part of their parameter's key.
_SAME_NAME = {key.split(".")[-1] for key in published_setting.FLAGS} - {"model_def", "schedule"}


def check(changed: Dict[str, Any]) -> Params:
    """Check the changed parameters, before DVC writes and uses them.

    Args:
        changed: The value of each changed parameter, by its key.

    Returns:
        The parameters of params.yaml with these changes.

    Raises:
        ParamsError: The parameters are wrong, or the data set can't be used.
    """
    content = read_yaml(PARAMS_FILE)
    for key, value in changed.items():
        *path, last = key.split(".")
        place = content
        for name in path:
            place = place[name]
        place[last] = value
    params = parse_params(content, "the flags as parameters")
    problem = source_problem(params.dataset)
    if problem:
        raise ParamsError(problem)
    return params


def data_folders(data_dir: str) -> List[Path]:
    """Return the folders that --data_dir names.

    Args:
        data_dir: One folder, or several that are separated by colons.

    Returns:
        The absolute paths of the folders.

    Raises:
        ParamsError: A folder does not exist.
    """
    # The name of a single folder may contain a colon.
    parts = [data_dir] if Path(data_dir).is_dir() else data_dir.split(":")
    folders = [Path(os.path.abspath(part)) for part in parts if part]
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing or not folders:
        names = ", ".join(missing) or repr(data_dir)
        raise ParamsError(f"--data_dir: expected a folder in SFEW_100's layout, Train|val/<class>/*, got {names}")
    return folders


def one_source(folders: Sequence[Path]) -> str:
    """Combine the folders of a data set to one.

    Args:
        folders: The absolute paths of one folder or several.

    Returns:
        The path of the folder if there is only one. Otherwise the path of a new folder with links to all pictures.
    """
    if len(folders) == 1:
        return str(folders[0])
    name = hashlib.sha256(":".join(map(str, folders)).encode()).hexdigest()[:16]
    merged = Path(".covpool/merged") / name
    shutil.rmtree(merged, ignore_errors=True)
    for number, folder in enumerate(folders):
        for picture in sorted(path for path in folder.glob("*/*/*") if path.is_file()):
            place = merged / picture.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            # The number of the folder keeps pictures of the same name apart.
            os.symlink(picture, place.with_name(f"{number}_{place.name}"))
    return str(merged)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the experiment that the flags describe, and copy its results.

    Args:
        arguments: The words of the command line; None takes those of this process.

    Raises:
        SystemExit: A flag is wrong, or the experiment failed.
    """
    options = parser().parse_args(arguments)
    _make_paths_absolute(options)
    try:
        folders = data_folders(options.data_dir)
        os.chdir(project.ROOT)
        params = load_params()
        device = options.device or params.devices[0]
        kind = run_options(params, device).kind
        changed = changes(options, device, kind, one_source(folders))
        params = check(changed)
        if options.pretrained_model:
            changed["train.pretrained_hash"] = artifacts.checkpoint_hash(options.pretrained_model)
        settings = [word for key, value in changed.items() for word in ("-S", experiment.override(key, value))]
    except (ValueError, OSError, artifacts.ArtifactError) as error:
        sys.exit(f"train.sh: {error}")
    if options.gpu_memory_fraction != 1.0 and kind != "gpu":
        print(
            f"train.sh: --gpu_memory_fraction {options.gpu_memory_fraction} is not used: {device} is of kind {kind}, "
            "and only a gpu has it.",
            file=sys.stderr,
        )
    print("dvc exp run " + shlex.join(settings), flush=True)
    if options.dry_run:
        return
    problem = experiment.git_problem() or next(machine.missing_devices(params), "")
    if problem:
        sys.exit("train.sh: " + problem)
    code = experiment.run(settings)
    if code:
        sys.exit(code)
    _copy_results(options, device)
    print("train.sh: params.yaml has this setting now; `make back` returns to the last commit's, without training.")


def _make_paths_absolute(options: argparse.Namespace) -> None:
    """Make paths absolute: they are relative to the folder of the command, but DVC runs in the project's folder."""
    for name in ("logs_base_dir", "models_base_dir", "pretrained_model", "learning_rate_schedule_file"):
        if getattr(options, name):
            setattr(options, name, os.path.abspath(getattr(options, name)))


def _copy_results(options: argparse.Namespace, device: str) -> None:
    """Copy the results of a run to the folders that --models_base_dir and --logs_base_dir name."""
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
