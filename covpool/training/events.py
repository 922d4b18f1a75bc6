"""What TensorBoard shows of a run: the columns of history.csv as curves, and the weights' histograms if wanted."""

from pathlib import Path

import tensorflow.compat.v1 as tf


class Events:
    """The event files of one run. folder: where they lie, or None for none. Call in graph mode, inside a session."""

    def __init__(self, folder):
        self._folder = folder and Path(folder)
        self._writer = None

    def begin(self, resumed):
        """Open a file. A run from the start takes the earlier ones away: their curves would run through its own."""
        if self._folder is None:
            return
        if not resumed:
            for path in self._folder.glob("events.out.tfevents.*"):
                path.unlink()
        self._writer = tf.summary.FileWriter(str(self._folder))

    def write(self, step, row, histograms=None):
        """An epoch's row, at its last step; histograms: a serialised Summary, or None."""
        if self._writer is None:
            return
        values = [tf.Summary.Value(tag=name, simple_value=value) for name, value in row.items() if value is not None]
        self._writer.add_summary(tf.Summary(value=values), step)
        if histograms is not None:
            self._writer.add_summary(histograms, step)
        self._writer.flush()

    def close(self):
        if self._writer is not None:
            self._writer.close()
