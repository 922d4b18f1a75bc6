"""The train stage with something changed in some of its workers, named by CHANGE, a function below.

Each worker writes its variables to `variables-<rank>.npz` after each epoch.
"""

import os
from pathlib import Path

import numpy as np

from covpool.distributed import launcher


def nothing():
    pass


def frozen_batch_norm():
    """Every batch is normalised by the moving statistics, which stay as they are."""
    from covpool.networks import layers

    trained = layers.Layers.batch_norm

    def batch_norm(self, *arguments):
        training, self.training = self.training, False
        try:
            return trained(self, *arguments)
        finally:
            self.training = training

    layers.Layers.batch_norm = batch_norm


def poison_worker_1():
    """The loss of worker 1 is not a number from step 5 on."""
    import tensorflow.compat.v1 as tf

    from covpool.training import graph

    losses = graph.losses.losses

    def poisoned(endpoints, labels, *arguments):
        terms = losses(endpoints, labels, *arguments)
        if arguments[-1].rank != 1:
            return terms
        step = next(each for each in tf.global_variables() if each.op.name == "global_step")
        poison = tf.where(step > 3, np.nan, 1.0)
        return terms._replace(total=terms.total * poison, cross_entropy=terms.cross_entropy * poison)

    graph.losses.losses = poisoned


def no_decomposition_on_worker_1():
    """Worker 1 alone finds at step 5 that its matrices have no eigenvalues."""
    from covpool.training.graph import NoDecomposition, TrainingGraph

    original = TrainingGraph.run_step

    def run_step(graph, session, *arguments):
        if graph.workers.rank == 1 and session.run(graph.global_step) == 4:
            raise NoDecomposition()
        return original(graph, session, *arguments)

    TrainingGraph.run_step = run_step


def other_data_on_worker_1():
    from covpool.training import record

    original = record.fingerprint
    record.fingerprint = lambda facts: original(dict(facts, data=os.environ["HOROVOD_RANK"]))


def power_by_rank():
    """Worker 0 has a device that draws 100 W, with 1 GiB in use, worker 1 one of 150 W and 2 GiB."""
    from covpool.devices import meter, smi

    original, rank = meter.Meter.__init__, int(os.environ["HOROVOD_RANK"])
    usage = smi.Usage(100.0 + 50 * rank, (1 + rank) * 2**30)
    meter.Meter.__init__ = lambda self, gauge: original(self, meter.PowerGauge("a play", lambda: usage))


def write_variables():
    """After each epoch, what all variables are."""
    import tensorflow.compat.v1 as tf

    from covpool.training.trainer import Trainer

    original = Trainer._epoch

    def epoch(self, session):
        original(self, session)
        with session.graph.as_default():
            values = session.run({each.op.name: each for each in tf.global_variables()})
        np.savez(f"variables-{self.workers.rank}.npz", **values)

    Trainer._epoch = epoch


if __name__ == "__main__":
    # A launcher stays as it is.
    if launcher.LAUNCHER in os.environ or "HOROVOD_RANK" in os.environ or os.environ["CHANGE_ALONE"]:
        globals()[os.environ["CHANGE"]]()
        write_variables()
    stage = Path(__file__).resolve().parent.parent.parent / "stages" / "train.py"
    exec(compile(stage.read_text(), str(stage), "exec"))
