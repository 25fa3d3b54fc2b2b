"""What of an agent can be set, and what setting it by hand does."""

import numpy as np
import pytest
import tensorflow as tf
from same_agents import assert_same, everything
from small_jobs import GRID, ON_POLICY, small_agent

from gfn_utils import GFNAgent, HyperGrid


@pytest.mark.parametrize(
    "name", ["learning_rate", "log_z_learning_rate", "gamma", "clip_norm", "weight_decay"]
)
def test_rates_are_checked_whenever_they_are_set(name, tmp_path):
    agent = small_agent()
    before = getattr(agent, name)
    none = [] if name == "clip_norm" else [None]
    for wrong in (-0.1, float("nan"), "0.1", *none, [0.1], True):
        with pytest.raises((TypeError, ValueError), match=f"{name} must be"):
            setattr(agent, name, wrong)
        assert getattr(agent, name) == before
    for number in (np.float32(0.25), np.array(0.25), tf.constant(0.25), np.float64(0.25)):
        setattr(agent, name, number)
        assert type(getattr(agent, name)) is float
    agent.save(tmp_path / "agent.npz")
    assert getattr(GFNAgent.load(tmp_path / "agent.npz"), name) == 0.25


def test_a_rate_that_was_set_takes_effect():
    agent, as_made = small_agent(), small_agent(learning_rate=0.03, log_z_learning_rate=0.5)
    agent.learning_rate, agent.log_z_learning_rate = 0.03, 0.5
    for each in (agent, as_made):
        each.train(**ON_POLICY)
    assert_same(agent, as_made)


def one_update(**settings):
    """The weights of policy and log Z after one update, and before it."""
    agent = small_agent(log_z=3.0, first_weights="fan_in", **settings)
    before = [weight.numpy() for weight in [*agent.policy.weights, agent.log_z]]
    agent.train(**{**ON_POLICY, "iterations": 1})
    return [weight.numpy() for weight in [*agent.policy.weights, agent.log_z]], before


def test_kernels_alone_decay():
    rate, decay = 0.01, 0.5
    free, before = one_update(learning_rate=rate)
    decayed, _ = one_update(learning_rate=rate, weight_decay=decay)
    for found, expected, weight in zip(decayed, free, before, strict=True):
        shrunk = rate * decay * weight if weight.ndim == 2 else 0 * weight
        np.testing.assert_allclose(found, expected - shrunk, rtol=1e-13, atol=1e-15)


def test_a_gradient_is_clipped_at_its_norm():
    free, before = one_update()
    for found, expected in zip(one_update(clip_norm=1e9)[0], free, strict=True):
        np.testing.assert_array_equal(found, expected)
    # Adam divides a gradient by its length, but for 1e-7: it notices what is shorter than that.
    moved = [np.abs(w - b).max() for w, b in zip(free, before, strict=True)]
    clipped, _ = one_update(clip_norm=1e-12)
    for found, weight, far in zip(clipped, before, moved, strict=True):
        assert np.abs(found - weight).max() < 1e-4 * far


@pytest.mark.parametrize("betas", [(0.9, 1.0), (-0.1, 0.9), (0.9,), 0.9, "ab", None, (0.9, "x")])
def test_betas_are_checked_whenever_they_are_set(betas):
    agent = small_agent()
    with pytest.raises((TypeError, ValueError), match="adam_betas must be a"):
        agent.adam_betas = betas
    assert agent.adam_betas == (0.7, 0.95)


@pytest.mark.parametrize(
    "name", ["env", "kind", "policy", "log_z", "state_flow", "seed", "iteration", "first_weights"]
)
def test_what_an_agent_is_cannot_be_replaced(name):
    agent = small_agent()
    with pytest.raises(AttributeError, match=name):
        setattr(agent, name, getattr(small_agent(seed=1), name))


def test_weights_set_by_hand_are_saved_and_grown(tmp_path):
    agent = small_agent()
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=weight.shape) for weight in agent.policy.weights]
    agent.policy.set_weights(weights)
    agent.log_z.assign(5.0)
    agent.save(tmp_path / "agent.npz")
    loaded = GFNAgent.load(tmp_path / "agent.npz")
    assert float(loaded.log_z) == 5.0
    for found, expected in zip(loaded.policy.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(found, expected)
    agent._add_state_flow()
    assert float(agent.log_z) == 5.0
    for found, expected in zip(agent.policy.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(found, expected)
    agent.reset()
    assert float(agent.log_z) == 0.0


def test_every_seed_has_first_weights_of_its_own():
    def first(seed):
        return small_agent(seed=seed).policy.get_weights()[0].tobytes()

    assert len({first(seed) for seed in (0, 1, 2, 1000, 2**31 - 2, 2**31 - 1)}) == 6
    kernels = [layer.kernel.numpy() for layer in GFNAgent(HyperGrid(32, 4)).policy.layers[1:]]
    assert not np.allclose(kernels[0][:32, :32] * 4, kernels[1])


def test_a_callback_cannot_change_the_run_by_its_history():
    def spoil(progress):
        for curve in progress.history:
            curve[:] = -1

    agent, other = small_agent(), small_agent()
    history, expected = agent.train(**ON_POLICY, callback=spoil), other.train(**ON_POLICY)
    for found, value in zip(history, expected, strict=True):
        np.testing.assert_array_equal(found, value)
    assert_same(agent, other)


@pytest.mark.parametrize("result", ["no", [], np.array([True, False]), 1, 0.0])
def test_a_callback_says_stop_by_true_and_nothing_else(result):
    with pytest.raises(TypeError, match="callback must return True"):
        small_agent().train(**ON_POLICY, callback=lambda progress: result)


def test_what_is_wrong_is_said_before_anything_is_trained():
    from own_environments import Words

    agent = GFNAgent(Words(), hidden=(8,))
    before = everything(agent)
    job = {"iterations": 24, "batch_size": 6, "chunk": 7}
    for wrong in (
        {"callback": [1]},
        {"track_error": True},
        {"track_error": "no"},
        {"chunk": 10**8},
        {"decay": None},
        {"objective": ["trajectory_balance"]},
    ):
        (name,) = wrong
        with pytest.raises((TypeError, ValueError), match=f"{name} must be"):
            agent.train(**{**job, **wrong})
    with pytest.raises(TypeError, match="explore must be True or False, got 'False'"):
        agent.sample(3, explore="False")
    for found, value in zip(everything(agent), before, strict=True):
        np.testing.assert_array_equal(found, value)


def test_states_that_are_none_are_named():
    agent = small_agent(state_flow=True)
    for ask in (agent.log_policy, agent.log_flow):
        for wrong in ([[0, 4]], [[-1, 0]], [[0.5, 0]], [[0, 0, 0]], "ab", None, []):
            with pytest.raises((TypeError, ValueError), match=r"^states"):
                ask(wrong)
    trajectories = agent.sample(5)
    for field, wrong in (
        ("actions", trajectories.actions + 3),
        ("actions", trajectories.actions[:, :-1]),
        ("states", trajectories.states + 3),
        ("states", trajectories.states[:, :, :1]),
        ("terminal", trajectories.terminal + 4),
    ):
        with pytest.raises((TypeError, ValueError), match=rf"^data\.{field}"):
            agent.train(trajectories._replace(**{field: wrong}), epochs=1)
    assert agent.iteration == 0
    assert GRID.n_states == 16
