"""Conditional environments and agents: one network for many rewards, exact for each."""

import numpy as np
import pytest
import tensorflow as tf
from own_environments import Subsets
from same_agents import assert_same
from small_jobs import GRID, WITHOUT_XLA

from gfn_utils import GFNAgent, LeftToRightSequences, ReplayBuffer, evaluation, losses, training
from gfn_utils.environments import Conditional, ContractError, check_environment
from gfn_utils.networks.log_z import log_z_of
from gfn_utils.policy import uniform_log_policy

POWERS = np.linspace(0.2, 2.0, 10)[:, None]
JOB = {"iterations": 12, "batch_size": 6, "chunk": 6}


def power_of_reward(env):
    """log R^β of the condition β, by a table."""
    table = tf.constant(env.log_reward(env.states()))

    def log_reward(states, conditions):
        return conditions[:, 0] * tf.gather(table, env.index(states))

    return log_reward


def grid_of_powers(each=1, powers=POWERS, **settings):
    return Conditional(
        GRID, powers, power_of_reward(GRID), trajectories_per_condition=each, **settings
    )


def test_the_contract_holds():
    # Walks of all ten conditions: every cell of each.
    assert check_environment(grid_of_powers())[0] == 160
    subsets = Subsets()
    check_environment(Conditional(subsets, POWERS, power_of_reward(subsets), lambda c: c**2))


def test_the_contract_asks_that_no_action_changes_the_condition():
    class Forgets(Conditional):
        def step(self, states, actions):
            moved = super().step(states, actions)
            return self.with_condition(self.base_states(moved), 0)

    with pytest.raises(ContractError, match="step must leave the condition"):
        check_environment(Forgets(GRID, POWERS, power_of_reward(GRID)))


def test_origins_are_drawn_evenly_and_by_the_seed():
    env = grid_of_powers(each=3)
    origins = np.asarray(env.origins(30_001, tf.constant([5, 1], tf.int64)))
    assert origins.shape == (30_001, 3)
    assert (origins[:, :2] == 0).all()
    number = origins[:, 2]
    assert (number[:-1].reshape(-1, 3) == number[:-1:3, None]).all()
    # 10,000 draws of ten: the counts scatter by 30 (one standard error) round 1,000.
    assert np.abs(np.bincount(number[::3], minlength=10) - 1000).max() < 5 * 30
    again = env.origins(30_001, tf.constant([5, 1], tf.int64))
    np.testing.assert_array_equal(again, origins)
    assert (np.asarray(env.origins(30_001, tf.constant([5, 2], tf.int64))) != origins).any()


@pytest.mark.parametrize("compiles", [False, True])
def test_a_program_draws_the_origins_that_are_drawn_without_one(compiles):
    env, seed = grid_of_powers(each=3), tf.constant([5, 1], tf.int64)
    program = tf.function(env.origins, jit_compile=compiles, autograph=False)
    np.testing.assert_array_equal(program(100, seed), env.origins(100, seed))


@pytest.mark.parametrize("beta", [0.2, 0.7, 2.0])
def test_the_environment_of_a_condition_is_an_ordinary_one(beta):
    given = grid_of_powers().given([beta])
    assert isinstance(given, type(GRID))
    rewards = np.exp(np.asarray(GRID.log_reward(GRID.states()))) ** beta
    np.testing.assert_allclose(given.target(), rewards / rewards.sum(), rtol=1e-12)
    assert given.log_partition() == pytest.approx(np.log(rewards.sum()), abs=1e-12)
    other = grid_of_powers().given([beta])
    assert given != other  # their rewards need not be the same
    check_environment(given)
    key, log_z = evaluation.answer_key(given, uniform_log_policy(given)(given.states())[1])
    learned = evaluation.terminating_distribution(key)
    np.testing.assert_allclose(learned, given.target(), atol=1e-12)
    assert log_z == given.log_partition()


