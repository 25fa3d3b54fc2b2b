"""Estimates against the exact answers that they stand for, and their errors against their promise.

Where a test compares an estimate with the truth it allows 5 standard errors: a right estimate fails
once in 1.7 million seeds. The seeds are fixed, so that it fails for all or for none.
"""

import math
from typing import NamedTuple

import brute_force
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from own_environments import Subsets, Words
from scipy import stats

from gfn_utils import Environment, GFNAgent, HyperGrid, evaluation
from gfn_utils.environments.sequences import EitherEndSequences, LeftToRightSequences
from gfn_utils.evaluation import log_ratios
from gfn_utils.policy import PolicyTable, tabulate, uniform_log_policy
from gfn_utils.rewards import tf_bind_8

GRID = HyperGrid(2, 8)


class UniformAgent(NamedTuple):
    """The least that an agent is: an environment and a log-policy."""

    env: Environment

    @property
    def log_policy(self):
        return uniform_log_policy(self.env)


def answer_key(env):
    return evaluation.answer_key(env, tabulate(env, uniform_log_policy(env)).log_pb)[0]


def nearly_trained(env, spread, seed=0):
    """The answer key with noise in the logits of P_F: the larger, the less even the weights."""
    key = answer_key(env)
    noise = np.random.default_rng(seed).normal(scale=spread, size=key.log_pf.shape)
    return key._replace(log_pf=tf.nn.log_softmax(key.log_pf + noise))


@pytest.fixture(scope="module")
def trained():
    agent = GFNAgent(GRID, seed=1)
    agent.train(iterations=500)
    return agent


@pytest.fixture(scope="module")
def tf_bind():
    return EitherEndSequences(tf_bind_8.log_reward(tf_bind_8.load_scores()))


def coverage(agent, objects, n_trajectories=64):
    """The share of objects whose exact log P_T is within 1.96 errors of the estimate."""
    env = agent.env
    exact = np.log(evaluation.terminating_distribution(agent)[env.index(objects)])
    value, error = evaluation.log_probability(agent, objects, n_trajectories)
    assert value.shape == error.shape == exact.shape
    several_ways = np.exp(evaluation.log_count_trajectories(env))[env.index(objects)] > 1.5
    np.testing.assert_allclose(value[~several_ways], exact[~several_ways], rtol=0, atol=1e-9)
    return np.mean(abs(value - exact)[several_ways] <= 1.96 * error[several_ways])


# Of some 2,000 independent intervals of 95% a share of 0.95 ± 0.005 covers: a right error fails
# these bounds once in 500,000 seeds, one that is 25% too small or too large always.
BOUNDS = (0.925, 0.973)


def test_intervals_of_a_trained_agent_on_the_grid_hold_the_truth(trained):
    low, high = BOUNDS
    assert low <= coverage(trained, tf.repeat(GRID.states(), 40, axis=0)) <= high


def test_intervals_of_an_untrained_agent_on_the_grid_hold_the_truth():
    low, high = BOUNDS
    untrained = GFNAgent(GRID, seed=1)
    assert low <= coverage(untrained, tf.repeat(GRID.states(), 40, axis=0)) <= high


def test_intervals_on_tf_bind_8_hold_the_truth(tf_bind):
    low, high = BOUNDS
    words = tf_bind.complete_states().numpy()
    words = tf.constant(words[np.random.default_rng(0).integers(0, len(words), 2000)])
    for agent in (GFNAgent(tf_bind, hidden=(16,), seed=1), nearly_trained(tf_bind, spread=0.1)):
        assert low <= coverage(agent, words) <= high


def test_intervals_are_too_short_where_few_trajectories_carry_the_probability(randomise):
    agent = randomise(GFNAgent(GRID, hidden=(8,)), seed=0, scale=0.5)
    objects = tf.repeat(GRID.states(), 20, axis=0)
    few, many = (coverage(agent, objects, n) for n in (4, 64))
    assert 0.5 < few < many < 0.9


@pytest.mark.parametrize(("spread", "share"), [(0.5, 94), (1, 92), (2, 79), (3, 60)])
def test_intervals_of_log_normal_weights_are_as_short_as_the_docstring_says(spread, share):
    log_w = np.random.default_rng(0).normal(-(spread**2) / 2, spread, size=(20_000, 64))
    value, error = evaluation.estimates._log_mean_exp(log_w)
    # 20,000 intervals tell the share to 0.35 points, or less.
    assert 100 * np.mean(abs(value) <= 1.96 * error) == pytest.approx(share, abs=1.5)
    by_delta = np.std(np.exp(log_w - value[:, None]), axis=1, ddof=1) / 8
    assert (by_delta < error * 1.01).all()


