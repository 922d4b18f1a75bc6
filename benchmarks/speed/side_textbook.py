"""The textbook graph as a measured side; run by the stock build's Python, with nothing tuned.

The session is TensorFlow's default, the allocator the C library's, pictures are fed as float32 arrays.
"""

import numpy as np
import tensorflow.compat.v1 as tf

from benchmarks.speed import answering, problem, textbook


class Side:
    """One graph and session; `open` before all else."""

    def open(self, weights, training):
        graph = tf.Graph()
        with graph.as_default():
            self.built = textbook.build(training=training)
            initialise = tf.global_variables_initializer()
            self.session = tf.Session(graph=graph)
        self.session.run(initialise)
        found = np.load(weights)
        for name, each in self.built.variables.items():
            if name in found.files:
                each.load(found[name], self.session)
        pictures, labels = problem.synthetic_pictures(problem.BATCH, problem.SIZE)
        self.feed = {self.built.images: pictures.astype(np.float32), self.built.labels: labels}

    def gradients(self, batch, out):
        """Write the first step's loss and gradients for the pictures in the file `batch`."""
        found = np.load(batch)
        feed = {self.built.images: found["pictures"].astype(np.float32), self.built.labels: found["labels"]}
        gradients = {name: each for name, each in self.built.gradients.items() if name != "centers"}
        values, loss = self.session.run([gradients, self.built.cross_entropy + self.built.center], feed)
        values[problem.BIMAP] = problem.tangent(np.load(batch)["frame"], values[problem.BIMAP])
        np.savez(out, loss=loss, **{name: _dense(each) for name, each in values.items()})

    def step(self, repeats=1):
        return answering.seconds_of(lambda: self.session.run([self.built.loss, *self.built.step], self.feed), repeats)

    def score(self, pictures, repeats=1):
        feed = {self.built.images: self.feed[self.built.images][:pictures]}
        return answering.seconds_of(lambda: self.session.run(self.built.logits, feed), repeats)


def _dense(value):
    """An array of what may be the slices of an embedding's gradient."""
    return getattr(value, "values", value)


def main():
    tf.logging.set_verbosity(tf.logging.ERROR)
    side = Side()
    answering.serve({"open": side.open, "gradients": side.gradients, "step": side.step, "score": side.score})


if __name__ == "__main__":
    main()
