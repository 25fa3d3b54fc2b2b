"""The network with its two heads, and the masks that turn its logits into P_F and P_B.

Everywhere else in the package a policy is a *log-policy*: a function from states `[B, ...]` to
log P_F `[B, n_actions]` and log P_B `[B, n_actions − 1]` in nats, −inf where an action is not
allowed. Where state flows are learned too, log F `[B]` is the third of its results. Sampler and
losses need not know whether a network or a table answers.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gfn_utils.environments import Environment
from gfn_utils.validation import check_choice, check_function, check_instance, check_integer, shown

LogPolicy = Callable[[tf.Tensor], tuple[tf.Tensor, ...]]

DTYPES = ("float64", "float32")
BACKWARD_POLICIES = ("learned", "uniform")
FIRST_WEIGHTS = ("small_heads", "fan_in")
LARGEST_LAYER = 10_000


def check_hidden(hidden) -> tuple[int, ...]:
    """Return the units of the dense layers as a tuple; raise TypeError or ValueError otherwise."""
    if not isinstance(hidden, (tuple, list)):
        raise TypeError(f"hidden must be a tuple of integers of at least 1, got {shown(hidden)}")
    return tuple(
        check_integer("hidden", units, minimum=1, maximum=LARGEST_LAYER) for units in hidden
    )


def build_policy(
    env: Environment,
    hidden: tuple[int, ...] = (32, 32),
    dtype: str = "float64",
    seed: int = 0,
    first_weights: str = "small_heads",
) -> keras.Model:
    """The policy network: encoded states → dense layers → logits of P_F and of P_B.

    Returns a keras.Model from `[B, n_features]` to the pair (`[B, n_actions]`,
    `[B, n_actions − 1]`) of unmasked logits. For the default grid it has 1,765 weights. `seed`
    decides the first weights, drawn as `first_weights` says:

    - "small_heads": Glorot uniform, in the heads a tenth of it, and biases of 0, so that an
      untrained policy is near uniform and explores every direction;
    - "fan_in": kernels and biases, the heads' too, uniform in ±1/√(inputs of the layer), as in
      torch.nn.Linear and equinox.nn.Linear.

    Raises ValueError or TypeError, naming the argument, if one is out of bounds.
    """
    check_instance("env", env, Environment, "an Environment")
    hidden = check_hidden(hidden)
    check_choice("dtype", dtype, DTYPES)
    seed = check_integer("seed", seed, minimum=0)
    check_choice("first_weights", first_weights, FIRST_WEIGHTS)
    n_features = env.encode(env.initial_states(1)).shape[-1]

    def dense(inputs, units, number, name, activation=None):
        kernel, bias = _initializers(
            first_weights, inputs.shape[-1], is_head=not activation, seed=_layer_seed(seed, number)
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

    features = keras.Input([n_features], dtype=dtype, name="encoded_state")
    trunk = features
    for number, units in enumerate(hidden):
        trunk = dense(trunk, units, number, f"hidden_{number + 1}", activation="relu")
    forward = dense(trunk, env.n_actions, len(hidden), "forward_policy")
    backward = dense(trunk, env.n_actions - 1, len(hidden) + 1, "backward_policy")
    return keras.Model(features, [forward, backward], name="policy")


def _initializers(first_weights, n_inputs, is_head, seed):
    """Those of a dense layer's kernel and of its bias."""
    if first_weights == "fan_in":
        limit = n_inputs**-0.5
        # With one seed for both, the bias would be the kernel's first row again.
        return (
            keras.initializers.RandomUniform(-limit, limit, seed=seed),
            keras.initializers.RandomUniform(-limit, limit, seed=seed + 1),
        )
    gain = 0.1 if is_head else 1.0
    return keras.initializers.VarianceScaling(gain**2, "fan_avg", "uniform", seed=seed), "zeros"


def _layer_seed(seed, number):
    """An even number below 2³¹ of its own for each layer of each seed."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0]) // 4 * 2


def build_state_flow(policy: keras.Model, seed: int = 0, level: float = 0.0) -> keras.layers.Dense:
    """A third head on the policy's last hidden layer: one number, log F(s) in nats.

    Its first weights are uniform in ±0.1, however those of the policy began, and its bias is
    `level`.
    """
    head = keras.layers.Dense(
        1,
        kernel_initializer=keras.initializers.RandomUniform(-0.1, 0.1, seed=_layer_seed(seed, 999)),
        bias_initializer=keras.initializers.Constant(level),
        dtype=policy.layers[-1].compute_dtype,
        name="state_flow",
    )
    head.build([None, policy.layers[-1].kernel.shape[0]])
    return head


def _encoded_product(env, states, kernel):
    """`env.encode(states) @ kernel`; where the hot features are known, the sum of their rows.

    With 1,250 features, two of them hot, an update takes a third of the time; with the 64 of a grid
    of 16⁴, four of them hot, about as long.
    """
    hot = env.hot_features(states)
    if hot is None:
        return tf.cast(env.encode(states), kernel.dtype) @ kernel
    return _sum_of_rows(kernel, hot)


@tf.custom_gradient
def _sum_of_rows(kernel, hot):
    """Σ_k kernel[hot[:, k]], `[B, units]`."""

    def gradient(upstream):
        # One feature after another: that of tf.gather repeats `upstream` for each of them first.
        of_kernel = [
            tf.math.unsorted_segment_sum(upstream, feature, kernel.shape[0])
            for feature in tf.unstack(hot, axis=1)
        ]
        return tf.add_n(of_kernel), None

    return tf.reduce_sum(tf.gather(kernel, hot), axis=1), gradient


def masked_log_softmax(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Log-probabilities `[B, n]` in nats of the allowed actions alone, −inf for the others.

    A row without an allowed action (P_B at the origin) is −inf throughout.
    """
    logits = tf.convert_to_tensor(logits)
    lowest = tf.constant(-1e30, logits.dtype)
    log_probabilities = tf.nn.log_softmax(tf.where(mask, logits, lowest))
    return tf.where(mask, log_probabilities, tf.constant(float("-inf"), logits.dtype))


