"""Questions to the single methods of an environment, and what their answers must be like."""

import warnings

import numpy as np
import tensorflow as tf

from gfn_utils.environments.base import same_rows
from gfn_utils.environments.graph import blocks
from gfn_utils.validation import in_short, shown


class ContractError(ValueError):
    """An environment breaks its contract; the message names the state and the action."""


def ask(env, method, *arguments):
    """What a method answers, as an array; ContractError if that is none, or it raises something."""
    in_python = method == "log_reward" and env.python_reward
    arguments = [
        np.copy(a) if in_python else tf.constant(a) if isinstance(a, np.ndarray) else a
        for a in arguments
    ]
    try:
        answer = getattr(env, method)(*arguments)
        array = np.asarray(answer)
    except Exception as error:
        raise ContractError(f"{method} raised {in_short(error)}") from error
    if array.dtype == object:
        raise ContractError(f"{method} must give a tensor, got {shown(answer)}")
    return array.astype(np.float64) if in_python and array.dtype.kind in "iuf" else array


def ask_in_blocks(env, method, states, dtype, shape):
    """What a method answers for each of many states, which must be of the type and shape."""
    answers = [ask(env, method, states[block]) for block in blocks(len(states), env)]
    answer = np.concatenate(answers) if all(a.ndim for a in answers) else answers[0]
    require_form(method, answer, dtype, (len(states), *shape))
    return answer


def require(holds, sentence, *columns):
    """Raise ContractError unless every row holds: the sentence, with the first other's entries."""
    if not holds.all():
        row = int(np.argmin(holds))
        raise ContractError(sentence.format(*(column[row].tolist() for column in columns)))


def require_form(name, array, dtype, shape):
    if array.dtype != dtype or array.shape != tuple(shape):
        raise ContractError(
            f"{name} must be {np.dtype(dtype).name} {list(shape)}, "
            f"got {array.dtype.name} {list(array.shape)}"
        )


def check_encodings(env, states):
    """Features are finite, of one shape, those that `hot_features` says; warn of equal ones."""
    form, row_of = None, {}
    for block in blocks(len(states), env):
        some = states[block]
        features = ask(env, "encode", some)
        form = features.shape[1:] if form is None else form
        if features.ndim < 2 or features.shape != (len(some), *form) or not _all_finite(features):
            raise ContractError(
                "encode must give finite features [B, ...], "
                f"got {features.dtype} {list(features.shape)} for B = {len(some)}"
            )
        _check_hot_features(env, some, features)
        for row, feature in enumerate(features + 0, start=block.start):  # −0 becomes 0
            row_of.setdefault(hash(feature.tobytes()), row)
    if len(row_of) < len(states):
        _warn_of_equal_encodings(env, states, set(row_of.values()))


def _warn_of_equal_encodings(env, states, first_rows):
    row = next(row for row in range(len(states)) if row not in first_rows)
    features = ask(env, "encode", states[row : row + 1])
    for block in blocks(row, env):
        same = same_rows(ask(env, "encode", states[:row][block]), features)
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
    hot = ask(env, "hot_features", states)
    if hot.dtype != np.int32 or hot.ndim != 2 or len(hot) != len(states):
        raise ContractError(
            f"hot_features must be int32 [B, k], got {hot.dtype.name} {list(hot.shape)}"
        )
    features = features.reshape(len(states), -1)
    counted = np.zeros_like(features)
    for column in hot.T:
        inside = (column >= 0) & (column < features.shape[1])
        counted[np.flatnonzero(inside), column[inside]] += 1
    rule = "encode must be 1 at the hot features and 0 elsewhere"
    same = (counted == features).all(axis=1)
    require(same, f"{rule}, got {{}} with hot {{}} in state {{}}", features, hot, states)


def _has_hot_features(env, states):
    try:
        return env.hot_features(tf.constant(states)) is not None
    except Exception:
        return True  # the next to ask for them says what is wrong