def test_an_agent_given_a_condition_of_the_table_says_what_the_whole_agent_says(randomise):
    env = grid_of_powers()
    agent = randomise(GFNAgent(env, hidden=(8,)), 0)
    for weight in agent.log_z_network.weights:
        weight.assign(np.random.default_rng(1).normal(size=weight.shape))
    given = agent.given(POWERS[4])
    whole = agent.log_policy(env.with_condition(GRID.states(), 4))
    for found, expected in zip(given.log_policy(GRID.states()), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    features = env.encode_condition(env.with_condition(GRID.states(), 4))
    expected = float(agent.log_z) + np.asarray(agent.log_z_network(features))[0, 0]
    assert given.log_z == pytest.approx(expected, abs=1e-12)
    drawn, again = given.sample(500, seed=3), given.sample(500, seed=3)
    np.testing.assert_array_equal(drawn.terminal, again.terminal)
    frequency = evaluation.empirical_distribution(given.env, given.sample(20_000).terminal)
    exact = evaluation.terminating_distribution(given)
    # 5 standard errors of the most frequent of 20,000.
    assert np.abs(frequency - exact).max() < 5 * np.sqrt(exact.max() / 20_000)


@pytest.mark.parametrize("objective", ["trajectory_balance", "detailed_balance", "log_variance"])
def test_an_update_is_that_of_plain_gradients(objective, randomise):
    """Compiled, blockwise and with the network of log Z, against one tape over everything."""
    env = grid_of_powers(each=2)
    flows = objective == "detailed_balance"
    agent = GFNAgent(env, hidden=(8,), state_flow=flows, log_z=0.5, clip_norm=None)
    randomise(agent, 3, scale=0.3)
    weights, kind = agent._weights(), agent.kind
    job = training.Job(kind, objective, 6)
    rates, settings = agent._settings(
        type("Plan", (), {"n_together": 1, "total": 1, "decay": "constant"}), 0, 0.9
    )
    drawn = training.draw_batch(job, agent._state_now(), settings, None)
    log_reward = env.log_reward(drawn.trajectories.terminal)
    state, loss = training.learn(
        job, agent._state_now(), drawn, log_reward, rates[0], settings, None
    )
    with tf.GradientTape() as tape:
        tape.watch(weights)
        log_policy = training.log_policy_of_weights(kind)(weights)
        scores = training.score(env, log_policy, drawn.trajectories, losses.SCORES[: 2 + flows])
        log_z = log_z_of(env, weights[-kind.n_log_z :], drawn.trajectories.states[:, 0])
        each = losses.evaluate(
            objective,
            **scores,
            taken=drawn.trajectories.actions != -1,
            log_reward=log_reward,
            log_z=log_z,
            origin=drawn.trajectories.states[:, 0],
        )
        expected = tf.reduce_mean(each)
    assert float(loss) == pytest.approx(float(expected), rel=1e-10)
    gradients = tape.gradient(expected, weights, unconnected_gradients="zero")
    rates = [rates[0, 0]] * (len(weights) - kind.n_log_z) + [rates[0, 1]] * kind.n_log_z
    betas = tf.unstack(settings.betas)
    by_hand = training.adam_step(agent._state_now(), gradients, rates, *betas)
    for found, wanted in zip(state.weights, by_hand.weights, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9)


def test_log_variance_compares_trajectories_of_one_condition_alone():
    log_pf = tf.constant([[-1.0], [-2.0], [-5.0], [-9.0]], tf.float64)
    origin = tf.constant([[0, 3], [0, 3], [0, 4], [0, 4]])
    zero = tf.zeros([4], tf.float64)
    loss = losses.log_variance(log_pf, 0 * log_pf, zero, origin=origin)
    np.testing.assert_allclose(loss, [0.25, 0.25, 4, 4])
    weight = tf.constant([1.0, 1, 1, 0], tf.float64)
    loss = losses.log_variance(log_pf, 0 * log_pf, zero, weight, origin)
    np.testing.assert_allclose(loss[:3], [0.25, 0.25, 0])


def test_it_learns_conditions_that_it_never_saw():
    env = grid_of_powers(powers=np.linspace(0.2, 2.0, 40)[:, None])
    agent = GFNAgent(env, hidden=(32, 32), learning_rate=0.005)
    agent.train(iterations=1500, batch_size=32)
    for beta in (0.33, 1.0, 1.77):
        given = agent.given([beta])
        learned = evaluation.terminating_distribution(given)
        assert evaluation.total_variation(learned, given.env.target()) < 0.05
        assert given.log_z == pytest.approx(given.env.log_partition(), abs=0.1)


@WITHOUT_XLA
def test_a_reward_in_python_trains_as_the_compiled_one():
    table = np.asarray(GRID.log_reward(GRID.states())).reshape(4, 4)

    def log_reward(states, conditions):
        assert isinstance(states, np.ndarray)
        return conditions[:, 0] * table[states[:, 0], states[:, 1]]

    in_python = Conditional(GRID, POWERS, log_reward, python_reward=True)
    found = GFNAgent(in_python, hidden=(8,)).train(**JOB)
    expected = GFNAgent(grid_of_powers(), hidden=(8,)).train(**JOB)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-9)
    assert in_python.given([0.5]).log_partition() == pytest.approx(
        grid_of_powers().given([0.5]).log_partition(), abs=1e-12
    )


