"""Trajectories: drawn forward from the origin or backward from an object, and scored."""

import itertools
import math
from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils.environments import Environment
from gfn_utils.environments.base import check_any_states, check_states
from gfn_utils.environments.log_rewards import log_rewards_of
from gfn_utils.policy import LogPolicy, mix_with_uniform
from gfn_utils.random_numbers import stateless_uniform
from gfn_utils.validation import check_function, check_instance, check_integer, check_numbers

PADDING = -1

LARGEST_RECORD = 1_000_000_000
"""Numbers that the states of all trajectories, or of all chains, may fill: 4 GB."""

MOST_NUMBERS_SEEN = 20_000_000
"""How many numbers `objects_seen` writes down at most for the states one action further away."""

MOST_ADDED_ONE_BY_ONE = 64
"""Actions up to which `draw` adds their probabilities one by one, which runs faster and compiles
slower: an update with 481 actions took 22 s to compile that way."""

Evaluate = Callable[[tf.Tensor], tuple[tuple[tf.Tensor, ...], list[tf.Tensor]]]
"""From states to what a log-policy says of them, and what was worked out for that."""


class Trajectories(NamedTuple):
    """B trajectories in forward order, padded to T = `env.max_trajectory_length` actions."""

    states: tf.Tensor
    """The state before each action, int32 `[B, T+1, ...]`; −1 once the trajectory has stopped."""
    actions: tf.Tensor
    """The actions, the stop included, int32 `[B, T]`; −1 after it."""
    terminal: tf.Tensor
    """The state in which each trajectory stopped, int32 `[B, ...]`."""
    log_reward: tf.Tensor
    """log R of that state in nats, float64 `[B]`; None where nobody has asked for it."""


class Rows(NamedTuple):
    """Rows first, …, end − 1 of a batch of n trajectories: the share of one replica.

    Random numbers belong to a trajectory's place in the batch, so drawing only these rows
    gives the very trajectories that stand there when the whole batch is drawn at once.
    """

    first: int
    end: int
    n: int

    @property
    def slice(self) -> slice:
        """The rows in an array of the whole batch."""
        return slice(self.first, self.end)


def check_trajectories(env: Environment, trajectories: Trajectories, name: str) -> Trajectories:
    """Return them as tensors; raise ValueError or TypeError unless they are trajectories of `env`.

    Looked at are shapes, actions, the states passed and those in which they stopped.
    """
    check_instance(name, trajectories, Trajectories, "Trajectories")
    terminal = check_states(env, trajectories.terminal, f"{name}.terminal")
    for field in ("states", "actions", "log_reward"):
        check_numbers(f"{name}.{field}", getattr(trajectories, field))
    states, actions, _, log_reward = map(np.asarray, trajectories)
    if log_reward.shape != (len(terminal),):
        raise ValueError(
            f"{name}.log_reward must be of shape [{len(terminal)}], "
            f"got shape {list(log_reward.shape)}"
        )
    expected = [len(terminal), env.max_trajectory_length]
    if list(actions.shape) != expected or not np.issubdtype(actions.dtype, np.integer):
        raise ValueError(
            f"{name}.actions must be an integer array of shape {expected}, "
            f"got shape {list(actions.shape)} of {actions.dtype}"
        )
    if ((actions < PADDING) | (actions >= env.n_actions)).any():
        raise ValueError(
            f"{name}.actions must be from {PADDING} to {env.stop_action}, got "
            f"{actions.min()} to {actions.max()}"
        )
    expected = [expected[0], expected[1] + 1, *env.state_shape]
    if list(states.shape) != expected:
        raise ValueError(
            f"{name}.states must be of shape {expected}, got shape {list(states.shape)}"
        )
    check_any_states(env, states[:, :-1][actions != PADDING], f"{name}.states")
    states, actions = (tf.constant(each, tf.int32) for each in (states, actions))
    return Trajectories(states, actions, terminal, tf.constant(log_reward, tf.float64))


