"""The dense network, which is the default, with its fast lane through compiled training."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gfn_utils.environments import Environment
from gfn_utils.validation import check_choice, check_instance, check_integer, shown

DTYPES = ("float64", "float32")
HIDDEN = (32, 32)
FIRST_WEIGHTS = ("small_heads", "fan_in")
LARGEST_LAYER = 10_000


@dataclasses.dataclass(frozen=True)
class DenseNetwork:
    """Encoded states → dense layers of `hidden` relu units → logits of P_F and of P_B.

    `first_weights` says how the first weights are drawn:

    - "small_heads": Glorot uniform, in the heads a tenth of it, and biases of 0, so that an
      untrained policy is near uniform and explores every direction;
    - "fan_in": kernels and biases, the heads' too, uniform in ±1/√(inputs of the layer), as in
      torch.nn.Linear and equinox.nn.Linear.

    Raises ValueError or TypeError, naming the argument, if one is out of bounds.
    """

    hidden: tuple[int, ...] = HIDDEN
    first_weights: str = dataclasses.field(default="small_heads", compare=False)

    def __post_init__(self):
        object.__setattr__(self, "hidden", _check_hidden(self.hidden))
        check_choice("first_weights", self.first_weights, FIRST_WEIGHTS)

    def __repr__(self):
        return f"hidden={self.hidden}"

    def trained(self, state_flow: bool = False) -> list[bool]:
        """Which of the weights training changes: all, also those of a state flow's head."""
        return [True] * 2 * (len(self.hidden) + (3 if state_flow else 2))

    def build(self, env: Environment, dtype: str = "float64", seed: int = 0) -> keras.Model:
        """A keras.Model from `[B, ...]` features, which it flattens, to the pair of unmasked logits
        (`[B, n_actions]`, `[B, n_actions − 1]`), with first weights that `seed` decides.

        For the default grid it has 1,765 weights. Raises ValueError or TypeError, naming the
        argument, if one is out of bounds.
        """
        check_instance("env", env, Environment, "an Environment")
        check_choice("dtype", dtype, DTYPES)
        seed = check_integer("seed", seed, minimum=0)

        def dense(inputs, units, number, name, activation=None):
            kernel, bias = self._initializers(
                inputs.shape[-1], is_head=not activation, seed=layer_seed(seed, number)
            )
            layer = keras.layers.Dense(
                units,
                activation=activation,
                kernel_initializer=kernel,
                bias_initializer=bias,
                dtype=dtype,
                name=name,
            )
            return layer(inputs)

        encoded = env.encode(env.initial_states(1))
        if encoded.dtype.is_integer:
            raise TypeError(
                f"network must be given for {env!r}, whose encode gives {encoded.dtype.name}: the "
                "default network takes floats (see GFNAgent)"
            )
        shape = encoded.shape[1:]
        features = keras.Input(shape, dtype=dtype, name="encoded_state")
        trunk = features if len(shape) == 1 else keras.layers.Flatten(dtype=dtype)(features)
        for number, units in enumerate(self.hidden):
            trunk = dense(trunk, units, number, f"hidden_{number + 1}", activation="relu")
        forward = dense(trunk, env.n_actions, len(self.hidden), "forward_policy")
        backward = dense(trunk, env.n_actions - 1, len(self.hidden) + 1, "backward_policy")
        return keras.Model(features, [forward, backward], name="policy")

    def _initializers(self, n_inputs, is_head, seed):
        """Those of a dense layer's kernel and of its bias."""
        if self.first_weights == "fan_in":
            limit = n_inputs**-0.5
            # With one seed for both, the bias would be the kernel's first row again.
            return (
                keras.initializers.RandomUniform(-limit, limit, seed=seed),
                keras.initializers.RandomUniform(-limit, limit, seed=seed + 1),
            )
        gain = 0.1 if is_head else 1.0
        return keras.initializers.VarianceScaling(gain**2, "fan_avg", "uniform", seed=seed), "zeros"

    def build_state_flow(
        self, policy: keras.Model, seed: int = 0, level: float = 0.0
    ) -> keras.layers.Dense:
        """A third head on the policy's last hidden layer: one number, log F(s) in nats.

        Its first weights are uniform in ±0.1, however those of the policy began, and its bias is
        `level`.
        """
        head = keras.layers.Dense(
            1,
            kernel_initializer=keras.initializers.RandomUniform(
                -0.1, 0.1, seed=layer_seed(seed, 999)
            ),
            bias_initializer=keras.initializers.Constant(level),
            dtype=policy.layers[-1].compute_dtype,
            name="state_flow",
        )
        head.build([None, policy.layers[-1].kernel.shape[0]])
        return head

    def logits(
        self, env: Environment, weights: Sequence[tf.Tensor], state_flow: bool = False
    ) -> "DenseLogits":
        """The network with the given weights, in the order of `keras.Model.weights`, as it is now.

        With `state_flow` those of that head come last.
        """
        n_heads = 3 if state_flow else 2
        weights = [tf.convert_to_tensor(weight) for weight in weights]
        hidden, heads = weights[: -2 * n_heads], weights[-2 * n_heads :]
        # Apart the heads would be so narrow that each costs as much as a layer.
        one_kernel, one_bias = (tf.concat(parts, axis=-1) for parts in (heads[::2], heads[1::2]))
        return DenseLogits(env, (*hidden, tf.transpose(one_kernel), one_bias))


