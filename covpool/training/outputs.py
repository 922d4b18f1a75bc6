"""What a finished run leaves: weights in `models/<run>/`, and history, times and record in `runs/<run>/`."""

import shutil
from pathlib import Path
from typing import Callable, Dict, List

from covpool.config import Params, as_plain
from covpool.pipeline import artifacts


def write_model(
    folder: Path, params: Params, save_last: Callable[[Path], None], best: Dict, best_files: List[Path], last_row: Dict
) -> None:
    """Write the checkpoints `best` and `last`, and `model.json`, which describes them.

    Args:
        folder: `models/<run>`, made anew: nothing of an earlier run stays beside the new weights.
        params: of the run.
        save_last: writes the weights as they are now as a checkpoint of a given prefix.
        best: `epoch`, `val_accuracy` of the best epoch.
        best_files: the files of the best epoch's checkpoint, `best-<epoch>.<ending>`.
        last_row: the last row of the history.
    """
    shutil.rmtree(str(folder), ignore_errors=True)
    folder.mkdir(parents=True)
    save_last(folder / "last")
    for path in best_files:
        shutil.copyfile(str(path), str(folder / ("best." + path.name.split(".", 1)[1])))
    # Written last, it says that the weights are complete.
    artifacts.write_json(
        folder / "model.json",
        {
            "format": 1,
            "classes": list(params.dataset.classes),
            "network": as_plain(params.network),
            "spd": as_plain(params.spd),
            "image_size": params.normalise.size,
            "checkpoints": {
                "best": {"epoch": best["epoch"], "val_accuracy": best["val_accuracy"]},
                "last": {"epoch": params.train.epochs, "val_accuracy": last_row["val_accuracy"]},
            },
        },
    )


def write_tables(folder: Path, history: List[Dict], times: List[Dict]) -> Dict[str, str]:
    """Write `history.csv` and `times.csv` into `runs/<run>`; returns their hashes by name."""
    artifacts.write_csv(folder / "history.csv", artifacts.HISTORY_COLUMNS, history)
    artifacts.write_csv(folder / "times.csv", artifacts.TIMES_COLUMNS, times)
    return artifacts.file_hashes(folder, artifacts.RUN_TABLES)
