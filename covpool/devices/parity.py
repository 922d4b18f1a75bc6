"""Do two devices, or two TensorFlow builds, train the same? What to look at when an NPU and a GPU disagree.

    stages/tf -m covpool.devices.parity cpu npu
    stages/tf -m covpool.devices.parity cpu@intel cpu@tf2 --steps 20 --tolerance 1e-3 --out parity

Each side takes the same steps from the same weights on the same pictures (`parity_side`), in an interpreter of its own,
and the differences are told: of the loss in each step, with the first one beyond the tolerance; of each layer's output
and of the gradients in the first step. Exit 1 where a loss is beyond the tolerance.

Rounding grows from step to step, the faster the larger the learning rate, so losses part sooner or later anyway; what
an operation does wrong shows in the first step already. With `--learning-rate 0` nothing grows.

Differences are relative: the root mean square of a - b over that of b, which for one number is |a - b| / |b|.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from covpool import artifacts
from covpool.devices.parity_side import LAYER, side_options
from covpool.params import ParamsError, load_params

LAUNCHER = Path(__file__).resolve().parent.parent.parent / "stages" / "tf"


class ParityError(RuntimeError):
    """A side could not be run; it has said why."""


def is_file(side):
    """Whether a side was run elsewhere, by `covpool.devices.parity_side`, and is given as its file."""
    return side.endswith(".npz")


def run_side(side, start, steps, rate, out):
    """Run one side in its own process; returns its arrays by name. rate: the learning rate, or None for the run's."""
    command = [str(LAUNCHER), "-m", "covpool.devices.parity_side", "--device", side, "--start", str(start),
               "--steps", str(steps), "--out", str(out)]  # fmt: skip
    if subprocess.run(command + ([] if rate is None else ["--learning-rate", str(rate)])).returncode:
        raise ParityError("the side {} could not be run, see above.".format(side))
    return read_side(out)


def read_side(path):
    """The arrays of a side by name, from its file."""
    try:
        with np.load(str(path), allow_pickle=False) as stream:
            found = {name: stream[name] for name in stream.files}
    except (OSError, ValueError) as error:
        raise ParityError("{} can't be read: {}".format(path, error)) from None
    if not {"values", "gradients", "variables", "about"} <= set(found):
        raise ParityError("{} was not written by covpool.devices.parity_side.".format(path))
    return found


def compare(one, other, tolerance):
    """The differences of two sides' arrays (`parity_side.Side.train`), as plain values for a JSON file.

    `steps`: the two losses of each and their difference; `diverges`: the first step whose difference is beyond the
    tolerance, from 1, or None; `layers` and `gradients`: of the first step, by name, in the order of the computation.
    A difference is None where a side has no finite number.
    """
    if one["gradients"].shape != other["gradients"].shape:
        raise ParityError("the sides have {} and {} steps and variables: they are of different runs.".format(
            *[" x ".join(map(str, side["gradients"].shape)) for side in (one, other)]))  # fmt: skip
    losses = list(zip(one["values"][:, 0], other["values"][:, 0]))
    steps = [
        {"step": number, "one": _plain(a), "other": _plain(b), "difference": difference([a], [b])}
        for number, (a, b) in enumerate(losses, 1)
    ]
    beyond = [row["step"] for row in steps if not within(row["difference"], tolerance)]
    layers = [name for name in one if name.startswith(LAYER) and name in other]
    gradients = zip(map(str, one["variables"]), one["gradients"][0], other["gradients"][0])
    return {
        "tolerance": tolerance,
        "sides": [json.loads(str(side["about"])) for side in (one, other)],
        "steps": steps,
        "diverges": beyond[0] if beyond else None,
        "layers": {name[len(LAYER) :]: difference(one[name], other[name]) for name in layers},
        "gradients": {name: difference([a], [b]) for name, a, b in gradients},
    }


