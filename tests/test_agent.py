"""GFNAgent: the names that others rely on, seeds, files, and what it refuses."""

import dataclasses
import itertools
import json
import os
import re

import numpy as np
import pytest
import tensorflow as tf
from own_environments import Subsets, Words
from same_agents import assert_different, assert_same, everything
from scipy.stats import kstest
from small_jobs import (
    BOTH_WAYS,
    CHUNK,
    GRID,
    OFFLINE,
    ON_POLICY,
    WITHOUT_XLA,
    job_of,
    small_agent,
)

import gfn_utils
from gfn_utils import (
    EitherEndSequences,
    GFNAgent,
    HyperGrid,
    checkpoint,
    runs,
    sampling,
    training,
)
from gfn_utils.networks import DenseNetwork

pytestmark = WITHOUT_XLA


def draws(agent, n=50):
    """The actions of some trajectories, forward and backward."""
    samples = agent.sample(n), agent.sample_backward([[3, 3]] * n)
    return [trajectories.actions.numpy().tolist() for trajectories in samples]


def sum_of_letters(letters):
    return tf.reduce_sum(letters, axis=1)


@pytest.mark.parametrize("hidden", [(), (7,), (5, 3, 4)], ids=str)
@pytest.mark.parametrize(
    "env",
    [HyperGrid(3, 4), Subsets(), EitherEndSequences(sum_of_letters, 3, "ab", block=2)],
    ids=lambda env: type(env).__name__,
)
def test_the_training_evaluates_the_keras_model(env, hidden, randomise):
    agent = randomise(GFNAgent(env, hidden=hidden), seed=0)
    expected = np.concatenate(agent.policy(env.encode(env.states())), axis=1)
    found = agent.kind.network.logits(env, agent.policy.weights).layer_outputs(env.states())
    np.testing.assert_allclose(found[-1], expected, rtol=1e-12)


def test_saved_and_loaded_under_the_names_of_the_contract(tmp_path):
    agent = GFNAgent(HyperGrid(), seed=1)
    agent.save(tmp_path / "agent.npz")
    assert_same(GFNAgent.load(tmp_path / "agent.npz"), agent)
    agent.save(str(tmp_path / "by_string"))
    assert_same(GFNAgent.load(str(tmp_path / "by_string")), agent)
    assert set(gfn_utils.__all__) >= {"HyperGrid", "GFNAgent", "evaluation"}


def test_the_default_network_has_1765_weights():
    assert GFNAgent(HyperGrid()).policy.count_params() == 1765


def test_an_untrained_policy_is_nearly_uniform():
    agent = GFNAgent(HyperGrid())
    log_pf, log_pb = agent.log_policy(agent.env.states())
    for log_p, mask in (
        (log_pf, agent.env.forward_mask(agent.env.states())),
        (log_pb[1:], agent.env.backward_mask(agent.env.states())[1:]),
    ):
        allowed = mask.numpy()
        uniform = allowed / allowed.sum(axis=1, keepdims=True)
        assert np.abs(np.exp(log_p) - uniform).max() < 0.05
        assert np.abs(np.exp(log_p) - uniform).max() > 1e-3


def layers_of(agent):
    return [(layer.name, *layer.get_weights()) for layer in agent.policy.layers[1:]]


def test_first_weights_with_small_heads_are_glorots_and_without_biases():
    for name, kernel, bias in layers_of(GFNAgent(HyperGrid(), hidden=(64, 64))):
        limit = np.sqrt(6 / sum(kernel.shape)) * (1.0 if name.startswith("hidden") else 0.1)
        # Of 128 weights or more the greatest is below nine tenths of it once in 700,000 times.
        assert 0.9 * limit < np.abs(kernel).max() <= limit, name
        assert not bias.any(), name