def _all_finite(features):
    return features.dtype.kind in "biuf" and np.isfinite(features).all()


def check_one_by_one(env, states):
    """What is said of a state is the same again, in another order, and without the others."""
    questions = _questions(env, states)
    if env.python_reward:
        can_stop = ask(env, "forward_mask", states)[:, env.stop_action]
        questions["log_reward"] = (states[can_stop],)
    for method, arguments in questions.items():
        _check_method_one_by_one(env, method, arguments)


def _check_method_one_by_one(env, method, arguments):
    states, others = arguments[0], "the other states of the batch"
    n = len(states)
    ways = [
        (np.arange(n), "asked twice", "chance"),
        (np.random.default_rng(0).permutation(n), "in another order", others),
        *((np.array([row]), "alone", others) for row in range(0, n, max(1, n // 8))),
    ]
    in_batch = ask(env, method, *arguments) if n else None
    for rows, when, on in ways if n else ():
        usual, found = in_batch[rows], ask(env, method, *(each[rows] for each in arguments))
        if when == "alone" and found.shape != usual.shape:
            raise ContractError(
                f"{method} must answer for a single state as for many: expected shape "
                f"{list(usual.shape)} for B = 1, got {list(found.shape)}"
            )
        _require_equal(method, states[rows], usual, found, when, on)


def _require_equal(method, states, usual, found, when, on):
    same = np.isclose(usual, found, rtol=1e-5, atol=1e-4, equal_nan=True)
    if usual.shape != found.shape or not same.all():
        row = int(np.argmin(same.reshape(len(states), -1).all(axis=1)))
        raise ContractError(
            f"{method} must not depend on {on}: of state {states[row].tolist()} it says "
            f"{shown(usual[row].tolist())}, and {shown(found[row].tolist())} {when}"
        )


def check_compiled(env, states, listed):
    """All methods compile and say the same then: as in the samplers, which are traced for any
    number of states, and as in training, which XLA compiles for one number."""
    questions = _questions(env, states)
    usual = {method: ask(env, method, *arguments) for method, arguments in questions.items()}
    usual["initial_states"] = ask(env, "initial_states", 3)
    usual["a loop of steps"] = _loop_of_steps(env, 3).numpy()
    if listed:
        usual["states"] = ask(env, "states")
    for jit_compile in (False, True):
        programs = _programs(env, questions, jit_compile)
        if listed:
            programs["states"] = env.states, [], []
        try:
            found = _compile_and_call(programs, jit_compile)
        except Exception:  # which of them was it?
            for name, program in programs.items():
                _check_that_it_compiles(name, program, jit_compile)
            raise
        for name, answer in found.items():
            about = states if name in questions else usual[name]
            _require_equal(name, about, usual[name], answer, "compiled", "whether it is compiled")


def _check_that_it_compiles(name, program, jit_compile):
    try:
        _compile_and_call({name: program}, jit_compile)
    except Exception as error:
        raise ContractError(
            f"{name} must be made of TensorFlow operations that compile under XLA, for any number "
            "of states (`tf.shape(states)[0]`, not `states.shape[0]`; a batch_size may be a "
            f"tensor): {in_short(error)}"
        ) from error


def _questions(env, states):
    """Every method that compiled programs call, with arguments for it; no reward in Python."""
    forward = ask(env, "forward_mask", states)
    backward = ask(env, "backward_mask", states)
    action = forward.argmax(axis=1).astype(np.int32)
    came_by = np.where(backward.any(axis=1), backward.argmax(axis=1), -1).astype(np.int32)
    of_states = ["forward_mask", "backward_mask", "encode"]
    if not env.python_reward:
        of_states.append("log_reward")
    questions = dict.fromkeys(of_states, (states,))
    questions |= {"step": (states, action), "back_step": (states, came_by)}
    if env.n_states is not None:
        questions["index"] = (states,)
    if _has_hot_features(env, states):
        questions["hot_features"] = (states,)
    return questions


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
