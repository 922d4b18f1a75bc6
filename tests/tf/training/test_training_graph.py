"""The training graph: optimisers by their published formulas, averages, statistics, and a step that repeats."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from covpool import devices
from covpool.training import input_pipeline
from covpool.training.graph import NoDecomposition, TrainingGraph, make_optimizer
from tests.tf.training import training_project

RATE = 0.3


def adagrad(train, gradients):
    total, moves = train.adagrad.initial_accumulator, []
    for g in gradients:
        total = total + g**2
        moves.append(-RATE * g / np.sqrt(total))
    return moves


def adadelta(train, gradients):
    """M. Zeiler: ADADELTA (arXiv 1212.5701), algorithm 1, times the learning rate."""
    rho, epsilon = train.adadelta.rho, train.adadelta.epsilon
    squares = steps = 0.0
    moves = []
    for g in gradients:
        squares = rho * squares + (1 - rho) * g**2
        step = -np.sqrt(steps + epsilon) / np.sqrt(squares + epsilon) * g
        steps = rho * steps + (1 - rho) * step**2
        moves.append(RATE * step)
    return moves


def adam(train, gradients):
    """D. Kingma, J. Ba: Adam (arXiv 1412.6980), section 2, the form with the corrections in the rate."""
    options, m, v, moves = train.adam, 0.0, 0.0, []
    for t, g in enumerate(gradients, 1):
        m = options.beta1 * m + (1 - options.beta1) * g
        v = options.beta2 * v + (1 - options.beta2) * g**2
        rate = RATE * np.sqrt(1 - options.beta2**t) / (1 - options.beta1**t)
        moves.append(-rate * m / (np.sqrt(v) + options.epsilon))
    return moves


def rmsprop(train, gradients):
    """T. Tieleman, G. Hinton: lecture 6.5, with momentum; TensorFlow's mean of squares starts at 1."""
    options, squares, momentum, moves = train.rmsprop, 1.0, 0.0, []
    for g in gradients:
        squares = options.decay * squares + (1 - options.decay) * g**2
        momentum = options.momentum * momentum + RATE * g / np.sqrt(squares + options.epsilon)
        moves.append(-momentum)
    return moves


def mom(train, gradients):
    """I. Sutskever et al.: On the importance of initialization and momentum, ICML 2013, in TensorFlow's form."""
    options, momentum, moves = train.mom, 0.0, []
    for g in gradients:
        momentum = options.momentum * momentum + g
        moves.append(-RATE * (g + options.momentum * momentum if options.nesterov else momentum))
    return moves


ORIGINAL = {"train.adam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 0.1}}
OTHERS = {
    "train.adam": {"beta1": 0.5, "beta2": 0.9, "epsilon": 1e-3},
    "train.adadelta": {"rho": 0.5, "epsilon": 1e-2},
    "train.adagrad": {"initial_accumulator": 2.0},
    "train.rmsprop": {"decay": 0.5, "momentum": 0.3, "epsilon": 0.1},
    "train.mom": {"momentum": 0.5, "nesterov": False},
}


@pytest.mark.parametrize("changes", [ORIGINAL, OTHERS], ids=["original", "others"])
@pytest.mark.parametrize(
    "name, formula",
    [
        ("ADAGRAD", adagrad),
        ("ADADELTA", adadelta),
        ("ADAM", adam),
        ("RMSPROP", rmsprop),
        ("MOM", mom),
    ],
)
def test_optimisers_follow_their_formulas(params_with, name, formula, changes):
    train = params_with(dict(changes, **{"train.optimizer": name})).train
    gradients = np.random.RandomState(0).standard_normal((4, 6))
    weight = tf.get_variable("w", [6], initializer=tf.zeros_initializer(), use_resource=True)
    gradient = tf.placeholder(tf.float32, [6])
    update = make_optimizer(train, tf.constant(RATE)).apply_gradients([(gradient, weight)])
    expected = np.zeros(6)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for g, move in zip(gradients, formula(train, list(gradients))):
            session.run(update, {gradient: g})
            expected = expected + move
            np.testing.assert_allclose(session.run(weight), expected, rtol=2e-5, atol=1e-6)


def test_the_optimisers_constants_are_the_originals_by_default(params_with):
    train = params_with().train
    assert (train.adadelta.rho, train.adadelta.epsilon) == (0.9, 1e-6)
    assert (train.adam.beta1, train.adam.beta2) == (0.9, 0.999)
    assert (train.rmsprop.decay, train.rmsprop.momentum, train.rmsprop.epsilon) == (0.9, 0.9, 1.0)
    assert (train.mom.momentum, train.mom.nesterov) == (0.9, True)


class Running:
    """A session on a training graph, with what the tests look at."""

    def __init__(self, graph, begin, start=0):
        self.graph = graph
        self.session = graph.device.session(graph.graph)
        begin["step"] = start
        self.session.run(graph.initialise)
        graph.begin(self.session)

    def step(self, rate=0.01):
        return self.graph.run_step(self.session, rate)

    def variables(self):
        with self.graph.graph.as_default():
            return {each.op.name: each for each in tf.global_variables()}

    def values(self, part=""):
        return self.session.run({name: each for name, each in self.variables().items() if part in name})

    def load(self, values):
        for name, each in self.variables().items():
            if name in values:
                each.load(values[name], self.session)


@pytest.fixture(scope="module")
def graph_of(tmp_path_factory, params_with):
    """graph_of(changes) -> TrainingGraph and the dictionary that says at which step its input begins."""
    folder = tmp_path_factory.mktemp("graph") / "faces"
    training_project.write_faces(folder, {"train": 20})
    made = {}

    def make(changes):
        key = repr(sorted(changes.items()))
        if key not in made:
            params = params_with(changes)
            faces = input_pipeline.load_faces(folder, "train", training_project.CLASSES, 56)
            begin = {}
            made[key] = TrainingGraph(params, devices.open_cpu(), faces, lambda: begin["step"], 20), begin
        return made[key]

    return make


@pytest.fixture
def running(graph_of):
    """running(changes, start=) -> a Running in a session of its own."""
    made = []

    def make(changes=None, start=0):
        made.append(Running(*graph_of(changes or {}), start=start))
        return made[-1]

    yield make
    for each in made:
        each.session.close()


@pytest.mark.parametrize("cores, expected", [(1, 1), (3, 3), (64, 4)])
def test_batches_are_prepared_on_no_more_threads_than_there_are_cores(
    tmp_path, params_with, monkeypatch, cores, expected
):
    batches, threads = input_pipeline.batches, []

    def remembering(*arguments):
        threads.append(arguments[-1])
        return batches(*arguments)

    monkeypatch.setattr(input_pipeline, "batches", remembering)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)))
    training_project.write_faces(tmp_path / "faces", {"train": 20})
    faces = input_pipeline.load_faces(tmp_path / "faces", "train", training_project.CLASSES, 56)
    TrainingGraph(params_with({"train.nrof_preprocess_threads": 4}), devices.open_cpu(), faces, lambda: 0, 20)
    assert threads == [expected]


