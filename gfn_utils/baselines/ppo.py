"""Proximal policy optimisation: the reinforcement learning of arXiv 2106.04399, section 4.1.

It builds objects as a GFlowNet does, and learns to build those of the highest reward; or, with
soft returns, each in proportion to its reward.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils import policy, training
from gfn_utils.environments import Environment
from gfn_utils.environments.base import check_any_states
from gfn_utils.environments.contract import check_attributes
from gfn_utils.environments.log_rewards import check_compiled_reward
from gfn_utils.environments.snapshot import Snapshot
from gfn_utils.networks import DenseNetwork
from gfn_utils.networks.dense import DTYPES
from gfn_utils.sampling import (
    PADDING,
    Trajectories,
    entry_of_action,
    log_probabilities,
    sample_forward,
    where_rows,
)
from gfn_utils.validation import (
    check_callback,
    check_choice,
    check_integer,
    check_number,
    check_stop,
)

LARGEST_EPOCHS = 1000
"""Steps of PPO on one batch. They are one compiled loop, in which no interrupt is heard."""


class PPOAgent(NamedTuple):
    """What `train_ppo` returns; `gfn_utils.evaluation` takes it like a GFNAgent."""

    env: Environment
    weights: tuple[tf.Tensor, ...]
    """Those of the policy network, of the values' head, and last the value of the origin."""
    visited: np.ndarray
    """How many states each update's trajectories visited, int64 `[updates]`."""
    asked: np.ndarray
    """The objects whose reward each update asked, int32 `[updates, batch_size, *state_shape]`."""

    def log_policy(self, states: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """log P_F in nats, as `gfn_utils.policy` has it, an unused log P_B, and the values."""
        *network, value = self.weights
        states = check_any_states(self.env, states, "states")
        return policy.network_log_policy(self.env, DenseNetwork(), network, log_z=(value,))(states)


def train_ppo(
    env: Environment,
    iterations: int,
    batch_size: int = 16,
    hidden: tuple[int, ...] = (256, 256),
    seed: int = 0,
    learning_rate: float = 3e-4,
    entropy_weight: float | None = None,
    returns: str = "reward",
    clip: float = 0.2,
    epochs: int = 4,
    dtype: str = "float32",
    chunk: int = 100,
    callback: Callable[[PPOAgent], bool | None] | None = None,
) -> PPOAgent:
    """Proximal policy optimisation (arXiv 1707.06347) on the policy network of a GFlowNet.

    With `returns="reward"` a trajectory earns R(x) when it stops in x, and nothing before, as in
    arXiv 2106.04399. With "soft" it earns log R(x) there, and log P_B − log P_F at each action,
    with P_B uniform over the ways back: the entropy, and a correction for the number of ways. The
    policy that earns most of this on average stops in x with a probability ∝ R(x)
    (arXiv 2310.12934).

    Every update draws `batch_size` trajectories by P_F and makes `epochs` steps of Adam, at a rate
    that falls linearly to 0, on `ppo_loss`. The advantage is what is earned from s on, less V(s),
    in units of its standard deviation in the batch; the values V(s) are a third head of the
    network.

    Args:
        entropy_weight: weight of the entropy of P_F in nats, against such advantages. By default
            0.3, or 0 with soft returns, which hold the entropy already.
        returns: "reward" or "soft".
        clip: by how much the ratio of new to old probability may count, either way.
        chunk: updates in one compiled call; the callback gets the agent after each, and the run
            stops if it returns True.

    Raises ValueError or TypeError, naming the argument, if one is out of bounds, and
    FloatingPointError if the weights are no longer finite.
    """
    check_attributes(env)
    check_compiled_reward(env)
    check_callback("callback", callback)
    network = DenseNetwork(hidden)
    iterations = check_integer("iterations", iterations, minimum=1)
    batch_size = check_integer("batch_size", batch_size, minimum=1, maximum=training.LARGEST_BATCH)
    epochs = check_integer("epochs", epochs, minimum=1, maximum=LARGEST_EPOCHS)
    chunk = check_integer("chunk", chunk, minimum=1)
    seed = check_integer("seed", seed, minimum=0)
    learning_rate = check_number("learning_rate", learning_rate, above=0.0)
    soft = check_choice("returns", returns, ("reward", "soft")) == "soft"
    if entropy_weight is None:
        entropy_weight = 0.0 if soft else 0.3
    entropy_weight = check_number("entropy_weight", entropy_weight, minimum=0.0)
    clip = check_number("clip", clip, above=0.0)
    kind = training.Kind(env, network, check_choice("dtype", dtype, DTYPES), "learned", True)
    snapshot = Snapshot(env, with_rewards=True)
    make_chunk = _compile_ppo(kind._replace(env=snapshot), batch_size, epochs, soft)
    model = network.build(env, dtype, seed)
    weights = [*model.weights, *network.build_state_flow(model, seed).weights]
    state = training.initial_state([*map(tf.convert_to_tensor, weights), tf.zeros([], dtype)])
    if soft:  # V starts from what the first batch earns: its rewards are asked once
        state = training.started_at(kind, state, _first_level(kind, state, batch_size, seed))
    chunk = min(chunk, iterations)
    settings = tf.constant([entropy_weight, clip], dtype)
    asked = np.zeros([0, batch_size, *env.state_shape], np.int32)
    agent = PPOAgent(env, state.weights, np.zeros(0, np.int64), asked)
    for first in range(0, iterations, chunk):
        n = min(chunk, iterations - first)
        factors = training.learning_rates(first, chunk, iterations, "linear")
        rates = tf.constant(learning_rate * factors, dtype)
        state, *seen = make_chunk(state, rates, tf.constant(n), settings, tf.constant(seed))
        if training.has_diverged(state.weights):
            raise FloatingPointError(
                f"the weights are not finite after {first + n} updates. A lower learning_rate "
                f"(now {learning_rate:g}) may help, or rewards of about 1"
            )
        visited, asked = (each[:n].numpy() for each in seen)
        visited = np.append(agent.visited, visited.astype(np.int64))
        agent = PPOAgent(env, state.weights, visited, np.concatenate([agent.asked, asked]))
        if callback is not None and check_stop("callback", callback(agent)):
            break
    return agent


def ppo_loss(
    env: Environment,
    log_policy: policy.LogPolicy,
    trajectories: Trajectories,
    old_log_pf: tf.Tensor,
    returns: tf.Tensor,
    advantage: tf.Tensor,
    entropy_weight,
    clip,
) -> tf.Tensor:
    """The mean over all steps of −(clipped gain + weight·entropy) + ½·(V(s) − return)², `[]`.

    The gain is min(ρ·A, clip(ρ, 1 ± clip)·A) with ρ = P_F / old P_F (arXiv 1707.06347,
    equations 7 and 9). `log_policy` gives V(s) third; `old_log_pf`, `returns` and `advantage` are
    `[B, T]`.
    """
    log_pf, entropy, value = _evaluate_steps(env, log_policy, trajectories)
    ratio = tf.exp(log_pf - old_log_pf)
    clipped = tf.clip_by_value(ratio, 1 - clip, 1 + clip)
    gain = tf.minimum(ratio * advantage, clipped * advantage)
    loss = (value - returns) ** 2 / 2 - gain - entropy_weight * entropy
    return tf.reduce_mean(tf.boolean_mask(loss, trajectories.actions != PADDING))


def soft_returns(env: Environment, trajectories: Trajectories, log_pf: tf.Tensor) -> tf.Tensor:
    """log R + Σ (log P_B − log P_F) over the actions from each state on, in nats, `[B, T]`.

    P_B is uniform, the stop has none to add, and `log_pf` `[B, T]` is 0 for padding. Where P_F is
    the answer key of P_B this is log F(s), whatever the trajectory.
    """
    _, log_pb = log_probabilities(env, policy.uniform_log_policy(env), trajectories)
    to_come = tf.cumsum(tf.cast(log_pb, log_pf.dtype) - log_pf, axis=1, reverse=True)
    return tf.cast(trajectories.log_reward, log_pf.dtype)[:, None] + to_come


def _evaluate_steps(env, log_policy, trajectories):
    """log P_F of the actions, entropy of P_F in nats and V(s), each `[B, T]`."""
    actions = trajectories.actions
    taken = tf.reshape(actions != PADDING, [-1])
    states = tf.reshape(trajectories.states[:, : actions.shape[1]], [-1, *env.state_shape])
    log_pf, _, value = log_policy(where_rows(taken, states, env.initial_states(1)))
    surprise = tf.where(tf.math.is_inf(log_pf), tf.zeros_like(log_pf), -log_pf)
    entropy = tf.reduce_sum(tf.exp(log_pf) * surprise, axis=-1)
    chosen = entry_of_action(log_pf, tf.reshape(actions, [-1]))
    return tuple(tf.reshape(each, tf.shape(actions)) for each in (chosen, entropy, value))


def _first_level(kind, state, batch_size, seed):
    """What the trajectories of the first update earn from the origin on, their mean in nats."""
    log_policy = training.log_policy_of_weights(kind)(state.weights)
    drawn_by = tf.constant([seed, 0], tf.int64)
    trajectories = sample_forward(kind.env, log_policy, batch_size, drawn_by)
    log_pf, *_ = _evaluate_steps(kind.env, log_policy, trajectories)
    return float(tf.reduce_mean(soft_returns(kind.env, trajectories, log_pf)[:, 0]))


def _advantage(trajectories, returns, value):
    """returns − V(s), made to have mean 0 and standard deviation 1 over the steps, `[B, T]`."""
    taken = trajectories.actions != PADDING
    advantage = returns - value
    weight = tf.cast(taken, value.dtype) / tf.reduce_sum(tf.cast(taken, value.dtype))
    advantage -= tf.reduce_sum(weight * advantage)
    return advantage / (tf.sqrt(tf.reduce_sum(weight * advantage**2)) + 1e-6)


@functools.lru_cache(maxsize=16)
def _compile_ppo(kind, batch_size, epochs, soft):
    kind = kind._replace(env=kind.env.env)
    env, log_policy_of = kind.env, training.log_policy_of_weights(kind)

    def update(state, rate, settings, seed):
        log_policy = log_policy_of(state.weights)
        trajectories = sample_forward(env, log_policy, batch_size, seed)
        old_log_pf, _, value = _evaluate_steps(env, log_policy, trajectories)
        if soft:
            returns = soft_returns(env, trajectories, old_log_pf)
        else:
            reward = tf.cast(tf.exp(trajectories.log_reward), value.dtype)
            returns = tf.repeat(reward[:, None], value.shape[1], axis=1)
        batch = trajectories, old_log_pf, returns, _advantage(trajectories, returns, value)
        _, state = tf.while_loop(
            lambda i, _: i < epochs,
            lambda i, state: (i + 1, descend(state, rate, settings, batch)),
            (0, state),
        )
        n_visited = tf.reduce_sum(tf.cast(trajectories.actions != PADDING, tf.int32))
        return state, n_visited, trajectories.terminal

    def descend(state, rate, settings, batch):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(state.weights)
            loss = ppo_loss(env, log_policy_of(state.weights), *batch, settings[0], settings[1])
        gradients = tape.gradient(loss, state.weights, unconnected_gradients="zero")
        return training.adam_step(state, gradients, [rate] * len(gradients))

    def chunk(state, rates, n_updates, settings, seed):
        def body(i, state, visited, asked):
            drawn_by = tf.stack([tf.cast(seed, tf.int64), state.iteration])
            state, n_visited, terminal = update(state, rates[i], settings, drawn_by)
            return i + 1, state, visited.write(i, n_visited), asked.write(i, terminal)

        visited = tf.TensorArray(tf.int32, rates.shape[0], element_shape=[])
        asked = tf.TensorArray(
            tf.int32, rates.shape[0], element_shape=[batch_size, *env.state_shape]
        )
        loop = tf.while_loop(lambda i, *_: i < n_updates, body, (0, state, visited, asked))
        return loop[1], loop[2].stack(), loop[3].stack()

    return tf.function(chunk, jit_compile=True, autograph=False)
