"""A test of any environment against the contract of `Environment`, a learner's own included."""

import json
import warnings
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils.environments.base import Environment, position_or_none, same_rows
from gfn_utils.environments.graph import blocks, layers_of
from gfn_utils.environments.probes import (
    ContractError,
    ask,
    ask_in_blocks,
    check_compiled,
    check_encodings,
    check_one_by_one,
    in_short,
    require,
    require_form,
)
from gfn_utils.validation import shown

LARGEST_EXHAUSTIVE = 100_000
"""Of more states than this only some are checked."""
N_WALKS = 512
MOST_STATES = 20_000
"""Of the states that walks pass, so many are checked at most."""
MOST_MASK_ENTRIES = 100_000_000
"""Of the moves from these states, as many are checked as need so many entries of masks."""
LOG_OF_LARGEST_FLOAT = 709.0
MOST_PYTHON_REWARDS = 256
"""Of a reward in Python, so many are asked for: it may be slow."""


class Checked(NamedTuple):
    """How much of an environment `check_environment` has looked at and found right."""

    n_states: int
    n_moves: int
    """Moves from one of these states to another, each forward and back."""
    of_states: int | None
    """How many states there are, where they can be listed."""

    def __repr__(self):
        if self.n_states == self.of_states:
            return f"the contract is kept: all {self.n_states:,} states, {self.n_moves:,} moves"
        known = f" of {self.of_states:,}" if self.of_states else ""
        return (
            f"the contract is kept as far as it was tried: {self.n_states:,}{known} states "
            f"that walks passed, {self.n_moves:,} moves"
        )

    __str__ = __repr__


def check_environment(env: Environment) -> Checked:
    """Verify the whole contract of `Environment`, or raise ContractError naming the state.

    Checked on every listed state: shapes and types; the initial state has no parents and every
    other state has some; masks agree with `step`; `back_step` undoes `step` and the reverse;
    `index` inverts `states`; every listed state is reachable and no path returns; no trajectory is
    longer than `max_trajectory_length`; rewards are positive and finite; some state can stop. On
    some of them: an answer depends neither on the rest of the batch nor on chance; all methods
    compile, for any number of states.

    Where states cannot be listed (or are more than 100,000) this is checked on those that random
    walks pass, walks that prefer one action after another, and walks back from there, and on their
    neighbours. The result says how many that were.

    Warns of two states with the same encoding, which the network cannot tell apart, and of a
    log-reward that looks like a reward. A reward in Python, which may be slow, is asked for 256
    states and for some of them again, and is not compiled.
    """
    check_attributes(env)
    _check_settings(env)
    _check_initial_state(env)
    listed = env.n_states is not None and env.n_states <= LARGEST_EXHAUSTIVE
    if listed:
        states = _check_listing(env)
        seen = _check_states(env, states, listed=True)
        _check_order(env, states, seen.children)
    else:
        states = _walks(env, _checked_origins(env), "forward_mask", "step")
        states = _with_neighbours(env, states)
        seen = _check_states(env, states, listed=False)
        states, seen = _check_behind(env, states, seen)
    _warn_of_rewards(seen.log_reward)
    check_encodings(env, states)
    some = states[np.unique(np.linspace(0, len(states) - 1, 64).astype(int))]
    check_one_by_one(env, some)
    check_compiled(env, some, listed)
    return Checked(len(states), seen.n_moves, env.n_states)


def check_attributes(env: Environment) -> None:
    """Raise TypeError unless `env` is an Environment, ContractError unless its sizes are plain ints
    and it has a hash. Calls none of its methods.
    """
    if not isinstance(env, Environment):
        raise TypeError(f"env must be an Environment, got {shown(env)}")
    for name, least in (("n_actions", 2), ("max_trajectory_length", 1), ("n_states", 1)):
        size = getattr(env, name, "nothing")
        if not (_is_size(size, least) or (name == "n_states" and size is None)):
            raise ContractError(
                f"{name} of {type(env).__name__} must be an int of at least {least}, "
                f"got {shown(size)}"
            )
    shape = getattr(env, "state_shape", "nothing")
    if not isinstance(shape, tuple) or not all(_is_size(size, 1) for size in shape):
        raise ContractError(
            f"state_shape of {type(env).__name__} must be a tuple of ints of at least 1, "
            f"such as (3,), got {shown(shape)}"
        )
    for name in ("python_reward", "cache_rewards"):
        if type(getattr(env, name)) is not bool:
            raise ContractError(
                f"{name} of {type(env).__name__} must be True or False, "
                f"got {shown(getattr(env, name))}"
            )
    try:
        hash(env)
    except TypeError as error:
        raise ContractError(
            f"{type(env).__name__} must have a hash, by which compiled programs are kept: "
            f"as a dataclass it must be frozen and hold tuples, not lists ({error})"
        ) from error


