"""Training as a pure function: (weights, optimiser state) → the same after a chunk of updates.

One call of the compiled chunk makes many updates: sample, score, differentiate, step. Everything
that an update needs comes in as an argument and goes out as a result, so that all agents of one
kind share one compiled program, and an interrupt between chunks leaves nothing half-done.
"""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils import losses
from gfn_utils.environments import Environment
from gfn_utils.policy import LogPolicy, build_policy, network_log_policy, tabulate
from gfn_utils.sampling import log_probabilities, sample_backward, sample_forward


class Kind(NamedTuple):
    """What the compiled programs of an agent depend on."""

    env: Environment
    hidden: tuple[int, ...]
    dtype: str
    backward_policy: str


class TrainingState(NamedTuple):
    """All that training changes. Each tuple holds the policy's weights and, last, log Z."""

    weights: tuple[tf.Tensor, ...]
    first_moments: tuple[tf.Tensor, ...]
    second_moments: tuple[tf.Tensor, ...]
    iteration: tf.Tensor
    """How many updates were made, int64 `[]`."""


class Batches(NamedTuple):
    """Terminal states to train on offline, for U updates of B trajectories."""

    terminal: tf.Tensor
    """int32 `[U, B, ...]`."""
    weight: tf.Tensor
    """1 for a trajectory, 0 for padding, `[U, B]`."""


class ChunkResult(NamedTuple):
    state: TrainingState
    loss: tf.Tensor
    """Mean loss of each update's batch in nats², `[U]`."""
    log_z: tf.Tensor
    """log Z after each update in nats, `[U]`."""


def initial_state(weights) -> TrainingState:
    """The state before the first update: Adam's moments at zero."""
    zeros = tuple(tf.zeros_like(weight) for weight in weights)
    return TrainingState(tuple(weights), zeros, zeros, tf.constant(0, tf.int64))


@functools.lru_cache(maxsize=64)
def compile_chunk(kind: Kind, batch_size: int, offline: bool):
    """The compiled function that makes a chunk of trajectory-balance updates.

    It takes a TrainingState, `rates` `[U, 2]` (the learning rate of policy and of log Z in each
    update), `n_updates` ≤ U, γ, the agent's seed and, offline, Batches; returns a ChunkResult
    of which the first `n_updates` entries count. U is fixed by the shape of `rates`: another U
    compiles again, another `n_updates`, γ or seed does not.
    """
    env = kind.env
    network = build_policy(env, kind.hidden, kind.dtype)

    def loss_of_batch(weights, tape, seed, gamma, batch):
        def stateless_network(features):
            return network.stateless_call(weights[:-1], [], features)[0]

        log_policy = network_log_policy(env, stateless_network, kind.backward_policy)
        log_policy = cheapest_log_policy(env, log_policy, batch_size)
        with tape.stop_recording():
            if offline:
                trajectories = sample_backward(env, log_policy, batch.terminal, seed)
            else:
                trajectories = sample_forward(env, log_policy, batch_size, seed, gamma)
        log_pf, log_pb = log_probabilities(env, log_policy, trajectories)
        loss = losses.trajectory_balance(log_pf, log_pb, trajectories.log_reward, weights[-1])
        if not offline:
            return tf.reduce_mean(loss)
        return tf.reduce_sum(loss * batch.weight) / tf.reduce_sum(batch.weight)

    def update(state, rates, seed, gamma, batch):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(state.weights)
            loss = loss_of_batch(state.weights, tape, seed, gamma, batch)
        gradients = tape.gradient(loss, state.weights, unconnected_gradients="zero")
        rate_of_weight = [rates[0]] * (len(state.weights) - 1) + [rates[1]]
        return adam_step(state, gradients, rate_of_weight), loss

    def chunk(state, rates, n_updates, gamma, seed, batches=None):
        capacity = rates.shape[0]

        def body(i, state, loss, log_z):
            batch = None if batches is None else tf.nest.map_structure(lambda a: a[i], batches)
            update_seed = tf.stack([seed, state.iteration])
            state, batch_loss = update(state, rates[i], update_seed, gamma, batch)
            return i + 1, state, loss.write(i, batch_loss), log_z.write(i, state.weights[-1])

        arrays = [tf.TensorArray(kind.dtype, capacity, element_shape=[]) for _ in range(2)]
        _, state, loss, log_z = tf.while_loop(
            lambda i, *_: i < n_updates, body, (0, state, *arrays)
        )
        return ChunkResult(state, loss.stack(), log_z.stack())

    return tf.function(chunk, jit_compile=True, autograph=False)


def cheapest_log_policy(env: Environment, log_policy: LogPolicy, batch_size: int) -> LogPolicy:
    """The same log-policy, evaluated the cheaper way for a batch of trajectories.

    Where the listed states are fewer than the batch's steps, the network runs once on all of them
    and every step looks its row up: the same numbers, 2 to 15 times faster.
    """
    n_steps = batch_size * env.max_trajectory_length
    if env.n_states is not None and env.n_states <= n_steps:
        return tabulate(env, log_policy).log_policy
    return log_policy


def adam_step(
    state: TrainingState, gradients, rates, beta_1=0.7, beta_2=0.95, epsilon=1e-7
) -> TrainingState:
    """One step of Adam (arXiv 1412.6980, end of section 2), each weight at its own rate.

    Gradients are averaged over fewer updates than is usual (β₁ = 0.9, β₂ = 0.999), because runs
    here are short: 397 of 400 seeds of the default job end below an exact L1 error of 0.02, where
    with the usual values it was 38 of 40 at best.

    A pure function, which Keras' optimisers are not under TensorFlow; a test holds it equal to
    keras.optimizers.Adam.
    """
    iteration = state.iteration + 1
    t = tf.cast(iteration, gradients[0].dtype)
    correction = tf.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    first = [
        beta_1 * m + (1 - beta_1) * g for m, g in zip(state.first_moments, gradients, strict=True)
    ]
    second = [
        beta_2 * v + (1 - beta_2) * g * g
        for v, g in zip(state.second_moments, gradients, strict=True)
    ]
    weights = [
        w - rate * correction * m / (tf.sqrt(v) + epsilon)
        for w, rate, m, v in zip(state.weights, rates, first, second, strict=True)
    ]
    return TrainingState(tuple(weights), tuple(first), tuple(second), iteration)


def learning_rates(first: int, n_updates: int, total: int, decay: str) -> np.ndarray:
    """The factor on the learning rate in updates first, …, first + n − 1 of `total`, `[n]`.

    "linear" falls from 1 to 0; "constant" stays at 1.
    """
    if decay == "constant":
        return np.ones(n_updates)
    return 1 - np.minimum((first + np.arange(n_updates)) / total, 1.0)


def epoch_order(seed: int, run: int, epoch: int, n: int) -> np.ndarray:
    """The order in which an epoch visits its n objects: a permutation fixed by its arguments."""
    return np.random.default_rng((seed, run, epoch)).permutation(n)
