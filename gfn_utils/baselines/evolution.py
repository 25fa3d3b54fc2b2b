"""An evolutionary search on the objects of an environment: the usual way to look for the best ones.

It maximises. Its populations are no samples of the target, and do not become such.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils.environments import Environment
from gfn_utils.environments.contract import check_attributes
from gfn_utils.environments.log_rewards import log_rewards_of
from gfn_utils.policy import uniform_log_policy
from gfn_utils.sampling import PADDING, draw_forward
from gfn_utils.validation import check_integer


class Search(NamedTuple):
    """What an evolutionary search asked for, in order, and what it ended with."""

    asked: np.ndarray
    """Each object whose reward was asked, once, in that order, int32 `[N, *state_shape]`."""
    log_reward: np.ndarray
    """log R of them in nats, float64 `[N]`."""
    population: np.ndarray
    """The population at the end, the best first, int32 `[P, *state_shape]`."""
    asked_by: np.ndarray
    """How many objects had been asked after each generation, the first drawn blindly, `[G + 1]`."""
    visited_by: np.ndarray
    """How many actions had been done or undone by then, int64 `[G + 1]`."""


def evolutionary_search(
    env: Environment,
    generations: int,
    population: int = 100,
    tournament: int = 2,
    mutations: int = 2,
    jump: int = 1,
    seed: int = 0,
) -> Search:
    """A search with tournaments and truncation (Eiben and Smith 2015, chapters 3 and 5).

    The first population is drawn by random actions. In each generation every one of `population`
    children has for its parent the best of `tournament` members drawn at random, and differs from
    it by 1 to `mutations` moves. A move does or undoes an action, all allowed ones equally likely,
    and repeats that from once to `jump` times, as far as it is allowed; where stop is not allowed
    in the end, random actions follow until it is. The best of members and children, each object
    once, are the next population; ties are broken at random. A reward is asked once for each
    object.

    Raises ValueError or TypeError, naming the argument, if one is out of bounds.
    """
    check_attributes(env)
    generations = check_integer("generations", generations, minimum=1)
    population = check_integer("population", population, minimum=1)
    tournament = check_integer("tournament", tournament, minimum=1)
    mutations = check_integer("mutations", mutations, minimum=1)
    jump = check_integer("jump", jump, minimum=1)
    rng = np.random.default_rng(check_integer("seed", seed, minimum=0))
    known = _Known(env)
    members, n_visited = _blind(env, population, rng)
    log_reward = known.ask(members)
    asked_by, visited_by = [len(known)], [n_visited]
    for generation in range(generations + 1):
        order = np.lexsort([rng.random(len(members)), -log_reward])
        _, first = np.unique(members[order].reshape(len(members), -1), axis=0, return_index=True)
        order = order[np.sort(first)][:population]
        members, log_reward = members[order], log_reward[order]
        if generation == generations:
            break
        rivals = rng.integers(len(members), size=[population, tournament])
        parents = members[rivals.min(axis=1)]  # the best stand first
        children, n_actions = _mutated(env, parents, mutations, jump, rng)
        members = np.concatenate([members, children])
        log_reward = np.concatenate([log_reward, known.ask(children)])
        asked_by.append(len(known))
        visited_by.append(visited_by[-1] + n_actions)
    return Search(*known.arrays(), members, np.array(asked_by), np.array(visited_by))


class _Known:
    """The rewards that were asked, each once."""

    def __init__(self, env):
        self.env = env
        self._log_reward_of: dict[bytes, float] = {}  # by the object's bytes, in order

    def __len__(self):
        return len(self._log_reward_of)

    def ask(self, objects):
        """log R of objects `[n, ...]`, `[n]`."""
        keys = [row.tobytes() for row in objects]
        new = {key: i for i, key in enumerate(keys) if key not in self._log_reward_of}
        if new:
            answers = log_rewards_of(self.env, tf.constant(objects[[*new.values()]]))
            self._log_reward_of |= zip(new, np.asarray(answers).tolist(), strict=True)
        return np.array([self._log_reward_of[key] for key in keys])

    def arrays(self):
        flat = np.frombuffer(b"".join(self._log_reward_of), np.int32)
        objects = flat.reshape(len(self), *self.env.state_shape)
        return objects, np.array([*self._log_reward_of.values()])


def _blind(env, n, rng):
    """Objects built by random actions `[n, ...]`, and how many actions that took."""
    policy = uniform_log_policy(env)
    seed = tf.constant(rng.integers(2**31, size=2))
    drawn, _ = draw_forward(env, lambda states: (policy(states), []), n, seed)
    return drawn.terminal.numpy(), int(np.sum(drawn.actions != PADDING))


def _mutated(env, states, mutations, jump, rng):
    """The states with some actions done or undone, and how many that were in all."""
    total, n_mutations = 0, rng.integers(1, mutations + 1, size=len(states))
    for i in range(mutations):
        way = _any_of(_ways(env, states), rng)
        repeats = np.where(i < n_mutations, rng.integers(1, jump + 1, size=len(states)), 0)
        for j in range(repeats.max()):
            states, n = _go(env, states, np.where(j < repeats, way, PADDING))
            total += n
    for _ in range(env.max_trajectory_length):
        can_stop = _ways(env, states, forward=True)[:, env.stop_action]
        if can_stop.all():
            break
        moves = _ways(env, states, forward=True)[:, : env.stop_action]
        states, n = _go(env, states, np.where(can_stop, PADDING, _any_of(moves, rng)))
        total += n
    return states, total


def _ways(env, states, forward=False):
    """Which actions may be done, stop included; or, without it, done and then undone, `[B, n]`."""
    states = tf.constant(states)
    mask = np.asarray(env.forward_mask(states))
    if forward:
        return mask
    return np.concatenate([mask[:, : env.stop_action], np.asarray(env.backward_mask(states))], 1)


def _any_of(mask, rng):
    """One of the allowed ways of each row, all equally likely; −1 where there is none."""
    chosen = np.where(mask, rng.random(mask.shape), -1).argmax(axis=1)
    return np.where(mask.any(axis=1), chosen, PADDING)


def _go(env, states, way):
    """The states after these ways `[B]`, where they are allowed, and how many were."""
    allowed = np.take_along_axis(_ways(env, states), np.maximum(way, 0)[:, None], 1)[:, 0]
    goes, n_moves = allowed & (way != PADDING), env.n_actions - 1
    forward = np.where(goes & (way < n_moves), way, PADDING)
    backward = np.where(goes & (way >= n_moves), way - n_moves, PADDING)
    moved = env.step(tf.constant(states), tf.constant(forward, tf.int32))
    return np.asarray(env.back_step(moved, tf.constant(backward, tf.int32))), int(goes.sum())
