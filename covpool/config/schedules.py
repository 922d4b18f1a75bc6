"""Learning-rate schedules: the original's two by name, the rule for a list of pairs, and the original's file format.

`train` depends on this file: a name in params.yaml stands for the rates that are written here.
"""

from pathlib import Path
from typing import Iterable, List, Tuple, Union

from covpool.config.errors import ParamsError

#: `((first epoch, rate), ...)`
Pairs = Tuple[Tuple[int, float], ...]

#: The original's two schedules (its `learning_rate.txt`s): model 1 and the Ascend port; model 2 of the authors.
NAMED_SCHEDULES = {
    "model1": ((0, 0.005), (80, 0.002), (150, 0.001), (250, 0.0005), (350, 0.0001), (1000, 0.00001)),
    "model2": ((0, 0.1), (120, 0.01), (240, 0.001), (500, 0.0001), (1000, 0.00001)),
}


def schedule_pairs(schedule: Union[str, Pairs]) -> Pairs:
    """The pairs of a `train.schedule`, which is these pairs or the name of one of the original's."""
    return NAMED_SCHEDULES[schedule] if isinstance(schedule, str) else schedule


def check_schedule(pairs: Iterable) -> Pairs:
    """Check a list of `[first epoch, rate]` pairs.

    Raises:
        ValueError: it is not such a list, the first epochs do not rise from 0, or a rate is not above 0.
    """
    found = []
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError(f"expected a pair of first epoch and rate, got {pair!r}")
        epoch, rate = pair
        if any(isinstance(item, bool) or not isinstance(item, (int, float)) for item in pair) or int(epoch) != epoch:
            raise ValueError(f"expected a whole epoch and a rate, got {pair!r}")
        if not 0 < rate < float("inf"):
            raise ValueError(f"a rate must be above 0, got {rate!r}")
        if (not found and epoch != 0) or (found and epoch <= found[-1][0]):
            raise ValueError(f"first epochs must start at 0 and increase, got {epoch!r}")
        found.append((int(epoch), float(rate)))
    return tuple(found)


def read_schedule_file(path: Union[str, Path]) -> Pairs:
    """Read a schedule file of the original: `epoch: rate` on each line, `#` starts a comment.

    Raises:
        ParamsError: names the line that is neither.
    """
    pairs: List[List[float]] = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        try:
            epoch, rate = text.split(":")
            pairs.append([int(epoch), float(rate)])
        except ValueError:
            raise ParamsError(f"{path}:{number}: expected `epoch: rate`, got {line!r}") from None
    try:
        return check_schedule(pairs)
    except ValueError as error:
        raise ParamsError(f"{path}: {error}") from None
