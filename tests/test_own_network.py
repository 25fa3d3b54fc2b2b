"""Agents whose policy is a keras.Model of one's own."""

import json
import pathlib
import random
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from own_networks import (
    OwnModel,
    PictureGrid,
    TokenGrid,
    convolution,
    dense,
    heads,
    inputs_of,
    transformer,
)
from same_agents import assert_same
from small_jobs import GRID, OFFLINE, ON_POLICY, WITHOUT_XLA, small_agent

from gfn_utils import GFNAgent, check_environment, evaluation, training
from gfn_utils.environments.fingerprint import difference, fingerprint
from gfn_utils.networks import KerasNetwork

TOKENS, PICTURE = TokenGrid(2, 4), PictureGrid(2, 4)


def own_agent(network=dense, env=GRID, **settings):
    return GFNAgent(env, network=network, **settings)


def of_one_layer(layer, output=None):
    """A function that builds a model with this layer, made anew, between features and heads."""

    def build(env):
        inputs = inputs_of(env)
        trunk = layer()(inputs)
        return keras.Model(inputs, output(trunk)) if output else heads(env, inputs, trunk)

    return build


def weights_of(agent):
    return [weight.numpy() for weight in agent.policy.weights]


# --- what it computes -----------------------------------------------------------------------------


@WITHOUT_XLA
@pytest.mark.parametrize(
    ("job", "outputs"),
    [(OFFLINE, "a pair"), ({**ON_POLICY, "batch_size": 2}, "one tensor")],
    ids=["a pair, from a table", "one tensor, step by step"],
)
def test_with_the_default_shape_and_weights_it_trains_as_the_default_network(job, outputs):
    def build(env):
        model = dense(env)
        if outputs == "a pair":
            return model
        return keras.Model(model.inputs, layers.Concatenate()(model.outputs))

    default, own = small_agent(), own_agent(build)
    own.policy.set_weights(default.policy.get_weights())
    expected, found = (agent.train(**job) for agent in (default, own))
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-9)
    np.testing.assert_allclose(found.log_z, expected.log_z, rtol=1e-9)
    for found, expected in zip(weights_of(own), weights_of(default), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(own.sample(20).actions, default.sample(20).actions)


@WITHOUT_XLA
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_model_is_the_policy(dtype):
    agent = own_agent(OwnModel, dtype=dtype)
    assert isinstance(agent.policy, OwnModel)
    assert agent.network is OwnModel
    assert {weight.dtype for weight in agent.policy.weights} == {dtype}
    agent.policy.set_weights([0.3 * np.ones(weight.shape) for weight in agent.policy.weights])
    logits = agent.policy(agent.env.encode(GRID.states())).numpy()
    mask = GRID.forward_mask(GRID.states()).numpy()
    weight = np.where(mask, np.exp(logits[:, :3]), 0)
    log_pf, _ = agent.log_policy(GRID.states())
    np.testing.assert_allclose(np.exp(log_pf), weight / weight.sum(axis=1, keepdims=True), 1e-5)
    before = weights_of(agent)
    agent.train(**ON_POLICY)
    for was, now in zip(before, weights_of(agent), strict=True):
        assert (was != now).any()
    assert "network=OwnModel" in repr(agent)


@WITHOUT_XLA
def test_a_model_sees_integers_as_they_are_and_floats_in_the_dtype_of_the_agent():
    seen = []

    class Looking(OwnModel):
        def call(self, features):
            seen.append((features.dtype.name, features.shape[1:]))
            return super().call(tf.cast(layers.Flatten()(features), self.compute_dtype))

    for env, dtype, expected in [
        (TOKENS, "float64", ("int32", (2,))),
        (PICTURE, "float32", ("float32", (4, 4, 1))),
        (PICTURE, "float64", ("float64", (4, 4, 1))),
    ]:
        del seen[:]
        agent = own_agent(Looking, env, dtype=dtype)
        agent.train(iterations=2, batch_size=6, chunk=2, track_error=False)
        agent.sample(3)
        assert set(seen) == {expected}


@WITHOUT_XLA
def test_weights_that_are_not_trained_stay():
    def build(env):
        normalization = layers.Normalization()
        normalization.adapt(np.array([[0.0] * 8, [1.0] * 8]))  # mean, variance and a count
        inputs = inputs_of(env)
        frozen = layers.Dense(8, activation="relu", trainable=False)
        return heads(env, inputs, frozen(normalization(inputs)))

    agent = own_agent(build)
    before = weights_of(agent)
    names = [weight.path for weight in agent.policy.weights]
    assert names[:5] == [
        *(f"normalization/{name}" for name in ("mean", "variance", "count")),
        *(f"dense/{name}" for name in ("kernel", "bias")),
    ]
    agent.train(**ON_POLICY)  # from a table
    agent.train(**{**OFFLINE, "batch_size": 2})  # step by step
    for number, (was, now) in enumerate(zip(before, weights_of(agent), strict=True)):
        assert was.dtype == now.dtype
        assert np.array_equal(was, now) == (number < 5)


# --- what is refused ------------------------------------------------------------------------------


class Static(OwnModel):
    def call(self, features):
        return tf.reshape(super().call(features), [features.shape[0], -1])


class OfTheBatch(OwnModel):
    def __init__(self, env):
        super().__init__(env)
        self.logits.kernel_initializer = keras.initializers.Zeros()

    def call(self, features):
        return super().call(features - tf.reduce_mean(features, axis=0))


class Drawing(OwnModel):
    def call(self, features):
        return super().call(features + tf.random.normal(tf.shape(features), dtype=features.dtype))


class WithVariable(OwnModel):
    def __init__(self, env):
        super().__init__(env)
        self.mine = tf.Variable(tf.ones([5], tf.float64), name="mine")

    def call(self, features):
        return super().call(features) * self.mine


class Misfit(OwnModel):
    def call(self, features):
        return super().call(tf.reshape(features, [-1, 7]))


SHARED, WHOLE = layers.Dense(8, dtype="float64", name="shared"), OwnModel(GRID)


def drawn_without_a_seed(env):
    model = dense(env)
    model.layers[1].bias.assign(np.random.default_rng().normal(size=8))
    return model


def with_a_constant(env):
    constant = np.random.normal(size=[1, 8])
    return of_one_layer(lambda: lambda features: features + constant)(env)


def ever_wider(env, widths=iter(range(8, 99))):  # noqa: B008
    return dense(env, (next(widths),))


OUTPUT = {
    "narrow": (lambda t: layers.Dense(4)(t), "float64 [1, 4]"),
    "swapped": (lambda t: [layers.Dense(2)(t), layers.Dense(3)(t)], "[1, 2] and float64 [1, 3]"),
    "three": (lambda t: [layers.Dense(n)(t) for n in (3, 2, 1)], "and float64 [1, 1]"),
    "named": (lambda t: {"logits": layers.Dense(5)(t)}, "got {'logits'"),
    "integers": (lambda t: keras.ops.cast(layers.Dense(5)(t), "int32"), "int32 [1, 5]"),
    "a number": (lambda t: keras.ops.sum(t), "float64 []"),
    "deep": (lambda t: layers.Reshape([1, 5])(layers.Dense(5)(t)), "float64 [1, 1, 5]"),
}


@pytest.mark.parametrize("name", OUTPUT)
def test_other_outputs_are_refused_with_what_was_expected_and_what_came(name):
    output, came = OUTPUT[name]
    expected = "one tensor of shape [1, 5] or the pair of shapes [1, 3] and [1, 2] for B = 1"
    with pytest.raises(ValueError, match=f"{re.escape(expected)}.*{re.escape(came)}"):
        own_agent(of_one_layer(lambda: layers.Dense(4), output))


REFUSED = {
    "a number": (3, TypeError, "network must be a function"),
    "a model": (WHOLE, TypeError, "got the model 'own_model' itself"),
    "no model": (lambda env: env, TypeError, "keras.Model, got one that gives HyperGrid"),
    "a shared layer": (of_one_layer(lambda: SHARED), ValueError, "same weight shared/kernel twice"),
    "another each time": (ever_wider, ValueError, r"the same model each time, but weight 0, dense"),
    "no seed": (drawn_without_a_seed, ValueError, "draw the weight dense/bias by Keras'"),
    "a constant": (with_a_constant, ValueError, "same model each time, but value of"),
    "BatchNormalization": (
        of_one_layer(layers.BatchNormalization),
        ValueError,
        "BatchNormalization 'batch_normalization' changes its variable .*/moving_mean",
    ),
    "Dropout": (of_one_layer(lambda: layers.Dropout(0.1)), ValueError, "the Dropout 'dropout' ch"),
    "a regularizer": (
        of_one_layer(lambda: layers.Dense(3, kernel_regularizer="l2")),
        ValueError,
        "must add no losses",
    ),
    "a regularizer of outputs": (
        of_one_layer(lambda: layers.Dense(3, activity_regularizer="l2")),
        ValueError,
        "must add no losses",
    ),
    "a constraint": (
        of_one_layer(lambda: layers.Dense(3, kernel_constraint="non_neg")),
        ValueError,
        "got a constraint on dense/kernel",
    ),
    "another dtype": (
        of_one_layer(lambda: layers.Dense(3, dtype="float32")),
        ValueError,
        "agent's dtype, float64, got float32 for the weight dense/kernel",
    ),
    "NaN": (of_one_layer(lambda: lambda x: x * np.nan), ValueError, "finite logits, got .*nan"),
    "a static batch": (Static, ValueError, "any number of states"),
    "the batch": (OfTheBatch, ValueError, "the same in any batch, but of state"),
    "chance": (Drawing, ValueError, "the same logits each time"),
    "a variable": (WithVariable, ValueError, "got the variable 'mine:0' beside them"),
    "a misfit": (Misfit, ValueError, r"takes env.encode\(states\), float64 \[B, 8\], but called"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_policy_is_refused_by_name(name):
    network, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        own_agent(network)


def test_a_model_that_is_given_away_twice_is_refused():
    with pytest.raises(ValueError, match="a new model, of new layers, each time it is called"):
        own_agent(lambda env: WHOLE, dtype="float32")


def test_a_dropout_that_drops_nothing_is_allowed():
    own_agent(of_one_layer(lambda: layers.Dropout(0.0)))


def test_what_the_function_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        own_agent(lambda env: env.n_actions / 0)


@pytest.mark.parametrize("settings", [{"hidden": (8,)}, {"first_weights": "fan_in"}])
def test_it_takes_the_place_of_hidden_and_first_weights(settings):
    with pytest.raises(ValueError, match="network takes the place of hidden and first_weights"):
        own_agent(**settings)


@WITHOUT_XLA
def test_the_default_network_flattens_floats_and_refuses_integers():
    agent = GFNAgent(PICTURE, hidden=(8,))
    assert agent.policy.weights[0].shape == (16, 8)
    agent.train(**ON_POLICY)
    with pytest.raises(TypeError, match=r"network must be given for TokenGrid.* gives int32"):
        GFNAgent(TOKENS, hidden=(8,))


# --- what chance decides --------------------------------------------------------------------------


def by_tensorflow(env):
    model = dense(env)
    model.layers[1].kernel.assign(tf.random.normal([8, 8], dtype=tf.float64))
    return model


def by_numpy_and_python(env):
    model = dense(env)
    model.layers[1].kernel.assign(np.random.normal(size=[8, 8]))
    model.layers[1].bias.assign(np.full(8, random.random()))
    return model


@pytest.mark.parametrize("network", [dense, OwnModel, by_tensorflow, by_numpy_and_python])
def test_the_seed_decides_the_first_weights(network):
    agent, other = own_agent(network, seed=3), own_agent(network, seed=4)
    assert_same(own_agent(network, seed=3), agent)
    for mine, others in zip(weights_of(agent), weights_of(other), strict=True):
        if np.ptp(mine) > 0:  # no bias of zeros
            assert (mine != others).all()
    other.reset(3)
    other.policy.weights[0].assign(other.policy.weights[0] + 1)
    other.reset()
    assert_same(other, agent)


@pytest.mark.parametrize("fails", [False, True])
def test_the_global_states_of_keras_numpy_python_and_tensorflow_stay(fails):
    def build(env):
        random.random(), np.random.random(), tf.random.normal([3])
        if fails:
            raise LookupError("on purpose")
        return dense(env)

    def all_states():
        tf.random.set_seed(5)
        random.seed(5)
        np.random.seed(5)
        first = random.random(), np.random.random(), float(tf.random.normal([]))
        yield
        defaults = keras.config.floatx(), keras.config.dtype_policy().name
        more = random.random(), np.random.random(), float(tf.random.normal([]))
        yield *first, *more, *defaults

    untouched, touched = all_states(), all_states()
    name = layers.Dense(2).name
    number = int(name.rpartition("_")[2]) if "_" in name else 0
    next(untouched)
    expected = next(untouched)
    next(touched)
    try:
        own_agent(build)
    except LookupError:
        assert fails
    assert next(touched) == expected
    assert layers.Dense(2).name == f"dense_{number + 1}"


@WITHOUT_XLA
def test_reset_compiles_nothing():
    agent = own_agent(OwnModel)
    fresh = weights_of(agent)
    first = agent.train(**ON_POLICY)
    agent.sample(3)
    program = training.compile_chunk(training.Job(agent.kind, "trajectory_balance", 6)).func
    before = program.experimental_get_tracing_count()
    agent.reset()
    for was, now in zip(fresh, weights_of(agent), strict=True):
        np.testing.assert_array_equal(was, now)
    np.testing.assert_array_equal(agent.train(**ON_POLICY).loss, first.loss)
    assert program.experimental_get_tracing_count() == before
    assert training.compile_chunk(training.Job(agent.kind, "trajectory_balance", 6)).func is program


# --- which share their programs -------------------------------------------------------------------


@pytest.mark.parametrize("env", [GRID, TOKENS, PICTURE], ids=lambda env: type(env).__name__)
def test_models_that_keras_tells_all_of_are_equal_if_they_are_told_the_same(env):
    build = {GRID: dense, TOKENS: transformer, PICTURE: convolution}[env]
    layers.Dense(3)  # moves Keras' counter of names
    networks = [KerasNetwork(build, env) for _ in range(2)]
    assert networks[0] == networks[1]
    assert hash(networks[0]) == hash(networks[1])
    assert networks[0] != KerasNetwork(build, env, "float32")


def normalized(mean):
    def build(env):
        normalization = layers.Normalization()
        normalization.adapt(np.array([[mean] * 8, [mean + 2.0] * 8]))
        inputs = inputs_of(env)
        return heads(env, inputs, normalization(inputs))

    return build


def own_activation(number):
    return lambda env: dense(env, activation=lambda x: number * x)


def lambda_layer(number):
    return of_one_layer(lambda: layers.Lambda(lambda x: number * x))


def own_class(number):
    class Times(OwnModel):
        def call(self, features):
            return number * super().call(features)

    return Times


@pytest.mark.parametrize("family", [normalized, own_activation, lambda_layer, own_class])
def test_models_that_hold_more_than_keras_tells_have_programs_of_their_own(family):
    agents = [own_agent(family(number)) for number in (1.0, 3.0)]
    assert agents[0].kind != agents[1].kind
    agents[1].policy.set_weights(agents[0].policy.get_weights())
    # What a program works out is what its kind says of these weights.
    said = [training.log_policy_of_weights(agent.kind)(agent._weights()) for agent in agents]
    assert np.abs(np.subtract(*(np.exp(each(GRID.states())[0]) for each in said))).max() > 1e-3
    if family is normalized:
        losses = [agent.train(iterations=1, batch_size=6, chunk=1).loss for agent in agents]
        assert losses[0] != losses[1]


def test_models_of_another_activation_or_constant_have_programs_of_their_own():
    def plus(number):
        return of_one_layer(lambda: lambda x: x + number)

    networks = [plus(1.0), plus(2.0), dense, lambda env: dense(env, activation="tanh")]
    networks = [KerasNetwork(build, GRID) for build in networks]
    assert len(set(networks)) == 4


@WITHOUT_XLA
def test_what_is_done_to_the_policy_but_giving_it_weights_changes_no_program():
    agent, other = own_agent(), own_agent()
    agent.policy.layers[1].activation = keras.activations.tanh
    agent.policy.layers[1].trainable = False
    np.testing.assert_array_equal(agent.train(**ON_POLICY).loss, other.train(**ON_POLICY).loss)


# --- state flows ----------------------------------------------------------------------------------


def test_state_flows_are_a_second_model_and_a_linear_read_out():
    agent = own_agent(OwnModel, state_flow=True, log_z=2.0)
    flow = agent.state_flow
    n = len(agent.policy.weights)
    assert len(flow.weights) == n + 2
    assert (flow.weights[0].numpy() != agent.policy.weights[0].numpy()).any()
    assert flow.weights[-1].numpy() == 2.0
    rng = np.random.default_rng(0)
    for weight in flow.weights:
        weight.assign(rng.normal(size=weight.shape))
    states = GRID.states()[1:]
    hidden, bias, logits, bias_of_logits, read_out, last = (w.numpy() for w in flow.weights)
    outputs = np.tanh(GRID.encode(states) @ hidden + bias) @ logits + bias_of_logits
    expected = outputs @ read_out[:, 0] + last
    np.testing.assert_allclose(agent.log_flow(states), expected)
    np.testing.assert_allclose(flow(GRID.encode(states))[:, 0], expected)
    assert float(agent.log_flow(GRID.states()[:1])[0]) == float(agent.log_z)


def test_state_flows_start_at_log_z_and_are_trained():
    # Of steps of 0.01 the first ten of bias and log Z make no more than 0.1.
    agent, biases = own_agent(log_z_learning_rate=0.01), []
    agent.log_z.assign(2.0)
    before = own_agent(state_flow=True).state_flow.weights

    def look(_):
        biases.append(float(agent.state_flow.weights[-1].numpy()[0]))
        agent.log_z_learning_rate = 0.1

    job = {"iterations": 1200, "batch_size": 6, "chunk": 10}
    agent.train(**job, objective="detailed_balance", callback=look)
    assert biases[0] == pytest.approx(2.0, abs=0.11)
    after = agent.state_flow.weights
    assert all((was.numpy() != now.numpy()).any() for was, now in zip(before, after, strict=True))
    assert evaluation.l1_error(evaluation.terminating_distribution(agent), GRID.target()) < 0.2
    fresh = own_agent(state_flow=True)
    agent.reset()
    for one, other in zip(agent.state_flow.weights, fresh.state_flow.weights, strict=True):
        np.testing.assert_array_equal(one, other)


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The file of an agent of `dense`."""
    path = tmp_path_factory.mktemp("saved") / "agent.npz"
    own_agent().save(path)
    return path


@pytest.fixture
def path(saved, tmp_path):
    """A copy of it."""
    return pathlib.Path(shutil.copy(saved, tmp_path))


@WITHOUT_XLA
def test_a_loaded_agent_continues_bit_for_bit(tmp_path):
    job = {**ON_POLICY, "objective": "detailed_balance"}
    agent, path = own_agent(OwnModel, seed=3), tmp_path / "agent.npz"
    agent.train(**job)
    agent.sample(3)
    agent.save(path)
    layers.Dense(2), layers.Dense(2)  # Keras counts names on
    loaded = GFNAgent.load(path, network=OwnModel)
    assert_same(loaded, agent)
    for each in (agent, loaded):
        each.train(**job)
        each.sample(3)
    assert_same(loaded, agent)


def test_a_file_says_in_json_what_the_network_is(path):
    with np.load(path) as archive:
        told = json.loads(str(archive["description"]))
        assert archive["weights_0"].shape == (8, 8)
    assert told["network"]["weights"][0] == ["dense/kernel", [8, 8], "float64", True]
    kinds = [layer["class_name"] for layer in told["network"]["layers"]["layers"]]
    assert kinds == ["InputLayer", "Dense", "Dense", "Dense"]
    assert not {"hidden", "first_weights"} & set(told["arguments"])


def test_the_network_must_be_given_for_a_file_of_ones_own_and_for_no_other(path):
    with pytest.raises(ValueError, match=r"network must be given: the agent in .* of its own"):
        GFNAgent.load(path)
    small_agent().save(path)
    with pytest.raises(ValueError, match=r"network must be left out: .* has the default network"):
        GFNAgent.load(path, network=dense)


class Twice(OwnModel):
    def call(self, features):
        return 2 * super().call(features)


def with_relu(env):
    model = dense(env)
    return keras.Model(model.inputs, [layers.ReLU()(output) for output in model.outputs])


def with_head(env):
    model = dense(env)
    forward, backward = model.outputs
    return keras.Model(model.inputs, [forward, layers.Dense(2)(backward)])


def with_other_names(env):
    layers.Dense(3)
    inputs = keras.Input([8], name="the_inputs")
    trunk = layers.Dense(8, activation="relu", name="the_trunk")(inputs)
    return keras.Model(inputs, [layers.Dense(3, name="f")(trunk), layers.Dense(2, name="b")(trunk)])


def test_names_of_layers_do_not_matter(path):
    assert_same(GFNAgent.load(path, network=with_other_names), own_agent())


OTHERS = {
    "wider": (lambda env: dense(env, (9,)), r"weight 0, dense/kernel, is float64 \[8, 9\] where"),
    "deeper": (lambda env: dense(env, (8, 8)), r"weight 2, dense_1/kernel, is .*\[8, 8\] where"),
    "shallower": (lambda env: dense(env, ()), "weight 0, dense/kernel, is"),
    "another activation": (
        lambda env: dense(env, activation="tanh"),
        "activation of config of layer 'dense' is 'tanh' where it was 'relu'",
    ),
    "frozen": (
        of_one_layer(lambda: layers.Dense(8, activation="relu", trainable=False)),
        r"is float64 \[8, 8\], not trained where",
    ),
    "more layers": (with_relu, "layers of the model is a list of 6 where it was a list of 4"),
    "one more head": (
        with_head,
        r"weight 2, dense_2/kernel, is float64 \[8, 2\] where dense_1/kernel was float64 \[8, 3\]",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_architecture_is_refused_by_name(path, name):
    network, words = OTHERS[name]
    with pytest.raises(ValueError, match=f"network must build the model of the .*{words}"):
        GFNAgent.load(path, network=network)


def test_a_class_whose_code_has_changed_is_noticed(tmp_path):
    path = tmp_path / "agent.npz"
    own_agent(OwnModel).save(path)
    with pytest.raises(ValueError, match="with the saved weights it gives other logits"):
        GFNAgent.load(path, network=lambda env: Twice(env))


def test_errors_of_the_function_are_not_blamed_on_the_file(path):
    with pytest.raises(ZeroDivisionError):
        GFNAgent.load(path, network=lambda env: 1 / 0)
    with pytest.raises(ValueError, match="must leave its state as it is"):
        GFNAgent.load(path, network=of_one_layer(layers.BatchNormalization))


def rewrite(path, changes, remove=(), **arrays):
    """Write the file with parts of its description, named by dots, and some arrays replaced."""
    with np.load(path) as archive:
        arrays = {**archive, **arrays}
    told = json.loads(str(arrays["description"]))
    for names, value in changes.items():
        *outer, last = names.split(".")
        place = told
        for name in outer:
            place = place[name]
        place[last] = value
    arrays = {name: array for name, array in arrays.items() if name not in remove}
    np.savez(path, **{**arrays, "description": np.array(json.dumps(told))})


DAMAGED = [
    {"network": value} for value in (None, 3, [], {}, {"weights": []}, {"weights": 3, "layers": 0})
] + [
    {"network.weights": value}
    for value in (None, [], [["dense/kernel", [8, 9], "float64", True]] * 6, [[]] * 6, "weights")
]
DAMAGED += [
    {"arguments.state_flow": True},
    {"arguments.dtype": "float32"},
    {"arguments.dtype": [3]},
    {"arguments.hidden": [8]},
    {"arguments.gamma": "x"},
    {"arguments": []},
]


@pytest.mark.parametrize("changes", DAMAGED, ids=str)
def test_a_damaged_description_is_refused(path, changes):
    rewrite(path, changes)
    words = f"path must be a file that GFNAgent.save wrote, got {str(path)!r}"
    with pytest.raises(ValueError, match=re.escape(words)):
        GFNAgent.load(path, network=dense)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights_0", np.full([8, 8], np.nan)),
        ("weights_0", np.zeros([8, 7])),
        ("weights_0", np.zeros([8, 8], np.float32)),
        ("weights_0", None),
        ("weights_6", None),
        ("first_moments_2", np.zeros([3])),
        ("second_moments_0", np.full([8, 8], -1.0)),
        ("network_logits", None),
        ("network_logits", np.array("x")),
        ("network_logits", np.zeros([3])),
    ],
)
def test_damaged_arrays_are_refused(path, name, value):
    rewrite(
        path,
        {},
        **({} if value is None else {name: value}),
        remove=[] if value is not None else [name],
    )
    with pytest.raises(ValueError, match=re.escape(str(path))):
        GFNAgent.load(path, network=dense)


@pytest.mark.parametrize("layers_told", ["x", 3, [], {"layers": [{"config": 3}]}, {"layers": "x"}])
def test_a_damaged_form_is_refused(path, layers_told):
    rewrite(path, {"network.layers": layers_told})
    with pytest.raises(ValueError, match=re.escape(str(path))):
        GFNAgent.load(path, network=dense)


# --- environments that are no row of floats -------------------------------------------------------


@pytest.mark.parametrize("env", [TOKENS, PICTURE], ids=["tokens", "picture"])
def test_the_contract_allows_features_of_any_shape(env):
    check_environment(env)
    assert env.hot_features(env.states()) is None  # those of HyperGrid are of another encoding


def test_the_contract_asks_for_one_shape_of_all_states():
    class Ragged(PictureGrid):
        def encode(self, states):
            picture = super().encode(states)
            return tf.pad(picture, [[0, 0], [0, tf.shape(states)[0] // 16], [0, 0], [0, 0]])

    with pytest.raises(ValueError, match="encode must answer for a single state as for many"):
        check_environment(Ragged(2, 5))


@pytest.mark.parametrize("env", [TOKENS, PICTURE], ids=["tokens", "picture"])
def test_an_encoding_that_was_changed_is_noticed(tmp_path, env):
    assert difference(fingerprint(env), fingerprint(type(env)(2, 4))) is None

    class Changed(type(env)):
        def encode(self, states):
            features = super().encode(states)
            return features + tf.cast(features == tf.reduce_max(features), features.dtype)

    changed = Changed(2, 4)
    assert "the encoding of state" in difference(fingerprint(env), fingerprint(changed))
    Changed.__name__, Changed.__qualname__ = (type(env).__name__,) * 2
    agent = own_agent(OwnFlat, env)
    agent.save(tmp_path / "agent.npz")
    assert_same(GFNAgent.load(tmp_path / "agent.npz", env, OwnFlat), agent)
    with pytest.raises(ValueError, match="env must be"):
        GFNAgent.load(tmp_path / "agent.npz", changed, OwnFlat)


class OwnFlat(OwnModel):
    def call(self, features):
        return super().call(tf.cast(layers.Flatten()(features), self.compute_dtype))


# --- whether it learns ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "network", "settings", "n_updates"),
    [
        (TokenGrid(), transformer, {"learning_rate": 0.003}, 1500),
        (PictureGrid(), convolution, {"dtype": "float32"}, 1500),
    ],
    ids=["a transformer", "a convolution"],
)
def test_it_learns_the_grid_of_8_by_8(env, network, settings, n_updates):
    agent = own_agent(network, env, **settings)
    agent.train(iterations=n_updates, track_error=False)
    error = evaluation.l1_error(evaluation.terminating_distribution(agent), env.target())
    assert error <= 0.02


@WITHOUT_XLA
def test_an_embedding_is_trained_where_states_are_visited_one_by_one():
    def build(env):
        inputs = inputs_of(env)
        tokens = layers.Embedding(env.height, 4)(inputs)
        return heads(env, inputs, layers.Flatten()(tokens))

    agent = own_agent(build, TOKENS)
    assert not training.fits_in_a_table(TOKENS, 2)
    before = weights_of(agent)
    assert np.isfinite(agent.train(iterations=4, batch_size=2, chunk=4).loss).all()
    assert (before[0] != weights_of(agent)[0]).any()