class NetworkPolicy(NamedTuple):
    """The network as a log-policy: a pure function, which is what compiled training needs."""

    env: Environment
    layers: tuple[tf.Tensor, ...]
    """A kernel and a bias for each layer, of which the last is all heads side by side.

    The last kernel is transposed, `[outputs, inputs]`: since it is narrow, its products and above
    all their gradients take several times as long the other way."""
    backward_policy: str
    log_z: tuple[tf.Tensor, ...]
    """log Z in nats, `[]`, if state flows are learned, and otherwise nothing."""

    def __call__(self, states: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return self.evaluate(states)[0]

    def evaluate(
        self, states: tf.Tensor, known: Sequence[tf.Tensor] | None = None
    ) -> tuple[tuple[tf.Tensor, ...], list[tf.Tensor]]:
        """What the policy says of the states, and the outputs of all layers but the first.

        Where these outputs are `known`, from an earlier evaluation of the same states with the same
        weights, they are differentiated but not worked out again.
        """
        _, *further = outputs = self.layer_outputs(states, known)
        logits = outputs[-1]
        n_actions = self.env.n_actions
        forward, backward = logits[:, :n_actions], logits[:, n_actions : 2 * n_actions - 1]
        if self.backward_policy == "uniform":
            backward = tf.zeros_like(backward)
        backward_mask = self.env.backward_mask(states)
        log_pf = masked_log_softmax(forward, self.env.forward_mask(states))
        log_pb = masked_log_softmax(backward, backward_mask)
        log_flow = [
            tf.where(tf.reduce_any(backward_mask, axis=-1), logits[:, -1], log_z)
            for log_z in self.log_z
        ]
        return (log_pf, log_pb, *log_flow), further

    def layer_outputs(
        self, states: tf.Tensor, known: Sequence[tf.Tensor] | None = None
    ) -> list[tf.Tensor]:
        """What each layer gives before its activation, `[B, units]`; last the unmasked logits."""
        *hidden, head_kernel, head_bias = self.layers
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


def network_log_policy(
    env: Environment,
    weights: Sequence[tf.Tensor],
    backward_policy: str = "learned",
    log_z: tf.Tensor | None = None,
) -> NetworkPolicy:
    """The log-policy of the network with the given weights, in the order of `keras.Model.weights`.

    It keeps the weights as they are now. With `backward_policy="uniform"` P_B is 1 / (number of
    parents) and its head goes unused. With `log_z` the weights of a state-flow head come last, and
    log F is given too: log Z at the origin, elsewhere what the head says.
    """
    n_heads = 2 if log_z is None else 3
    weights = [tf.convert_to_tensor(weight) for weight in weights]
    hidden, heads = weights[: -2 * n_heads], weights[-2 * n_heads :]
    # Apart the heads would be so narrow that each costs as much as a layer.
    one_kernel, one_bias = (tf.concat(parts, axis=-1) for parts in (heads[::2], heads[1::2]))
    layers = *hidden, tf.transpose(one_kernel), one_bias
    return NetworkPolicy(env, layers, backward_policy, () if log_z is None else (log_z,))


@tf.custom_gradient
def _known_dense(inputs, kernel, bias, output):
    """`inputs @ kernel + bias`, which is known to be `output`."""

    def gradient(upstream):
        of_inputs = tf.matmul(upstream, kernel, transpose_b=True)
        of_kernel = tf.matmul(inputs, upstream, transpose_a=True)
        return of_inputs, of_kernel, tf.reduce_sum(upstream, axis=0), None

    return tf.identity(output), gradient


class PolicyTable(NamedTuple):
    """A policy written out for every listed state: evaluated once, then only looked up."""

    env: Environment
    log_pf: tf.Tensor
    """log P_F in the order of `env.states()`, `[n_states, n_actions]`, in nats."""
    log_pb: tf.Tensor
    """log P_B likewise, `[n_states, n_actions − 1]`."""
    log_flow: tf.Tensor | None = None
    """log F likewise, `[n_states]`, where it is known."""

    def log_policy(self, states: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The rows of the given states: this table as a log-policy."""
        rows = self.env.index(states)
        return tuple(tf.gather(table, rows) for table in self[1:] if table is not None)


def tabulate(env: Environment, log_policy: LogPolicy) -> PolicyTable:
    """Evaluate a log-policy on all listed states at once."""
    check_instance("env", env, Environment, "an Environment")
    check_function("log_policy", log_policy)
    return PolicyTable(env, *log_policy(env.states()))


def uniform_log_policy(env: Environment) -> LogPolicy:
    """The log-policy that prefers no allowed action to another, forward or backward."""

    def log_policy(states):
        masks = env.forward_mask(states), env.backward_mask(states)
        return tuple(masked_log_softmax(tf.zeros_like(mask, tf.float64), mask) for mask in masks)

    return log_policy