def test_first_weights_by_fan_in_fill_the_same_bounds_in_kernels_and_biases():
    # Two heads of 101 and 100, so that every part has many weights.
    agent = GFNAgent(HyperGrid(100, 4), hidden=(64, 64), first_weights="fan_in")
    parts = []
    for name, kernel, bias in layers_of(agent):
        for part in (kernel, bias):
            uniform = part.ravel() * np.sqrt(len(kernel))
            assert np.abs(uniform).max() <= 1, name
            # In 8 parts a uniform sample fails once in 100 times; the seed is fixed.
            assert kstest(uniform, "uniform", args=(-1, 2)).pvalue > 0.01 / 8, name
            parts.append(uniform[:64])
    # Of 28 pairs of independent samples one exceeds this once in 1,000 times.
    for one, other in itertools.combinations(parts, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.5


def test_first_weights_come_again_with_their_seed():
    agent, same = (small_agent(seed=4, first_weights="fan_in") for _ in range(2))
    assert_same(agent, same)
    assert_different(agent, small_agent(seed=4))
    agent.train(**ON_POLICY)
    agent.reset()
    assert_same(agent, same)
    agent.reset(5)
    assert_same(agent, small_agent(seed=5, first_weights="fan_in"))


@BOTH_WAYS
def test_the_seed_decides_weights_training_and_samples(job):
    agent, same, other = small_agent(seed=1), small_agent(seed=1), small_agent(seed=2)
    assert_same(agent, same)
    assert_different(agent, other)
    assert draws(agent) == draws(same)
    for each in (agent, same, other):
        each.train(**job)
    assert_same(agent, same)
    assert draws(agent) == draws(same)


def test_seeds_differ_in_all_that_they_decide():
    # From the same weights on, so that only the random numbers can tell them apart.
    agents = [small_agent(seed=seed) for seed in (1, 2)]
    for agent in agents:
        for weight in agent.policy.weights:
            weight.assign(tf.zeros_like(weight))
    samples, backward_samples = zip(*(draws(agent) for agent in agents), strict=True)
    assert samples[0] != samples[1]
    assert backward_samples[0] != backward_samples[1]
    for job in (OFFLINE, ON_POLICY):
        losses = [agent.train(**job).loss.tolist() for agent in agents]
        assert losses[0] != losses[1]


def test_every_sample_is_a_new_one():
    agent = small_agent()
    samples = [draws(agent) for _ in range(3)]
    for one, other in itertools.combinations(samples, 2):
        assert one[0] != other[0]
        assert one[1] != other[1]


def test_sampling_leaves_training_alone():
    agent, other = small_agent(), small_agent()
    agent.train(**ON_POLICY)
    draws(other)
    other.train(**ON_POLICY)
    for weight, expected in zip(other.policy.weights, agent.policy.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), expected.numpy())


@BOTH_WAYS
def test_reset_equals_a_fresh_agent(job):
    agent, fresh = small_agent(seed=1), small_agent(seed=9)
    agent.train(**job)
    draws(agent)
    agent.reset(9)
    assert agent.iteration == 0
    assert_same(agent, fresh)
    for each in (agent, fresh):
        each.train(**job)
    assert_same(agent, fresh)
    assert draws(agent) == draws(fresh)
    agent.reset()
    assert_same(agent, small_agent(seed=9))


@pytest.mark.parametrize("offline", [True, False], ids=["offline", "on policy"])
def test_reset_and_agents_of_the_same_kind_compile_nothing(offline):
    job = OFFLINE if offline else ON_POLICY
    agent = small_agent()
    agent.train(**job)
    agent.sample(3)
    program = training.compile_chunk(job_of(agent, offline)).func
    sampler = gfn_utils.agent._samplers(agent._kind_now(agent.env))[0]
    before = program.experimental_get_tracing_count(), sampler.experimental_get_tracing_count()
    assert min(before) >= 1
    agent.reset(5)
    agent.gamma = 0.125
    other = GFNAgent(HyperGrid(2, 4), hidden=[8], learning_rate=0.5, seed=7)
    for each in (agent, other):
        each.train(**job)
        each.train(**{**job, "decay": "linear"}, resume_from=10)
        each.sample(4, explore=True)
        each.sample(5)
    after = program.experimental_get_tracing_count(), sampler.experimental_get_tracing_count()
    assert after == before
    assert training.compile_chunk(job_of(other, offline)).func is program