def difference(one, other):
    """Root mean square of one - other over that of other; None where it is not a number. 0 where both are 0."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return None
    apart = np.sqrt(np.mean(np.square(one - other)))
    return float(apart / max(np.sqrt(np.mean(np.square(other))), np.finfo(np.float64).tiny)) if apart else 0.0


def within(apart, tolerance):
    return apart is not None and apart <= tolerance


def _plain(number):
    """JSON has no infinity."""
    return float(number) if np.isfinite(number) else None


def report(found):
    """The lines of a Markdown report of `compare`'s result."""
    names = [side["side"] for side in found["sides"]]
    yield "# Parity: {} beside {}".format(*names)
    yield ""
    for side in found["sides"]:
        yield "- {side}: {0}, TensorFlow {version}, build {build}".format(
            side["device"]["name"], side=side["side"], **side["tensorflow"])  # fmt: skip
    yield ""
    yield verdict(found)
    yield ""
    yield from _table(["step", "loss " + names[0], "loss " + names[1], "difference"], [
        [str(row["step"]), _number(row["one"], "{:.6f}"), _number(row["other"], "{:.6f}"), _number(row["difference"])]
        for row in found["steps"]
    ])  # fmt: skip
    yield "## The first step"
    yield ""
    for title, key in (("output of the layer", "layers"), ("norm of the gradient of", "gradients")):
        yield from _table([title, "difference"], [[name, _number(apart)] for name, apart in found[key].items()])


def verdict(found):
    """One sentence: whether and where the losses part."""
    tolerance, steps = found["tolerance"], found["steps"]
    if found["diverges"] is None:
        worst = max(row["difference"] for row in steps)
        return "Within the tolerance of {:g} in all of {} steps; the largest difference is {:.2g}.".format(
            tolerance, len(steps), worst)  # fmt: skip
    row = steps[found["diverges"] - 1]
    return "Beyond the tolerance of {:g} from step {} of {} on: {} beside {}.".format(
        tolerance, row["step"], len(steps), _number(row["one"], "{:.6f}"), _number(row["other"], "{:.6f}"))  # fmt: skip


def _number(value, form="{:.1e}"):
    return "not finite" if value is None else form.format(value)


def _table(columns, rows):
    yield from ("| {} |".format(" | ".join(cells)) for cells in [columns, ["---"] * len(columns)] + rows)
    yield ""


def main():
    parser = argparse.ArgumentParser(prog="stages/tf -m covpool.devices.parity", description=__doc__.split("\n")[0])
    parser.add_argument("sides", nargs=2, metavar="side", help="a name in device_options, name@build, "
                        "name@/path/of/python, or the .npz of a side that ran elsewhere")  # fmt: skip
    parser.add_argument("--steps", type=int, default=20, help="default %(default)s")
    parser.add_argument("--learning-rate", type=float, help="default: that of the first epoch; 0: the weights stay")
    parser.add_argument("--checkpoint", type=Path, help="prefix of the weights to start from; default: the first's")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of the loss, relative; default %(default)s")
    parser.add_argument("--out", type=Path, default=Path("parity"), help="folder to write to; default %(default)s")
    options = parser.parse_args()
    if options.steps < 1:
        parser.error("--steps is {}: wanted 1 or more".format(options.steps))
    if any(map(is_file, options.sides)) and not (all(map(is_file, options.sides)) or options.checkpoint):
        parser.error("--checkpoint is wanted beside a side that ran elsewhere: the weights that it started from")
    if options.checkpoint and not options.checkpoint.with_name(options.checkpoint.name + ".index").is_file():
        parser.error("--checkpoint {}: there is no {}.index".format(options.checkpoint, options.checkpoint))
    try:
        params = load_params()
        for side in options.sides:
            if not is_file(side):
                side_options(params, side)
        with tempfile.TemporaryDirectory() as folder:
            start = options.checkpoint or Path(folder) / "start"
            one, other = (
                read_side(side) if is_file(side) else
                run_side(side, start, options.steps, options.learning_rate, Path(folder) / "{}.npz".format(number))
                for number, side in enumerate(options.sides)
            )  # fmt: skip
        found = compare(one, other, options.tolerance)
        artifacts.write_json(options.out / "parity.json", found)
        with artifacts.atomic_file(options.out / "parity.md") as stream:
            stream.write("\n".join(report(found)) + "\n")
    except (ParityError, ParamsError, OSError) as error:
        sys.exit("parity: {}".format(error))
    print("parity: {} See {}.".format(verdict(found), options.out / "parity.md"))
    sys.exit(0 if found["diverges"] is None else 1)


if __name__ == "__main__":
    main()
