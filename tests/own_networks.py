"""Networks as a user would write them, and grids that are seen as tokens and as a picture."""

import keras
import tensorflow as tf
from keras import layers

from gfn_utils import HyperGrid


class TokenGrid(HyperGrid):
    """A grid of which the network sees one token a coordinate, int32 `[B, ndim]`."""

    def encode(self, states):
        return tf.convert_to_tensor(states)


class PictureGrid(HyperGrid):
    """A grid of two axes of which the network sees a picture, `[B, height, height, 1]`."""

    def encode(self, states):
        cell = tf.one_hot(self.index(states), self.height**2)
        return tf.reshape(cell, [-1, self.height, self.height, 1])


def inputs_of(env):
    features = env.encode(env.initial_states(1))
    return keras.Input(features.shape[1:], dtype="int32" if features.dtype.is_integer else None)


def heads(env, inputs, trunk):
    """Logits near 0, as an untrained policy had better have them."""
    small = keras.initializers.VarianceScaling(0.01, "fan_avg", "uniform")
    forward = layers.Dense(env.n_actions, kernel_initializer=small)(trunk)
    backward = layers.Dense(env.n_actions - 1, kernel_initializer=small)(trunk)
    return keras.Model(inputs, [forward, backward])


def dense(env, units=(8,), activation="relu"):
    trunk = inputs = inputs_of(env)
    for n in units:
        trunk = layers.Dense(n, activation=activation)(trunk)
    return heads(env, inputs, trunk)


def transformer(env, width=16):
    """One block of attention over the tokens of a TokenGrid."""
    inputs = inputs_of(env)
    place = tf.range(env.ndim) * env.height
    tokens = layers.Embedding(env.ndim * env.height, width)(inputs + place)
    seen = layers.LayerNormalization()(tokens)
    tokens = layers.Add()([tokens, layers.MultiHeadAttention(2, width // 2)(seen, seen)])
    seen = layers.Dense(2 * width, activation="gelu")(layers.LayerNormalization()(tokens))
    tokens = layers.Add()([tokens, layers.Dense(width)(seen)])
    trunk = layers.Flatten()(layers.LayerNormalization()(tokens))
    return heads(env, inputs, layers.Dense(2 * width, activation="relu")(trunk))


def convolution(env, channels=8):
    """Two layers of convolution over the picture of a PictureGrid, the second at half its size."""
    inputs = inputs_of(env)
    picture = layers.Conv2D(channels, 3, padding="same", activation="relu")(inputs)
    picture = layers.Conv2D(channels, 3, 2, padding="same", activation="relu")(picture)
    return heads(env, inputs, layers.Dense(32, activation="relu")(layers.Flatten()(picture)))


class OwnModel(keras.Model):
    """A class of one's own, whose layers have no weights before its first call."""

    def __init__(self, env, units=8):
        super().__init__()
        self.hidden = layers.Dense(units, activation="tanh")
        self.logits = layers.Dense(2 * env.n_actions - 1)

    def call(self, features):
        return self.logits(self.hidden(features))