@BOTH_WAYS
def test_a_loaded_agent_goes_on_as_if_it_had_never_stopped(job, tmp_path):
    agent = small_agent(seed=3, gamma=0.2)
    agent.train(**job)
    draws(agent)
    agent.save(tmp_path / "agent.npz")
    loaded = GFNAgent.load(tmp_path / "agent.npz")
    assert_same(loaded, agent)
    assert draws(loaded) == draws(agent)
    for each in (agent, loaded):
        each.train(**job)
    assert_same(loaded, agent)
    assert loaded.iteration == 48
    assert draws(loaded) == draws(agent)


@BOTH_WAYS
def test_a_run_saved_in_the_middle_goes_on_in_the_loaded_agent(job, tmp_path):
    agent = small_agent()

    def save_at_14(progress):
        if progress.done == 14:
            agent.save(tmp_path / "agent.npz")

    agent.train(**job, callback=save_at_14)
    loaded = GFNAgent.load(tmp_path / "agent.npz")
    assert_different(loaded, agent)
    loaded.train(**job, resume_from=loaded.iteration)
    assert_same(loaded, agent)


def test_all_settings_come_back(tmp_path):
    settings = {
        "hidden": (5, 3),
        "gamma": 0.75,
        "seed": 11,
        "learning_rate": 0.03,
        "log_z_learning_rate": 0.7,
        "dtype": "float32",
        "backward_policy": "uniform",
        "state_flow": True,
        "adam_betas": (0.5, 0.75),
        "first_weights": "fan_in",
        "clip_norm": 2.5,
        "weight_decay": 0.125,
    }
    env = HyperGrid(1, 9, r0=0.1, r1=0.25, r2=3.0)
    GFNAgent(env, **settings).save(tmp_path / "agent.npz")
    loaded = GFNAgent.load(tmp_path / "agent.npz")
    assert loaded.env == env
    assert loaded.kind == (env, DenseNetwork((5, 3)), "float32", "uniform", True)
    for name in settings.keys() - {"hidden", *loaded.kind._fields}:
        assert getattr(loaded, name) == settings[name]
    assert [layer.units for layer in loaded.policy.layers[1:]] == [5, 3, 2, 1]


def test_a_file_that_does_not_say_how_the_weights_began(tmp_path):
    # As files were written before this could be chosen.
    agent = small_agent(seed=3)
    agent.train(**ON_POLICY)
    description = agent.describe()
    for later in ("first_weights", "clip_norm", "weight_decay"):
        del description["arguments"][later]
    checkpoint.write(tmp_path / "agent.npz", description, agent._held.state)
    loaded = GFNAgent.load(tmp_path / "agent.npz")
    assert_same(loaded, agent)
    assert loaded.first_weights == "small_heads"
    assert (loaded.clip_norm, loaded.weight_decay, loaded.replay) == (None, 0.0, None)


def test_a_failing_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    agent = small_agent()
    path = tmp_path / "agent.npz"
    agent.save(path)
    old = path.read_bytes()
    agent.train(**ON_POLICY)
    savez = np.savez

    def fill_the_disk(file, **arrays):
        savez(file, **arrays)
        file.truncate(100)
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", fill_the_disk)
    with pytest.raises(OSError, match="no space left"):
        agent.save(path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["agent.npz"]
    monkeypatch.undo()
    agent.save(path)
    assert path.read_bytes() != old
    assert os.listdir(tmp_path) == ["agent.npz"]


@pytest.fixture
def saved(tmp_path):
    """An agent and the file that holds it."""
    agent = small_agent()
    agent.sample(1)
    agent.save(tmp_path / "agent.npz")
    return agent, tmp_path / "agent.npz"


def refused(path):
    return pytest.raises(
        ValueError,
        match=re.escape(f"path must be a file that GFNAgent.save wrote, got {str(path)!r}"),
    )


def test_a_truncated_file_is_refused(saved):
    _, path = saved
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 499), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with refused(path):
            GFNAgent.load(path)


def with_a_byte_turned(whole, place):
    return whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]


def test_no_turned_byte_makes_another_agent(saved):
    agent, path = saved
    whole = path.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    n_refused = 0
    for place in range(0, directory, 61):
        path.write_bytes(with_a_byte_turned(whole, place))
        try:
            loaded = GFNAgent.load(path)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017  A byte of no meaning may pass, too.
            n_refused += 1
        else:
            assert_same(loaded, agent)
            assert (loaded.gamma, loaded.seed) == (agent.gamma, agent.seed)
    assert n_refused > 0.6 * directory / 61


