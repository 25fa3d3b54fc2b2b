"""Metropolis–Hastings on the objects of an environment: the MCMC of arXiv 2106.04399, section 4.1.

It walks from object to object, and is right in the limit.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils.environments import Environment
from gfn_utils.environments.base import check_states
from gfn_utils.environments.contract import check_attributes
from gfn_utils.environments.log_rewards import check_compiled_reward
from gfn_utils.environments.snapshot import Snapshot
from gfn_utils.random_numbers import stateless_uniform
from gfn_utils.sampling import LARGEST_RECORD, PADDING, where_rows
from gfn_utils.validation import check_integer, check_number, check_numbers

LARGEST_JUMP = 1000
"""How often a proposal may repeat its action: each time is a step of the environment."""

LARGEST_MATRIX = 10_000
"""States for which the matrix of transitions may be worked out: it takes 800 MB then."""


class Chains(NamedTuple):
    """C chains of T steps. A rejected move is a visit too: the chain stays where it is."""

    states: np.ndarray
    """Where each chain was after each step, int32 `[T, C, *state_shape]`: the samples."""
    accepted: np.ndarray
    """Whether the step was a move, bool `[T, C]`. Swaps with a hotter replica do not count."""
    replicas: np.ndarray
    """The same for every temperature, int32 `[T, n_temperatures, C, *state_shape]`; the first of
    them is `states`. All of them are visits that somebody pays for."""
    asked: np.ndarray
    """The proposals whose reward was asked, in the same shape; −1 where the move was not allowed,
    and so none was."""


def metropolis_hastings(
    env: Environment,
    n_chains: int,
    n_steps: int,
    seed: int = 0,
    start=None,
    jump: int = 1,
    temperatures=None,
) -> Chains:
    """Metropolis–Hastings on the objects of `env` (Hastings 1970, Biometrika 57, 97).

    Each step draws one of the 2·(n_actions − 1) ways to do or to undo an action, and how often to
    repeat it, from once to `jump` times, all equally likely. The way back is as likely as the way
    there, so the move from x to y is accepted with probability min(1, R(y)/R(x)). One that the
    environment does not allow is rejected, as is one into a state in which stop is not allowed:
    the target is 0 there. The environment need not be listed.

    With `temperatures` every chain is a ladder of replicas (parallel tempering: Swendsen and Wang
    1986, Physical Review Letters 57, 2607). The replica of temperature T has the target R^(1/T)
    and accepts accordingly. After each step neighbours i and j on the ladder, at even steps those
    with an even i and at odd steps the others, swap their states with probability
    min(1, (R_j/R_i)^(1/T_i − 1/T_j)), which leaves the product of all targets as it is.

    Args:
        n_chains, n_steps: how many chains, and the steps of each.
        seed: the same seed gives the same chains.
        start: where they start, int `[n_chains, *state_shape]`; by default all at the
            initial state, as a GFlowNet's trajectories do. All replicas of a chain start there.
        jump: the most repeats of an action in one proposal.
        temperatures: ascending from 1.0, the temperature of the replica that gives the samples.

    Raises ValueError or TypeError, naming the argument, if one is out of bounds, if stop is not
    allowed in a start, or if the record would exceed 4 GB.
    """
    n_chains = check_integer("n_chains", n_chains, minimum=1)
    n_steps = check_integer("n_steps", n_steps, minimum=1)
    seed = check_integer("seed", seed, minimum=0)
    jump = check_integer("jump", jump, minimum=1, maximum=LARGEST_JUMP)
    temperatures = _check_temperatures(temperatures)
    check_attributes(env)
    check_compiled_reward(env)
    if n_chains * n_steps * len(temperatures) * math.prod(env.state_shape) > LARGEST_RECORD:
        raise ValueError(
            f"n_chains · n_steps states must be at most {LARGEST_RECORD:,} numbers, got "
            f"{n_chains:,} · {n_steps:,} states of {math.prod(env.state_shape)}, "
            f"at {len(temperatures)} temperatures"
        )
    start = check_states(env, env.initial_states(n_chains) if start is None else start, "start")
    if len(start) != n_chains:
        raise ValueError(f"start must hold {n_chains} states, one a chain, got {len(start)}")
    walk = _compile_walk(Snapshot(env, with_rewards=True), n_steps, jump, len(temperatures))
    drawn_by = tf.constant(seed, tf.int64)
    replicas, asked, accepted = walk(start, tf.constant(1 / temperatures), drawn_by)
    replicas, asked = (
        each.numpy().reshape([n_steps, -1, *start.shape]) for each in (replicas, asked)
    )
    return Chains(replicas[:, 0], accepted.numpy()[:, :n_chains], replicas, asked)


def transition_matrix(env: Environment, jump: int = 1, temperature: float = 1.0) -> np.ndarray:
    """The probabilities of one step of `metropolis_hastings` from each state (row) to each.

    float64 `[n_states, n_states]` in the order of `env.states()`. A state in which stop is not
    allowed is never entered, and its row stays. Raises ValueError or TypeError as there, and for
    more than 10,000 states or such as cannot be listed.
    """
    check_attributes(env)
    check_compiled_reward(env)
    jump = check_integer("jump", jump, minimum=1, maximum=LARGEST_JUMP)
    temperature = check_number("temperature", temperature, above=0.0)
    states = env.states()
    if len(states) > LARGEST_MATRIX:
        raise ValueError(
            f"env must have at most {LARGEST_MATRIX:,} states for a matrix of all pairs, "
            f"got {len(states):,}"
        )
    pays = env.forward_mask(states)[:, env.stop_action].numpy()
    log_reward = np.full(len(states), -np.inf)
    log_reward[pays] = env.log_reward(states[pays])
    matrix = np.zeros([len(states)] * 2)
    rows = np.flatnonzero(pays)
    n_ways = 2 * (env.n_actions - 1) * jump
    for way in range(n_ways):
        proposed, allowed = _proposals(env, states[pays], tf.fill([len(rows)], way), jump)
        to = env.index(proposed).numpy()
        accept = np.exp(np.minimum(0, (log_reward[to] - log_reward[rows]) / temperature))
        matrix[rows, to] += np.where(allowed, accept, 0) / n_ways
    diagonal = np.arange(len(states))
    matrix[diagonal, diagonal] += 1 - matrix.sum(axis=1)
    return matrix


def _check_temperatures(temperatures):
    if temperatures is None:
        return np.ones(1)
    ladder = check_numbers("temperatures", temperatures)
    if ladder.ndim != 1 or len(ladder) == 0 or ladder[0] != 1:
        raise ValueError(f"temperatures must be a list that begins with 1, got {ladder.tolist()}")
    if not (np.isfinite(ladder).all() and (np.diff(ladder) > 0).all()):
        raise ValueError(f"temperatures must be finite and ascend, got {ladder.tolist()}")
    return ladder


def _proposals(env, states, way, jump):
    """The states that the ways `[B]` lead to, and whether each may be visited.

    Of a way the remainder by `jump`, plus 1, tells how often to go in a direction, and the rest
    which: the actions come first, and then those undone. Where it is not allowed the state stays.
    """
    n_moves = env.n_actions - 1
    direction, repeats = way // jump, way % jump + 1

    def once_more(i, reached, allowed):
        ways = [env.forward_mask(reached)[:, :n_moves], env.backward_mask(reached)]
        goes = allowed & (i < repeats)
        possible = tf.gather(tf.concat(ways, axis=1), direction, batch_dims=1)
        forward = tf.where(goes & possible & (direction < n_moves), direction, PADDING)
        backward = tf.where(goes & possible & (direction >= n_moves), direction - n_moves, PADDING)
        reached = env.back_step(env.step(reached, forward), backward)
        return i + 1, reached, allowed & (possible | ~goes)

    loop = (0, states, tf.ones_like(way, tf.bool))
    if jump == 1:
        _, reached, allowed = once_more(*loop)
    else:
        furthest = tf.reduce_max(repeats)
        _, reached, allowed = tf.while_loop(lambda i, *_: i < furthest, once_more, loop)
    allowed &= env.forward_mask(reached)[:, env.stop_action]
    return where_rows(allowed, reached, states), allowed


@functools.lru_cache(maxsize=16)
def _compile_walk(snapshot, n_steps, jump, n_temperatures):
    env = snapshot.env
    n_ways = 2 * (env.n_actions - 1) * jump

    def walk(start, inverse_temperatures, seed):
        """States and proposals `[T, n_temperatures·C, ...]`, coldest first, and what was a move."""
        n_chains = start.shape[0]
        start = tf.tile(start, [n_temperatures, *[1] * (len(start.shape) - 1)])
        beta = tf.repeat(inverse_temperatures, n_chains)

        def step(t, states, log_reward, visited, asked, accepted):
            shape = [3 if n_temperatures > 1 else 2, start.shape[0]]
            drawn = stateless_uniform(shape, tf.stack([seed, tf.cast(t, tf.int64)]), tf.float64)
            way = tf.cast(drawn[0] * n_ways, tf.int32)
            proposed, allowed = _proposals(env, states, way, jump)
            proposed_log_reward = env.log_reward(proposed)
            log_ratio = beta * (proposed_log_reward - log_reward)
            accept = allowed & (tf.math.log(drawn[1]) < log_ratio)
            log_reward = tf.where(accept, proposed_log_reward, log_reward)
            states = where_rows(accept, proposed, states)
            if n_temperatures > 1:
                source = _swaps(t, beta, log_reward, drawn[2], n_chains)
                states, log_reward = tf.gather(states, source), tf.gather(log_reward, source)
            asked = asked.write(t, where_rows(allowed, proposed, PADDING))
            visited, accepted = visited.write(t, states), accepted.write(t, accept)
            return t + 1, states, log_reward, visited, asked, accepted

        arrays = [
            tf.TensorArray(tf.int32, n_steps, element_shape=start.shape),
            tf.TensorArray(tf.int32, n_steps, element_shape=start.shape),
            tf.TensorArray(tf.bool, n_steps, element_shape=start.shape[:1]),
        ]
        loop = (0, start, env.log_reward(start), *arrays)
        return [array.stack() for array in tf.while_loop(lambda t, *_: t < n_steps, step, loop)[3:]]

    return tf.function(walk, jit_compile=True, autograph=False)


def _swaps(t, beta, log_reward, uniform, n_chains):
    """Whose state each replica has after the swaps of step t, `[n_temperatures·C]`."""
    here = tf.range(log_reward.shape[0])
    rung = here // n_chains
    last = log_reward.shape[0] // n_chains - 1
    hotter = tf.where((rung - t) % 2 == 0, 1, -1)  # which neighbour it may swap with
    partner = here + n_chains * tf.where((rung + hotter < 0) | (rung + hotter > last), 0, hotter)
    log_ratio = (beta - tf.gather(beta, partner)) * (tf.gather(log_reward, partner) - log_reward)
    # The same number decides for both of a pair.
    swap = tf.math.log(tf.gather(uniform, tf.minimum(here, partner))) < log_ratio
    return tf.where(swap, partner, here)