class DenseLogits(NamedTuple):
    """The dense network as a pure function from states to its logits."""

    env: Environment
    parameters: tuple[tf.Tensor, ...]
    """A kernel and a bias for each layer, of which the last is all heads side by side.

    The last kernel is transposed, `[outputs, inputs]`: since it is narrow, its products and above
    all their gradients take several times as long the other way."""

    def evaluate(
        self, states: tf.Tensor, known: Sequence[tf.Tensor] | None = None
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The logits of all heads, side by side, and the outputs of all layers but the first.

        Where these outputs are `known`, from an earlier evaluation of the same states with the same
        weights, they are differentiated but not worked out again.
        """
        _, *further = outputs = self.layer_outputs(states, known)
        return outputs[-1], further

    def layer_outputs(
        self, states: tf.Tensor, known: Sequence[tf.Tensor] | None = None
    ) -> list[tf.Tensor]:
        """What each layer gives before its activation, `[B, units]`; last the unmasked logits."""
        *hidden, head_kernel, head_bias = self.parameters
        layers = [*hidden, tf.transpose(head_kernel), head_bias]
        (kernel, bias), *further = zip(layers[::2], layers[1::2], strict=True)
        outputs = [_encoded_product(self.env, states, kernel) + bias]
        for number, (kernel, bias) in enumerate(further):
            inputs = tf.nn.relu(outputs[-1])
            if known is None:
                outputs.append(inputs @ kernel + bias)
            else:
                outputs.append(_known_dense(inputs, kernel, bias, known[number]))
        return outputs


def layer_seed(seed: int, number: int) -> int:
    """An even number below 2³¹ of its own for each layer of each seed."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0]) // 4 * 2


def _check_hidden(hidden):
    """The units of the dense layers as a tuple."""
    if not isinstance(hidden, (tuple, list)):
        raise TypeError(f"hidden must be a tuple of integers of at least 1, got {shown(hidden)}")
    return tuple(
        check_integer("hidden", units, minimum=1, maximum=LARGEST_LAYER) for units in hidden
    )


def _encoded_product(env, states, kernel):
    """`env.encode(states) @ kernel`; where the hot features are known, the sum of their rows.

    With 1,250 features, two of them hot, an update takes a third of the time; with the 64 of a grid
    of 16⁴, four of them hot, about as long.
    """
    hot = env.hot_features(states)
    if hot is not None:
        return _sum_of_rows(kernel, hot)
    features = tf.cast(env.encode(states), kernel.dtype)
    return tf.reshape(features, [-1, kernel.shape[0]]) @ kernel


@tf.custom_gradient
def _sum_of_rows(kernel, hot):
    """Σ_k kernel[hot[:, k]], `[B, units]`."""

    def gradient(upstream):
        # One feature after another: that of tf.gather repeats `upstream` for each of them first. In
        # a loop, since of 50 features written out one by one the gradient compiles for seconds.
        rows = tf.transpose(hot)[:, :, None]
        _, of_kernel = tf.while_loop(
            lambda i, _: i < rows.shape[0],
            lambda i, sums: (i + 1, tf.tensor_scatter_nd_add(sums, rows[i], upstream)),
            (0, tf.zeros_like(kernel)),
        )
        return of_kernel, None

    return tf.reduce_sum(tf.gather(kernel, hot), axis=1), gradient


@tf.custom_gradient
def _known_dense(inputs, kernel, bias, output):
    """`inputs @ kernel + bias`, which is known to be `output`."""

    def gradient(upstream):
        of_inputs = tf.matmul(upstream, kernel, transpose_b=True)
        of_kernel = tf.matmul(inputs, upstream, transpose_a=True)
        return of_inputs, of_kernel, tf.reduce_sum(upstream, axis=0), None

    return tf.identity(output), gradient