def test_every_turned_byte_in_the_archive_directory_is_refused_in_the_same_words(saved):
    agent, path = saved
    whole = path.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    for place in range(directory, directory + 100):
        path.write_bytes(with_a_byte_turned(whole, place))
        try:
            loaded = GFNAgent.load(path)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:
            assert_same(loaded, agent)


def write_description(path, description):
    np.savez(path, description=np.array(description))


FOREIGN_FILES = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("an agent"),
    "array": lambda path: np.save(path.open("wb"), np.zeros(3)),
    "other archive": lambda path: np.savez(path, weights_0=np.zeros(3)),
    "other format": lambda path: write_description(path, json.dumps({"format": "other"})),
    "no JSON": lambda path: write_description(path, "{"),
    "a list": lambda path: write_description(path, "[1]"),
    "directory": lambda path: path.mkdir(),
    "the format and no more": lambda path: write_description(
        path, json.dumps({"format": checkpoint.FORMAT})
    ),
    "a number": pytest.param(
        lambda path: write_description(path, "7"),
    ),
}


@pytest.mark.parametrize("write", FOREIGN_FILES.values(), ids=FOREIGN_FILES)
def test_a_foreign_file_is_refused(tmp_path, write):
    path = tmp_path / "agent.npz"
    write(path)
    with refused(path):
        GFNAgent.load(path)


def test_a_missing_file_is_called_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        GFNAgent.load(tmp_path / "nowhere.npz")


