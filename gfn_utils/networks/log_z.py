"""log Z as a function of the condition: a level, and a small network on the condition."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from gfn_utils.environments import Environment
from gfn_utils.networks.dense import layer_seed

HIDDEN = (64, 64)


def build_log_z_network(env: Environment, dtype: str, seed: int) -> keras.Model | None:
    """A network from `env.encode_condition(states)` to what log Z is more than its level, `[B, 1]`.

    At first it gives 0 for every condition. None for an environment without conditions.
    """
    if not env.n_condition_features:
        return None
    features = hidden = keras.Input([env.n_condition_features], dtype=dtype, name="condition")
    for number, units in enumerate(HIDDEN):
        kernel = keras.initializers.GlorotUniform(layer_seed(seed, 1000 + number))
        layer = keras.layers.Dense(units, "relu", kernel_initializer=kernel, dtype=dtype)
        hidden = layer(hidden)
    last = keras.layers.Dense(1, kernel_initializer="zeros", dtype=dtype)
    return keras.Model(features, last(hidden), name="log_z")


def n_log_z_weights(env: Environment) -> int:
    """How many of an agent's weights tell log Z: those of the network, and last the level."""
    return 2 * (len(HIDDEN) + 1) + 1 if env.n_condition_features else 1


def log_z_of(env: Environment, weights: Sequence[tf.Tensor], states: tf.Tensor) -> tf.Tensor:
    """log Z in nats: `[]`, or of the conditions of these states, `[B]`."""
    *of_network, level = weights
    if not of_network:
        return level
    hidden = tf.cast(env.encode_condition(states), level.dtype)
    *layers, (kernel, bias) = zip(of_network[::2], of_network[1::2], strict=True)
    for of_layer in layers:
        hidden = tf.nn.relu(hidden @ of_layer[0] + of_layer[1])
    return level + (hidden @ kernel + bias)[:, 0]
