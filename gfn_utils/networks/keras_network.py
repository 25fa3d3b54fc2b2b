"""Any keras.Model as the policy: inside compiled training a pure function of its weights."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gfn_utils.environments import Environment
from gfn_utils.networks.dense import layer_seed
from gfn_utils.networks.model_checks import check_model, check_said, logits_of, same_logits, tried
from gfn_utils.networks.own_model import (
    Build,
    build_model,
    difference,
    encoded,
    form_of,
    is_told_completely,
)
from gfn_utils.validation import check_function, check_integer, shown

SEED_OF_PATTERN = 1
"""Odd, as no `layer_seed` is."""


class KerasNetwork:
    """The network that a function of one's own builds for an environment.

    `build(env)` gives a keras.Model from `env.encode(states)`, `[B, ...]`, integers as they are and
    floats as `dtype`, to the unmasked logits of P_F and P_B: one tensor `[B, 2·n_actions − 1]`, or
    the pair `[B, n_actions]` and `[B, n_actions − 1]`. It is called under `dtype` and a seed (see
    `own_model.build_model`), once for each model that is needed.

    One of these models, the pattern, is only ever called with the weights of others in place of
    its own. So nothing that is done to an agent's `policy` but giving it other weights counts.

    Two are equal if they are one, or if Keras tells all of their models and tells the same: then
    agents share their compiled programs.

    Raises TypeError or ValueError, saying what is allowed and what was found, if the model does not
    fit, if what it says of a state depends on other states or on chance, or if a call with
    `training=True` changes it.
    """

    def __init__(self, build: Build, env: Environment, dtype: str = "float64"):
        if isinstance(build, keras.Model):
            raise TypeError(
                "network must be a function build(env) that makes a keras.Model each time it is "
                f"called, got the model {build.name!r} itself"
            )
        check_function("network", build, "a function build(env) that gives a keras.Model")
        self.function = build
        self._env, self._dtype, self._states = env, dtype, tried(env)
        self._pattern = build_model(build, env, dtype, SEED_OF_PATTERN)
        self.form = form_of(self._pattern)
        check_model(self._pattern, env, dtype)
        check_said(self, self._pattern, env, dtype)
        told = is_told_completely(self._pattern, self.form)
        self._key = (repr(self.form), dtype) if told else object()

    def __eq__(self, other):
        return isinstance(other, KerasNetwork) and self._key == other._key

    def __hash__(self):
        return hash(self._key)

    def __repr__(self):
        return f"network={getattr(self.function, '__name__', shown(self.function))}"

    def trained(self, state_flow: bool = False) -> list[bool]:
        """Which of the weights training changes; those of a state flow come last."""
        of_model = [trained for *_, trained in self.form.weights]
        return [*of_model, *of_model, True, True] if state_flow else of_model

    def build(
        self, env: Environment, dtype: str = "float64", seed: int | None = None
    ) -> keras.Model:
        """A new model, whose weights `seed` decides; without a seed they are those of the pattern.

        Raises ValueError if it is another model than the pattern, or shares weights with it.
        """
        if seed is None:
            return self._build(env, dtype, SEED_OF_PATTERN)
        return self._build(env, dtype, layer_seed(check_integer("seed", seed, minimum=0), 0))

    def _build(self, env, dtype, seed):
        model = build_model(self.function, env, dtype, seed)
        ours = {id(weight) for weight in self._pattern.weights}
        shared = [weight.path for weight in model.weights if id(weight) in ours]
        if model is self._pattern or shared:
            what = f"a model with the same weight {shared[0]}" if shared else "the same model"
            raise ValueError(
                "network must build a new model, of new layers, each time it is called, got "
                f"{what} twice"
            )
        changed = difference(self.form, form_of(model))
        if changed:
            raise ValueError(f"network must build the same model each time, but {changed}")
        if seed == SEED_OF_PATTERN:
            self._check_chance(model)
        expected = logits_of(model(encoded(env, self._states, dtype), training=False), dtype)
        found, _ = self.logits(env, model.weights).evaluate(self._states)
        if not same_logits(found, expected, dtype):
            raise ValueError(
                "network must build models that differ in their weights alone, but with the same "
                "weights two of them give different logits: what is drawn, or adapted to data, "
                "must be a weight"
            )
        return model

    def _check_chance(self, model):
        for weight, other in zip(self._pattern.weights, model.weights, strict=True):
            if not np.array_equal(weight, other):
                raise ValueError(
                    f"network must draw the weight {weight.path} by Keras' initializers or the "
                    "global generators of NumPy, TensorFlow or Python, so that a seed decides it, "
                    "but one seed gave two different ones"
                )

    def build_state_flow(
        self, policy: keras.Model, seed: int = 0, level: float = 0.0
    ) -> "StateFlow":
        """log F(s) in nats: one more model with weights of its own, and a linear read-out of it.

        The first weights of the read-out are uniform in ±0.1, and its bias is `level`.
        """
        model = self._build(self._env, self._dtype, layer_seed(seed, 998))
        read_out = keras.layers.Dense(
            1,
            kernel_initializer=keras.initializers.RandomUniform(
                -0.1, 0.1, seed=layer_seed(seed, 999)
            ),
            bias_initializer=keras.initializers.Constant(level),
            dtype=self._dtype,
            name="read_out",
        )
        read_out.build([None, 2 * self._env.n_actions - 1])
        return StateFlow(model, read_out)

    def logits(
        self, env: Environment, weights: Sequence[tf.Tensor], state_flow: bool = False
    ) -> "KerasLogits":
        """The model with the given weights, in the order of `keras.Model.weights`, as they are now.

        With `state_flow` those of that one come last.
        """
        weights = [tf.convert_to_tensor(weight) for weight in weights]
        trained, fixed = [], []
        for weight, is_trained in zip(weights, self.trained(state_flow), strict=True):
            (trained if is_trained else fixed).append(weight)
        return KerasLogits(env, self, tuple(trained), tuple(fixed), state_flow)

    def said(self, weights: Sequence[tf.Tensor]) -> np.ndarray:
        """The logits of some states, always the same, with the first of `weights`."""
        return np.asarray(self.evaluate(self._env, weights[: len(self.form.weights)], self._states))

    def evaluate(self, env: Environment, weights: Sequence[tf.Tensor], states: tf.Tensor):
        """The logits of P_F and P_B side by side, `[B, 2·n_actions − 1]`."""
        features = encoded(env, states, self._dtype)
        with keras.StatelessScope(zip(self._pattern.weights, weights, strict=True)):
            return logits_of(self._pattern(features, training=False), self._dtype)


class StateFlow(keras.Layer):
    """log F(s) `[B, 1]` in nats from encoded states, by a model and a linear read-out of it."""

    def __init__(self, model: keras.Model, read_out: keras.layers.Dense):
        super().__init__(dtype=read_out.dtype, name="state_flow")
        self.model, self.read_out = model, read_out

    def call(self, features):
        logits = logits_of(self.model(features, training=False), self.compute_dtype)
        return self.read_out(logits)


class KerasLogits(NamedTuple):
    """A model of one's own as a pure function from states to its logits."""

    env: Environment
    network: KerasNetwork
    parameters: tuple[tf.Tensor, ...]
    """The weights that training changes."""
    fixed: tuple[tf.Tensor, ...]
    state_flow: bool

    def evaluate(
        self, states: tf.Tensor, known: Sequence[tf.Tensor] | None = None
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The logits side by side, log F last if there is a state flow; nothing is kept."""
        parameters, fixed = iter(self.parameters), iter(self.fixed)
        trained = self.network.trained(self.state_flow)
        weights = [next(parameters if is_trained else fixed) for is_trained in trained]
        if not self.state_flow:
            return self.network.evaluate(self.env, weights, states), []
        *models, kernel, bias = weights
        policy, flow = (
            self.network.evaluate(self.env, part, states)
            for part in (models[: len(models) // 2], models[len(models) // 2 :])
        )
        return tf.concat([policy, flow @ kernel + bias], axis=1), []