def test_the_error_is_that_of_leaving_one_out():
    agent = nearly_trained(HyperGrid(2, 4), spread=1.0)
    objects = agent.env.states()[-1:]
    ratios = log_ratios.backward_log_ratios(agent, objects, 12, seed=0)[0]
    value, error = evaluation.log_probability(agent, objects, n_trajectories=12, seed=0)
    left_out = [math.log(np.mean(np.exp(np.delete(ratios, i)))) for i in range(12)]
    assert value[0] == pytest.approx(math.log(np.mean(np.exp(ratios))), abs=1e-12)
    assert error[0] == pytest.approx(np.std(left_out) * math.sqrt(11), rel=1e-9)
    assert error[0] > 0.01


def test_the_mean_ratio_is_the_probability(randomise):
    # Sets, of which not all may be the last, under a policy and a way back of strong views.
    agent = randomise(GFNAgent(Subsets(), hidden=(8,), state_flow=True), seed=3, scale=0.5)
    exact = evaluation.terminating_distribution(agent)
    can_stop = agent.env.members.sum(axis=1) >= 2
    ratios = np.exp(
        log_ratios.backward_log_ratios(agent, tf.constant(agent.env.members[can_stop]), 4000, 0)
    )
    error = ratios.std(axis=1) / math.sqrt(4000)
    assert (abs(ratios.mean(axis=1) - exact[can_stop]) < 5 * error + 1e-12).all()
    assert np.median(error / exact[can_stop]) < 0.05


@pytest.mark.parametrize("env", [GRID, Subsets()], ids=["grid", "sets"])
def test_the_answer_key_has_even_weights_and_no_gap(env):
    key, rng = answer_key(env), np.random.default_rng(0)
    target = env.target()
    samples = tf.gather(env.states(), rng.choice(env.n_states, 20, p=target))
    value, error = evaluation.log_probability(key, samples, n_trajectories=5)
    np.testing.assert_allclose(value, np.log(target[env.index(samples)]), rtol=0, atol=1e-9)
    np.testing.assert_allclose(error, 0, rtol=0, atol=1e-9)
    bounds = evaluation.log_z_bounds(key, 50, samples)
    each = (bounds.elbo, bounds.importance_weighted_elbo)
    for bound in (*each, bounds.eubo, bounds.importance_weighted_eubo):
        assert bound == pytest.approx((env.log_partition(), 0), abs=1e-9)
    assert bounds.gap == pytest.approx((0, 0), abs=1e-9)
    assert bounds.effective_sample_size == pytest.approx(50, rel=1e-9)


def log_weights_of_all_trajectories(agent):
    """P_F, π·P_B and log w of every trajectory of a small grid, each `[n]`."""
    ndim, height = agent.env.ndim, agent.env.height
    number = {cell: row for row, cell in enumerate(brute_force.cells(ndim, height))}
    log_pf, log_pb = (table.numpy() for table in agent.log_policy(agent.env.states())[:2])
    forward, backward = [], []
    for passed, actions in brute_force.trajectories(ndim, height):
        forward.append(sum(log_pf[number[c], a] for c, a in zip(passed, actions, strict=True)))
        back = sum(log_pb[number[c], a] for c, a in zip(passed[1:], actions[:-1], strict=True))
        backward.append(back + math.log(brute_force.reward(passed[-1], height)))
    forward, backward = np.array(forward), np.array(backward)
    log_z = agent.env.log_partition()
    return np.exp(forward), np.exp(backward - log_z), backward - forward


@pytest.fixture(scope="module")
def bounds_on_a_small_grid():
    agent = nearly_trained(HyperGrid(2, 4), spread=0.7)
    rows = np.random.default_rng(0).choice(16, 4000, p=agent.env.target())
    bounds = evaluation.log_z_bounds(agent, 4000, tf.gather(agent.env.states(), rows))
    return bounds, log_weights_of_all_trajectories(agent), agent.env.log_partition()


