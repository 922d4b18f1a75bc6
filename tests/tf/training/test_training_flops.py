"""The arithmetic of a step as the benchmark counts it, against sums done by hand."""

import tensorflow.compat.v1 as tf

from benchmarks.speed import operations


def test_two_convolutions_and_a_product_are_counted_by_their_definition():
    """Twice the multiplications; of the backward pass, only what runs: not the gradient to the pictures."""
    images = tf.placeholder(tf.float32, [2, 8, 8, 3])
    kernels = [
        tf.get_variable(name, [3, 3, *channels], use_resource=True)
        for name, channels in (("first", (3, 5)), ("second", (5, 7)))
    ]
    net = images
    for kernel in kernels:
        net = tf.nn.conv2d(net, kernel, strides=1, padding="SAME")
    weights = tf.get_variable("weights", [8 * 8 * 7, 4], use_resource=True)
    loss = tf.reduce_sum(tf.square(tf.matmul(tf.reshape(net, [2, -1]), weights)))
    step = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    first, second = 2 * 2 * 8 * 8 * 9 * 3 * 5, 2 * 2 * 8 * 8 * 9 * 5 * 7
    product = 2 * 2 * (8 * 8 * 7) * 4
    assert operations.count_flops(step) == {
        "convolutions, forward": first + second,
        "convolutions, backward": first + 2 * second,
        "matrix products": 3 * product,
    }


def test_work_is_told_by_what_it_is_for():
    kinds = {
        "_MklMaxPoolGrad gradients/CovPool2/Conv2d_1/BatchNorm/MaxPool2d_grad/MaxPoolGrad": "max pooling",
        "FusedBatchNormV3 CovPool2/Conv2d_1/BatchNorm/FusedBatchNormV3": "batch normalisation",
        "Mul decay_3/mul": "weight decay and gradient norms",
        "L2Loss L2Loss_6": "weight decay and gradient norms",
        "ResourceApplyAdam Adam/update_CovPool2/fc_1/weights/ResourceApplyAdam": "optimiser",
        "Conv2DBackpropInput gradients/CovPool2/Conv2d_2/Conv2D_grad/Conv2DBackpropInput": "convolutions, backward",
    }
    for operation, kind in kinds.items():
        assert operations.kind_of(operation) == kind