#: Plain gradient descent, so that a step tells the gradient; and averages that forget fast.
PLAIN = {
    "train.optimizer": "MOM",
    "train.mom": {"momentum": 0.0, "nesterov": False},
    "train.moving_average_decay": 0.3,
}
#: The same without dropout and averages.
BARE = dict(PLAIN, **{"train.keep_probability": 1.0, "train.moving_average_decay": 0})


def test_averages_are_ramped_and_used_for_scoring(running):
    decay = 0.3  # so low that both sides of min(decay, (1 + n) / (10 + n)) are seen
    run = running(PLAIN)
    names = [each.op.name for each in run.graph.variables]
    average = {name: run.values()[name].astype(np.float64) for name in names}
    for number in range(1, 6):
        run.step()
        after = run.values()
        ramped = min(decay, (1 + number) / (10 + number))
        for name in names:
            average[name] = ramped * average[name] + (1 - ramped) * after[name]
            np.testing.assert_allclose(after[name + "/ExponentialMovingAverage"], average[name], rtol=1e-5, atol=1e-6)
    inference = run.session.run(run.graph.inference)
    for name, value in inference.items():
        expected = after[name] if "moving_" in name else after[name + "/ExponentialMovingAverage"]
        np.testing.assert_array_equal(value, expected)
    assert set(inference) == {
        name for name in after if name.endswith(("weights", "biases", "beta", "moving_mean", "moving_variance"))
    }


def test_without_averages_the_weights_themselves_score(running):
    run = running(BARE)
    run.step()
    assert not run.values("ExponentialMovingAverage")
    for name, value in run.session.run(run.graph.inference).items():
        np.testing.assert_array_equal(value, run.values()[name])


def test_a_step_reports_its_terms_from_before_the_update(running):
    run = running()
    before = run.values()
    values = run.step()
    kernels = [name for name in before if name.endswith("/weights")]
    l2 = 0.01 * sum(np.sum(before[name].astype(np.float64) ** 2) / 2 for name in kernels)
    assert values.l2_loss == pytest.approx(l2, rel=1e-5)
    assert values.loss == pytest.approx(values.cross_entropy + values.l2_loss + values.center_loss, rel=1e-6)
    assert values.center_loss > 0 and 0 <= values.accuracy <= 1 and values.waiting_seconds >= 0
    after = run.values()
    assert after["global_step"] == 1
    for name in before:
        assert not np.array_equal(before[name], after[name]) or name.endswith("biases"), name