def _is_size(value, least):
    return type(value) is int and value >= least  # True, 3.0 and NumPy's integers are none


def _check_settings(env):
    wrong = None
    try:
        one, again = (json.loads(json.dumps(env.settings())) for _ in range(2))
        if not isinstance(one, dict) or one != again:
            wrong = f"got {shown(one)}, and again {shown(again)}"
    except Exception as error:
        wrong = in_short(error)
    if wrong:
        raise ContractError(
            f"settings of {type(env).__name__} must be a dict that JSON can hold, the same each "
            f"time, or no agent of it could be saved and loaded: {wrong}"
        )


def _check_initial_state(env):
    initial = ask(env, "initial_states", 2)
    require_form("initial_states(2)", initial, np.int32, (2, *env.state_shape))
    if (initial[0] != initial[1]).any():
        raise ContractError(f"initial_states must all be the same state, got {initial.tolist()}")
    parents = ask(env, "backward_mask", initial)
    require_form("backward_mask", parents, bool, (2, env.n_actions - 1))
    origin, number = f"the initial state {initial[0].tolist()}", np.arange(env.n_actions - 1)
    sentence = f"backward_mask allows action {{}} in {origin}, which must have no parents"
    require(~parents.any(axis=0), sentence, number)


def _checked_origins(env):
    """Where N_WALKS walks begin: states without parents, whatever their conditions."""
    origins = np.asarray(env.origins(N_WALKS, tf.constant([0, 0], tf.int64)))
    require_form(f"origins({N_WALKS}, seed)", origins, np.int32, (N_WALKS, *env.state_shape))
    require(env.is_origin(origins), "is_origin denies {}, which origins gave", origins)
    parents = ask(env, "backward_mask", origins).any(axis=1)
    require(~parents, "backward_mask allows an action in the origin {}", origins)
    return origins


def _check_listing(env):
    states, number = ask(env, "states"), np.arange(env.n_states)
    require_form("states()", states, np.int32, (env.n_states, *env.state_shape))
    _require_no_padding(states)
    index = ask(env, "index", states)
    require_form("index", index, np.int32, (env.n_states,))
    sentence = "index must invert states(): state {} is listed at {}, but index gives {}"
    require(index == number, sentence, states, number, index)
    initial = ask(env, "initial_states", 1)
    place = int(position_or_none(env, initial)[0])
    if not 0 <= place < env.n_states or (states[place] != initial[0]).any():
        raise ContractError(f"the initial state {initial[0].tolist()} is not listed")
    inside = ask(env, "contains", states)
    require_form("contains", inside, bool, (env.n_states,))
    require(inside, "contains denies state {}", states)
    return states


