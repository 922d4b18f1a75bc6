"""Shows the progress of a run.

On a terminal this is a bar with the loss, the accuracy, the images per second and the time left. In a log it is one
line per epoch.
"""

import sys
from typing import Any, Mapping

from tqdm import tqdm


class Progress:
    """The display of one epoch. Use it as a context.

    Args:
        train: the section `train` of the parameters.
        epoch: the number of the epoch, counted from 0.
        done: the number of steps of this epoch that are done already.
        batch_size: the pictures per step, of all workers together.
        shown: False for no bar.
    """

    def __init__(self, train: Any, epoch: int, done: int, batch_size: int, shown: bool = True) -> None:
        self.train = train
        self.batch_size = batch_size
        self.epoch = epoch
        self.images = 0
        self.seconds = 0.0
        self.bar = tqdm(
            total=train.epochs * train.epoch_size,
            initial=epoch * train.epoch_size + done,
            desc=f"epoch {epoch + 1}/{train.epochs}",
            unit="step",
            # In a log, redrawn lines are noise.
            disable=not (shown and sys.stderr.isatty()),
            leave=False,
            dynamic_ncols=True,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.close()

    def step(self, values: Any, time: Mapping[str, Any]) -> None:
        """Show a step, or all steps of one loop on the device.

        Args:
            values: a `graph.Step`.
            time: the step's row of times.csv.
        """
        # The step that prepares the graph says nothing about speed.
        if not time["warm_up"]:
            self.images += self.batch_size * time["steps"]
            self.seconds += time["seconds"] * time["steps"]
        self.bar.set_postfix_str(
            f"loss {values.loss:.4f}, accuracy {values.accuracy:.3f}{self._speed()}", refresh=False
        )
        self.bar.update(time["steps"])

    def _speed(self):
        return f", {self.images / self.seconds:.1f} images/s" if self.seconds else ""

    def end(self, row: Mapping[str, Any]) -> None:
        """Print the line of a finished epoch.

        Args:
            row: the epoch's row of history.csv.
        """
        self.bar.write(
            "epoch {:>3}/{}: loss {:.4f} (cross entropy {:.4f}), accuracy {:.3f}; val: cross entropy {:.4f}, "
            "accuracy {:.3f}; learning rate {:g}{}".format(
                row["epoch"],
                self.train.epochs,
                row["loss"],
                row["cross_entropy"],
                row["accuracy"],
                row["val_cross_entropy"],
                row["val_accuracy"],
                row["learning_rate"],
                self._speed(),
            ),
            file=sys.stdout,
        )
        sys.stdout.flush()
