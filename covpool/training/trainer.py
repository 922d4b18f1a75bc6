"""A run of training: epochs, validation, the best weights and the working state.

The stage's outputs appear when the run is complete (`outputs.py`). Until then everything is in the working state
(`state.py`). A run that was interrupted in any way resumes from that state, and gives the same weights and history as
a run without interruption. The state stays until the stage `evaluate` has started, which proves that DVC has stored
the outputs.

Each of several workers is a process that runs this code (`covpool.distributed`). Only worker 0 keeps the state,
validates and writes. The other workers copy all variables from worker 0 at the start, and make the same steps from
then on.
"""

import contextlib
import math
import signal
import time
from pathlib import Path
from typing import Any, Dict, Optional, Union

import numpy as np

from covpool import devices
from covpool.devices import meter
from covpool.networks import checkpoints
from covpool.pipeline import artifacts
from covpool.training import finite, metrics, outputs, record, run_key
from covpool.training.events import Events
from covpool.training.graph import STEP_VALUES, NoDecomposition, TrainingGraph
from covpool.training.loading import load_data, pretrained_checkpoint
from covpool.training.progress import Progress
from covpool.training.rates import learning_rate
from covpool.training.state import KEY_LENGTH, WorkingState, forget, only_writer, writing

#: The values of a step that are averaged over an epoch. The wait for data is a time, and times have their own table.
EPOCH_VALUES = tuple(name for name in STEP_VALUES if name != "waiting_seconds")