@WITHOUT_XLA
def test_offline_replay_and_a_saved_agent(tmp_path):
    env = grid_of_powers()
    agent = GFNAgent(env, hidden=(8,))
    objects = env.with_condition(tf.repeat(GRID.states(), 10, axis=0), np.tile(np.arange(10), 16))
    agent.train(objects, epochs=1, batch_size=6, chunk=6)
    agent.train(**JOB, replay=ReplayBuffer(100))
    agent.save(tmp_path / "agent.npz")
    loaded = GFNAgent.load(tmp_path / "agent.npz", env)
    assert_same(loaded, agent)
    np.testing.assert_array_equal(loaded.train(**JOB).loss, agent.train(**JOB).loss)
    other = grid_of_powers(powers=POWERS + 0.1)
    with pytest.raises(ValueError, match="env must be"):
        GFNAgent.load(tmp_path / "agent.npz", other)
    before = [weight.numpy() for weight in agent.log_z_network.weights]
    assert any(np.any(weight) for weight in before[-2:])  # it has learned something
    agent.reset()
    assert not np.any(agent.log_z_network.weights[-2])


def test_estimates_of_one_condition_agree_with_what_is_exact():
    agent = GFNAgent(grid_of_powers(), hidden=(8,))
    given = agent.given([1.0])
    exact = np.log(evaluation.terminating_distribution(given))
    estimate = evaluation.log_probability(given, GRID.states(), n_trajectories=200)
    assert np.abs((estimate.value - exact) / np.maximum(estimate.standard_error, 1e-9)).max() < 6


def test_words_can_be_conditional_too():
    words = LeftToRightSequences(lambda letters: tf.zeros(tf.shape(letters)[:1]), 3, "AB")

    def log_reward(states, conditions):
        return conditions[:, 0] * tf.reduce_sum(tf.cast(states == 2, tf.float64), axis=1)

    env = Conditional(words, POWERS, log_reward)
    check_environment(env)
    # Each B multiplies the reward by exp(β): log Z = 3 log(1 + exp(β)).
    assert env.given([0.7]).log_partition() == pytest.approx(3 * np.log1p(np.exp(0.7)), abs=1e-12)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"base": None}, "env must be an Environment"),
        ({"conditions": [1.0, 2.0]}, r"conditions must be of shape \[K, D\]"),
        ({"conditions": [[np.nan]]}, "conditions must be finite"),
        ({"conditions": "x"}, "conditions must"),
        ({"log_reward_of": 3}, "log_reward_of must be a function"),
        ({"encode_condition_of": 3}, "encode_condition_of must be a function"),
        ({"encode_condition_of": lambda c: c[:1]}, r"encode_condition_of must give features of"),
        ({"encode_condition_of": lambda c: np.log(0 * c)}, "must give finite numbers"),
        ({"trajectories_per_condition": 0}, "trajectories_per_condition must be"),
        ({"python_reward": 1}, "python_reward of Conditional must be True or False"),
        ({"base": grid_of_powers()}, "base must be an environment without conditions"),
    ],
)
def test_wrong_arguments_are_named(changed, message):
    arguments = {"base": GRID, "conditions": POWERS, "log_reward_of": power_of_reward(GRID)}
    with pytest.raises((TypeError, ValueError), match=message):
        Conditional(**{**arguments, **changed})


