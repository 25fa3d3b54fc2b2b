"""Building a keras.Model by a function of one's own, and saying what it is.

Nothing here knows of policies: `build_model` calls the function under a seed and a dtype,
`Form` describes what came of it, so that one architecture is told from another.
"""

import concurrent.futures
import contextlib
import json
import random
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from gfn_utils.environments import Environment
from gfn_utils.validation import in_short, shown

Build = Callable[[Environment], keras.Model]

UNTOLD = {"build_config", "registered_name", "quantization_config"}
"""What Keras writes of a layer and what does not decide what the layer does."""
POINTING = {"keras_history", "input_layers", "output_layers"}
TOLD = ("keras.src.layers.", "keras.src.models.")
NOT_TOLD = ("keras.src.layers.preprocessing.", "keras.src.layers.core.lambda")
"""Modules of layers of which Keras writes all, and among them of those that keep more."""


class Form(NamedTuple):
    """What a model is, whatever the values of its weights; all of it fits into JSON."""

    weights: list[list]
    """[path, shape, dtype, whether it is trained] of each, in the order of `model.weights`."""
    layers: dict | list | None
    """What Keras can tell of the layers and how they are joined, where the model is made of layers
    by `keras.Model(inputs, outputs)` or keras.Sequential; None for a class of one's own."""


def build_model(build: Build, env: Environment, dtype: str, seed: int) -> keras.Model:
    """The model that `build(env)` gives where layers are of `dtype` and chance follows `seed`.

    It has its weights: a model that makes them when it is first called is called on two initial
    states. Keras' default dtype, its counters of names, and the global random states of Python,
    NumPy and TensorFlow are afterwards what they were.

    What `build` raises is raised. Raises TypeError if it gives no keras.Model, ValueError if that
    cannot be called on `env.encode(states)`.
    """

    def work():
        # The names and the dtype policy of Keras belong to a thread.
        with _default_dtype(dtype), _chance(seed):
            model = build(env)
            if not isinstance(model, keras.Model):
                raise TypeError(
                    f"network must be a function build(env) that gives a keras.Model, got one that "
                    f"gives {shown(model)}"
                )
            features = encoded(env, env.initial_states(2), dtype)
            try:
                model(features, training=False)
            except Exception as error:
                raise ValueError(
                    "network must build a model that takes env.encode(states), "
                    f"{features.dtype.name} [B, {', '.join(map(str, features.shape[1:]))}], but "
                    f"called on B = 2 initial states it raised {in_short(error)}"
                ) from error
            return model

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def encoded(env: Environment, states: tf.Tensor, dtype: str) -> tf.Tensor:
    """`env.encode(states)` as a model gets it: integers as they are, all else as `dtype`."""
    features = tf.convert_to_tensor(env.encode(states))
    return features if features.dtype.is_integer else tf.cast(features, dtype)


@contextlib.contextmanager
def _default_dtype(dtype) -> Iterator[None]:
    floatx = keras.config.floatx()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)


@contextlib.contextmanager
def _chance(seed) -> Iterator[None]:
    eager = context.context()  # which has TensorFlow's; no public function asks for it
    before = random.getstate(), np.random.get_state(), eager._seed, getattr(eager, "_rng", None)
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        eager._seed, eager._rng = before[2:]


def form_of(model: keras.Model) -> Form:
    """Describe a model."""
    weights = [[w.path, list(w.shape), w.dtype, bool(w.trainable)] for w in model.weights]
    layers = None
    if type(model).__module__.startswith("keras."):
        # A layer of one's own need not tell, and of a lambda Keras warns.
        with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
            told = keras.saving.serialize_keras_object(model)["config"]
            layers = json.loads(json.dumps(_telling(told)))
    return Form(weights, layers)


def _telling(told, numbers=None):
    """What Keras tells, without how the first weights are drawn and what decides nothing.

    Where a layer is pointed at by its name, its number takes the place of that: a name may change.
    """
    if isinstance(told, list | tuple):
        return [_telling(value, numbers) for value in told]
    if not isinstance(told, dict):
        return told
    if isinstance(told.get("layers"), list):
        numbers = {layer.get("name"): number for number, layer in enumerate(told["layers"])}
    return {
        name: _numbered(value, numbers) if name in POINTING else _telling(value, numbers)
        for name, value in told.items()
        if name not in UNTOLD and not name.endswith("initializer")
    }


def _numbered(told, numbers):
    if isinstance(told, list | tuple):
        return [_numbered(value, numbers) for value in told]
    return numbers.get(told, told) if isinstance(told, str) else told


def is_told_completely(model: keras.Model, form: Form) -> bool:
    """Whether another model of the same form does the same with the same weights.

    So it is where Keras' own layers are joined by Keras' own operations: but for Lambda, which
    holds a function, and preprocessing layers, which hold what they were adapted to.
    """
    if form.layers is None:
        return False
    modules = [type(layer).__module__ for layer in model._flatten_layers()]
    known = all(each.startswith(TOLD) and not each.startswith(NOT_TOLD) for each in modules)
    return known and all(module.startswith("keras.") for module in _modules(form.layers))


def _modules(told) -> list[str]:
    """The modules of everything that is named with a class."""
    if not isinstance(told, dict | list):
        return []
    inside = told.values() if isinstance(told, dict) else told
    found = [module for value in inside for module in _modules(value)]
    if isinstance(told, dict) and "class_name" in told and "config" in told:
        # Tensors on the way between layers, and constants, are told without a module.
        is_tensor = told["class_name"] in ("__keras_tensor__", "__tensor__", "__numpy__")
        found.append("keras.tensor" if is_tensor else f"{told.get('module')}.")
    return found


def difference(old: Form, new: Form) -> str | None:
    """A sentence that says in what a model differs from what it was, or None."""
    for number, (was, now) in enumerate(zip(old.weights, new.weights, strict=False)):
        if was[1:] != now[1:]:
            return f"weight {number}, {now[0]}, is {_shown(now)} where {was[0]} was {_shown(was)}"
    if len(old.weights) != len(new.weights):
        fewer, more = sorted((old.weights, new.weights), key=len)
        has = "has" if more is new.weights else "lacks"
        return f"it {has} weight {len(fewer)}, {more[len(fewer)][0]} of {_shown(more[len(fewer)])}"
    if old.layers is None or new.layers is None:
        return None
    return _difference(old.layers, new.layers, "the model")


def _shown(weight):
    _, shape, dtype, trained = weight
    return f"{dtype} {shape}{'' if trained else ', not trained'}"


def _difference(old, new, place):
    """The first place at which what was told differs. Names are passed over, and what one version
    of Keras tells and another does not."""
    if isinstance(old, dict) and isinstance(new, dict):
        place = _name_of(new) or place
        both = [(name, f"{name} of {place}") for name in new if name in old and name != "name"]
        found = (_difference(old[name], new[name], there) for name, there in both)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        found = (_difference(*each, place) for each in zip(old, new, strict=True))
    elif old != new:
        old, new = (
            f"a list of {len(each)}" if isinstance(each, list) else shown(each)
            for each in (old, new)
        )
        return f"{place} is {new} where it was {old}"
    else:
        return None
    return next(filter(None, found), None)


def _name_of(told):
    """The name of a layer."""
    name = told.get("config") and isinstance(told["config"], dict) and told["config"].get("name")
    return f"layer {name!r}" if name and "inbound_nodes" in told else None