class Interrupted(Exception):
    """SIGINT or SIGTERM was received, and the state is saved.

    Args:
        number: the number of the signal, kept as the attribute `signal`.
        message: the message for people.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.signal = number


class Trainer:
    """One run.

    Args:
        params: a `config.Params`.
        name: the name of the run, as in `params.devices`.
        root: the folder in which the pipeline's artifacts lie.
        states: the folder for working states.
        events: the folder for TensorBoard's events, or None.

    Raises:
        ArtifactError: the data or the pretrained weights can't be read.
        DeviceError: the device can't be opened.
    """

    def __init__(
        self,
        params: Any,
        name: str,
        root: Union[str, Path],
        states: Union[str, Path],
        events: Optional[Union[str, Path]] = None,
    ) -> None:
        started = time.perf_counter()
        self.params = params
        self.name = name
        self.root = Path(root)
        self.workers = devices.open_workers(name, params.device_options[name])
        self.device = devices.open_device(name, params.device_options[name], self.workers)
        self.classes = params.dataset.classes
        self.data = load_data(params, self.root)
        self.pretrained = pretrained_checkpoint(params, self.root)
        self.facts = record.facts(params, self.device, self.root)
        self.meter = devices.Meter(self.device.gauge)
        self.state = WorkingState(Path(states) / f"{name}-{run_key.key(self.facts)[:KEY_LENGTH]}")
        self.events = Events(events if self.workers.leads else None)
        self.signal = None
        self.stopping = False
        self.record = None
        self.started = started

    def run(self) -> Optional[Dict[str, Any]]:
        """Train to the end and write the outputs.

        After each of these errors the state is kept, and the next run resumes from it.

        Returns:
            The run's record; None for every worker except worker 0.

        Raises:
            Interrupted: SIGINT or SIGTERM was received.
            NotFinite: the loss, the gradients or the outputs are not finite.
            LostWorkers: the connection to another worker failed.
            StateError: the state or the outputs can't be written, or another process trains this run.
            ArtifactError: an artifact can't be read or written.
        """
        with contextlib.ExitStack() as stack:
            if self.workers.leads:
                # Only one run of this name may write outputs here, and only one process may use a state.
                stack.enter_context(only_writer(self.root / ".covpool" / (self.name + ".lock")))
                stack.enter_context(self.state)
            stack.enter_context(self._signals())
            stack.enter_context(self.workers.exchange())
            self._train()
        return self.record

    def _train(self):
        self.graph = TrainingGraph(self.params, self.device, self.data.train, lambda: self.step, self.last_step)
        with self.device.session(self.graph.graph) as session, contextlib.closing(self.events):
            self._begin(session)
            with self.meter:
                while self.step < self.last_step:
                    self._epoch(session)
            self._sum_up(session)
            if self.workers.leads:
                with writing(self.root, "the outputs"):
                    self._write_outputs(session)
                self.state.finish()

    @property
    def global_batch(self) -> int:
        """The number of pictures in a step, of all workers together."""
        return self.params.train.batch_size * self.workers.count

    @property
    def last_step(self) -> int:
        """The number of steps of the whole run."""
        return self.params.train.epochs * self.params.train.epoch_size

    def _begin(self, session):
        """Restore the state, or start from new or pretrained weights."""
        progress = self.state.restore(session, self.graph.saver) if self.workers.leads else None
        self.resumed = progress is not None
        if progress is None:
            if self.workers.leads:
                # A new training of this run begins. So DVC has stored the last one's outputs, or they are not needed.
                forget(self.state.folder.parent, self.name)
            session.run(self.graph.initialise)
            self._load_pretrained(session)
            progress = {"history": [], "times": [], "epoch_values": [], "best": None, "drawn": meter.NOTHING}
        if not self.graph.follow(session, run_key.fingerprint(self.facts)):
            raise devices.DeviceError(
                f"worker {self.workers.rank} of {self.name!r} has other parameters, data, code or TensorFlow than "
                "worker 0: see to it that both have the same params.yaml, data/faces and revision."
            )
        self.step = int(session.run(self.graph.global_step))
        self.history = progress["history"]
        self.times = progress["times"]
        self.epoch_values = progress["epoch_values"]
        self.best = progress["best"]
        self.drawn = self.drawn_before = meter.Drawn(*progress["drawn"])
        self.graph.begin(session)
        with writing(self.root, "TensorBoard's events"):
            self.events.begin(self.resumed)
        self.start_up = time.perf_counter() - self.started
        self.warm_up = True
        self.overflows = 0
        if self.workers.leads:
            self._say_how_it_begins()

    def _say_how_it_begins(self):
        if self.step == self.last_step:
            print(
                f"All {self.step} steps are done already: writing the results from the state that was kept.", flush=True
            )
        elif self.resumed:
            print(f"Resuming at step {self.step} of {self.last_step}.", flush=True)
        folders, size = self.state.others()
        if folders:
            print(
                f"Unfinished runs of {self.name!r} with other settings use {size // 2**20} MB. Delete the ones that "
                "you will "
                "not resume: {}".format(" ".join(map(str, folders))),
                flush=True,
            )

    def _load_pretrained(self, session):
        if self.pretrained:
            self.graph.load(session, checkpoints.read_weights(self.pretrained, self.graph.load.shapes))
            session.run(self.graph.restart_averages)

    def _epoch(self, session):
        """Run the remaining steps of the current epoch, and then its validation."""
        train = self.params.train
        epoch = self.step // train.epoch_size
        rate = learning_rate(epoch, train, self.workers.count)
        shown = self.workers.leads
        with Progress(train, epoch, len(self.epoch_values), self.global_batch, shown) as progress:
            while self.step < (epoch + 1) * train.epoch_size:
                self._check_signal(session)
                values = self._step(session, epoch, rate)
                progress.step(values, self.times[-1])
            self._sum_up(session)
            if self.workers.leads:
                self._end_epoch(session, epoch, rate)
                progress.end(self.history[-1])
            else:
                self.epoch_values = []

    def _sum_up(self, session):
        """Combine the measured energy and memory of all workers so far, including the time before an interruption."""
        self.drawn = self.drawn_before.then(self.graph.drawn_by_all(session, self.meter.drawn()))

    def _step(self, session, epoch, rate):
        before = time.perf_counter()
        try:
            values = self.graph.run_step(session, rate, self.signal is not None)
        except NoDecomposition:
            weights = f"these weights are not finite: {self._bad_weights(session) or 'none'}"
            raise finite.step_error(
                "the covariance matrices are not finite", weights, self._place(rate), self._last_good()
            ) from None
        steps = self.device.steps_per_run
        seconds = (time.perf_counter() - before) / steps
        self._check_finite(values, rate)
        told = "waiting_seconds" not in self.graph.unmeasured
        self.times.append(
            {
                "epoch": epoch + 1,
                "step": self.step + 1,
                "steps": steps,
                "seconds": round(seconds, 6),
                "waiting_seconds": round(values.waiting_seconds, 6) if told else None,
                "warm_up": self.warm_up,
            }
        )
        self.warm_up = False
        # All workers stop after the same step: the step in which they exchanged the request to stop.
        self.stopping = values.stop
        self.epoch_values.append([getattr(values, name) for name in EPOCH_VALUES])
        self.step += steps
        return values

    def _check_finite(self, values, rate):
        bad = finite.bad_names([each.op.name for each in self.graph.variables], values.norms)
        self.overflows = self.overflows + 1 if bad else 0
        # The device has not changed the weights, and uses a smaller loss scale in the next step.
        skipped = self.device.skips_overflow and self.overflows <= finite.MOST_OVERFLOWS
        if (bad and not skipped) or not math.isfinite(values.loss):
            what = f"the gradients of {bad or 'no variable'} are not finite"
            raise finite.step_error(f"the loss is {values.loss}", what, self._place(rate), self._last_good())

    def _bad_weights(self, session):
        names = [each.op.name for each in self.graph.variables]
        return finite.bad_names(names, session.run(self.graph.weight_norms))

    def _place(self, rate):
        epoch = self.step // self.params.train.epoch_size + 1
        return finite.Place(epoch, self.step + 1, self.step + self.device.steps_per_run, rate)

    def _last_good(self):
        step = self.state.newest_step()
        return (
            "No state was saved before it."
            if step is None
            else f"The state of step {step} is kept in {self.state.folder}."
        )

    def _end_epoch(self, session, epoch, rate):
        row = self._history_row(session, epoch, rate)
        self.history.append(row)
        self.epoch_values = []
        # If two epochs have the same accuracy, the lower cross entropy is better. Ties are frequent in small splits.
        rank = (row["val_accuracy"], -row["val_cross_entropy"])
        if self.best is None or rank > (self.best["val_accuracy"], -self.best["val_cross_entropy"]):
            self.state.save_best(session, self.graph.save_inference, epoch + 1)
            self.best = {name: row[name] for name in ("epoch", "val_accuracy", "val_cross_entropy")}
        self._save(session)
        histograms = None if self.graph.histograms is None else session.run(self.graph.histograms)
        with writing(self.root, "TensorBoard's events"):
            self.events.write(self.step, row, histograms)

    def _history_row(self, session, epoch, rate):
        means = dict(zip(EPOCH_VALUES, np.mean(np.array(self.epoch_values, np.float64), axis=0).tolist()))
        means.update((name, None) for name in self.graph.unmeasured if name in EPOCH_VALUES)
        scores = self._validate(session, epoch)
        error = self.graph.orthogonality
        return dict(
            means,
            epoch=epoch + 1,
            steps=self.step,
            learning_rate=rate,
            val_cross_entropy=scores["cross_entropy"],
            val_accuracy=scores["accuracy"],
            orthogonality=None if error is None else float(session.run(error)),
        )

    def _validate(self, session, epoch):
        try:
            logits = self.graph.score(session, self.data.val_images)
        except NoDecomposition:
            logits = np.array(np.nan)
        finite.check_outputs(logits, epoch + 1, lambda: self._bad_weights(session), self._last_good())
        return metrics.scores(logits, self.data.val.labels, self.classes)

    def _save(self, session):
        progress = {
            "step": self.step,
            "history": self.history,
            "times": self.times,
            "epoch_values": self.epoch_values,
            "best": self.best,
            "drawn": self.drawn,
        }
        self.state.save(session, self.graph.saver, self.step, progress)

    def _write_outputs(self, session):
        models, runs = self.root / artifacts.MODELS / self.name, self.root / artifacts.RUNS / self.name
        outputs.write_model(
            models,
            self.params,
            lambda prefix: self.graph.save_inference(session, prefix),
            self.best,
            self.state.best_files(self.best["epoch"]),
            self.history[-1],
        )
        files = outputs.write_tables(runs, self.history, self.times)
        self.record = record.run_record(self.facts, self.params, self, files)
        artifacts.write_json(runs / "run.json", self.record)

    @contextlib.contextmanager
    def _signals(self):
        """Only note SIGINT and SIGTERM inside the block, so that the current step is finished."""

        def note(number, frame):
            self.signal = number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _check_signal(self, session):
        asked = self.stopping if self.workers.count > 1 else self.signal is not None
        if not asked:
            return
        self.meter.stop()
        self._sum_up(session)
        if self.workers.leads:
            self._save(session)
        # A worker that got no signal itself stops because another worker got one.
        raise Interrupted(
            self.signal or signal.SIGTERM,
            f"interrupted after step {self.step} of {self.last_step}; run the same command again to resume there.",
        )
