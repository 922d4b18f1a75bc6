"""The first convolution in training, with batch normalisation and pooling, a few pictures at a time.

Its output would be by far the largest tensor of a step, 312 MiB for 128 faces of 100x100, and batch normalisation reads
it several times. For pictures, to which no gradient goes back, this is not necessary. A convolution is linear in its
patches, the 3x3 neighbourhoods of the positions. With p a patch, k the kernel of one output channel and C the
covariance of the patches,

    mean over positions = mean(p) . k,    variance over positions = k^T C k.

C times the kernel, 27 x 64 numbers, can be summed over a few pictures at a time, and the gradient of the statistics
needs nothing else. So the convolution is computed for a few pictures at a time, and only its maxima are kept; the
backward pass computes it again.

Up to rounding, the result is that of convolution, normalisation and pooling one after the other.
"""

from typing import List, Tuple

import tensorflow.compat.v1 as tf

from covpool.networks.normalisation import EPSILON, known_shape, max_pool, normalised

#: Bytes of the convolution's output for one part of the pictures. Convolution and pooling of 128 faces took 31, 25, 23
#: and 25 ms in parts of 10, 20, 41 and 82 MB, and 37 ms as a whole (TensorFlow 2 on two cores with AVX-512).
PART_BYTES = 40e6


def normalised_maxima(images: tf.Tensor, kernel: tf.Tensor, beta: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Convolve pictures, normalise by the statistics of the batch, and take the maxima of 2x2 squares.

    Args:
        images: float32 [B, h, w, c], of a shape that is known when the graph is built; no gradient goes back to them.
        kernel: [k, k, c, n], applied with stride 1 and SAME padding.
        beta: [n], the shift of the normalisation, which has no scale.

    Returns:
        [B, h // 2, w // 2, n]; the mean [n] and the unbiased variance [n] of the convolution over all positions. A
        gradient goes through the first only.

    Raises:
        ValueError: if the shape is not known.
    """
    batch, height, width, _ = known_shape(images)
    count = float(batch * height * width)
    channels = int(kernel.shape[3])
    parts = tf.split(images, even_sizes(batch, 4 * height * width * channels))
    # [k k c, 1]
    mean_patch = _sum_of_patches(images, kernel.shape.as_list()[:2]) / count

    @tf.custom_gradient
    def of_weights(kernel, beta):
        weights = tf.reshape(kernel, [-1, channels])
        maxima, products, before = [], None, []
        for part in parts:
            with tf.control_dependencies(before):
                outputs = _convolution(part, kernel)
                maxima.append(max_pool(outputs))
                # The sum over positions of patch times output: a gradient to the kernel is such a sum.
                products = _added(products, tf.gradients(outputs, kernel, outputs)[0])
            before = [maxima[-1], products]
        mean = tf.squeeze(tf.matmul(mean_patch, weights, transpose_a=True), 0)
        spread = tf.reshape(products, weights.shape) / count - mean_patch * mean
        variance = tf.maximum(tf.reduce_sum(weights * spread, axis=0), 0.0)

        def gradient(outer, *_):
            """Gradients of kernel and beta.

            With p a patch, x = p kernel, y = slope (x - mean) + beta, d the gradient of y, and sums over all positions:
            the kernel's is slope (sum p d - mean(p) sum d - slope^2 C kernel (sum x d - mean sum d)), and beta's is
            sum d. As d is 0 except at the maxima, sum d is a sum over these; sum x d is kernel sum p d.
            """
            rows = tf.reshape(outer, [-1, channels])
            # A matrix product, because a reduction takes several times as long.
            flows = tf.matmul(tf.ones([1, int(rows.shape[0])]), rows)
            by_patches, before = None, [outer]
            for part, flow in zip(parts, tf.split(outer, [int(part.shape[0]) for part in parts])):
                with tf.control_dependencies(before):
                    found = tf.gradients(max_pool(_convolution(part, kernel)), kernel, flow)[0]
                    by_patches = _added(by_patches, found)
                before = [by_patches]
            by_patches = tf.reshape(by_patches, weights.shape)
            slope = tf.math.rsqrt(variance + EPSILON)
            along = tf.reduce_sum(weights * by_patches, axis=0) - mean * flows
            to_weights = slope * (by_patches - mean_patch * flows - spread * tf.square(slope) * along)
            return tf.reshape(to_weights, kernel.shape), tf.squeeze(flows, 0)

        outputs = normalised(tf.concat(maxima, axis=0), mean, variance, beta)
        return (outputs, mean, variance * (count / (count - 1.0))), gradient

    return of_weights(kernel, beta)


def even_sizes(batch: int, bytes_each: float) -> List[int]:
    """Divide `batch` pictures into parts of nearly equal size, each of at most PART_BYTES or one picture.

    Args:
        batch: number of pictures.
        bytes_each: size of the convolution's output for one picture, in bytes.

    Returns:
        The number of pictures of each part.
    """
    most = max(1, int(PART_BYTES // bytes_each))
    number = -(-batch // most)
    return [batch // number + (place < batch % number) for place in range(number)]


def _sum_of_patches(images, size):
    """Sum of all k x k x c neighbourhoods, with zeros around the pictures: [k k c, 1]."""
    batch, height, width, channels = images.shape.as_list()
    total = tf.matmul(tf.ones([1, batch]), tf.reshape(images, [batch, -1]))
    any_kernel = tf.zeros(size + [channels, 1])
    outputs = _convolution(tf.reshape(total, [1, height, width, channels]), any_kernel)
    return tf.reshape(tf.gradients(outputs, any_kernel, tf.ones(outputs.shape))[0], [-1, 1])


def _added(total, term):
    """total + term; a total of None is 0."""
    return term if total is None else total + term


def _convolution(images, kernel):
    """Stride 1, SAME padding: [B, h, w, c] -> [B, h, w, n]."""
    return tf.nn.conv2d(images, kernel, strides=[1, 1, 1, 1], padding="SAME")
