"""A test of any environment against the contract of `Environment`, a learner's own included."""

import json
import warnings
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils.environments.base import Environment, position_or_none, same_rows
from gfn_utils.environments.graph import blocks, layers_of
from gfn_utils.validation import shown

LARGEST_EXHAUSTIVE = 100_000
"""Of more states than this only some are checked."""
N_WALKS = 512
MOST_STATES = 20_000
"""Of the states that walks pass, so many are checked at most."""
MOST_MASK_ENTRIES = 100_000_000
"""Of the moves from these states, as many are checked as need so many entries of masks."""
LOG_OF_LARGEST_FLOAT = 709.0


class ContractError(ValueError):
    """An environment breaks its contract; the message names the state and the action."""


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
    log-reward that looks like a reward.
    """
    check_attributes(env)
    _check_settings(env)
    _check_initial_state(env)
    if env.n_states is not None and env.n_states <= LARGEST_EXHAUSTIVE:
        states = _check_listing(env)
        seen = _check_states(env, states, listed=True)
        _check_order(env, states, seen.children)
    else:
        states = _walks(env, _ask(env, "initial_states", N_WALKS), "forward_mask", "step")
        states = _with_neighbours(env, states)
        seen = _check_states(env, states, listed=False)
        states, seen = _check_behind(env, states, seen)
    _warn_of_rewards(seen.log_reward)
    _check_encodings(env, states)
    some = states[np.unique(np.linspace(0, len(states) - 1, 64).astype(int))]
    _check_one_by_one(env, some)
    _check_compiled(env, some)
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
        wrong = _in_short(error)
    if wrong:
        raise ContractError(
            f"settings of {type(env).__name__} must be a dict that JSON can hold, the same each "
            f"time, or no agent of it could be saved and loaded: {wrong}"
        )


def _ask(env, method, *arguments):
    """What a method answers, as an array; ContractError if that is none, or it raises something."""
    tensors = [tf.constant(a) if isinstance(a, np.ndarray) else a for a in arguments]
    try:
        answer = getattr(env, method)(*tensors)
        array = np.asarray(answer)
    except Exception as error:
        raise ContractError(f"{method} raised {_in_short(error)}") from error
    if array.dtype == object:
        raise ContractError(f"{method} must give a tensor, got {shown(answer)}")
    return array


def _ask_in_blocks(env, method, states, dtype, shape):
    """What a method answers for each of many states, which must be of the type and shape."""
    answers = [_ask(env, method, states[block]) for block in blocks(len(states), env)]
    answer = np.concatenate(answers) if all(a.ndim for a in answers) else answers[0]
    _require_form(method, answer, dtype, (len(states), *shape))
    return answer


def _check_initial_state(env):
    initial = _ask(env, "initial_states", 2)
    _require_form("initial_states(2)", initial, np.int32, (2, *env.state_shape))
    if (initial[0] != initial[1]).any():
        raise ContractError(f"initial_states must all be the same state, got {initial.tolist()}")
    parents = _ask(env, "backward_mask", initial)
    _require_form("backward_mask", parents, bool, (2, env.n_actions - 1))
    if parents.any():
        action = int(np.argmax(parents[0]))
        raise ContractError(
            f"backward_mask allows action {action} in the initial state {initial[0].tolist()}, "
            "which must have no parents"
        )


def _check_listing(env):
    states = _ask(env, "states")
    _require_form("states()", states, np.int32, (env.n_states, *env.state_shape))
    _require_no_padding(states)
    index = _ask(env, "index", states)
    _require_form("index", index, np.int32, (env.n_states,))
    wrong = index != np.arange(env.n_states)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ContractError(
            f"index must invert states(): state {states[row].tolist()} is listed at {row}, "
            f"but index gives {index[row]}"
        )
    initial = _ask(env, "initial_states", 1)
    place = int(position_or_none(env, initial)[0])
    if not 0 <= place < env.n_states or (states[place] != initial[0]).any():
        raise ContractError(f"the initial state {initial[0].tolist()} is not listed")
    inside = _ask(env, "contains", states)
    _require_form("contains", inside, bool, (env.n_states,))
    if not inside.all():
        raise ContractError(f"contains denies state {states[int(np.argmin(inside))].tolist()}")
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
        allowed = _ask_in_blocks(env, mask, states, bool, [n_moves + (mask == "forward_mask")])
        allowed = allowed[:, :n_moves]
        going = allowed.any(axis=1)
        if not going.any():
            break
        if length == env.max_trajectory_length:
            left = "moves" if mask == "forward_mask" else "moves back"
            raise ContractError(
                f"max_trajectory_length is {length}, but after one action less there are still "
                f"{left} in state {states[int(np.argmax(going))].tolist()}"
            )
        liking = rng.random(preference.shape)
        liking[::2] = preference[::2]
        action = np.where(going, np.where(allowed, liking, -1).argmax(axis=1), -1)
        states = _ask(env, step, states, action.astype(np.int32))
        _require_form(step, states, np.int32, (len(number), *env.state_shape))
        seen.append(states)
    found = np.unique(np.concatenate([states, *seen]), axis=0)
    chosen = rng.permutation(len(found))[:MOST_STATES]
    return found[np.sort(chosen)]


def _with_neighbours(env, states):
    """The states and, as long as there is room, those that are next to them."""
    while (room := MOST_STATES - len(states)) > 0:
        allowed = _ask_in_blocks(env, "forward_mask", states, bool, [env.n_actions])
        rows, actions = _some_moves(allowed[:, : env.stop_action], room)
        children = _ask(env, "step", states[rows], actions)
        _require_form("step", children, np.int32, states[rows].shape)
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
    can_stop = _ask_in_blocks(env, "forward_mask", states, bool, [env.n_actions])[:, -1]
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
    forward = _ask_in_blocks(env, "forward_mask", states, bool, [env.n_actions])
    backward = _ask_in_blocks(env, "backward_mask", states, bool, [env.n_actions - 1])
    log_reward = _check_rewards(env, states[forward[:, env.stop_action]])
    if not forward.any(axis=1).all():
        row = int(np.argmin(forward.any(axis=1)))
        raise ContractError(f"forward_mask allows no action in state {states[row].tolist()}")
    known = (forward, backward) if listed else (None, None)
    n_moves, children = _check_moves(
        env, states, forward[:, : env.stop_action], "step", "back_step", "backward_mask", known[1]
    )
    _check_that_stays(env, states[forward[:, env.stop_action]], "step", env.stop_action, "stop")
    for step in ("step", "back_step"):
        _check_that_stays(env, states, step, -1, "padding")
    is_initial = same_rows(states, _ask(env, "initial_states", 1))
    orphan = ~backward.any(axis=1) & ~is_initial
    if orphan.any():
        raise ContractError(
            f"backward_mask allows no action in state {states[int(np.argmax(orphan))].tolist()}: "
            "only the initial state has no parents"
        )
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
        found = _ask(env, step, source, action)
        _require_form(step, found, np.int32, source.shape)
        if known_mask is None:
            inside = _ask(env, "contains", found)
            _require_form("contains", inside, bool, (len(found),))
            can_undo = _ask(env, undo_mask, found)[np.arange(len(found)), action]
        else:
            place = position_or_none(env, found)
            inside = (place >= 0) & (place < len(states))
            place = np.where(inside, place, 0)
            inside &= same_rows(states[place], found)
            can_undo = known_mask[place, action]
            places[rows[block], action] = place
        if not inside.all():
            row = int(np.argmin(inside))
            raise ContractError(
                f"action {action[row]} in state {source[row].tolist()} leads to "
                f"{found[row].tolist()}, which is not listed"
            )
        rule = f"{undo_mask} must allow what {step} {did}"
        _require_same(can_undo, np.ones_like(can_undo), source, action, rule)
        back = _ask(env, undo, found, action)
        _require_form(undo, back, np.int32, source.shape)
        _require_same(back, source, source, action, f"{undo} must undo {step}")
    return len(rows), places


def _check_that_stays(env, states, step, action, what):
    for block in blocks(len(states), env):
        source = states[block]
        actions = np.full(len(source), action, np.int32)
        moved = _ask(env, step, source, actions)
        _require_form(step, moved, np.int32, source.shape)
        _require_same(moved, source, source, actions, f"{step} with {what} must leave the state")


def _check_order(env, states, children):
    """Every state can be reached, no path returns, and none is longer than it may be."""
    reached = np.zeros(len(states), bool)
    frontier = _ask(env, "index", _ask(env, "initial_states", 1))
    while len(frontier):
        reached[frontier] = True
        following = np.unique(children[frontier])
        frontier = following[(following >= 0) & ~reached[following]]
    if not reached.all():
        raise ContractError(
            f"state {states[int(np.argmin(reached))].tolist()} is listed but not reachable from "
            "the initial state by the actions that forward_mask allows"
        )
    layers = layers_of(children)
    in_order = np.zeros(len(states), bool)
    in_order[np.concatenate([[], *layers]).astype(int)] = True
    if not in_order.all():
        raise ContractError(
            f"the graph has a cycle: state {states[int(np.argmin(in_order))].tolist()} lies on it "
            "or behind it"
        )
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
    log_reward = _ask_in_blocks(env, "log_reward", states, np.float64, [])
    finite = np.isfinite(log_reward)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ContractError(
            "log_reward must be finite (the reward positive) wherever stop is allowed, got "
            f"{log_reward[row]} in state {states[row].tolist()}"
        )
    return log_reward


def _warn_of_rewards(log_reward):
    lowest, highest = log_reward.min(), log_reward.max()
    if lowest >= 0 and highest > LOG_OF_LARGEST_FLOAT:
        warnings.warn(
            f"log_reward goes from {lowest:g} to {highest:g} nats, beyond the logarithm of any "
            "float: is it the reward itself, and not its logarithm?",
            stacklevel=3,
        )


def _check_encodings(env, states):
    n_features, row_of = None, {}
    for block in blocks(len(states), env):
        some = states[block]
        features = _ask(env, "encode", some)
        form = (len(some), *features.shape[1:2]) if n_features is None else (len(some), n_features)
        if features.ndim != 2 or features.shape != form or not _all_finite(features):
            raise ContractError(
                "encode must give finite features [B, n_features], "
                f"got {features.dtype} {list(features.shape)} for B = {len(some)}"
            )
        n_features = features.shape[1]
        _check_hot_features(env, some, features)
        for row, feature in enumerate(features + 0, start=block.start):  # −0 becomes 0
            row_of.setdefault(hash(feature.tobytes()), row)
    if len(row_of) < len(states):
        _warn_of_equal_encodings(env, states, set(row_of.values()))


def _warn_of_equal_encodings(env, states, first_rows):
    row = next(row for row in range(len(states)) if row not in first_rows)
    features = _ask(env, "encode", states[row : row + 1])
    for block in blocks(row, env):
        same = (_ask(env, "encode", states[:row][block]) == features).all(axis=1)
        if same.any():
            other = states[block.start + int(np.argmax(same))]
            warnings.warn(
                f"encode gives states {other.tolist()} and {states[row].tolist()} the same "
                "features: the network cannot tell them apart",
                stacklevel=4,
            )
            return


def _check_hot_features(env, states, features):
    if not _has_hot_features(env, states):
        return
    hot = _ask(env, "hot_features", states)
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


def _has_hot_features(env, states):
    try:
        return env.hot_features(tf.constant(states)) is not None
    except Exception:
        return True  # the next to ask for them says what is wrong


def _questions(env, states):
    """Every method that compiled programs call, with arguments for it."""
    forward = _ask(env, "forward_mask", states)
    backward = _ask(env, "backward_mask", states)
    action = forward.argmax(axis=1).astype(np.int32)
    came_by = np.where(backward.any(axis=1), backward.argmax(axis=1), -1).astype(np.int32)
    of_states = ("forward_mask", "backward_mask", "encode", "log_reward")
    questions = dict.fromkeys(of_states, (states,))
    questions |= {"step": (states, action), "back_step": (states, came_by)}
    if env.n_states is not None:
        questions["index"] = (states,)
    if _has_hot_features(env, states):
        questions["hot_features"] = (states,)
    return questions


def _check_one_by_one(env, states):
    """What is said of a state is the same again, in another order, and without the others."""
    order = np.random.default_rng(0).permutation(len(states))
    for method, arguments in _questions(env, states).items():
        in_batch = _ask(env, method, *arguments)
        again = _ask(env, method, *arguments)
        shuffled = _ask(env, method, *(argument[order] for argument in arguments))
        _require_equal(method, states, in_batch, again, "asked twice", "chance")
        other = "the other states of the batch"
        in_order = states[order], in_batch[order], shuffled
        _require_equal(method, *in_order, "in another order", other)
        for row in range(0, len(states), max(1, len(states) // 8)):
            one = slice(row, row + 1)
            alone = _ask(env, method, *(argument[one] for argument in arguments))
            if alone.shape != in_batch[one].shape:
                raise ContractError(
                    f"{method} must answer for a single state as for many: expected shape "
                    f"{list(in_batch[one].shape)} for B = 1, got {list(alone.shape)}"
                )
            _require_equal(method, states[one], in_batch[one], alone, "alone", other)


def _require_equal(method, states, usual, found, when, on):
    same = np.isclose(usual, found, rtol=1e-5, atol=1e-4, equal_nan=True)
    if usual.shape != found.shape or not same.all():
        row = int(np.argmin(same.reshape(len(states), -1).all(axis=1)))
        raise ContractError(
            f"{method} must not depend on {on}: of state {states[row].tolist()} it says "
            f"{shown(usual[row].tolist())}, and {shown(found[row].tolist())} {when}"
        )


def _check_compiled(env, states):
    """All methods compile and say the same then: as in the samplers, which are traced for any
    number of states, and as in training, which XLA compiles for one number."""
    questions = _questions(env, states)
    usual = {method: _ask(env, method, *arguments) for method, arguments in questions.items()}
    usual |= {"initial_states": _ask(env, "initial_states", 3)}
    usual |= {"a loop of steps": _loop_of_steps(env, 3).numpy()}
    if env.n_states is not None and env.n_states <= LARGEST_EXHAUSTIVE:
        usual["states"] = _ask(env, "states")
    for jit_compile in (False, True):
        programs = _programs(env, questions, jit_compile)
        if "states" in usual:
            programs["states"] = env.states, [], []
        try:
            found = _compile_and_call(programs, jit_compile)
        except Exception:  # which of them was it?
            for name, program in programs.items():
                try:
                    _compile_and_call({name: program}, jit_compile)
                except Exception as error:
                    raise ContractError(
                        f"{name} must be made of TensorFlow operations that compile under XLA, "
                        "for any number of states (`tf.shape(states)[0]`, not `states.shape[0]`; "
                        f"a batch_size may be a tensor): {_in_short(error)}"
                    ) from error
            raise
        for name, answer in found.items():
            about = states if name in questions else usual[name]
            _require_equal(name, about, usual[name], answer, "compiled", "whether it is compiled")


def _programs(env, questions, jit_compile):
    """(function, forms of its arguments, arguments) by name."""
    programs = {}
    for method, arguments in questions.items():
        length = len(arguments[0]) if jit_compile else None
        forms = [tf.TensorSpec([length, *each.shape[1:]], tf.int32) for each in arguments]
        programs[method] = getattr(env, method), forms, [tf.constant(each) for each in arguments]
    if jit_compile:
        programs["initial_states"] = lambda: env.initial_states(3), [], []
        programs["a loop of steps"] = lambda: _loop_of_steps(env, 3), [], []
    else:
        number = [tf.TensorSpec([], tf.int32)], [tf.constant(3)]
        programs["initial_states"] = env.initial_states, *number
        programs["a loop of steps"] = lambda n: _loop_of_steps(env, n), *number
    return programs


def _loop_of_steps(env, batch_size):
    def step(t, states):
        mask = tf.cast(env.forward_mask(states), tf.int32)
        return t + 1, env.step(states, tf.argmax(mask, axis=1, output_type=tf.int32))

    return tf.while_loop(lambda t, _: t < 3, step, (0, env.initial_states(batch_size)))[1]


def _compile_and_call(programs, jit_compile):
    def all_at_once(*arguments):
        return {
            name: function(*each)
            for (name, (function, *_)), each in zip(programs.items(), arguments, strict=True)
        }

    forms, arguments = ([each[i] for each in programs.values()] for i in (1, 2))
    compiled = tf.function(all_at_once, jit_compile=jit_compile, autograph=False)
    # The other way to call it warns of every new environment as of one function compiled too often.
    answers = compiled.get_concrete_function(*forms)(*tf.nest.flatten(arguments))
    return {name: np.asarray(answer) for name, answer in answers.items()}


def _in_short(error):
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= 300 else text[:300] + ' …'}"


def _all_finite(features):
    return features.dtype.kind in "biuf" and np.isfinite(features).all()


def _require_form(name, array, dtype, shape):
    if array.dtype != dtype or array.shape != tuple(shape):
        raise ContractError(
            f"{name} must be {np.dtype(dtype).name} {list(shape)}, "
            f"got {array.dtype.name} {list(array.shape)}"
        )


def _require_no_padding(states):
    bad = ~same_rows(states, np.abs(states))
    if bad.any():
        raise ContractError(
            "states must have entries of at least 0 (−1 is padding): "
            f"{states[int(np.argmax(bad))].tolist()}"
        )


def _require_same(found, expected, sources, actions, rule):
    same = same_rows(found, expected)
    if not same.all():
        row = int(np.argmin(same))
        raise ContractError(
            f"{rule}: action {actions[row]} in state {sources[row].tolist()} "
            f"gave {found[row].tolist()}, expected {expected[row].tolist()}"
        )
