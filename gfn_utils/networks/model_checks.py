"""Whether a keras.Model of one's own can be a policy; each error says what was found."""

import keras
import numpy as np
import tensorflow as tf

from gfn_utils.environments import Environment
from gfn_utils.environments.snapshot import first_states
from gfn_utils.networks.own_model import encoded
from gfn_utils.validation import in_short, shown

ROUNDING = {"float64": 1e-7, "float32": 1e-2}
"""A difference below this part of the largest logit is taken for rounding: some processors multiply
float32 with ten bits."""


def tried(env: Environment) -> tf.Tensor:
    """The states on which a model is tried: the initial one and up to 7 of its children."""
    return first_states(env)[:8]


def logits_of(outputs, dtype: str) -> tf.Tensor:
    """A model's outputs, one tensor or a pair, side by side, `[B, 2·n_actions − 1]`."""
    if not isinstance(outputs, list | tuple):
        return tf.cast(outputs, dtype)
    return tf.concat([tf.cast(output, dtype) for output in outputs], axis=-1)


def same_logits(found, expected, dtype: str) -> bool:
    """Whether two tensors of logits differ by no more than rounding."""
    tolerance = ROUNDING[dtype] * float(np.max(np.abs(expected), initial=0.0))
    return np.allclose(found, expected, rtol=0, atol=tolerance, equal_nan=True)


def check_model(model: keras.Model, env: Environment, dtype: str) -> None:
    """Raise ValueError unless weights and outputs are such as training can use, and a call with
    `training=True` leaves the model as it is."""
    for weight in model.weights:
        if weight.trainable and weight.dtype != dtype:
            raise ValueError(
                f"network must build layers of the agent's dtype, {dtype}, got {weight.dtype} for "
                f"the weight {weight.path}: leave dtype= out of the layers, or give it to GFNAgent"
            )
        if weight.constraint is not None:
            raise ValueError(
                f"network must leave its weights free, got a constraint on {weight.path}, which "
                "training would not keep"
            )
    for size in (1, 2):
        features = encoded(env, env.initial_states(size), dtype)
        _check_outputs(model(features, training=False), env.n_actions, size)
    _check_that_stays(model, features)


def _check_outputs(outputs, n_actions, size):
    single, pair = [[size, 2 * n_actions - 1]], [[size, n_actions], [size, n_actions - 1]]
    several = outputs if isinstance(outputs, list | tuple) else [outputs]
    forms = [list(each.shape) if tf.is_tensor(each) else shown(each) for each in several]
    kinds = [each.dtype.name if tf.is_tensor(each) else "" for each in several]
    if forms not in (single, pair) or not all("float" in kind for kind in kinds):
        came = [f"{kind} {form}".strip() for kind, form in zip(kinds, forms, strict=True)]
        raise ValueError(
            "network must give the unmasked logits of P_F and P_B as floats, one tensor of shape "
            f"{single[0]} or the pair of shapes {pair[0]} and {pair[1]} for B = {size} and "
            f"{n_actions} actions, got {' and '.join(came) or 'nothing'}"
        )


def _check_that_stays(model, features):
    """Refuse a BatchNormalization, a Dropout, and losses that training would not count."""
    with keras.StatelessScope(collect_losses=True) as scope:
        model(features, training=True)
    changed = [v for v in model.variables if scope.get_current_value(v) is not None]
    if changed:
        *_, layer = (
            layer
            for layer in model._flatten_layers()
            if any(variable is changed[0] for variable in layer.variables)
        )
        raise ValueError(
            f"network must leave its state as it is when it is called, but with training=True the "
            f"{type(layer).__name__} {layer.name!r} changes its variable {changed[0].path}: take "
            "LayerNormalization in place of BatchNormalization, and no Dropout"
        )
    if scope.losses or model.losses:
        raise ValueError(
            "network must add no losses of its own (by add_loss, or a regularizer of weights or "
            f"outputs), which training would not count, got {len(scope.losses or model.losses)}"
        )


def check_said(network, model: keras.Model, env: Environment, dtype: str) -> None:
    """Raise ValueError unless the logits are finite and a function of weights and state alone.

    So that a head that begins at 0 hides nothing, other weights than the first are tried, too.
    """
    states, weights = tried(env), [tf.convert_to_tensor(weight) for weight in model.weights]
    say = _compiled(network, env, weights)
    first = say(weights, states)
    if not np.isfinite(first).all():
        row = int(np.argmin(np.isfinite(first).all(axis=1)))
        raise ValueError(
            "network must give finite logits, got "
            f"{shown(np.asarray(first[row]).tolist())} in state {states[row].numpy().tolist()}"
        )
    rng = np.random.default_rng(0)
    weights = [
        weight + rng.uniform(-0.1, 0.1, weight.shape) if trained else weight
        for weight, trained in zip(weights, network.trained(), strict=True)
    ]
    usual = say(weights, states)
    if not same_logits(say(weights, states), usual, dtype):
        raise ValueError("network must give the same logits each time it is called, got others")
    for row in range(len(states)):
        alone = say(weights, states[row : row + 1])[0]
        if not same_logits(alone, usual[row], dtype):
            raise ValueError(
                "network must say of a state the same in any batch, but of state "
                f"{states[row].numpy().tolist()} it says {shown(alone.numpy().tolist())} alone and "
                f"{shown(usual[row].numpy().tolist())} beside others"
            )


def _compiled(network, env, weights):
    """A function from weights and any number of states to logits, as samplers compile it."""
    strangers = []

    def say(weights, states):
        with tf.GradientTape() as tape:
            logits, _ = network.logits(env, weights).evaluate(states)
        strangers.extend(tape.watched_variables())
        return logits

    forms = [tf.TensorSpec(weight.shape, weight.dtype) for weight in weights]
    form_of_states = tf.TensorSpec([None, *env.state_shape], tf.int32)
    try:
        # The other way to call it warns of many agents as of one function compiled too often.
        compiled = tf.function(say, autograph=False).get_concrete_function(forms, form_of_states)
    except Exception as error:
        raise ValueError(
            "network must build a model that can be compiled for any number of states (with "
            f"`tf.shape(x)[0]`, not `x.shape[0]`), got {in_short(error)}"
        ) from error
    if strangers:
        raise ValueError(
            "network must hold all of its weights in layers, or by self.add_weight, got the "
            f"variable {strangers[0].name!r} beside them, which would not be trained"
        )
    return compiled