def most_trajectories(env: Environment) -> int:
    """How many trajectories can be drawn at once, so that their states are not too many."""
    numbers_of_one = (env.max_trajectory_length + 1) * math.prod(env.state_shape)
    return max(1, LARGEST_RECORD // numbers_of_one)


def sample_forward(
    env: Environment, log_policy: LogPolicy, batch_size, seed: tf.Tensor, gamma=0.0
) -> Trajectories:
    """Draw trajectories from the origin until they stop; from `env.origins` where it has many.

    The behaviour policy is (1−γ)·P_F + γ·uniform over the allowed actions: with γ = 0 that of
    the agent, with γ = 1 blind exploration.

    `seed` is an integer tensor `[2]`: the same seed gives the same trajectories.
    """
    drawn, _ = draw_forward(env, lambda states: (log_policy(states), []), batch_size, seed, gamma)
    return drawn._replace(log_reward=log_rewards_of(env, drawn.terminal))


def sample_backward(
    env: Environment, log_policy: LogPolicy, terminal: tf.Tensor, seed: tf.Tensor
) -> Trajectories:
    """Draw trajectories from given terminal states back to the origin, returned origin first.

    P_B has no stop: that the last action was to stop is certain, so the first backward step costs
    nothing. `seed` as in `sample_forward`.
    """
    drawn = draw_backward(env, log_policy, terminal, seed)
    return drawn._replace(log_reward=log_rewards_of(env, terminal))


def draw_forward(
    env: Environment,
    evaluate: Evaluate,
    batch_size,
    seed: tf.Tensor,
    gamma=0.0,
    rows: Rows | None = None,
) -> tuple[Trajectories, list[tf.Tensor]]:
    """`sample_forward` without the rewards, and what was worked out on the way.

    `evaluate(states)` gives what a log-policy says of states `[B, ...]`, and tensors `[B, ...]` to
    keep; of each step they come back as `[T, B, ...]`. To keep anything, B must not be a tensor.
    With `rows`, only these B of a larger batch are drawn.
    """
    length = env.max_trajectory_length
    said, to_keep = evaluate(env.initial_states(1))
    uniform = _uniform_of_rows(length, batch_size, rows, seed, said[0].dtype)
    origins = env.origins(batch_size if rows is None else rows.n, seed)
    if rows is not None:
        origins = origins[rows.slice]

    def step(t, states, running, visited, actions, kept):
        (log_pf, *_), found = evaluate(states)
        # XLA hands what is ready early to another thread, and with it the rest of the step, away
        # from the cache that holds the weights. So the mask waits for the network.
        allowed = env.forward_mask(states) & ~tf.math.is_nan(log_pf)
        log_behaviour = mix_with_uniform(log_pf, allowed, gamma)
        action = tf.where(running, draw(log_behaviour, uniform[t]), PADDING)
        visited = visited.write(t, where_rows(running, states, PADDING))
        actions = actions.write(t, action)
        kept = [array.write(t, each) for array, each in zip(kept, found, strict=True)]
        running &= action != env.stop_action
        return t + 1, env.step(states, action), running, visited, actions, kept

    kept = [
        tf.TensorArray(each.dtype, length, element_shape=[batch_size, *each.shape[1:]])
        for each in to_keep
    ]
    _, terminal, _, visited, actions, kept = tf.while_loop(
        lambda t, _, running, *__: (t < length) & tf.reduce_any(running),
        step,
        (
            tf.constant(0),
            origins,
            tf.fill([batch_size], True),
            _filled_array(length + 1, tf.fill([batch_size, *env.state_shape], PADDING)),
            _filled_array(length, tf.fill([batch_size], PADDING)),
            kept,
        ),
    )
    visited, actions = (_batch_first(array.stack()) for array in (visited, actions))
    return Trajectories(visited, actions, terminal, None), [array.stack() for array in kept]


def draw_backward(
    env: Environment,
    log_policy: LogPolicy,
    terminal: tf.Tensor,
    seed: tf.Tensor,
    rows: Rows | None = None,
) -> Trajectories:
    """`sample_backward` without the rewards. With `rows`, the terminal states are only these of a
    larger batch."""
    length, batch_size = env.max_trajectory_length, tf.shape(terminal)[0]
    dtype = log_policy(env.initial_states(1))[1].dtype
    uniform = _uniform_of_rows(length, batch_size, rows, seed, dtype)

    def back_step(t, states, visited, actions):
        log_pb = log_policy(states)[1]
        at_origin = ~tf.reduce_any(env.backward_mask(states), axis=-1)
        action = tf.where(at_origin, PADDING, draw(log_pb, uniform[t]))
        states = env.back_step(states, action)
        return t + 1, states, visited.write(t + 1, states), actions.write(t, action)

    visited = _filled_array(length + 1, tf.fill([batch_size, *env.state_shape], PADDING))
    _, _, visited, actions = tf.while_loop(
        lambda t, *_: t < length - 1,
        back_step,
        (0, terminal, visited.write(0, terminal), _filled_array(length, tf.fill([batch_size], -1))),
    )
    backward_states, backward_actions = visited.stack(), actions.stack()
    return _reverse(env, _batch_first(backward_states), _batch_first(backward_actions), terminal)


def log_probabilities(
    env: Environment, log_policy: LogPolicy, trajectories: Trajectories
) -> tuple[tf.Tensor, tf.Tensor]:
    """log P_F and log P_B of every step of the trajectories, each `[B, T]`, in nats.

    Entry t of the second is the log-probability of going back from state t+1 to state t: 0 for
    the stop, which is certain. Both are 0 in the padding.
    """
    check_instance("env", env, Environment, "an Environment")
    check_function("log_policy", log_policy)
    check_instance("trajectories", trajectories, Trajectories, "Trajectories")
    scores = score(env, log_policy, trajectories, ("log_pf", "log_pb"))
    return scores["log_pf"], scores["log_pb"]


def score(
    env: Environment,
    log_policy: LogPolicy,
    trajectories: Trajectories,
    wanted: Collection[str],
    known: list[tf.Tensor] | None = None,
) -> dict[str, tf.Tensor]:
    """What a policy says of every step of the trajectories, each `[B, T]` in nats.

    `wanted` are names out of `log_pf`, `log_pb`, `log_flow`, `log_inflow` and `log_stop`, as
    `gfn_utils.losses` explains them. All are 0 in the padding. `known` is what
    `draw_forward` has kept of evaluating a NetworkPolicy, or None.
    """
    actions = trajectories.actions
    taken = actions != PADDING
    came_by = tf.pad(actions[:, :-1], [[0, 0], [1, 0]], constant_values=PADDING)

    # Where there is padding any state will do: what the policy says of it is not used.
    states = tf.reshape(trajectories.states[:, : actions.shape[1]], [-1, *env.state_shape])
    states = where_rows(tf.reshape(taken, [-1]), states, env.initial_states(1))
    flat = (tf.reshape(each, [-1]) for each in (actions, tf.where(taken, came_by, PADDING)))
    if known is None:
        said = log_policy(states)
    else:
        rows = [tf.reshape(_batch_first(each), [-1, *each.shape[2:]]) for each in known]
        said, _ = log_policy.evaluate(states, rows)
    scores = score_steps(env, log_policy, said, states, *flat, wanted)
    return _at_departure({name: tf.reshape(scores[name], tf.shape(actions)) for name in scores})


def score_steps(
    env: Environment,
    log_policy: LogPolicy,
    said: tuple[tf.Tensor, ...],
    states: tf.Tensor,
    actions: tf.Tensor,
    came_by: tf.Tensor,
    wanted: Collection[str],
) -> dict[str, tf.Tensor]:
    """What a policy says of single steps, each `[N]`: the scores of their `actions` in `states`.

    `said` is what the log-policy says of the states, since who asks has asked it already. Unlike
    `score`, this gives as `log_pb` that of the action by which each state was reached.
    """
    log_pf, log_pb, *log_flow = said
    scores = {
        "log_pf": entry_of_action(log_pf, actions),
        "log_pb": entry_of_action(log_pb, came_by),
    }
    taken = actions != PADDING
    if "log_flow" in wanted:
        scores["log_flow"] = tf.where(taken, log_flow[0], 0)
    if "log_stop" in wanted:
        scores["log_stop"] = tf.where(taken, log_pf[:, -1], 0)
    if "log_inflow" in wanted:
        scores["log_inflow"] = tf.where(taken, log_inflow(env, log_policy, states), 0)
    return {name: scores[name] for name in wanted}


def log_inflow(env: Environment, log_policy: LogPolicy, states: tf.Tensor) -> tf.Tensor:
    """log Σ F(s)·P_F(s'|s) over the parents s of each state s' `[N, ...]`, `[N]`; 0 at the origin.

    Needs a log-policy that knows log F, and asks it about every parent.
    """
    allowed = env.backward_mask(states)
    n_moves = env.n_actions - 1
    action = tf.where(
        tf.reshape(allowed, [-1]), tf.tile(tf.range(n_moves), tf.shape(states)[:1]), PADDING
    )
    parents = env.back_step(tf.repeat(states, n_moves, axis=0), action)
    log_pf, _, log_flow = log_policy(parents)
    log_edge_flow = tf.reshape(log_flow + entry_of_action(log_pf, action), [-1, n_moves])
    lowest = tf.constant(-1e30, log_pf.dtype)
    total = tf.reduce_logsumexp(tf.where(allowed, log_edge_flow, lowest), axis=1)
    return tf.where(tf.reduce_any(allowed, axis=1), total, 0)


def log_rewards_on_the_way(
    env: Environment, trajectories: Trajectories, ask: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """log R of the state before each action, float64 `[B, T]` in nats; 0 in the padding.

    `ask` gives log R of states `[N, ...]`. NaN where a state cannot stop, so that no loss of it can
    pass for a number.
    """
    actions = trajectories.actions
    taken = tf.reshape(actions != PADDING, [-1])
    states = tf.reshape(trajectories.states[:, : actions.shape[1]], [-1, *env.state_shape])
    states = where_rows(taken, states, env.initial_states(1))
    can_stop = env.forward_mask(states)[:, env.stop_action]
    log_reward = tf.where(can_stop, ask(states), tf.constant(math.nan, tf.float64))
    return tf.reshape(tf.where(taken, log_reward, 0), tf.shape(actions))


def objects_seen(env: Environment, trajectories: Trajectories, within: int = 2) -> np.ndarray:
    """Every object that the trajectories passed, or were `within` actions away from, each once.

    A trajectory that ends in x has seen more than x: wherever it passed it could have stopped, and
    wherever it turned it could have turned another way. Returns states in which stop is allowed,
    int32 `[N, ...]`, in a fixed order.

    Where there are so many actions that the states on the way would fill more than 80 MB, only
    those fewer actions away are taken, and at the least the states that were passed.
    """
    check_instance("env", env, Environment, "an Environment")
    trajectories = check_trajectories(env, trajectories, "trajectories")
    within = check_integer("within", within, minimum=0, maximum=env.max_trajectory_length)
    return objects_near(env, trajectories, within)


def objects_near(env, trajectories, within) -> np.ndarray:
    """`objects_seen` of arguments that were checked before."""
    passed = tf.boolean_mask(trajectories.states[:, :-1], trajectories.actions != PADDING)
    seen = np.unique(passed, axis=0)
    for _ in range(within):
        allowed = np.asarray(env.forward_mask(tf.constant(seen)))[:, : env.stop_action]
        if np.count_nonzero(allowed) * seen[0].size > MOST_NUMBERS_SEEN:
            break
        rows, actions = np.nonzero(allowed)
        children = env.step(tf.constant(seen[rows]), tf.constant(actions, tf.int32))
        seen = np.unique(np.concatenate([seen, children]), axis=0)
    return seen[np.asarray(env.forward_mask(tf.constant(seen)))[:, env.stop_action]]


def entry_of_action(table, actions):
    """`table[..., action]` for each action: `[..., n]` and `[...]` → `[...]`; 0 for padding."""
    taken = actions != PADDING
    chosen = tf.gather(table, tf.where(taken, actions, 0), batch_dims=len(actions.shape))
    return tf.where(taken, chosen, tf.zeros([], table.dtype))


def draw(log_probabilities, uniform):
    """One action a row from log-probabilities `[B, n]`, by a number `[B]` in (0, 1) for each.

    The action is the first at which the probabilities add up to more than the number. What is
    impossible is never drawn: added one by one it adds exactly nothing. Where actions are many, and
    sums are taken in another order, it is left out.
    """
    probabilities = tf.exp(log_probabilities)
    if probabilities.shape[-1] > MOST_ADDED_ONE_BY_ONE:
        cumulated = tf.where(probabilities > 0, tf.cumsum(probabilities, axis=-1), 0)
        total = tf.reduce_max(cumulated, axis=-1)
        passed = (cumulated > 0) & (cumulated >= (uniform * total)[:, None])
        return tf.argmax(passed, axis=-1, output_type=tf.int32)
    *cumulated, total = itertools.accumulate(tf.unstack(probabilities, axis=-1))
    passed = [tf.cast(below <= uniform * total, tf.int32) for below in cumulated]
    return tf.add_n(passed) if passed else tf.zeros_like(total, tf.int32)


def _uniform_of_rows(length, batch_size, rows, seed, dtype):
    """`stateless_uniform` for these rows of a batch, or for all of it, `[length, batch_size]`."""
    if rows is None:
        return stateless_uniform([length, batch_size], seed, dtype)
    return stateless_uniform([length, rows.n], seed, dtype)[:, rows.slice]


def _at_departure(scores):
    """Move log P_B from the state that an action led to, `[B, T]`, to the one it left."""
    if "log_pb" not in scores:
        return scores
    log_pb = tf.pad(scores["log_pb"][:, 1:], [[0, 0], [0, 1]])
    return {**scores, "log_pb": log_pb}


def _filled_array(size, element):
    array = tf.TensorArray(element.dtype, size, clear_after_read=False)
    return array.unstack(tf.repeat(element[None], size, axis=0))


def where_rows(condition, rows, other):
    """`rows[i]` where `condition[i]`, else `other`: tf.where over states of any shape."""
    extra_axes = [1] * (len(rows.shape) - 1)
    return tf.where(tf.reshape(condition, [-1, *extra_axes]), rows, other)


def _batch_first(time_first):
    return tf.experimental.numpy.swapaxes(time_first, 0, 1)


def _reverse(env, states, actions, terminal):
    """Backward-ordered states `[B, T+1, ...]` and actions `[B, T]` (no stop) in forward order."""
    n_moves = tf.reduce_sum(tf.cast(actions != PADDING, tf.int32), axis=1, keepdims=True)

    def reverse(array, first):
        position = first - tf.range(array.shape[1])
        found = tf.gather(array, tf.maximum(position, 0), batch_dims=1)
        flat = tf.reshape(found, [-1, *array.shape[2:]])
        return tf.reshape(
            where_rows(tf.reshape(position >= 0, [-1]), flat, PADDING), tf.shape(array)
        )

    moves = reverse(actions, n_moves - 1)
    is_stop = tf.range(actions.shape[1]) == n_moves
    return Trajectories(
        reverse(states, n_moves),
        tf.where(is_stop, env.stop_action, moves),
        terminal,
        None,
    )
