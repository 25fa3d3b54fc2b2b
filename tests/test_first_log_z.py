"""Where log Z starts, that a factor in R changes nothing but log Z, and who says so if it does."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from own_environments import Words
from small_jobs import BOTH_WAYS, GRID, ON_POLICY, WITHOUT_XLA, small_agent

from gfn_utils import GFNAgent, HyperGrid, LeftToRightSequences, evaluation, losses, sampling
from gfn_utils.environments import Environment, PaintedGrid
from gfn_utils.runs import History


def painted(env, factor):
    """The same grid with all rewards times `factor`."""
    reward = np.exp(env.log_reward(env.states())).reshape([env.height] * 2)
    return PaintedGrid(factor * reward)


@WITHOUT_XLA
@pytest.mark.parametrize("objective", losses.OBJECTIVES)
@BOTH_WAYS
def test_a_factor_in_the_reward_changes_nothing_but_log_z(objective, job):
    def learned(factor):
        agent = GFNAgent(painted(GRID, factor), hidden=(8,), seed=3)
        agent.train(**job, objective=objective)
        return evaluation.terminating_distribution(agent), float(agent.log_z) - np.log(factor)

    p, log_z = learned(1.0)
    for factor in (1e-30, 1e-3, 1e30):
        p_scaled, log_z_scaled = learned(factor)
        np.testing.assert_allclose(p_scaled, p, rtol=1e-6)
        if losses.learns_log_z(objective):  # the others leave log Z alone
            assert log_z_scaled == pytest.approx(log_z, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e3, 1e30])
def test_the_default_job_is_as_exact_on_rewards_of_any_size(scale):
    env = painted(HyperGrid(), scale)
    agent = GFNAgent(env, seed=0)
    agent.train(agent.sample(5000, explore=True), epochs=200)
    # 399 of 400 seeds end below 0.02 on the grid itself.
    assert evaluation.l1_error(evaluation.terminating_distribution(agent), env.target()) < 0.02


@WITHOUT_XLA
@BOTH_WAYS
def test_log_z_starts_at_the_first_batchs_mean(job):
    agent, again = small_agent(seed=2), small_agent(seed=2, log_z=0.0)
    start = agent.train(**{**job, "chunk": 1}, callback=lambda progress: True)
    # The gradient of the loss in log Z is 0 there, so Adam has left it in place.
    estimate = start.log_z[0]
    if "data" in job:
        order = np.random.default_rng((2, 0, 0)).permutation(16)[:6]
        terminal = tf.gather(GRID.states(), order)
        first = sampling.sample_backward(GRID, again.log_policy, terminal, tf.constant([4, 0]))
    else:
        first = sampling.sample_forward(GRID, again.log_policy, 6, tf.constant([4, 0]), 0.5)
    log_pf, log_pb = sampling.log_probabilities(GRID, again.log_policy, first)
    expected = np.mean(first.log_reward + np.sum(log_pb - log_pf, axis=1))
    assert estimate == pytest.approx(expected, abs=1e-6)


@WITHOUT_XLA
@BOTH_WAYS
def test_a_log_z_that_was_given_or_set_is_where_it_starts(job):
    once = {**job, "chunk": 1, "callback": lambda progress: True}
    given, by_hand = small_agent(log_z=5.0), small_agent()
    by_hand.log_z.assign(5.0)
    assert float(given.log_z) == 5.0
    for agent in (given, by_hand):
        assert agent.train(**once).log_z[0] == pytest.approx(5.0, abs=0.11)  # a step of 0.1
    given.reset()
    assert float(given.log_z) == 5.0
    zero = small_agent(log_z=0.0).train(**once).log_z[0]
    assert abs(zero) < 0.11
    with pytest.raises(ValueError, match=r"log_z must be finite .*, got nan"):
        small_agent(log_z=float("nan"))
    with pytest.raises(TypeError, match="log_z must be a number, got '2'"):
        small_agent(log_z="2")


def test_a_given_log_z_is_saved_and_loaded(tmp_path):
    small_agent(log_z=2.5).save(tmp_path / "agent.npz")
    loaded = GFNAgent.load(tmp_path / "agent.npz")
    assert float(loaded.log_z) == 2.5
    loaded.reset()
    assert float(loaded.log_z) == 2.5


@WITHOUT_XLA
def test_state_flows_that_come_later_begin_at_log_z():
    agent = small_agent(log_z=40.0)
    agent.train(**ON_POLICY, objective="trajectory_balance")
    before = float(agent.log_z)
    agent.train(
        **{**ON_POLICY, "chunk": 1}, objective="detailed_balance", callback=lambda progress: True
    )
    assert np.asarray(agent.log_flow(GRID.states())) == pytest.approx(before, abs=2)


class Choice(Environment):
    """Which k of n things, each with a weight of its own: too many sets to list."""

    def __init__(self, log_weight, k):
        self.log_weight, self.k = np.asarray(log_weight), k
        self.state_shape, self.n_actions = (len(log_weight),), len(log_weight) + 1
        self.max_trajectory_length = k + 1

    def initial_states(self, batch_size):
        return tf.zeros([batch_size, *self.state_shape], tf.int32)

    def forward_mask(self, states):
        full = tf.reduce_sum(states, axis=1, keepdims=True) == self.k
        return tf.concat([(states == 0) & ~full, full], axis=1)

    def backward_mask(self, states):
        return tf.convert_to_tensor(states) == 1

    def step(self, states, actions):
        return states + tf.one_hot(actions, len(self.log_weight), dtype=tf.int32)

    def back_step(self, states, actions):
        return states - tf.one_hot(actions, len(self.log_weight), dtype=tf.int32)

    def encode(self, states):
        return tf.cast(states, tf.float32)

    def log_reward(self, states):
        return tf.linalg.matvec(tf.cast(states, tf.float64), self.log_weight)

    def exact(self):
        """log Z and the share of the sets that hold each thing, by symmetric polynomials."""

        def total(weights, k):
            sums = np.eye(1, k + 1)[0]
            for weight in weights:
                sums[1:] = sums[1:] + weight * sums[:-1]
            return sums[k]

        weights = np.exp(self.log_weight)
        z = total(weights, self.k)
        without = [total(np.delete(weights, i), self.k - 1) for i in range(len(weights))]
        return np.log(z), weights * without / z


def test_ten_of_thirty_things_with_the_defaults():
    env = Choice(np.random.default_rng(0).normal(size=30), 10)
    log_z, share = env.exact()
    agent = GFNAgent(env)
    agent.train(iterations=2000)
    assert float(agent.log_z) == pytest.approx(log_z, abs=0.02)
    # 20,000 samples know a share to 0.0035 (one standard error).
    found = np.mean(agent.sample(20_000).terminal, axis=0)
    assert np.abs(found - share).max() < 0.02


@WITHOUT_XLA
def test_log_z_of_long_words_starts_near_what_they_are():
    weight = np.random.default_rng(0).normal(size=50 * 20)

    def log_reward(letters):
        return tf.reduce_sum(tf.gather(weight, letters + 20 * tf.range(50)), axis=1)

    agent = GFNAgent(LeftToRightSequences(log_reward, length=50, alphabet="ACDEFGHIKLMNPQRSTVWY"))
    first = agent.train(iterations=4, batch_size=8, chunk=4).log_z[0]
    # A random word has a log R of 0 ± 7, and one history of probability 20^-50: the mean of eight.
    assert first == pytest.approx(50 * np.log(20), abs=4 * 7 / np.sqrt(8))


def history_of(log_z):
    return History(np.zeros(len(log_z)), np.asarray(log_z, float), np.zeros(0), np.zeros(0))


def test_how_far_log_z_travelled():
    # The last quarter of 0, 1, ..., 100 are the steps from 75 to 100.
    assert history_of(range(101)).log_z_travel == 25
    assert history_of(range(0, -101, -1)).log_z_travel == -25
    assert history_of([0, 1] * 50).log_z_travel == 0
    assert history_of([3.0]).log_z_travel == 0


def test_a_run_that_ends_before_log_z_is_found_says_so():
    agent = small_agent(log_z=-40.0)
    with pytest.warns(UserWarning, match=r"log Z was still on its way.* it went \+[0-9.]+ nats"):
        agent.train(iterations=200, batch_size=6, chunk=7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small_agent().train(iterations=200, batch_size=6, chunk=7)
        small_agent(log_z=-40.0).train(**ON_POLICY)  # too short to be judged
        GFNAgent(Words(), hidden=(8,)).train(iterations=1000, batch_size=6, chunk=50)