def test_what_has_no_conditions_says_so():
    with pytest.raises(ValueError, match="given needs an agent of a Conditional environment"):
        GFNAgent(GRID, hidden=(8,)).given([1.0])
    with pytest.raises(ValueError, match="condition must be 1 finite numbers"):
        grid_of_powers().given([1.0, 2.0])
    with pytest.raises(ValueError, match="has no conditions"):
        GRID.encode_condition(GRID.states())
    with pytest.raises(ValueError, match="it compares trajectories that share a condition"):
        GFNAgent(grid_of_powers(), hidden=(8,)).train(**JOB, objective="log_variance")


def test_samples_under_conditions_that_are_given_with_the_call(randomise):
    agent = randomise(GFNAgent(grid_of_powers(), hidden=(8,), gamma=0.0), seed=1)
    asked = np.array([[0.33], [1.7]])
    drawn = agent.sample(40_000, conditions=asked)
    number = drawn.terminal[:, -1].numpy()
    assert set(number) == {0, 1}
    cells = GRID.index(agent.env.base_states(drawn.terminal)).numpy()
    rewards = np.asarray(GRID.log_reward(GRID.states()))[cells] * asked[number, 0]
    np.testing.assert_allclose(drawn.log_reward, rewards, rtol=1e-6)
    for row, condition in enumerate(asked):
        seen = np.bincount(cells[number == row], minlength=16)
        expected = evaluation.terminating_distribution(agent.given(condition)) * seen.sum()
        scatter = np.sqrt(np.maximum(expected, 1))
        assert (np.abs(seen - expected) < 5 * scatter).all()  # false alarm: 2e-5


def test_sampling_under_conditions_needs_conditions():
    with pytest.raises(ValueError, match="conditions needs an agent of a Conditional environment"):
        GFNAgent(GRID, hidden=(4,)).sample(3, conditions=[[1.0]])
    with pytest.raises(ValueError, match=r"conditions must be of shape \[K, D\]"):
        GFNAgent(grid_of_powers(), hidden=(4,)).sample(3, conditions=[1.0])


def test_given_environments_differ_in_rewards_alone_and_share_their_programs():
    env = grid_of_powers()
    one, other = env.given([0.5]), env.given([1.5])
    assert one.graph_key() == other.graph_key() != GRID.graph_key()
    losses_of = {}
    for beta, given in ((0.5, one), (1.5, other)):
        agent = GFNAgent(given, hidden=(8,), seed=0)
        losses_of[beta] = agent.train(iterations=5, track_error=False).loss
        training.forget_programs()
        again = GFNAgent(env.given([beta]), hidden=(8,), seed=0)
        fresh = again.train(iterations=5, track_error=False).loss
        np.testing.assert_array_equal(fresh, losses_of[beta])
    assert losses_of[0.5][0] != losses_of[1.5][0]
    listless = Conditional(Subsets(), [[1.0]], power_of_reward(Subsets())).given([1.0])
    assert listless.graph_key() is listless


def test_a_given_environment_keeps_all_attributes_of_its_base():
    class Wrapped(Subsets):
        def __init__(self):
            self.base = "what a wrapper of one's own may call its inner environment"

        def log_reward(self, states):
            raise AssertionError("under a condition it is not asked")

    wrapped = Wrapped()
    given = Conditional(wrapped, [[1.0]], lambda states, c: c[:, 0]).given([2.0])
    assert given.base == wrapped.base
    assert given.graph_key() is given
    np.testing.assert_array_equal(given.log_reward(given.initial_states(2)), [2.0, 2.0])