def test_elbo_and_eubo_are_the_means_over_all_trajectories(bounds_on_a_small_grid):
    bounds, (forward, backward, log_w), log_z = bounds_on_a_small_grid
    for estimate, p in ((bounds.elbo, forward), (bounds.eubo, backward)):
        exact = p @ log_w
        spread = math.sqrt(p @ (log_w - exact) ** 2)
        assert abs(estimate.value - exact) < 5 * estimate.standard_error
        # 4,000 samples tell a spread to 3% or so.
        assert estimate.standard_error == pytest.approx(spread / math.sqrt(4000), rel=0.15)
    forward_kl, backward_kl = (
        p @ np.log(p / q) for p, q in ((forward, backward), (backward, forward))
    )
    assert forward @ log_w == pytest.approx(log_z - forward_kl, abs=1e-9)
    assert backward @ log_w == pytest.approx(log_z + backward_kl, abs=1e-9)
    gap, error = bounds.gap
    assert abs(gap - forward_kl - backward_kl) < 5 * error
    assert forward_kl + backward_kl > 0.1 > 2 * error
    assert abs(forward - backward).sum() / 2 < math.sqrt(forward_kl + backward_kl) / 2


def test_weighted_bounds_are_tighter_and_near_log_z(bounds_on_a_small_grid):
    bounds, (forward, _, log_w), log_z = bounds_on_a_small_grid
    lower, upper = bounds.importance_weighted_elbo, bounds.importance_weighted_eubo
    assert bounds.elbo.value < lower.value
    assert upper.value < bounds.eubo.value
    for bound in (lower, upper):
        assert abs(bound.value - log_z) < 5 * bound.standard_error < 0.2
    # The share of n that is left in the limit: (E w)² / E w².
    share = (forward @ np.exp(log_w)) ** 2 / (forward @ np.exp(2 * log_w))
    assert bounds.effective_sample_size / 4000 == pytest.approx(share, rel=0.15)


def test_few_weights_bound_log_z_on_average():
    agent = nearly_trained(HyperGrid(2, 4), spread=0.7)
    log_w = log_ratios.own_log_weights(agent, 8000, seed=0).reshape(-1, 2)
    of_two = np.log(np.mean(np.exp(log_w), axis=1))
    error = of_two.std() / math.sqrt(len(of_two))
    assert log_w.mean() + 5 * error < of_two.mean() < agent.env.log_partition() - 5 * error


def test_only_samples_of_the_target_tell_of_what_the_agent_never_visits():
    env = HyperGrid(2, 4)
    table = tabulate(env, uniform_log_policy(env))
    never_up = np.where([True, False, True], table.log_pf, -np.inf)
    agent = PolicyTable(env, tf.nn.log_softmax(never_up), table.log_pb)
    value, error = evaluation.log_probability(agent, [[0, 1], [2, 0]])
    assert (value[0], error[0]) == (-math.inf, math.inf)
    assert value[1] == pytest.approx(math.log(1 / 8), abs=1e-12)
    rows = np.random.default_rng(0).choice(16, 2000, p=env.target())
    bounds = evaluation.log_z_bounds(agent, 2000, tf.gather(env.states(), rows))
    visited = math.log(sum(brute_force.reward((x, 0), 4) for x in range(4)))
    assert bounds.importance_weighted_elbo.value == pytest.approx(visited, abs=0.1)
    assert visited < env.log_partition() - 0.5
    assert bounds.eubo == bounds.gap == (math.inf, math.inf)
    value, error = bounds.importance_weighted_eubo
    assert abs(value - env.log_partition()) < 5 * error < 0.5


def test_there_is_no_upper_bound_without_samples_of_the_target():
    bounds = evaluation.log_z_bounds(UniformAgent(HyperGrid(1, 4)), 10)
    assert bounds.eubo is None
    assert bounds.importance_weighted_eubo is None
    with pytest.raises(ValueError, match=r"log_z_bounds\(target_samples=…\)"):
        bounds.gap  # noqa: B018


def test_along_a_tree_the_value_is_exact(tf_bind):
    env = LeftToRightSequences(tf_bind.log_reward_of)
    words = env.states_of(["ACGTACGT", "TTTTTTTT"])
    agent = GFNAgent(env, hidden=(8,), dtype="float32", seed=2)
    value, error = evaluation.log_probability(agent, words, n_trajectories=2)
    expected = [0.0, 0.0]
    for row, word in enumerate(words.numpy()):
        for k in range(9):
            prefix = np.where(np.arange(8) < k, word, 0)
            action = word[k] - 1 if k < 8 else env.stop_action
            expected[row] += float(agent.log_policy([prefix])[0][0, action])
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(error, 0, rtol=0, atol=1e-6)


