"""The pipeline's own training and scoring as a measured side; run through stages/tf on any build."""

import time
from pathlib import Path

STARTED = time.perf_counter()

import numpy as np  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402

from benchmarks.speed import answering, operations, problem  # noqa: E402
from covpool import devices  # noqa: E402
from covpool.config import PARAMS_FILE, parse_params, read_yaml  # noqa: E402
from covpool.training import input_pipeline  # noqa: E402
from covpool.training.graph import TrainingGraph  # noqa: E402
from covpool.training.plan import run_plan  # noqa: E402
from covpool.training.score import Scorer  # noqa: E402

IMPORTED = time.perf_counter()
ROOT = Path(__file__).resolve().parent.parent.parent
#: The input pipeline is asked for this many steps, more than any measurement takes.
ENDLESS = 10**6


def parameters(changes):
    """`params.Params` of the project's params.yaml with {dotted key: value} changed."""
    content = read_yaml(ROOT / PARAMS_FILE)
    for key, value in changes.items():
        *sections, name = key.split(".")
        place = content
        for section in sections:
            place = place[section]
        place[name] = value
    return parse_params(content)


class Training:
    """The graph of a run of training as `covpool.training.trainer` builds it, on pictures that are given."""

    def __init__(self, params, images, labels):
        self.plan = run_plan(params, len(images))
        faces = input_pipeline.Faces(images, labels, [""] * len(images))
        device = devices.open_cpu()
        self.graph = TrainingGraph(params, device, faces, lambda: 0, ENDLESS)
        self.session = device.session(self.graph.graph)
        self.session.run(self.graph.initialise)
        self.graph.begin(self.session)

    def step(self, rate=problem.RATE):
        return self.graph.run_step(self.session, rate)

    def below_scope(self):
        """{name as in `problem`'s files: name of the variable}."""
        found = {}
        for each in self.graph.variables:
            name = each.op.name
            found[name if name.startswith("Logits/") else name.split("/", 1)[1]] = name
        return found


def gradients_of_first_step(training):
    """Loss and gradients by `problem`'s names: what Adam's first moment holds after a step, over 1 - beta1.

    At the learning rate 0, so that W and with it the tangent space of its gradient stay where they are.
    """
    step = training.step(rate=0.0)
    with training.graph.graph.as_default():
        moments = {each.op.name: each for each in tf.global_variables() if each.op.name.endswith("/Adam")}
    names = training.below_scope()
    found = training.session.run({short: moments[name + "/Adam"] for short, name in names.items()})
    share = 1.0 - problem.ADAM["beta1"]
    return dict({short: each / share for short, each in found.items()}, loss=step.cross_entropy + step.center_loss)


class Side:
    """One training, or one network that scores."""

    def begin(self, weights, batch):
        """Write the weights and the batch that every side begins with."""
        training, images, labels = self._fixed()
        values = training.session.run(training.graph.inference)
        names = training.below_scope()
        kept = {short: values[name] for short, name in names.items()}
        np.savez(weights, **kept)
        order = training.plan.step(0).indices
        np.savez(batch, pictures=images[order], labels=labels[order], frame=kept[problem.BIMAP])

    def gradients(self, weights, out):
        """Write the first step's loss and gradients."""
        training, _, _ = self._fixed()
        found, names = np.load(weights), training.below_scope()
        training.graph.load(training.session, {names[short]: found[short] for short in names})
        np.savez(out, **gradients_of_first_step(training))

    def _fixed(self):
        images, labels = problem.synthetic_pictures(problem.BATCH, problem.SIZE)
        return Training(parameters(problem.FIXED), images, labels), images, labels

    def open(self, changes=None, pictures_from=None, checkpoint=None):
        """Build the graph of training, on synthetic pictures or on those of a file.

        Returns the seconds of the imports and of graph and initialisation. checkpoint: write the weights there.
        """
        before = time.perf_counter()
        params = parameters(dict(problem.PUBLISHED, **(changes or {})))
        side = params.normalise.size + 2 * params.normalise.margin
        if pictures_from:
            images = np.load(pictures_from, mmap_mode="r")
            labels = np.arange(len(images), dtype=np.int32) % problem.CLASSES
        else:
            images, labels = problem.synthetic_pictures(8 * problem.BATCH, side)
        made = time.perf_counter()
        self.training = Training(params, images, labels)
        if checkpoint:
            self.training.graph.save_inference(self.training.session, checkpoint)
        return {"imports": IMPORTED - STARTED, "graph": time.perf_counter() - made, "pictures": made - before}

    def step(self, repeats=1):
        """Seconds of whole steps, and of their waits for data."""
        waits = []
        seconds = answering.seconds_of(lambda: waits.append(self.training.step().waiting_seconds), repeats)
        return {"seconds": seconds, "waiting": waits}

    def flops(self):
        """Of a step that computes nothing twice: the bound is that of the task, not of our way to do it."""
        device = devices.open_cpu()
        device.takes_parts = False
        images, labels = problem.synthetic_pictures(problem.BATCH, problem.SIZE)
        faces = input_pipeline.Faces(images, labels, [""] * len(images))
        graph = TrainingGraph(parameters(problem.FIXED), device, faces, lambda: 0, ENDLESS)
        return operations.count_flops(graph.step)

    def profile(self, repeats):
        """Milliseconds by kind of work, the middle one of `repeats` traced steps; bytes of the tensors at the worst
        moment of all, and of the variables.
        """
        graph, traces = self.training.graph, []
        for _ in range(repeats):
            traces.append(tf.RunMetadata())
            options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
            feed = {graph.learning_rate: problem.RATE}
            self.training.session.run(graph.step, feed, options=options, run_metadata=traces[-1])
        return {
            "kinds": operations.milliseconds_by_kind(traces, graph.graph),
            "most_in_use": max(operations.most_in_use(each) for each in traces),
            "variables": sum(each.shape.num_elements() * each.dtype.size for each in graph.all_variables),
        }

    def open_scorer(self, checkpoint, sizes, changes=None):
        """Build a network that scores for each of these numbers of pictures at once; returns as `open`."""
        params = parameters(dict(problem.PUBLISHED, **(changes or {})))
        size = params.normalise.size
        before = time.perf_counter()
        self.scorers = {
            count: Scorer(
                params.network, params.spd, size, checkpoint, devices.open_cpu(), problem.CLASSES, batch_size=count
            )
            for count in sizes
        }
        built = time.perf_counter() - before
        self.pictures, _ = problem.synthetic_pictures(problem.BATCH, size)
        return {"imports": IMPORTED - STARTED, "graph": built}

    def score(self, pictures, repeats=1):
        return answering.seconds_of(lambda: self.scorers[pictures](self.pictures[:pictures]), repeats)

    def score_all(self, path, batch_size):
        """Seconds to score a whole file of pictures."""
        images = np.load(path, mmap_mode="r")
        return answering.seconds_of(lambda: self.scorers[batch_size](images))

    def about(self):
        """The build, and every setting of the environment that a launcher may have chosen for it."""
        record = devices.open_cpu().record
        return dict(
            devices.describe_tensorflow(),
            threads=record["threads"],
            environment=devices.describe_host()["settings"],
        )


def main():
    side = Side()
    names = ("begin", "gradients", "open", "step", "flops", "profile", "open_scorer", "score", "score_all", "about")
    answering.serve({name: getattr(side, name) for name in names})


if __name__ == "__main__":
    main()
