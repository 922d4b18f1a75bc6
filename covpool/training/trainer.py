"""A run of training: epochs, validation, the best weights, the working state, and what is written at the end.

The stage's outputs appear when the run is complete: weights in `models/<run>/`, `history.csv`, `times.csv`,
`run.json` and `metrics.json` in `runs/<run>/`. Until then all is in the working state (`state.py`), from which a run
that was ended in any way goes on, and comes out with the same weights and history.
"""

import contextlib
import math
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from covpool import artifacts, devices
from covpool.networks import checkpoints
from covpool.params import as_plain
from covpool.training import losses, metrics, pictures, record
from covpool.training.graph import STEP_VALUES, TrainingGraph
from covpool.training.plan import Plan
from covpool.training.progress import Progress
from covpool.training.rates import learning_rate
from covpool.training.state import WorkingState


class NotFinite(RuntimeError):
    """A loss or a gradient is not a finite number."""


class Interrupted(Exception):
    """SIGINT or SIGTERM came; the state is saved. `signal` is its number."""

    def __init__(self, number, message):
        super().__init__(message)
        self.signal = number


class Trainer:
    """One run, named as in `params.devices`.

    params: `params.Params`; name: of the run; root: the folder in which the pipeline's artifacts lie; states: the
    folder for working states; events: the folder for TensorBoard's events, or None.
    """

    def __init__(self, params, name, root, states, events=None):
        started = time.perf_counter()
        self.params = params
        self.name = name
        self.root = Path(root)
        self.events = events
        self.device = devices.open_device(name, params.device_options[name])
        self.classes = params.dataset.classes
        self.train_faces = pictures.load_faces(self.root / artifacts.FACES, "train", self.classes)
        self.val_faces = pictures.load_faces(self.root / artifacts.FACES, "val", self.classes)
        self.val_images = pictures.center(self.val_faces.images, params.normalise.size)
        self.facts = record.facts(params, self.device, self.root)
        self.state = WorkingState(Path(states) / "{}-{}".format(name, record.key(self.facts)[:16]))
        self.signal = None
        self.started = started

    def run(self):
        """Train to the end and write the outputs.

        Raises Interrupted, NotFinite, and what the state and the artifacts raise; the state is kept then.
        """
        with self.state, self._signals():
            weights = None
            if self.params.train.class_weights == "balanced":
                weights = losses.balanced_class_weights(self.train_faces.labels, len(self.classes))
            train = self.params.train
            last_step = train.epochs * train.epoch_size
            self.graph = TrainingGraph(
                self.params, self.train_faces, self._plan(), lambda: self.step, last_step, weights
            )
            with self.device.session(self.graph.graph) as session:
                self._begin(session)
                while self.step < last_step:
                    self._epoch(session)
                self._write_outputs(session)
            self.state.remove()
        return self.record

    def _plan(self):
        train, normalise = self.params.train, self.params.normalise
        return Plan(
            count=len(self.train_faces.images),
            batch_size=train.batch_size,
            margin=normalise.margin if train.random_crop else 0,
            degrees=train.rotation_degrees if train.random_rotate else 0.0,
            flip=train.random_flip,
            seed=train.seed,
        )

    def _begin(self, session):
        """Take up the state, or start from new or given weights."""
        graph = self.graph
        session.run(graph.initialise)
        progress = self.state.restore(session, graph.saver)
        self.resumed = progress is not None
        if progress is None:
            # A state that could not be restored may have left some variables changed.
            session.run(graph.initialise)
            self._load_pretrained(session)
            progress = {"step": 0, "history": [], "times": [], "epoch_values": [], "best": None}
        self.step = progress["step"]
        self.history = progress["history"]
        self.times = progress["times"]
        self.epoch_values = progress["epoch_values"]
        self.best = progress["best"]
        session.run(graph.start_input)
        self.start_up = time.perf_counter() - self.started
        self.warm_up = True
        if self.resumed:
            print("Going on at step {} of {}.".format(self.step, self._last_step), flush=True)

    @property
    def _last_step(self):
        return self.params.train.epochs * self.params.train.epoch_size

    def _load_pretrained(self, session):
        prefix = self.params.train.pretrained_model
        if prefix:
            self.graph.load(session, checkpoints.read_weights(self.root / prefix, self.graph.load.shapes))
            session.run(self.graph.restart_averages)

    def _epoch(self, session):
        """The steps that are left of the epoch under way, and its end."""
        train = self.params.train
        epoch = self.step // train.epoch_size
        rate = learning_rate(epoch, train)
        with Progress(train, epoch, len(self.epoch_values)) as progress:
            while self.step < (epoch + 1) * train.epoch_size:
                self._check_signal(session)
                values = self._step(session, epoch, rate)
                progress.step(values, self.times[-1]["seconds"])
            self._end_epoch(session, epoch, rate)
            progress.end(self.history[-1])

    def _step(self, session, epoch, rate):
        before = time.perf_counter()
        values = self.graph.run_step(session, rate)
        seconds = time.perf_counter() - before
        self._check_finite(values, rate)
        self.times.append({
            "epoch": epoch + 1, "step": self.step + 1, "steps": 1, "seconds": round(seconds, 6),
            "waiting_seconds": round(values.waiting_seconds, 6), "warm_up": self.warm_up,
        })  # fmt: skip
        self.warm_up = False
        self.epoch_values.append([getattr(values, name) for name in STEP_VALUES[:-1]])
        self.step += 1
        return values

    def _check_finite(self, values, rate):
        # Judged here, from what was fetched: the NPU has no operation for it.
        names = [each.op.name for each in self.graph.variables]
        bad = [name for name, norm in zip(names, values.norms) if not math.isfinite(norm)]
        if math.isfinite(values.loss) and not bad:
            return
        raise NotFinite(
            "step {} (epoch {}): the loss is {} and {} at learning rate {:g}. The state before it is kept in {}. "
            "Lower the learning rate (train.learning_rate, train.schedule), or raise spd.ridge.".format(
                self.step + 1, self.step // self.params.train.epoch_size + 1, values.loss,
                "the gradient is not finite for " + ", ".join(bad) if bad else "all gradients are finite",
                rate, self.state.folder,
            )  # fmt: skip
        )

    def _end_epoch(self, session, epoch, rate):
        means = dict(zip(STEP_VALUES[:-1], np.mean(np.array(self.epoch_values, np.float64), axis=0).tolist()))
        logits = self.graph.score(session, self.val_images, self.params.train.batch_size)
        scores = metrics.scores(logits, self.val_faces.labels, self.classes)
        row = {
            "epoch": epoch + 1, "steps": self.step, "learning_rate": rate,
            "val_cross_entropy": scores["cross_entropy"], "val_accuracy": scores["accuracy"],
            "orthogonality": float(session.run(self.graph.orthogonality)),
        }  # fmt: skip
        row.update((name, means[name]) for name in means if name in artifacts.HISTORY_COLUMNS)
        self.history.append(row)
        self.epoch_values = []
        if self.best is None or row["val_accuracy"] > self.best["val_accuracy"]:
            self.state.save_best(session, self.graph.save_inference, epoch + 1)
            self.best = {"epoch": epoch + 1, "val_accuracy": row["val_accuracy"]}
        self._save(session)
        self._write_events(session, row)

    def _save(self, session):
        progress = {
            "step": self.step, "history": self.history, "times": self.times, "epoch_values": self.epoch_values,
            "best": self.best,
        }  # fmt: skip
        self.state.save(session, self.graph.saver, self.step, progress)

    def _write_events(self, session, row):
        if self.events is None:
            return
        with contextlib.closing(tf.summary.FileWriter(str(self.events))) as writer:
            values = [tf.Summary.Value(tag=name, simple_value=value) for name, value in row.items() if name != "epoch"]
            writer.add_summary(tf.Summary(value=values), self.step)
            if self.graph.histograms is not None:
                writer.add_summary(session.run(self.graph.histograms), self.step)

    def _write_outputs(self, session):
        models, runs = self.root / artifacts.MODELS / self.name, self.root / artifacts.RUNS / self.name
        models.mkdir(parents=True, exist_ok=True)
        self.graph.save_inference(session, models / "last")
        for path in self.state.best_files(self.best["epoch"]):
            shutil.copyfile(str(path), str(models / ("best" + path.name[len("best-0000") :])))
        artifacts.write_json(models / "model.json", {
            "format": 1,
            "classes": list(self.classes),
            "network": as_plain(self.params.network),
            "spd": as_plain(self.params.spd),
            "image_size": self.params.normalise.size,
            "checkpoints": {
                "best": {"epoch": self.best["epoch"], "val_accuracy": self.best["val_accuracy"]},
                "last": {"epoch": self.params.train.epochs, "val_accuracy": self.history[-1]["val_accuracy"]},
            },
        })  # fmt: skip
        artifacts.write_csv(runs / "history.csv", artifacts.HISTORY_COLUMNS, self.history)
        artifacts.write_csv(runs / "times.csv", artifacts.TIMES_COLUMNS, self.times)
        self.record = record.run_record(self.facts, self.params, self)
        artifacts.write_json(runs / "run.json", self.record)
        artifacts.write_json(runs / "metrics.json", record.headline(self.record))

    @contextlib.contextmanager
    def _signals(self):
        """SIGINT and SIGTERM only leave a note, so that the step under way is finished."""

        def note(number, frame):
            self.signal = number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _check_signal(self, session):
        if self.signal is None:
            return
        self._save(session)
        raise Interrupted(self.signal, "interrupted after step {} of {}; run again to go on from there.".format(
            self.step, self._last_step))  # fmt: skip
