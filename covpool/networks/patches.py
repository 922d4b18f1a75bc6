"""The first convolution in training, normalised by its batch and pooled, without ever holding all of its output.

That output is by far the largest tensor of a step, 312 MiB for 128 faces of 100x100, and batch normalisation goes over
it again and again. Where the inputs are pictures none of that is needed. A convolution is linear in its patches, the
3x3 neighbourhoods of the positions: its mean over all positions is the patches' mean times the kernel, its variance the
kernel's quadratic form of the patches' covariance C. C times the kernel, 27 x 64 numbers, can be summed up a few
pictures at a time, and is also all that the gradient of the statistics needs. So the convolution is done for a few
pictures at a time, and only its maxima are kept; the backward pass does it once more.

The result is that of convolving, normalising and pooling one after the other, up to rounding.
"""

import tensorflow.compat.v1 as tf

from covpool.networks.normalisation import EPSILON, known_shape, max_pool, normalised

#: Of the convolution's output, for the pictures that are worked on together. To convolve and pool 128 faces took 31,
#: 25, 23, 25 and 37 ms in parts of 10, 20, 41 and 82 MB and as a whole (TensorFlow 2 on two cores with AVX-512).
PART_BYTES = 40e6


def normalised_maxima(images, kernel, beta):
    """Maxima of 2x2 squares of the normalised convolution of pictures, and the convolution's statistics.

    images: float32 [B, h, w, c], of known shape; no gradient goes back to them. kernel: [k, k, c, n], stride 1, SAME;
    beta: [n], the normalisation's shift; it has no scale.

    Returns [B, h // 2, w // 2, n], the mean [n] and the unbiased variance [n] over all positions. A gradient goes
    through the first only.
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
                # The sum over positions of patch times output: that is what a gradient to the kernel sums up.
                products = _added(products, tf.gradients(outputs, kernel, outputs)[0])
            before = [maxima[-1], products]
        mean = tf.squeeze(tf.matmul(mean_patch, weights, transpose_a=True), 0)
        spread = tf.reshape(products, weights.shape) / count - mean_patch * mean
        variance = tf.maximum(tf.reduce_sum(weights * spread, axis=0), 0.0)

        def gradient(outer, *_):
            """Of kernel and beta.

            With p a patch, x = p kernel, y = slope (x - mean) + beta, d the gradient of y, and sums over all positions:
            the kernel's is slope (sum p d - mean(p) sum d - slope^2 C kernel (sum x d - mean sum d)), and beta's is
            sum d. As d is 0 everywhere but at the maxima, sum d is a sum over these; sum x d is kernel sum p d.
            """
            rows = tf.reshape(outer, [-1, channels])
            # A matrix product, for a reduction takes several times as long.
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


def even_sizes(batch, bytes_each):
    """How many of `batch` pictures each part has: as even as can be, of at most PART_BYTES or one picture."""
    most = max(1, int(PART_BYTES // bytes_each))
    number = -(-batch // most)
    return [batch // number + (place < batch % number) for place in range(number)]


def _sum_of_patches(images, size):
    """Of all k x k x c neighbourhoods, with zeros around the pictures: [k k c, 1]."""
    batch, height, width, channels = images.shape.as_list()
    total = tf.matmul(tf.ones([1, batch]), tf.reshape(images, [batch, -1]))
    any_kernel = tf.zeros(size + [channels, 1])
    outputs = _convolution(tf.reshape(total, [1, height, width, channels]), any_kernel)
    return tf.reshape(tf.gradients(outputs, any_kernel, tf.ones(outputs.shape))[0], [-1, 1])


def _added(total, term):
    return term if total is None else total + term


def _convolution(images, kernel):
    return tf.nn.conv2d(images, kernel, strides=[1, 1, 1, 1], padding="SAME")
