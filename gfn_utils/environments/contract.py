"""A test of any environment against the contract of `Environment`, a learner's own included."""

import numpy as np
import tensorflow as tf

from gfn_utils.environments.base import Environment

LARGEST_EXHAUSTIVE = 100_000


class ContractError(ValueError):
    """An environment breaks its contract; the message names the state and the action."""


def check_environment(env: Environment) -> None:
    """Verify the whole contract of `Environment` on every listed state, or raise ContractError.

    Checked: shapes and types; the initial state has no parents and every other state has some;
    masks agree with `step`; `back_step` undoes `step` and the reverse; `index` inverts `states`;
    every listed state is reachable and no path returns; the longest trajectory has
    `max_trajectory_length` actions; rewards are positive and finite; some state can stop; all
    methods compile.

    Where states cannot be listed (or are more than 100,000) all this is checked on the states
    that 256 random trajectories pass.
    """
    if not isinstance(env, Environment):
        raise TypeError(f"env must be an Environment, got {env!r}")
    _check_hash(env)
    listed = env.n_states is not None and env.n_states <= LARGEST_EXHAUSTIVE
    _check_initial_state(env)
    states = _check_listing(env) if listed else _states_of_random_walks(env)
    _check_forms(env, states)
    _check_steps(env, states)
    _check_back_steps(env, states)
    if listed:
        _check_reachable(env, states)
    _check_compiles(env, states[:64])


def _check_hash(env):
    try:
        hash(env)
    except TypeError as error:
        raise ContractError(
            f"{type(env).__name__} must have a hash, by which compiled programs are kept: "
            f"as a dataclass it must be frozen and hold tuples, not lists ({error})"
        ) from error


def _check_compiles(env, states):
    actions = tf.fill([len(states)], -1)

    def everything(states):
        methods = env.forward_mask, env.backward_mask, env.encode, env.log_reward
        moved = env.step(states, actions), env.back_step(states, actions)
        return *(method(states) for method in methods), *moved

    try:
        tf.function(everything, jit_compile=True, autograph=False)(tf.constant(states))
    except Exception as error:
        raise ContractError(
            f"every method must be made of TensorFlow operations that compile under XLA: {error}"
        ) from error


def _check_initial_state(env):
    initial = np.asarray(env.initial_states(2))
    _require_form("initial_states(2)", initial, np.int32, (2, *env.state_shape))
    if (initial[0] != initial[1]).any():
        raise ContractError(f"initial_states must all be the same state, got {initial.tolist()}")
    if np.asarray(env.backward_mask(initial)).any():
        action = int(np.argmax(np.asarray(env.backward_mask(initial))[0]))
        raise ContractError(
            f"backward_mask allows action {action} in the initial state {initial[0].tolist()}, "
            "which must have no parents"
        )


def _check_listing(env):
    states = np.asarray(env.states())
    _require_form("states()", states, np.int32, (env.n_states, *env.state_shape))
    index = np.asarray(env.index(states))
    _require_form("index", index, np.int32, (env.n_states,))
    wrong = index != np.arange(env.n_states)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ContractError(
            f"index must invert states(): state {states[row].tolist()} is listed at {row}, "
            f"but index gives {index[row]}"
        )
    return states


def _check_forms(env, states):
    n = len(states)
    _require_form("forward_mask", np.asarray(env.forward_mask(states)), bool, (n, env.n_actions))
    _require_form(
        "backward_mask", np.asarray(env.backward_mask(states)), bool, (n, env.n_actions - 1)
    )
    features = np.asarray(env.encode(states))
    if features.ndim != 2 or len(features) != n or not np.isfinite(features).all():
        raise ContractError(
            f"encode must give finite features [B, n_features], got shape {features.shape}"
        )
    _check_hot_features(env, states, features)
    _require_form("log_reward", np.asarray(env.log_reward(states)), np.float64, (n,))
    if (states < 0).any():
        row = int(np.argmax((states < 0).reshape(n, -1).any(axis=1)))
        raise ContractError(
            f"states must have entries of at least 0 (−1 is padding): {states[row].tolist()}"
        )
    can_stop = np.asarray(env.forward_mask(states))[:, env.stop_action]
    if not can_stop.any():
        raise ContractError(
            f"forward_mask allows stop (action {env.stop_action}) in no state, e.g. not in "
            f"{states[-1].tolist()}: no trajectory could end"
        )
    bad = can_stop & ~np.isfinite(np.asarray(env.log_reward(states)))
    if bad.any():
        row = int(np.argmax(bad))
        raise ContractError(
            f"log_reward must be finite (the reward positive) wherever stop is allowed, got "
            f"{float(env.log_reward(states)[row])} in state {states[row].tolist()}"
        )


def _check_hot_features(env, states, features):
    hot = env.hot_features(states)
    if hot is None:
        return
    hot = np.asarray(hot)
    if hot.dtype != np.int32 or hot.ndim != 2 or len(hot) != len(states):
        raise ContractError(
            f"hot_features must be int32 [B, k], got {hot.dtype.name} {list(hot.shape)}"
        )
    counted = np.zeros_like(features)
    for column in hot.T:
        inside = (column >= 0) & (column < features.shape[1])
        counted[np.flatnonzero(inside), column[inside]] += 1
    same = (counted == features).all(axis=1)
    if not same.all():
        row = int(np.argmin(same))
        raise ContractError(
            "encode must be 1 at the hot features and 0 elsewhere, got "
            f"{features[row].tolist()} with hot {hot[row].tolist()} in state {states[row].tolist()}"
        )