def _walks(env, states, mask, step):
    """The states that walks pass until no move is left, each once.

    Every second walk is random. The others keep to an order of preference each, led by one action
    after another, so that together they come to the corners.
    """
    rng, n_moves = np.random.default_rng(0), env.n_actions - 1
    number = np.arange(len(states))
    preference = rng.random([len(states), n_moves])
    preference[number, number // 2 % n_moves] = 2
    seen = [states]
    for length in range(1, env.max_trajectory_length + 1):
        allowed = ask_in_blocks(env, mask, states, bool, [n_moves + (mask == "forward_mask")])
        allowed = allowed[:, :n_moves]
        going = allowed.any(axis=1)
        if not going.any():
            break
        if length == env.max_trajectory_length:
            left = "moves" if mask == "forward_mask" else "moves back"
            after = f"after one action less there are still {left} in state {{}}"
            require(~going, f"max_trajectory_length is {length}, but {after}", states)
        liking = rng.random(preference.shape)
        liking[::2] = preference[::2]
        action = np.where(going, np.where(allowed, liking, -1).argmax(axis=1), -1)
        states = ask(env, step, states, action.astype(np.int32))
        require_form(step, states, np.int32, (len(number), *env.state_shape))
        seen.append(states)
    found = np.unique(np.concatenate([states, *seen]), axis=0)
    chosen = rng.permutation(len(found))[:MOST_STATES]
    return found[np.sort(chosen)]


def _with_neighbours(env, states):
    """The states and, as long as there is room, those that are next to them."""
    while (room := MOST_STATES - len(states)) > 0:
        allowed = ask_in_blocks(env, "forward_mask", states, bool, [env.n_actions])
        rows, actions = _some_moves(allowed[:, : env.stop_action], room)
        children = ask(env, "step", states[rows], actions)
        require_form("step", children, np.int32, states[rows].shape)
        more = np.unique(np.concatenate([states, children]), axis=0)
        if len(more) == len(states):
            break
        states = more
    return states


def _some_moves(allowed, most):
    """Row and action of the allowed moves, or of about `most` of them at random."""
    share = most / max(1, np.count_nonzero(allowed))
    if share < 1:
        allowed = allowed & (np.random.default_rng(2).random(allowed.shape, np.float32) < share)
    rows, actions = np.nonzero(allowed)
    return rows, actions.astype(np.int32)


class _Seen(NamedTuple):
    log_reward: np.ndarray
    """log R of the states in which stop is allowed."""
    n_moves: int
    children: np.ndarray | None
    """Where each move leads, if these are all states, `[n_states, n_actions − 1]`; −1: none."""


def _check_behind(env, states, seen):
    """Check what lies behind those states in which stop is allowed, and return all together."""
    can_stop = ask_in_blocks(env, "forward_mask", states, bool, [env.n_actions])[:, -1]
    ends = np.random.default_rng(1).permutation(np.flatnonzero(can_stop))[:N_WALKS]
    behind = _walks(env, states[ends], "backward_mask", "back_step")
    known = {state.tobytes() for state in states}
    new = [state for state in behind if state.tobytes() not in known]
    if not new:
        return states, seen
    more = _check_states(env, np.array(new), listed=False)
    log_reward = np.concatenate([seen.log_reward, more.log_reward])
    return np.concatenate([states, new]), _Seen(log_reward, seen.n_moves + more.n_moves, None)


def _check_states(env, states, listed):
    """Check masks, rewards and moves of the states."""
    _require_no_padding(states)
    forward = ask_in_blocks(env, "forward_mask", states, bool, [env.n_actions])
    backward = ask_in_blocks(env, "backward_mask", states, bool, [env.n_actions - 1])
    log_reward = _check_rewards(env, states[forward[:, env.stop_action]])
    require(forward.any(axis=1), "forward_mask allows no action in state {}", states)
    known = (forward, backward) if listed else (None, None)
    n_moves, children = _check_moves(
        env, states, forward[:, : env.stop_action], "step", "back_step", "backward_mask", known[1]
    )
    _check_that_stays(env, states[forward[:, env.stop_action]], "step", env.stop_action, "stop")
    for step in ("step", "back_step"):
        _check_that_stays(env, states, step, -1, "padding")
    is_initial = np.asarray(env.is_origin(states))
    sentence = "backward_mask allows no action in state {}: only the initial state has no parents"
    require(backward.any(axis=1) | is_initial, sentence, states)
    _check_moves(env, states, backward, "back_step", "step", "forward_mask", known[0])
    return _Seen(log_reward, n_moves, children)


def _check_moves(env, states, allowed, step, undo, undo_mask, known_mask):
    """Check that the allowed moves lead to states from which they can be undone.

    `known_mask` is what `undo_mask` says of all states, where these are all that there are: then
    the places are found too to which the moves lead, `[n_states, n_actions − 1]`, −1 for none.
    """
    did = "did" if step == "step" else "undid"
    places = np.full(allowed.shape, -1, np.int32) if known_mask is not None else None
    most = MOST_MASK_ENTRIES // env.n_actions if known_mask is None else allowed.size
    rows, actions = _some_moves(allowed, most)
    by_action = np.argsort(actions, kind="stable")
    rows, actions = rows[by_action], actions[by_action]
    for block in blocks(len(rows), env):
        action, source = actions[block], states[rows[block]]
        found = ask(env, step, source, action)
        require_form(step, found, np.int32, source.shape)
        if known_mask is None:
            inside = ask(env, "contains", found)
            require_form("contains", inside, bool, (len(found),))
            can_undo = ask(env, undo_mask, found)[np.arange(len(found)), action]
        else:
            place = position_or_none(env, found)
            inside = (place >= 0) & (place < len(states))
            place = np.where(inside, place, 0)
            inside &= same_rows(states[place], found)
            can_undo = known_mask[place, action]
            places[rows[block], action] = place
        sentence = "action {} in state {} leads to {}, which is not listed"
        require(inside, sentence, action, source, found)
        rule = f"{undo_mask} must allow what {step} {did}"
        _require_same(can_undo, np.ones_like(can_undo), source, action, rule)
        if env.n_condition_features:
            told, after = (np.asarray(env.encode_condition(s)) for s in (source, found))
            _require_same(after, told, source, action, f"{step} must leave the condition")
        back = ask(env, undo, found, action)
        require_form(undo, back, np.int32, source.shape)
        _require_same(back, source, source, action, f"{undo} must undo {step}")
    return len(rows), places


def _check_that_stays(env, states, step, action, what):
    for block in blocks(len(states), env):
        source = states[block]
        actions = np.full(len(source), action, np.int32)
        moved = ask(env, step, source, actions)
        require_form(step, moved, np.int32, source.shape)
        _require_same(moved, source, source, actions, f"{step} with {what} must leave the state")


def _check_order(env, states, children):
    """Every state can be reached, no path returns, and none is longer than it may be."""
    reached = np.zeros(len(states), bool)
    frontier = ask(env, "index", ask(env, "initial_states", 1))
    while len(frontier):
        reached[frontier] = True
        following = np.unique(children[frontier])
        frontier = following[(following >= 0) & ~reached[following]]
    by_which = "from the initial state by the actions that forward_mask allows"
    require(reached, f"state {{}} is listed but not reachable {by_which}", states)
    layers = layers_of(children)
    in_order = np.zeros(len(states), bool)
    in_order[np.concatenate([[], *layers]).astype(int)] = True
    require(in_order, "the graph has a cycle: state {} lies on it or behind it", states)
    if len(layers) > env.max_trajectory_length:
        depth = env.max_trajectory_length
        raise ContractError(
            f"max_trajectory_length is {depth}, but state {states[layers[depth][0]].tolist()} is "
            f"reached after {depth} actions, so a trajectory that stops there is longer"
        )


def _check_rewards(env, states):
    """log R of states in which stop is allowed."""
    if len(states) == 0:
        return np.zeros(0)
    if env.python_reward:
        states = states[:: -(-len(states) // MOST_PYTHON_REWARDS)]
    log_reward = ask_in_blocks(env, "log_reward", states, np.float64, [])
    sentence = "log_reward must be finite (the reward positive) wherever stop is allowed"
    require(np.isfinite(log_reward), f"{sentence}, got {{}} in state {{}}", log_reward, states)
    return log_reward


def _warn_of_rewards(log_reward):
    lowest, highest = log_reward.min(), log_reward.max()
    if lowest >= 0 and highest > LOG_OF_LARGEST_FLOAT:
        warnings.warn(
            f"log_reward goes from {lowest:g} to {highest:g} nats, beyond the logarithm of any "
            "float: is it the reward itself, and not its logarithm?",
            stacklevel=3,
        )


def _require_no_padding(states):
    sentence = "states must have entries of at least 0 (−1 is padding): {}"
    require(same_rows(states, np.abs(states)), sentence, states)


def _require_same(found, expected, sources, actions, rule):
    sentence = f"{rule}: action {{}} in state {{}} gave {{}}, expected {{}}"
    require(same_rows(found, expected), sentence, actions, sources, found, expected)
