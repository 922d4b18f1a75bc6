"""Writes the TensorBoard files of a run: the columns of history.csv as curves, and optional weight histograms."""

from pathlib import Path
from typing import Any, Mapping, Optional, Union

import tensorflow.compat.v1 as tf


class Events:
    """The event files of one run. Call the methods in graph mode, inside a session.

    Args:
        folder: the folder of the files, or None to write no files.
    """

    def __init__(self, folder: Optional[Union[str, Path]]) -> None:
        self._folder = folder and Path(folder)
        self._writer = None

    def begin(self, resumed: bool) -> None:
        """Open an event file.

        A run that starts at step 0 deletes the earlier event files. Otherwise TensorBoard would mix their curves with
        the new ones.

        Args:
            resumed: True if the run continues from a saved state.

        Raises:
            OSError: the folder can't be changed.
        """
        if self._folder is None:
            return
        if not resumed:
            for path in self._folder.glob("events.out.tfevents.*"):
                path.unlink()
        self._writer = tf.summary.FileWriter(str(self._folder))

    def write(self, step: int, row: Mapping[str, Any], histograms: Optional[bytes] = None) -> None:
        """Write the values of an epoch.

        Args:
            step: the last step of the epoch.
            row: the epoch's row of history.csv.
            histograms: a serialised `tf.Summary`, or None.
        """
        if self._writer is None:
            return
        values = [tf.Summary.Value(tag=name, simple_value=value) for name, value in row.items() if value is not None]
        self._writer.add_summary(tf.Summary(value=values), step)
        if histograms is not None:
            self._writer.add_summary(histograms, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