def test_the_gradient_of_a_whole_step_is_that_of_finite_differences(running):
    """Along the gradient itself the loss must change by the gradient's norm; dropout and augmentation are on."""
    run = running(PLAIN)
    begin = run.values()
    found = run.step(1.0)
    after = run.values()
    names = [each.op.name for each in run.graph.variables]
    gradient = {name: begin[name].astype(np.float64) - after[name] for name in names}
    np.testing.assert_allclose(found.norms, [np.linalg.norm(gradient[name]) for name in names], rtol=1e-3, atol=1e-6)
    norm = np.sqrt(sum(np.sum(each**2) for each in gradient.values()))

    def loss(length):
        run.load(dict(begin, **{name: begin[name] + length * gradient[name] / norm for name in names}))
        run.session.run(run.graph.start_input)
        return run.step(0.0).loss

    assert loss(0.0) == found.loss
    step = 2e-3 / norm
    assert (loss(step) - loss(-step)) / (2 * step) == pytest.approx(norm, rel=0.02)


def test_a_step_depends_on_the_step_and_the_weights_alone(running):
    """Going on at step 1 in a new session repeats what the first one did: order, augmentation and dropout."""
    one = running()
    first = [one.step()]
    kept = one.values()
    ahead = [one.step() for _ in range(2)]
    again = running(start=1)
    again.load(kept)
    for expected in ahead:
        found = again.step()
        assert found[:5] == expected[:5]
        np.testing.assert_array_equal(found.norms, expected.norms)
    for name, value in one.values().items():
        np.testing.assert_array_equal(value, again.values()[name])
    assert len({each.loss for each in first + ahead}) == 3


@pytest.mark.parametrize("changes", [PLAIN, BARE], ids=["0.8", "1.0"])
def test_dropout_changes_with_the_step_and_is_off_when_all_is_kept(running, changes):
    """On frozen weights and the same pictures the loss moves by dropout alone."""
    run = running(changes)
    found = []
    for _ in range(2):
        run.session.run(run.graph.start_input)
        found.append(run.step(0.0).cross_entropy)
    assert (found[0] == found[1]) == (changes is BARE)


@pytest.mark.parametrize("method", ["eigh", "iterative"])
def test_covariance_training_keeps_the_frame_orthonormal_and_tells_its_health(running, method):
    run = running({"network.pooling": "covariance", "network.vectorise": "upper", "spd.method": method})
    for _ in range(3):
        values = run.step()
    if method == "eigh":
        assert run.graph.unmeasured == () and 0 <= values.clipped <= 1 and values.condition > 1
    else:
        assert run.graph.unmeasured == ("clipped", "condition")
    frame = run.values("orth_weight0")["CovPool2/spdpooling1/orth_weight0"].astype(np.float64)
    np.testing.assert_allclose(frame.T @ frame, np.eye(128), atol=5e-6)
    assert run.session.run(run.graph.orthogonality) < 5e-6
    averaged = run.session.run(run.graph.inference["CovPool2/spdpooling1/orth_weight0"]).astype(np.float64)
    np.testing.assert_allclose(averaged.T @ averaged, np.eye(128), atol=5e-6)
    # Not a convolution's: oneDNN's ReLU makes zeros of what is not finite.
    run.load({"CovPool2/spdpooling1/orth_weight0": np.full([256, 128], np.nan, np.float32)})
    if method == "eigh":
        with pytest.raises(NoDecomposition):
            run.step()
    else:
        assert np.isnan(run.step().loss)


#: Total loss and cross entropy of the first 20 steps at a learning rate of 1e-4, as TensorFlow 1.15.0 computes them.
FIRST_STEPS = np.array(
    [
        (68.91176, 2.05279),
        (68.89376, 2.05578),
        (68.84187, 2.02989),
        (68.71275, 1.92947),
        (68.73288, 1.97812),
        (68.56306, 1.83832),
        (68.71483, 2.02349),
        (68.61817, 1.95895),
        (68.33107, 1.70544),
        (68.46339, 1.87115),
        (68.47068, 1.91223),
        (68.22369, 1.69935),
        (68.32299, 1.83548),
        (68.16573, 1.71216),
        (68.13793, 1.72115),
        (68.11736, 1.73941),
        (68.02208, 1.68058),
        (68.05508, 1.75256),
        (67.97313, 1.70758),
        (67.84924, 1.62539),
    ]
)


def test_the_first_twenty_steps_are_those_of_every_build(running):
    """Rounding differs between the builds, and Adam makes it grow from step to step: some 1e-5 becomes some 1e-3."""
    run = running()
    found = np.array([run.step(1e-4)[:2] for _ in range(20)])
    np.testing.assert_allclose(found[:5], FIRST_STEPS[:5], atol=5e-4)
    np.testing.assert_allclose(found, FIRST_STEPS, atol=1e-2)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"network.pooling": "gaussian"},
        {"network.pooling": "covariance"},
        {"network.pooling": "covariance", "spd.method": "iterative"},
    ],
)
def test_no_sum_depends_on_when_memory_becomes_free(running, changes):
    """AddN starts from whichever of its inputs it may overwrite, which is a matter of timing; two terms commute."""
    graph = running(changes).graph.graph
    assert not [op.name for op in graph.get_operations() if op.type in ("AddN", "AccumulateNV2") and len(op.inputs) > 2]
    # Nor may TensorFlow's rewriting make such sums of additions.
    options = devices.open_cpu().config.graph_options.rewrite_options
    assert options.arithmetic_optimization == options.OFF
