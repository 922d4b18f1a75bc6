"""Sessions whose configuration names NpuOptimizer are checked, recorded, and run on the processor.

Like newer adapters, which wrap TensorFlow's Session when they are imported.
"""

import os

import tensorflow.compat.v1 as tf
from tensorflow.python.client import session as tf_session

from npu_bridge import contract, hccl_ops

LOOP = "IterationOp"
#: The sessions of this process, as `Recorded`, in the order in which they were opened.
SESSIONS = []
_INIT, _RUN = tf_session.Session.__init__, tf_session.Session.run


class Recorded:
    """config: as it was given; parameters: its parameter_map; graph; runs: names of what was fetched, a set a run."""

    def __init__(self, config, parameters, graph):
        self.config = config
        self.parameters = parameters
        self.graph = graph
        self.runs = []


def _init(self, target="", graph=None, config=None):
    optimizers = config.graph_options.rewrite_options.custom_optimizers if config else ()
    if not any(each.name == "NpuOptimizer" for each in optimizers):
        return _INIT(self, target, graph, config)
    parameters = contract.check_config(config)
    if (graph or tf.get_default_graph()).get_collection(hccl_ops.EXCHANGED):
        contract.connected(os.environ)
    plain = tf.ConfigProto()
    plain.CopyFrom(config)
    del plain.graph_options.rewrite_options.custom_optimizers[:]
    _INIT(self, target, graph, plain)
    self.on_npu = Recorded(config, parameters, self.graph)
    SESSIONS.append(self.on_npu)


def _run(self, fetches, feed_dict=None, options=None, run_metadata=None):
    if not hasattr(self, "on_npu"):
        return _RUN(self, fetches, feed_dict, options, run_metadata)
    found = [self.graph.as_graph_element(each) for each in tf.nest.flatten(fetches)]
    operations = {getattr(each, "op", each) for each in found}
    contract.check_loop(self.graph, self.on_npu.parameters)
    names = frozenset(each.name for each in operations)
    if names not in self.on_npu.runs:
        contract.check_graph(operations, self.on_npu.parameters)
    self.on_npu.runs.append(names)
    loop = LOOP in names
    for _ in range(self.on_npu.parameters["iterations_per_loop"] if loop else 1):
        result = _RUN(self, fetches, feed_dict, options, run_metadata)
    return result


def take_over():
    tf_session.Session.__init__, tf_session.Session.run = _init, _run


def give_back():
    tf_session.Session.__init__, tf_session.Session.run = _INIT, _RUN
    del SESSIONS[:]