def test_what_cannot_be_listed_is_estimated():
    # Along an axis there is one way, and ten equally probable actions in each of its cells.
    agent = UniformAgent(HyperGrid(9, 11))
    objects = np.zeros([2, 9], np.int32)
    objects[1, 4] = 7
    value, error = evaluation.log_probability(agent, objects, n_trajectories=3)
    np.testing.assert_allclose(value, [-math.log(10), -8 * math.log(10)], rtol=1e-12)
    np.testing.assert_allclose(error, 0, rtol=0, atol=1e-12)
    words = evaluation.log_z_bounds(UniformAgent(Words()), 2000)
    log_z = math.log(sum(3 * (math.e + 2) ** (k - 1) for k in range(1, 7)) + 1)
    value, error = words.importance_weighted_elbo
    assert abs(value - log_z) < 5 * error < 1.5


def test_a_reward_may_be_ordinary_python():
    class InPython(Words):
        python_reward = True

        def log_reward(self, states):
            assert type(states) is np.ndarray
            return super().log_reward(tf.constant(states)).numpy()

    words = [[1, 1, 2, 0, 0, 0], [3, 3, 3, 3, 3, 3], [1, 2, 1, 2, 1, 2]]
    one, other = UniformAgent(Words()), UniformAgent(InPython())
    assert evaluation.log_z_bounds(one, 50, words) == evaluation.log_z_bounds(other, 50, words)
    assert evaluation.correlation(one, words) == evaluation.correlation(other, words)


def test_a_seed_decides_and_blocks_differ(monkeypatch):
    agent, seeds = nearly_trained(HyperGrid(2, 4), spread=0.5), (0, 0, 1)
    objects = tf.repeat(agent.env.states()[-1:], 6, axis=0)
    first, again, other = (
        evaluation.log_probability(agent, objects, 8, s).value for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.isin(first, other).any()
    assert len(np.unique(first)) > 1
    monkeypatch.setattr(log_ratios, "ROWS_AT_ONCE", 8)
    assert len(np.unique(evaluation.log_probability(agent, objects, 8).value)) > 1
    bounds = [evaluation.log_z_bounds(agent, 20, objects, seed=s).elbo.value for s in seeds]
    assert bounds[0] == bounds[1] != bounds[2]


def test_where_actions_are_many_fewer_trajectories_are_drawn_at_once(monkeypatch):
    agent = nearly_trained(HyperGrid(2, 4), spread=0.5)
    asked = []
    recording = UniformAgent(agent.env)
    monkeypatch.setattr(log_ratios, "NUMBERS_AT_ONCE", 3 * 5)
    monkeypatch.setattr(log_ratios, "_go_back", lambda env, policy, states, seed: states[:, 0])
    monkeypatch.setattr(
        log_ratios, "_compiled", lambda agent, walk, n: lambda states, seed: asked.append(states)
    )
    monkeypatch.setattr(np, "concatenate", lambda _: np.zeros(12))
    log_ratios.backward_log_ratios(recording, agent.env.states()[:6], 2, 0)
    assert [len(states) for states in asked] == [5, 5, 2]


def test_an_agent_is_taken_as_it_is_now(trained):
    agent = GFNAgent(GRID, seed=2)
    objects = [[5, 5]]
    before = evaluation.log_probability(agent, objects).value
    agent.policy.set_weights(trained.policy.get_weights())
    after = evaluation.log_probability(agent, objects).value
    np.testing.assert_array_equal(after, evaluation.log_probability(trained, objects).value)
    agent.reset()
    np.testing.assert_array_equal(evaluation.log_probability(agent, objects).value, before)


def test_correlations_are_those_of_scipy(trained):
    objects = np.random.default_rng(0).permutation(GRID.states())[:30]
    found = evaluation.correlation(trained, objects, n_trajectories=8, seed=5)
    log_p = evaluation.log_probability(trained, objects, n_trajectories=8, seed=5).value
    log_r = GRID.log_reward(objects)
    assert found.pearson == pytest.approx(stats.pearsonr(log_p, log_r)[0], abs=1e-12)
    assert found.spearman == pytest.approx(stats.spearmanr(log_p, log_r)[0], abs=1e-12)
    assert found.pearson > 0.9
    measured = -np.arange(30.0)
    found = evaluation.correlation(trained, objects, 8, 5, log_rewards=measured)
    assert found.pearson == pytest.approx(stats.pearsonr(log_p, measured)[0], abs=1e-12)


def test_correlations_that_are_not_defined(trained):
    objects = GRID.states()[:4]
    assert np.isnan(evaluation.correlation(trained, objects, 2, log_rewards=[1.0] * 4)).all()
    found = evaluation.correlation(trained, objects, 2, log_rewards=[-math.inf, 0, 1, 2])
    assert math.isnan(found.pearson)
    assert -1 <= found.spearman <= 1


@given(st.lists(st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 7.0]), min_size=2, max_size=12))
def test_equal_values_share_their_ranks(values):
    ranks = evaluation.estimates._ranks(np.array(values))
    np.testing.assert_array_equal(ranks, stats.rankdata(values))