def rewritten(path, **changes):
    """The saved file with some of its arrays replaced."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(path, **{**arrays, **changes})


def test_arrays_that_do_not_fit_the_description_are_refused(saved):
    _, path = saved
    for name, wrong in [
        ("weights_0", np.zeros([9, 8])),
        ("weights_1", np.zeros([8], np.float32)),
        ("first_moments_0", np.zeros([9, 8])),
        ("weights_7", np.zeros([])),
    ]:
        before = path.read_bytes()
        rewritten(path, **{name: wrong})
        with refused(path):
            GFNAgent.load(path)
        path.write_bytes(before)


def test_an_agent_of_another_environment_is_refused(saved):
    _, path = saved
    assert GFNAgent.load(path, env=HyperGrid(2, 4)).env == GRID
    message = (
        "env must be the saved agent's, HyperGrid with "
        "{'ndim': 2, 'height': 4, 'r0': 0.01, 'r1': 0.5, 'r2': 1.0} "
        f"(in {str(path)!r}), got HyperGrid(ndim=2, height=4, r0=0.01, r1=0.5, r2=2.0)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        GFNAgent.load(path, env=HyperGrid(2, 4, r2=2.0))
    with pytest.raises(ValueError, match="env must be the saved agent's, HyperGrid with"):
        GFNAgent.load(path, env=Subsets())


def test_an_own_environment_must_be_given_to_load(tmp_path):
    agent, path = GFNAgent(Words(), hidden=(8,)), tmp_path / "agent.npz"
    agent.save(path)
    message = f"env must be given: the agent in {str(path)!r} is one of own_environments.Words"
    with pytest.raises(ValueError, match=re.escape(message)):
        GFNAgent.load(path)
    with pytest.raises(
        ValueError, match=r"env must be the saved agent's, own_environments.Words with \{\}"
    ):
        GFNAgent.load(path, env=Subsets())
    loaded = GFNAgent.load(path, env=Words())
    assert_same(loaded, agent)
    assert loaded.sample(9).actions.numpy().tolist() == agent.sample(9).actions.numpy().tolist()


CONSTRUCTIONS = {
    "height of 3": (lambda: HyperGrid(2, 3), "height must be an integer of at least 4, got 3"),
    "height no integer": (
        lambda: HyperGrid(2, 8.0),
        "height must be an integer of at least 4, got 8.0",
    ),
    "ndim of 0": (lambda: HyperGrid(0, 8), "ndim must be an integer of at least 1, got 0"),
    "r0 of 0": (lambda: HyperGrid(r0=0), "r0 must be finite and above 0, got 0"),
    "negative r1": (lambda: HyperGrid(r1=-0.5), "r1 must be finite and at least 0, got -0.5"),
    "infinite r2": (lambda: HyperGrid(r2=np.inf), "r2 must be finite and at least 0, got inf"),
    "no environment": (lambda: GFNAgent("grid"), "env must be an Environment, got 'grid'"),
    "negative gamma": (
        lambda: small_agent(gamma=-0.1),
        "gamma must be finite and at least 0 and at most 1, got -0.1",
    ),
    "gamma above 1": (
        lambda: small_agent(gamma=1.5),
        "gamma must be finite and at least 0 and at most 1, got 1.5",
    ),
    "gamma NaN": (
        lambda: small_agent(gamma=np.nan),
        "gamma must be finite and at least 0 and at most 1, got nan",
    ),
    "gamma no number": (lambda: small_agent(gamma="0.5"), "gamma must be a number, got '0.5'"),
    "layer without units": (
        lambda: GFNAgent(GRID, hidden=(8, 0)),
        "hidden must be an integer of at least 1, got 0",
    ),
    "layer too large": (
        lambda: GFNAgent(GRID, hidden=(10**9,)),
        "hidden must be an integer of at least 1 and at most 10000, got 1000000000",
    ),
    "layers not in a tuple": pytest.param(
        lambda: GFNAgent(GRID, hidden=32),
        "hidden must be",
    ),
    "negative seed": (
        lambda: small_agent(seed=-1),
        "seed must be an integer of at least 0, got -1",
    ),
    "seed beyond int64": pytest.param(
        lambda: small_agent(seed=2**63).sample(1),
        "seed must be",
    ),
    "learning rate of 0": (
        lambda: small_agent(learning_rate=0),
        "learning_rate must be finite and above 0, got 0",
    ),
    "log Z that nothing reaches": (
        lambda: small_agent(log_z=1e30),
        "log_z must be finite and at least -1e+10 and at most 1e+10, got 1e+30",
    ),
    "one beta alone": (
        lambda: small_agent(adam_betas=0.9),
        "adam_betas must be a pair of numbers in [0, 1), got 0.9",
    ),
    "a beta of 1": (
        lambda: small_agent(adam_betas=(0.9, 1.0)),
        "adam_betas must be a pair of numbers in [0, 1), got (0.9, 1.0)",
    ),
    "infinite learning rate of log Z": (
        lambda: small_agent(log_z_learning_rate=np.inf),
        "log_z_learning_rate must be finite and above 0, got inf",
    ),
    "no room for a gradient": (
        lambda: small_agent(clip_norm=0),
        "clip_norm must be finite and above 0, got 0",
    ),
    "clipped at infinity": (
        lambda: small_agent(clip_norm=np.inf),
        "clip_norm must be finite and above 0, got inf",
    ),
    "weights that grow": (
        lambda: small_agent(weight_decay=-0.1),
        "weight_decay must be finite and at least 0, got -0.1",
    ),
    "unknown dtype": (
        lambda: small_agent(dtype="float16"),
        "dtype must be one of 'float64', 'float32', got 'float16'",
    ),
    "unknown backward policy": (
        lambda: small_agent(backward_policy="best"),
        "backward_policy must be one of 'learned', 'uniform', 'maximum_entropy', got 'best'",
    ),
    "unknown first weights": (
        lambda: small_agent(first_weights="he"),
        "first_weights must be one of 'small_heads', 'fan_in', got 'he'",
    ),
}


@pytest.mark.parametrize(("construct", "message"), CONSTRUCTIONS.values(), ids=CONSTRUCTIONS)
def test_nothing_is_made_of_bad_arguments(construct, message):
    with pytest.raises((ValueError, TypeError), match=f"^{re.escape(message)}"):
        construct()


def train(**changes):
    return lambda agent: agent.train(**{**ON_POLICY, **changes})


def train_offline(**changes):
    return lambda agent: agent.train(**{**OFFLINE, **changes})


def set_gamma(agent):
    agent.gamma = 1.01


CALLS = {
    "gamma": (set_gamma, "gamma must be finite and at least 0 and at most 1, got 1.01"),
    "reset to a negative seed": (
        lambda agent: agent.reset(-3),
        "seed must be an integer of at least 0, got -3",
    ),
    "no samples": (
        lambda agent: agent.sample(0),
        "n must be an integer of at least 1, got 0",
    ),
    "samples no integer": (
        lambda agent: agent.sample(2.0),
        "n must be an integer of at least 1, got 2.0",
    ),
    "samples True": (
        lambda agent: agent.sample(True),
        "n must be an integer of at least 1, got True",
    ),
    "terminal state outside the grid": (
        lambda agent: agent.sample_backward([[0, 0], [1, 4]]),
        f"terminal[1] must be a state of {GRID}, got [1, 4]",
    ),
    "negative terminal state": (
        lambda agent: agent.sample_backward([[-1, 2]]),
        f"terminal[0] must be a state of {GRID}, got [-1, 2]",
    ),
    "terminal state far outside": pytest.param(
        lambda agent: agent.sample_backward(np.array([[2**32, 0]])),
        f"terminal[0] must be a state of {GRID}, got [4294967296, 0]",
    ),
    "terminal state of another shape": (
        lambda agent: agent.sample_backward([[0, 0, 0]]),
        "terminal must be an integer array of shape [B, 2] with B ≥ 1, got shape [1, 3]",
    ),
    "one terminal state alone": (
        lambda agent: agent.sample_backward([0, 0]),
        "terminal must be an integer array of shape [B, 2] with B ≥ 1, got shape [2]",
    ),
    "terminal states of unequal lengths": pytest.param(
        lambda agent: agent.sample_backward([[0, 0], [1]]),
        "terminal must be",
    ),
    "terminal state of another type": (
        lambda agent: agent.sample_backward([[0.0, 1.0]]),
        "terminal must be an integer array of shape [B, 2], got dtype float64",
    ),
    "no terminal state": (
        lambda agent: agent.sample_backward(np.zeros([0, 2], int)),
        "terminal must hold at least one state, got none",
    ),
    "batch of 0": (
        train(batch_size=0),
        "batch_size must be an integer of at least 1, got 0",
    ),
    "batch too large": (
        train(batch_size=2**31 - 1),
        "batch_size must be an integer of at least 1 and at most 100000, got 2147483647",
    ),
    "samples too many": (
        lambda agent: agent.sample(2**31 - 1),
        f"n must be an integer of at least 1 and at most {10**9 // 16}, got 2147483647",
    ),
    "masked terminal state": (
        lambda agent: agent.sample_backward(np.ma.masked_array([[0, 1]], [[False, True]])),
        "terminal must be an integer array of shape [B, 2], none of it masked, got masked_array",
    ),
    "sparse terminal states": (
        lambda agent: agent.sample_backward(tf.sparse.from_dense([[1, 0]])),
        "terminal must be an integer array of shape [B, 2], got ",
    ),
    "offline batch of 0": (
        train_offline(batch_size=0),
        "batch_size must be an integer of at least 1, got 0",
    ),
    "chunk of 0": (train(chunk=0), "chunk must be an integer of at least 1, got 0"),
    "no iterations": (train(iterations=0), "iterations must be an integer of at least 1, got 0"),
    "iterations no integer": (
        train(iterations=1e3),
        "iterations must be an integer of at least 1, got 1000.0",
    ),
    "no epochs": (train_offline(epochs=0), "epochs must be an integer of at least 1, got 0"),
    "unknown decay": (
        train(decay="cosine"),
        "decay must be one of 'linear', 'constant', got 'cosine'",
    ),
    "data without epochs": (
        train_offline(epochs=None),
        "train(data, ...) takes epochs, and not iterations",
    ),
    "data with iterations": (
        train_offline(iterations=5),
        "train(data, ...) takes epochs, and not iterations",
    ),
    "epochs without data": (
        train(epochs=5, iterations=None),
        "train() without data takes iterations, and not epochs",
    ),
    "epochs and iterations": (
        train(epochs=5),
        "train() without data takes iterations, and not epochs",
    ),
    "neither epochs nor iterations": (
        train(iterations=None),
        "train() without data takes iterations, and not epochs",
    ),
    "resumed at the end": (train(resume_from=24), "resume_from must be below 24, got 24"),
    "resumed offline at the end": (
        train_offline(resume_from=24),
        "resume_from must be below 24, got 24",
    ),
    "resumed before the start": (
        train(resume_from=-1),
        "resume_from must be an integer of at least 0, got -1",
    ),
    "resumed offline beyond the agent": pytest.param(
        train_offline(resume_from=20),
        "resume_from must be",
    ),
    "resumed on policy beyond the agent": pytest.param(
        train(resume_from=20),
        "resume_from must be",
    ),
    "neighbours at a negative distance": (
        lambda agent: agent.train(small_agent().sample(2), epochs=1, neighbours_within=-1),
        "neighbours_within must be an integer of at least 0, got -1",
    ),
    "kept trajectories that nobody takes": (
        train(keep_trajectories=True),
        "keep_trajectories needs a callback",
    ),
    "kept trajectories of no truth value": (
        train(keep_trajectories="yes", callback=print),
        "keep_trajectories must be True or False, got 'yes'",
    ),
    "kept trajectories of given objects": (
        train_offline(keep_trajectories=True, callback=print),
        "keep_trajectories goes with iterations, on policy, and not with data",
    ),
    "more kept trajectories than there is room for": (
        train(keep_trajectories=True, callback=print, batch_size=10_000, chunk=10_000),
        "keep_trajectories must find room for the trajectories of a chunk: 62,500,000 of",
    ),
    "data outside the grid": (
        train_offline(data=[[0, 9]]),
        f"data[0] must be a state of {GRID}, got [0, 9]",
    ),
    "data of another shape": (
        train_offline(data=[[0]]),
        "data must be an integer array of shape [B, 2] with B ≥ 1, got shape [1, 1]",
    ),
    "data of another type": (
        train_offline(data=[[0.5, 0.5]]),
        "data must be an integer array of shape [B, 2], got dtype float64",
    ),
    "empty data": (
        train_offline(data=np.zeros([0, 2], int)),
        "data must hold at least one state, got none",
    ),
    "states of trajectories in unequal lists": (
        lambda agent: agent.train(small_agent().sample(2)._replace(states=[[1], [1, 2]]), epochs=1),
        "data.states must be an array of numbers, got [[1], [1, 2]]",
    ),
    "rewards of other trajectories": (
        lambda agent: agent.train(
            small_agent().sample(2)._replace(log_reward=np.zeros(3)), epochs=1
        ),
        "data.log_reward must be of shape [2], got shape [3]",
    ),
    "trajectories of another grid": (
        lambda agent: agent.train(GFNAgent(HyperGrid(1, 4), hidden=(8,)).sample(2), epochs=1),
        "data.terminal must be an integer array of shape [B, 2] with B ≥ 1, got shape [2, 1]",
    ),
}


def test_trajectories_in_lists_and_variables_train_as_those_in_tensors():
    agent, other = small_agent(), small_agent()
    data, again = agent.sample(3), other.sample(3)
    lists = data._replace(states=data.states.numpy().tolist(), terminal=tf.Variable(data.terminal))
    agent.train(lists, epochs=1)
    other.train(again, epochs=1)
    assert_same(agent, other)


def test_trajectories_stand_for_all_objects_so_many_actions_away():
    data = small_agent().sample(1)
    data_sets = [runs.data_set(GRID, data, None, within).objects for within in (0, 1, 2, 10**9)]
    for within, objects in enumerate(data_sets[:3]):
        np.testing.assert_array_equal(objects, sampling.objects_seen(GRID, data, within))
    assert len({len(objects) for objects in data_sets}) == 4
    assert len(data_sets[-1]) == GRID.n_states
    agent, by_default, other = small_agent(), small_agent(), small_agent()
    job = {"epochs": 2, "batch_size": 6, "chunk": CHUNK}
    agent.train(data_sets[2], **job)
    by_default.train(data, **job)
    other.train(data, neighbours_within=0, **job)
    assert_same(by_default, agent)
    assert_different(other, agent)


def test_trajectories_are_handed_over_as_they_were_drawn():
    kept = []

    def keep(progress):
        kept.append(progress.trajectories)

    agent, other = small_agent(), small_agent()
    history = agent.train(**ON_POLICY, keep_trajectories=True, callback=keep)
    other.train(**ON_POLICY, callback=lambda progress: kept.append(progress.trajectories))
    assert_same(agent, other)
    kept, none = kept[:4], kept[4:]
    assert none == [None] * 4
    assert [len(chunk.terminal) for chunk in kept] == [6 * 7, 6 * 7, 6 * 7, 6 * 3]
    for chunk in kept:
        sampling.check_trajectories(GRID, chunk, "kept")
        last = chunk.states.numpy()[np.arange(len(chunk.actions)), n_actions(chunk) - 1]
        np.testing.assert_array_equal(last, chunk.terminal)
        np.testing.assert_allclose(chunk.log_reward, GRID.log_reward(chunk.terminal), rtol=1e-12)
    # The first batch was drawn by the untrained policy, and log Z put where its loss is least.
    first = sampling.Trajectories(*(each[:6] for each in kept[0]))
    log_pf, log_pb = sampling.log_probabilities(GRID, small_agent().log_policy, first)
    log_ratio = np.sum(log_pf - log_pb, axis=1) - first.log_reward
    assert history.loss[0] == pytest.approx(np.var(log_ratio), rel=1e-10)


def n_actions(trajectories):
    return np.count_nonzero(trajectories.actions.numpy() >= 0, axis=1)


@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS)
def test_bad_arguments_are_named_and_change_nothing(call, message):
    agent, untouched = small_agent(), small_agent()
    for each in (agent, untouched):
        each.train(**{**ON_POLICY, "iterations": 7})
        each.sample(2)
    with pytest.raises((ValueError, TypeError), match=f"^{re.escape(message)}"):
        call(agent)
    assert_same(agent, untouched)
    assert (agent.iteration, agent.seed, agent.gamma) == (7, 0, 0.5)
    assert draws(agent) == draws(untouched)


def test_a_state_in_which_stop_is_not_allowed_is_no_object():
    agent = GFNAgent(Subsets(), hidden=(8,))
    message = r"terminal\[1\] must be a state in which stop is allowed, got \[0, 1, 0, 0, 0\]"
    with pytest.raises(ValueError, match=message):
        agent.sample_backward([[0, 1, 1, 0, 0], [0, 1, 0, 0, 0]])


def test_an_agent_shows_what_it_is():
    agent = small_agent(seed=4)
    agent.train(**{**ON_POLICY, "iterations": 7})
    assert repr(agent) == f"GFNAgent({GRID}, hidden=(8,), gamma=0.5, seed=4, iteration=7)"


@dataclasses.dataclass(frozen=True)
class NamedGrid(HyperGrid):
    names: tuple = ("across", "up")


def test_an_own_environment_with_a_tuple_among_its_settings_is_loaded(tmp_path):
    agent = GFNAgent(NamedGrid(2, 4), hidden=(8,))
    agent.save(tmp_path / "agent.npz")
    assert_same(GFNAgent.load(tmp_path / "agent.npz", env=NamedGrid(2, 4)), agent)


def test_an_own_environment_is_not_taken_for_one_of_the_package(tmp_path):
    methods = {"log_reward": lambda self, states: 2 * HyperGrid.log_reward(self, states)}
    own = type("HyperGrid", (HyperGrid,), methods)
    GFNAgent(own(2, 4), hidden=(8,)).save(tmp_path / "agent.npz")
    with pytest.raises(ValueError, match="env must be given"):
        GFNAgent.load(tmp_path / "agent.npz")


@pytest.mark.parametrize(
    ("rate", "dtype"), [(1e300, "float32"), (1e300, "float64"), (1e12, "float64")]
)
def test_weights_that_diverge_in_the_last_update_are_not_accepted(rate, dtype):
    agent = GFNAgent(HyperGrid(2, 4), hidden=(8,), learning_rate=rate, dtype=dtype)
    before = everything(agent)
    with pytest.raises(FloatingPointError, match="at iteration 0"):
        agent.train(iterations=1)
    for value, expected in zip(everything(agent), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_saving_into_a_folder_that_is_missing_names_the_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path must lie in a folder .*missing/agent\.npz"):
        GFNAgent(HyperGrid(2, 4), hidden=(8,)).save(tmp_path / "missing" / "agent.npz")
