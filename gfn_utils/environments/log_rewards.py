"""Asking an environment for its rewards, which may be computed in ordinary Python."""

import weakref

import numpy as np
import tensorflow as tf

_REMEMBERED = weakref.WeakKeyDictionary()
"""For each environment with `cache_rewards`, log R in nats by the bytes of a state."""


def log_rewards_of(env, states) -> tf.Tensor:
    """log R of the states `[B, *state_shape]` of an Environment in nats, float64 `[B]`.

    A reward in Python (`env.python_reward`) gets int32 NumPy states and may raise what it likes;
    with `env.cache_rewards` it is asked for no state twice. Raises ValueError or TypeError if it
    answers with anything but B numbers, or with NaN or +inf, and names the state.
    """
    if not env.python_reward:
        return env.log_reward(states)
    states = np.array(states, np.int32)  # a copy: what the reward does to it does not matter
    if not env.cache_rewards:
        return tf.constant(_asked(env, states))
    remembered = _REMEMBERED.setdefault(env, {})
    keys = [state.tobytes() for state in states]
    new = {key: row for row, key in enumerate(keys) if key not in remembered}
    if new:
        answers = _asked(env, states[list(new.values())])
        remembered.update(zip(new, answers.tolist(), strict=True))
    return tf.constant([remembered[key] for key in keys], tf.float64)


def check_compiled_reward(env) -> None:
    """Raise ValueError where the reward of an Environment is Python, which no program can hold."""
    if env.python_reward:
        raise ValueError(f"env must have a reward in TensorFlow, got {env!r} with python_reward")


def _asked(env, states):
    """What a reward in Python answers, as float64 `[B]`."""
    log_reward = np.asarray(env.log_reward(states))
    if log_reward.dtype.kind not in "iuf":
        raise TypeError(f"log_reward of {env!r} must give numbers, got dtype {log_reward.dtype}")
    if log_reward.shape != (len(states),):
        raise ValueError(
            f"log_reward of {env!r} must give one number for each of {len(states)} states, shape "
            f"[{len(states)}], got shape {list(log_reward.shape)}"
        )
    wrong = np.isnan(log_reward) | (log_reward == np.inf)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"log_reward must be a number below +inf, got {log_reward[row]} for the state "
            f"{states[row].tolist()}"
        )
    return log_reward.astype(np.float64)