@given(
    st.lists(st.floats(-700, 700) | st.just(-math.inf), min_size=1, max_size=20).filter(
        lambda log_w: max(log_w) > -math.inf
    )
)
def test_effective_sample_size_is_kishs(log_w):
    w = [math.exp(each - max(log_w)) for each in log_w]
    found = evaluation.effective_sample_size(log_w)
    assert found == pytest.approx(sum(w) ** 2 / sum(each**2 for each in w), rel=1e-12)
    assert 1 - 1e-12 <= found <= len(w) + 1e-9
    assert evaluation.effective_sample_size(np.repeat(log_w, 3)) == pytest.approx(3 * found)


@pytest.mark.parametrize(
    "wrong", [[], [-math.inf] * 2, [0, math.nan], [math.inf], None, ["a"], [[0.0]]], ids=repr
)
def test_weights_that_are_none_have_no_sample_size(wrong):
    with pytest.raises((ValueError, TypeError), match="log_weights must"):
        evaluation.effective_sample_size(wrong)


AGENT = UniformAgent(HyperGrid(2, 4))
SOME = [[0, 1], [3, 2]]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (lambda: evaluation.log_probability(GRID, SOME), "agent must be a GFNAgent"),
        (lambda: evaluation.log_z_bounds(None), "agent must be a GFNAgent"),
        (lambda: evaluation.correlation("agent", SOME), "agent must be a GFNAgent"),
        (lambda: evaluation.log_probability(AGENT, [[0, 4]]), r"objects\[0\] must be a state"),
        (lambda: evaluation.log_probability(AGENT, []), "objects must"),
        (lambda: evaluation.log_probability(AGENT, [[0.5, 1]]), "objects must"),
        (
            lambda: evaluation.log_probability(UniformAgent(Subsets()), [[1, 0, 0, 0, 0]]),
            r"objects\[0\] must be a state in which stop is allowed",
        ),
        (
            lambda: evaluation.log_probability(AGENT, SOME, n_trajectories=1),
            "n_trajectories must be an integer of at least 2, got 1",
        ),
        (lambda: evaluation.log_probability(AGENT, SOME, seed=-1), "seed must be an integer"),
        (lambda: evaluation.log_z_bounds(AGENT, 1), "n_samples must be an integer of at least 2"),
        (lambda: evaluation.log_z_bounds(AGENT, seed=0.5), "seed must be an integer"),
        (lambda: evaluation.log_z_bounds(AGENT, 2, [[9, 9]]), r"target_samples\[0\] must be"),
        (
            lambda: evaluation.log_z_bounds(AGENT, 2, [[1, 1]]),
            "the number of target_samples must be an integer of at least 2, got 1",
        ),
        (lambda: evaluation.correlation(AGENT, [[0, 1]]), "the number of objects must be"),
        (
            lambda: evaluation.correlation(AGENT, SOME, log_rewards=[1.0]),
            r"log_rewards must be of shape \[2\], got shape \[1\]",
        ),
        (
            lambda: evaluation.correlation(AGENT, SOME, log_rewards=[1.0, math.nan]),
            "log_rewards must be finite or -inf, got nan",
        ),
    ],
)
def test_bad_input_is_named(question, message):
    with pytest.raises((ValueError, TypeError), match=message):
        question()


def test_a_policy_of_nan_is_refused():
    table = tabulate(AGENT.env, AGENT.log_policy)
    broken = table._replace(log_pf=table.log_pf + math.nan)
    for question in (
        lambda: evaluation.log_probability(broken, SOME),
        lambda: evaluation.log_z_bounds(broken, 10),
    ):
        with pytest.raises(ValueError, match="agent must give log P_F and log P_B"):
            question()