def _check_steps(env, states):
    allowed = np.asarray(env.forward_mask(states))
    if not allowed.any(axis=1).all():
        row = int(np.argmin(allowed.any(axis=1)))
        raise ContractError(f"forward_mask allows no action in state {states[row].tolist()}")
    for action in range(env.n_actions):
        sources = states[allowed[:, action]]
        if len(sources) == 0:
            continue
        actions = tf.fill([len(sources)], action)
        children = np.asarray(env.step(sources, actions))
        _require_form(f"step with action {action}", children, np.int32, sources.shape)
        if action == env.stop_action:
            _require_same(children, sources, sources, action, "step with stop must leave the state")
            continue
        _require_listed(env, children, sources, action)
        back = np.asarray(env.backward_mask(children))[:, action]
        _require_same(
            back, np.ones_like(back), sources, action, "backward_mask must allow what step did"
        )
        _require_same(
            np.asarray(env.back_step(children, actions)),
            sources,
            sources,
            action,
            "back_step must undo step",
        )
    padding = tf.fill([len(states)], -1)
    for name, moved in (
        ("step", env.step(states, padding)),
        ("back_step", env.back_step(states, padding)),
    ):
        _require_same(
            np.asarray(moved), states, states, -1, f"{name} with padding must leave the state"
        )


def _check_back_steps(env, states):
    allowed = np.asarray(env.backward_mask(states))
    is_initial = (states == np.asarray(env.initial_states(1))).reshape(len(states), -1).all(axis=1)
    orphan = ~allowed.any(axis=1) & ~is_initial
    if orphan.any():
        raise ContractError(
            f"backward_mask allows no action in state {states[int(np.argmax(orphan))].tolist()}: "
            "only the initial state has no parents"
        )
    for action in range(env.n_actions - 1):
        sources = states[allowed[:, action]]
        if len(sources) == 0:
            continue
        actions = tf.fill([len(sources)], action)
        parents = np.asarray(env.back_step(sources, actions))
        _require_listed(env, parents, sources, action)
        forward = np.asarray(env.forward_mask(parents))[:, action]
        _require_same(
            forward,
            np.ones_like(forward),
            sources,
            action,
            "forward_mask must allow what back_step undid",
        )
        _require_same(
            np.asarray(env.step(parents, actions)),
            sources,
            sources,
            action,
            "step must undo back_step",
        )


def _check_reachable(env, states):
    """Walk the graph in layers; more layers than `max_trajectory_length` mean a cycle."""
    allowed = np.asarray(env.forward_mask(states))[:, : env.stop_action]
    frontier = np.asarray(env.index(env.initial_states(1)))
    reached = np.zeros(len(states), bool)
    depth = 0
    while len(frontier):
        if depth == env.max_trajectory_length:
            raise ContractError(
                f"max_trajectory_length is {env.max_trajectory_length}, but state "
                f"{states[frontier[0]].tolist()} is reached after {depth} actions, so a trajectory "
                "that stops there is longer; or the graph has a cycle through it"
            )
        reached[frontier] = True
        children = [
            np.asarray(env.index(env.step(states[rows], tf.fill([len(rows)], action))))
            for action in range(env.stop_action)
            if len(rows := frontier[allowed[frontier, action]])
        ]
        frontier = np.unique(np.concatenate(children)) if children else np.array([], int)
        depth += 1
    if not reached.all():
        raise ContractError(
            f"state {states[int(np.argmin(reached))].tolist()} is listed but not reachable from "
            "the initial state by the actions that forward_mask allows"
        )
    if depth < env.max_trajectory_length:
        raise ContractError(
            f"max_trajectory_length is {env.max_trajectory_length}, but the longest trajectory "
            f"has {depth} actions"
        )


def _states_of_random_walks(env, n_walks=256):
    rng = np.random.default_rng(0)
    states = np.asarray(env.initial_states(n_walks))
    seen = [states]
    for _ in range(env.max_trajectory_length - 1):
        moves = np.asarray(env.forward_mask(states))[:, : env.stop_action]
        score = np.where(moves, rng.random(moves.shape), -1.0)
        actions = np.where(moves.any(axis=1), score.argmax(axis=1), -1)
        states = np.asarray(env.step(states, tf.constant(actions, tf.int32)))
        seen.append(states)
    moves = np.asarray(env.forward_mask(states))[:, : env.stop_action].any(axis=1)
    if moves.any():
        raise ContractError(
            f"max_trajectory_length is {env.max_trajectory_length}, but after one action less "
            f"there are still moves in state {states[int(np.argmax(moves))].tolist()}"
        )
    return np.unique(np.concatenate(seen), axis=0)


def _require_form(name, array, dtype, shape):
    if array.dtype != dtype or array.shape != tuple(shape):
        raise ContractError(
            f"{name} must be {np.dtype(dtype).name} {list(shape)}, "
            f"got {array.dtype.name} {list(array.shape)}"
        )


def _require_listed(env, found, sources, action):
    inside = env.contains(found)
    if not inside.all():
        row = int(np.argmin(inside))
        raise ContractError(
            f"action {action} in state {sources[row].tolist()} leads to {found[row].tolist()}, "
            "which is not listed"
        )


def _require_same(found, expected, sources, action, rule):
    same = (found == expected).reshape(len(found), -1).all(axis=1)
    if not same.all():
        row = int(np.argmin(same))
        raise ContractError(
            f"{rule}: action {action} in state {sources[row].tolist()} "
            f"gave {found[row].tolist()}, expected {expected[row].tolist()}"
        )
