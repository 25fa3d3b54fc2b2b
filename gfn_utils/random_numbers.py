"""Random numbers that are the same for a seed wherever a program runs."""

import tensorflow as tf


def stateless_uniform(shape, seed, dtype):
    """Uniform numbers in the open interval (0, 1).

    Made from random integers, since XLA and eager TensorFlow draw the same integers for a seed
    but turn them into different floats.
    """
    integer, bits, kept = (tf.uint64, 64, 52) if dtype == tf.float64 else (tf.uint32, 32, 23)
    drawn = tf.random.stateless_uniform(shape, seed, None, None, integer, alg="philox")
    drawn = tf.bitwise.right_shift(drawn, tf.constant(bits - kept, integer))
    return (tf.cast(drawn, dtype) + 0.5) * 2.0**-kept
