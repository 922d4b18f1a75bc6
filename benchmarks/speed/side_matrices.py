"""Covariance pooling, BiMap, ReEig and LogEig alone, by the pipeline's layers; run through stages/tf on any build."""

import numpy as np
import tensorflow.compat.v1 as tf

from benchmarks.speed import answering, problem
from covpool import devices, spd


class Side:
    def open(self, path):
        """path: of `features` [B, P, C], `w` [C, m] and the gradient `cotangent` [B, m, m] that comes in."""
        found = np.load(path)
        graph = tf.Graph()
        with graph.as_default():
            inputs = {name: tf.placeholder(tf.float32, found[name].shape) for name in found.files}
            mapped = spd.projected_covariance(inputs["features"], inputs["w"], problem.RIDGE)
            self.value = spd.log_reeig(mapped, problem.EPSILON, problem.MAXIMUM)
            gradients = tf.gradients(self.value, [inputs["features"], inputs["w"]], inputs["cotangent"])
            # As operations: fetched whole, a gradient would be copied to Python, which no step of training does. And
            # not as a group of them: TensorFlow leaves out what only a group waits for.
            self.trained = [each.op for each in (self.value, *gradients)]
            self.gradients = gradients
            self.session = devices.open_cpu().session(graph)
        self.feed = {inputs[name]: found[name] for name in found.files}

    def results(self, out):
        value, features, w = self.session.run([self.value, *self.gradients], self.feed)
        np.savez(out, value=value, features=features, w=w)

    def forward(self, repeats=1):
        return answering.seconds_of(lambda: self.session.run(self.value.op, self.feed), repeats)

    def both(self, repeats=1):
        return answering.seconds_of(lambda: self.session.run(self.trained, self.feed), repeats)


def main():
    side = Side()
    answering.serve({"open": side.open, "results": side.results, "forward": side.forward, "both": side.both})


if __name__ == "__main__":
    main()
