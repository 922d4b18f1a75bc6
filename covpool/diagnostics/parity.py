"""Do two devices, or two TensorFlow builds, train the same? What to look at when an NPU and a GPU disagree.

    stages/tf -m covpool.diagnostics.parity cpu npu
    stages/tf -m covpool.diagnostics.parity cpu@intel cpu@tf2 --steps 20 --tolerance 1e-3 --out parity

Each side runs in a separate interpreter (`parity_side`). Both sides take the same steps from the same weights on the
same pictures. The report gives the differences of

- the data's loss (cross entropy plus center loss) in each step, with the first step beyond the tolerance;
- each layer's output in the first step;
- the gradients in the first step.

The exit code is 1 if a loss or a layer's output is beyond its tolerance, or if the two sides can't be compared.

Rounding differences grow from step to step, and they grow faster with a larger learning rate. So the losses always
diverge after some steps. A wrong operation is visible in the first step. With `--learning-rate 0` the differences do
not grow.

Differences are relative: rms(a - b) / rms(b), where rms is the root mean square. For single numbers this is
|a - b| / |b|.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional

import numpy as np

from covpool.config import ParamsError, load_params
from covpool.diagnostics import parity_record
from covpool.diagnostics.parity_record import LAYER, VALUES
from covpool.diagnostics.parity_side import side_options
from covpool.pipeline import artifacts, markdown
from covpool.pipeline.project import TF_LAUNCHER


class ParityError(RuntimeError):
    """A side could not be run. Its process has printed the reason."""


def is_file(side: str) -> bool:
    """Check if a side is given as a file, because it was run elsewhere by `covpool.diagnostics.parity_side`.

    Args:
        side: a side as on the command line.

    Returns:
        True if the side is a file.
    """
    return side.endswith(".npz")


def run_side(side: str, start: Path, steps: int, rate: Optional[float], out: Path) -> Dict[str, np.ndarray]:
    """Run one side in a separate process.

    Args:
        side: a name in device_options, name@build or name@/path/of/python.
        start: the prefix of the checkpoint to start from. The side writes it if it does not exist.
        steps: the number of training steps.
        rate: the learning rate, or None for the run's rate in the first epoch.
        out: the .npz file to write.

    Returns:
        The side's arrays by name, see `parity_record`.

    Raises:
        ParityError: the process failed.
        RecordError: the file that the process wrote can't be used.
    """
    command = [
        str(TF_LAUNCHER),
        "-m",
        "covpool.diagnostics.parity_side",
        "--device",
        side,
        "--start",
        str(start),
        "--steps",
        str(steps),
        "--out",
        str(out),
    ]
    if subprocess.run(command + ([] if rate is None else ["--learning-rate", str(rate)])).returncode:
        raise ParityError(f"the side {side} failed, see above.")
    return parity_record.read(out)


def compare(
    one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], tolerance: float, layer_tolerance: float
) -> Dict[str, Any]:
    """Compute the differences of two sides.

    Args:
        one: the first side, see `parity_record`.
        other: the second side.
        tolerance: the largest relative difference of the data's loss in a step that is accepted.
        layer_tolerance: the largest relative difference of a layer's output in the first step that is accepted.

    Returns:
        Plain values for a JSON file. A difference is None if a value of either side is not finite.

        - `tolerance` and `layer_tolerance`, as given;
        - `sides`: what each side's file says about the side;
        - `steps`: for each step its number, the two losses of the data, their difference, and the two total losses;
        - `diverges`: the number of the first step beyond the tolerance, counted from 1, or None;
        - `layers`: the differences in the first step, by name, in the order of the computation;
        - `layers_beyond`: the names of the layers beyond layer_tolerance;
        - `gradients`: the differences of the gradients' norms in the first step, by variable.

    Raises:
        RecordError: the two sides did not do the same work.
    """
    parity_record.refuse_other_work(one, other)
    losses, totals = zip(data_loss(one), data_loss(other)), zip(one["values"][:, 0], other["values"][:, 0])
    steps = [
        {
            "step": number,
            "one": _plain(a),
            "other": _plain(b),
            "difference": difference([a], [b]),
            "totals": list(map(_plain, both)),
        }
        for number, ((a, b), both) in enumerate(zip(losses, totals), 1)
    ]
    beyond = [row["step"] for row in steps if not within(row["difference"], tolerance)]
    layers = {name: difference(one[LAYER + name], other[LAYER + name]) for name in parity_record.layers(one)}
    gradients = zip(map(str, one["variables"]), one["gradients"][0], other["gradients"][0])
    return {
        "tolerance": tolerance,
        "layer_tolerance": layer_tolerance,
        "sides": [json.loads(str(side["about"])) for side in (one, other)],
        "steps": steps,
        "diverges": beyond[0] if beyond else None,
        "layers": layers,
        "layers_beyond": [name for name, apart in layers.items() if not within(apart, layer_tolerance)],
        "gradients": {name: difference([a], [b]) for name, a, b in gradients},
    }


def data_loss(side: Mapping[str, np.ndarray]) -> np.ndarray:
    """Compute the loss of the data: cross entropy plus center loss.

    The weight decay is left out. It does not depend on the pictures, and it may be a thousand times as large.

    Args:
        side: a side, see `parity_record`.

    Returns:
        float64 [steps].
    """
    return side["values"][:, VALUES.index("cross_entropy")] + side["values"][:, VALUES.index("center_loss")]


def agree(found: Mapping[str, Any]) -> bool:
    """Check if all losses and layers are within their tolerances.

    Args:
        found: the result of `compare`.

    Returns:
        True if they are.
    """
    return found["diverges"] is None and not found["layers_beyond"]


def difference(one: Any, other: Any) -> Optional[float]:
    """Compute the relative difference rms(one - other) / rms(other), where rms is the root mean square.

    Args:
        one: numbers of any shape.
        other: numbers of the same shape.

    Returns:
        The relative difference; 0 if both are equal, and None if a number is not finite.
    """
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return None
    apart = np.sqrt(np.mean(np.square(one - other)))
    return float(apart / max(np.sqrt(np.mean(np.square(other))), np.finfo(np.float64).tiny)) if apart else 0.0


def within(apart: Optional[float], tolerance: float) -> bool:
    """Check if a difference is within a tolerance.

    Args:
        apart: the difference, or None if it is not known.
        tolerance: the largest difference that is accepted.

    Returns:
        True if the difference is known and not larger than the tolerance.
    """
    return apart is not None and apart <= tolerance


def _plain(number):
    """Convert a number for JSON, which has no infinity: None if it is not finite."""
    return float(number) if np.isfinite(number) else None


def report(found: Mapping[str, Any]) -> Iterator[str]:
    """Write a Markdown report of a comparison.

    Args:
        found: the result of `compare`.

    Yields:
        The lines of the report.
    """
    names = [side["side"] for side in found["sides"]]
    yield f"# Parity: {names[0]} beside {names[1]}"
    yield ""
    for side in found["sides"]:
        build = side["tensorflow"]
        yield f"- {side['side']}: {side['device']['name']}, TensorFlow {build['version']}, build {build['build']}"
    yield ""
    yield verdict(found)
    yield ""
    columns = ["loss of the data, {}", "loss of the data, {}", "difference", "total loss, {}", "total loss, {}"]
    yield from _table(
        ["step"] + [column.format(name) for column, name in zip(columns, names + [""] + names)],
        [
            [
                str(row["step"]),
                _loss(row["one"]),
                _loss(row["other"]),
                _number(row["difference"]),
                *map(_loss, row["totals"]),
            ]
            for row in found["steps"]
        ],
    )
    yield "## The first step"
    yield ""
    for title, key in (("output of the layer", "layers"), ("norm of the gradient of", "gradients")):
        yield from _table([title, "difference"], [[name, _number(apart)] for name, apart in found[key].items()])


def verdict(found: Mapping[str, Any]) -> str:
    """Summarise a comparison.

    Args:
        found: the result of `compare`.

    Returns:
        One sentence about the losses and one about the layers.
    """
    return f"{_verdict_of_losses(found)} {_verdict_of_layers(found)}"


def _verdict_of_losses(found):
    tolerance, steps = found["tolerance"], found["steps"]
    if found["diverges"] is None:
        worst = max(row["difference"] for row in steps)
        return (
            f"Within the tolerance of {tolerance:g} in all {len(steps)} steps; "
            f"the largest difference of the loss is {worst:.2g}."
        )
    row = steps[found["diverges"] - 1]
    return (
        f"Beyond the tolerance of {tolerance:g} from step {row['step']} of {len(steps)} on: "
        f"{_loss(row['one'])} and {_loss(row['other'])}."
    )


def _verdict_of_layers(found):
    tolerance, layers, beyond = found["layer_tolerance"], found["layers"], found["layers_beyond"]
    if not beyond:
        worst = max(layers.values(), default=0.0)
        return f"In the first step no layer's output differs by more than {worst:.2g}."
    return (
        f"In the first step the outputs of {len(beyond)} of {len(layers)} layers are beyond the tolerance of "
        f"{tolerance:g}, from {beyond[0]} on: {_number(layers[beyond[0]])}."
    )


def _loss(value):
    return _number(value, "{:.6f}")


def _number(value, form="{:.1e}"):
    return "not finite" if value is None else form.format(value)


def _table(columns, rows):
    yield markdown.table(columns, rows)
    yield ""


def main() -> None:
    """Compare the two sides that the command line names, and write the report.

    Raises:
        SystemExit: always; the code is 0 if the sides agree. Otherwise they differ or can't be compared.
    """
    parser = argparse.ArgumentParser(prog="stages/tf -m covpool.diagnostics.parity", description=__doc__.split("\n")[0])
    parser.add_argument(
        "sides",
        nargs=2,
        metavar="side",
        help="a name in device_options, name@build, name@/path/of/python, or the .npz of a side that ran elsewhere",
    )
    parser.add_argument("--steps", type=int, default=20, help="default %(default)s")
    parser.add_argument(
        "--learning-rate", type=float, help="default: that of the first epoch; 0: the weights do not change"
    )
    parser.add_argument("--checkpoint", type=Path, help="prefix of the weights to start from; default: the first's")
    parser.add_argument(
        "--tolerance", type=float, default=1e-3, help="of the data's loss in each step, relative; default %(default)s"
    )
    parser.add_argument(
        "--layer-tolerance",
        type=float,
        default=1e-3,
        help="of each layer's output in the first step, relative; default %(default)s",
    )
    parser.add_argument("--out", type=Path, default=Path("parity"), help="folder to write to; default %(default)s")
    options = parser.parse_args()
    if options.steps < 1:
        parser.error(f"--steps must be 1 or more, got {options.steps}")
    if any(map(is_file, options.sides)) and not (all(map(is_file, options.sides)) or options.checkpoint):
        parser.error("--checkpoint is required with a side that ran elsewhere: name the weights that it started from")
    if options.checkpoint and not options.checkpoint.with_name(options.checkpoint.name + ".index").is_file():
        parser.error(f"--checkpoint must be the prefix of a checkpoint, but {options.checkpoint}.index does not exist")
    try:
        params = load_params()
        for side in options.sides:
            if not is_file(side):
                side_options(params, side)
        kept = {side: parity_record.read(side) for side in options.sides if is_file(side)}
        with tempfile.TemporaryDirectory() as folder:
            start = options.checkpoint or Path(folder) / "start"
            one, other = (
                kept[side]
                if side in kept
                else run_side(side, start, options.steps, options.learning_rate, Path(folder) / f"{number}.npz")
                for number, side in enumerate(options.sides)
            )
        found = compare(one, other, options.tolerance, options.layer_tolerance)
        artifacts.write_json(options.out / "parity.json", found)
        with artifacts.atomic_file(options.out / "parity.md") as stream:
            stream.write("\n".join(report(found)) + "\n")
    except (ParityError, parity_record.RecordError, ParamsError, OSError) as error:
        sys.exit(f"parity: {error}")
    print(f"parity: {verdict(found)} See {options.out / 'parity.md'}.")
    sys.exit(0 if agree(found) else 1)


if __name__ == "__main__":
    main()
