"""Exact answers against the enumeration of every trajectory; distances against SciPy."""

import itertools
import math

import brute_force
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from own_environments import Graph, Subsets, Words
from scipy.spatial.distance import jensenshannon
from scipy.stats import binom

from gfn_utils import GFNAgent, HyperGrid, evaluation
from gfn_utils.policy import PolicyTable, tabulate, uniform_log_policy

GRIDS = [(1, 6), (2, 4), (2, 5), (3, 4)]

# Unnormalised, so that zeros, equal entries and single peaks all come up.
PAIRS_OF_DISTRIBUTIONS = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        *[
            st.lists(st.sampled_from([0.0, 0.001, 0.3, 1.0, 5.0]), min_size=n, max_size=n).filter(
                any
            )
        ]
        * 2
    )
)


@pytest.fixture(scope="module", params=GRIDS, ids=str)
def grid(request):
    return request.param


@pytest.fixture
def agent(grid, randomise):
    return randomise(GFNAgent(HyperGrid(*grid), hidden=(8,)), seed=sum(grid))


@pytest.fixture
def p_forward(grid, agent):
    logits, _ = agent.policy(agent.env.encode(agent.env.states()))
    policy = brute_force.forward_policy(*grid, logits.numpy())
    # What follows means little for a policy near uniform.
    assert max(p for row in policy.values() for p in row.values()) > 0.95
    return policy


def normalised(pair):
    return [np.array(p) / sum(p) for p in pair]


def test_terminating_distribution_is_the_sum_over_all_trajectories(grid, agent, p_forward):
    p = evaluation.terminating_distribution(agent)
    expected = brute_force.terminating_distribution(*grid, p_forward)
    np.testing.assert_allclose(p, expected, rtol=0, atol=1e-10)
    assert p.sum() == pytest.approx(1, abs=1e-12)


def test_flows_are_the_sum_over_all_trajectories_that_pass(grid, agent, p_forward):
    state, edge = evaluation.flows(agent, z=7.0)
    expected = dict.fromkeys(brute_force.cells(*grid), 0.0)
    expected_edge = {(cell, action): 0.0 for cell in expected for action in range(grid[0] + 1)}
    for passed, actions in brute_force.trajectories(*grid):
        p = brute_force.probability(passed, actions, p_forward)
        for cell, action in zip(passed, actions, strict=True):
            expected[cell] += 7 * p
            expected_edge[cell, action] += 7 * p
    np.testing.assert_allclose(state, list(expected.values()), rtol=0, atol=1e-10)
    np.testing.assert_allclose(edge.ravel(), list(expected_edge.values()), rtol=0, atol=1e-10)


def test_what_flows_in_flows_out(grid, agent):
    z = 3.5
    state, edge = evaluation.flows(agent, z)
    number = {cell: row for row, cell in enumerate(brute_force.cells(*grid))}
    inflow = np.zeros_like(state)
    inflow[number[(0,) * grid[0]]] = z
    for cell, row in number.items():
        for action, parent in brute_force.parents(cell).items():
            inflow[row] += edge[number[parent], action]
    np.testing.assert_allclose(inflow, state, rtol=0, atol=1e-12)
    np.testing.assert_allclose(edge.sum(axis=1), state, rtol=0, atol=1e-12)
    assert edge[:, agent.env.stop_action].sum() == pytest.approx(z, abs=1e-12)


@pytest.mark.parametrize("backward", ["uniform", "random"])
def test_answer_key_has_no_imbalance_on_any_trajectory(grid, agent, backward):
    env = agent.env
    log_policy = uniform_log_policy(env) if backward == "uniform" else agent.log_policy
    log_pb = tabulate(env, log_policy).log_pb
    key, log_z = evaluation.answer_key(env, log_pb)
    assert log_z == pytest.approx(env.log_partition(), abs=1e-12)
    np.testing.assert_array_equal(key.log_pb, log_pb)
    np.testing.assert_allclose(np.exp(key.log_pf).sum(axis=1), 1, rtol=0, atol=1e-12)
    number = {cell: row for row, cell in enumerate(brute_force.cells(*grid))}
    log_pf, log_pb = key.log_pf.numpy(), np.asarray(log_pb)
    count = 0
    for passed, actions in brute_force.trajectories(*grid):
        imbalance = log_z - math.log(brute_force.reward(passed[-1], env.height))
        for t, action in enumerate(actions):
            imbalance += log_pf[number[passed[t]], action]
            if action != env.stop_action:
                imbalance -= log_pb[number[passed[t + 1]], action]
        assert abs(imbalance) < 1e-9, (passed, actions)
        count += 1
    assert count == evaluation.count_trajectories(env).sum()


@pytest.mark.parametrize("backward", ["uniform", "random"])
def test_answer_key_samples_in_proportion_to_the_reward(agent, backward):
    env = agent.env
    log_policy = uniform_log_policy(env) if backward == "uniform" else agent.log_policy
    key, _ = evaluation.answer_key(env, tabulate(env, log_policy).log_pb)
    learned = evaluation.terminating_distribution(key)
    np.testing.assert_allclose(learned, env.target(), rtol=0, atol=1e-12)


def test_answer_key_where_not_every_state_may_be_the_last():
    env = Subsets()
    key, log_z = evaluation.answer_key(env, tabulate(env, uniform_log_policy(env)).log_pb)
    reward = np.where(env.members.sum(axis=1) >= 2, np.exp(env.log_reward(env.members)), 0)
    learned = evaluation.terminating_distribution(key)
    np.testing.assert_allclose(learned, reward / reward.sum(), rtol=0, atol=1e-12)
    assert log_z == pytest.approx(math.log(reward.sum()), abs=1e-12)


def test_answer_key_refuses_the_policy_of_another_grid():
    log_pb = np.zeros([16, 2])
    with pytest.raises(ValueError, match=r"log_pb must be of shape \[25, 2\], got \[16, 2\]"):
        evaluation.answer_key(HyperGrid(2, 5), log_pb)


def test_number_of_trajectories_on_a_line_and_a_square():
    assert evaluation.count_trajectories(HyperGrid(1, 9)).tolist() == [1] * 9
    expected = [math.comb(x + y, x) for x, y in brute_force.cells(2, 8)]
    assert evaluation.count_trajectories(HyperGrid(2, 8)).tolist() == expected


def test_number_of_trajectories_is_that_of_the_enumeration(grid):
    count = dict.fromkeys(brute_force.cells(*grid), 0)
    for passed, _ in brute_force.trajectories(*grid):
        count[passed[-1]] += 1
    assert evaluation.count_trajectories(HyperGrid(*grid)).tolist() == list(count.values())


def test_number_of_trajectories_of_sets_is_a_factorial():
    env = Subsets()
    expected = [math.factorial(sum(members)) for members in env.members]
    assert evaluation.count_trajectories(env).tolist() == expected


@given(PAIRS_OF_DISTRIBUTIONS)
def test_distances_against_scipy_and_their_bounds(pair):
    p, q = normalised(pair)
    l1, js = evaluation.l1_error(p, q), evaluation.jensen_shannon(p, q)
    assert l1 == pytest.approx(np.linalg.norm(p - q, ord=1), abs=1e-14)
    assert evaluation.total_variation(p, q) == pytest.approx(l1 / 2, abs=1e-15)
    assert js == pytest.approx(jensenshannon(p, q) ** 2, abs=1e-12)
    assert 0 <= l1 <= 2 + 1e-12
    assert -1e-15 <= js <= math.log(2) + 1e-12
    assert evaluation.jensen_shannon(q, p) == pytest.approx(js, abs=1e-15)


@given(PAIRS_OF_DISTRIBUTIONS.filter(lambda pair: len(pair[0]) <= 8))
def test_total_variation_is_the_largest_difference_over_events(pair):
    p, q = normalised(pair)
    events = itertools.product([False, True], repeat=len(p))
    largest = max(abs(p[list(event)].sum() - q[list(event)].sum()) for event in events)
    assert evaluation.total_variation(p, q) == pytest.approx(largest, abs=1e-12)


def test_distances_at_their_ends():
    p, q = [0.25, 0.75, 0, 0], [0, 0, 0.5, 0.5]
    assert evaluation.l1_error(p, q) == 2
    assert evaluation.total_variation(p, q) == 1
    assert evaluation.jensen_shannon(p, q) == pytest.approx(math.log(2), abs=1e-15)
    assert evaluation.l1_error(p, p) == evaluation.jensen_shannon(p, p) == 0


def test_distances_refuse_distributions_over_different_states():
    for distance in (evaluation.l1_error, evaluation.total_variation, evaluation.jensen_shannon):
        with pytest.raises(ValueError, match=r"the same shape, got \(2,\) and \(3,\)"):
            distance([0.5, 0.5], [0.5, 0.5, 0])


@pytest.mark.parametrize("n_samples", [1, 7, 100, 2000])
@pytest.mark.parametrize(
    "target",
    [
        HyperGrid().target(),
        [0.25, 0.5, 0.25],
        [0.1, 0.2, 0.3, 0.4, 0.0],
        [1.0, 0.0],
        [1 - 1e-12, 1e-12],
    ],
    ids=["grid", "whole counts", "with a zero", "certain", "nearly certain"],
)
def test_noise_floor_is_the_binomial_expectation(target, n_samples):
    k = np.arange(n_samples + 1)
    expected = sum(np.sum(binom.pmf(k, n_samples, p) * abs(k / n_samples - p)) for p in target)
    assert evaluation.noise_floor(target, n_samples) == pytest.approx(expected, abs=1e-10)


def test_noise_floor_is_what_perfect_samples_show():
    env, n_samples, n_runs = HyperGrid(), 2000, 10_000
    rng = np.random.default_rng(0)
    errors = abs(rng.multinomial(n_samples, env.target(), n_runs) / n_samples - env.target())
    errors = errors.sum(axis=1)
    floor = evaluation.noise_floor(env.target(), n_samples)
    assert round(floor, 2) == 0.09
    # 5 standard errors: a right value fails once in 1.7 million seeds.
    assert abs(errors.mean() - floor) < 5 * errors.std() / math.sqrt(n_runs)
    assert 5 * errors.std() / math.sqrt(n_runs) < 0.01 * floor


def test_noise_floor_needs_a_sample():
    with pytest.raises(ValueError, match="n_samples must be an integer of at least 1, got 0"):
        evaluation.noise_floor([0.5, 0.5], 0)


def test_empirical_distribution_counts():
    env = HyperGrid(2, 4)
    p = evaluation.empirical_distribution(env, [[0, 0], [3, 1], [3, 1], [0, 2]]).reshape(4, 4)
    assert p.shape == (4, 4)
    assert (p[0, 0], p[3, 1], p[0, 2], p.sum()) == (0.25, 0.5, 0.25, 1)


def test_empirical_distribution_refuses_what_is_no_state():
    message = r"terminal\[1\] must be a state of HyperGrid\(.*\), got \[0, 4\]"
    with pytest.raises(ValueError, match=message):
        evaluation.empirical_distribution(HyperGrid(2, 4), [[0, 0], [0, 4]])


def test_modes_found_counts_each_mode_once():
    env = HyperGrid()
    modes = [[1, 1], [1, 6], [6, 1], [6, 6]]
    assert env.states().numpy()[evaluation.is_mode(env)].tolist() == modes
    assert evaluation.modes_found(env, [[0, 0], [7, 7], [1, 2]]) == 0
    assert evaluation.modes_found(env, [[1, 1], [6, 1], [1, 1], [3, 3]]) == 2
    assert evaluation.modes_found(env, modes) == 4


def test_a_policy_table_is_an_agent_too(agent):
    table = tabulate(agent.env, agent.log_policy)
    assert isinstance(table, PolicyTable)
    shuffled = np.random.default_rng(0).permutation(agent.env.n_states)
    states = tf.gather(agent.env.states(), shuffled)
    for looked_up, computed in zip(table.log_policy(states), agent.log_policy(states), strict=True):
        np.testing.assert_allclose(looked_up, computed, rtol=1e-14)
    np.testing.assert_array_equal(
        evaluation.terminating_distribution(table), evaluation.terminating_distribution(agent)
    )


@pytest.mark.parametrize(
    "question",
    [
        evaluation.terminating_distribution,
        evaluation.flows,
        lambda agent: evaluation.answer_key(agent.env, np.zeros([1, 3])),
        lambda agent: evaluation.count_trajectories(agent.env),
        lambda agent: evaluation.empirical_distribution(agent.env, np.zeros([1, 6], int)),
        lambda agent: evaluation.is_mode(agent.env),
        lambda agent: evaluation.modes_found(agent.env, np.zeros([1, 6], int)),
    ],
    ids=["terminating", "flows", "answer_key", "count", "empirical", "is_mode", "modes_found"],
)
def test_exact_questions_need_an_environment_that_lists_its_states(question):
    with pytest.raises(ValueError, match="Words"):
        question(GFNAgent(Words(), hidden=(8,)))


@pytest.mark.parametrize("shape", [(1, 9), (2, 8), (3, 4)])
def test_logarithms_of_the_number_of_trajectories(shape):
    env = HyperGrid(*shape)
    expected = [
        math.lgamma(sum(cell) + 1) - sum(math.lgamma(x + 1) for x in cell)
        for cell in brute_force.cells(*shape)
    ]
    np.testing.assert_allclose(evaluation.log_count_trajectories(env), expected, atol=1e-12)


def test_more_trajectories_than_a_float_holds():
    env = HyperGrid(2, 540)
    with pytest.raises(OverflowError, match="log_count_trajectories gives their logarithm"):
        evaluation.count_trajectories(env)
    log_count = evaluation.log_count_trajectories(env).reshape(540, 540)
    # C(1078, 539), about 10³²³.
    expected = math.log(math.comb(1078, 539))
    assert log_count[-1, -1] == pytest.approx(expected, rel=1e-12)
    assert log_count[7, 500] == pytest.approx(math.log(math.comb(507, 7)), rel=1e-12)


def test_exact_answers_refuse_what_is_no_policy():
    env = HyperGrid(2, 4)
    table = tabulate(env, uniform_log_policy(env))
    for log_pf in (np.zeros([16, 3]), table.log_pb, table.log_pf + np.nan):
        with pytest.raises(ValueError, match=r"agent must give log P_F of shape \[16, 3\]"):
            evaluation.terminating_distribution(PolicyTable(env, log_pf, table.log_pb))


def test_exact_answers_refuse_a_cycle():
    env = Graph([[1, None], [2, None], [None, 1]], [True] * 3, max_trajectory_length=5)
    with pytest.raises(ValueError, match="a graph without cycles"):
        evaluation.count_trajectories(env)


def test_a_state_that_cannot_be_reached_is_not_an_origin():
    env = Graph([[2, None], [2, None], [None, None]], [True] * 3, max_trajectory_length=2)
    assert evaluation.count_trajectories(env).tolist() == [1, 0, 1]
    assert evaluation.log_count_trajectories(env).tolist() == [0, -np.inf, 0]


NO_DISTRIBUTIONS = [
    None,
    "ab",
    0.5,
    [],
    {},
    ["0.5", "0.5"],
    [0.5, None],
    [[0.5, 0.5], [1.0]],
    [True, False],
    [0.5, math.nan],
    [math.inf, 0.5],
    [1.5, -0.5],
    [0.5, 0.4],
    [0.0, 0.0],
    [2.0, 3.0],
    Ellipsis,
]


@pytest.mark.parametrize("wrong", NO_DISTRIBUTIONS, ids=repr)
def test_what_is_no_distribution_is_refused(wrong):
    for distance in (evaluation.l1_error, evaluation.total_variation, evaluation.jensen_shannon):
        with pytest.raises((ValueError, TypeError), match="p must be"):
            distance(wrong, [0.5, 0.5])
        with pytest.raises((ValueError, TypeError), match="q must be"):
            distance([0.5, 0.5], wrong)
    with pytest.raises((ValueError, TypeError), match="target must be"):
        evaluation.noise_floor(wrong, 10)


@pytest.mark.parametrize("z", [math.nan, math.inf, -1.0, None, "1", [1.0]], ids=repr)
def test_flows_need_a_finite_z(z):
    table = tabulate(HyperGrid(1, 4), uniform_log_policy(HyperGrid(1, 4)))
    with pytest.raises((ValueError, TypeError), match="z must be"):
        evaluation.flows(table, z)


@pytest.mark.parametrize(
    "log_pb",
    [
        np.zeros([16, 2]),  # probabilities of 1 for both parents
        np.full([16, 2], np.log(0.5)),  # at the edges half of it is for parents that are none
        np.full([16, 2], math.nan),
        np.full([16, 2], -math.inf),
        [["a", "b"]] * 16,
        None,
    ],
    ids=["ones", "halves", "nan", "nowhere", "letters", "None"],
)
def test_answer_key_refuses_what_is_no_backward_policy(log_pb):
    with pytest.raises((ValueError, TypeError), match="log_pb must be"):
        evaluation.answer_key(HyperGrid(2, 4), log_pb)


@pytest.mark.parametrize("wrong", [None, "grid", HyperGrid(1, 4), HyperGrid], ids=repr)
def test_only_agents_are_evaluated(wrong):
    for question in (evaluation.terminating_distribution, evaluation.flows):
        with pytest.raises(TypeError, match="agent must be a GFNAgent"):
            question(wrong)


@pytest.mark.parametrize("wrong", [None, "grid", HyperGrid, 3, []], ids=repr)
def test_only_environments_have_exact_answers(wrong):
    for question in (
        evaluation.count_trajectories,
        evaluation.log_count_trajectories,
        evaluation.is_mode,
        lambda env: evaluation.empirical_distribution(env, [[0]]),
        lambda env: evaluation.modes_found(env, [[0]]),
        lambda env: evaluation.answer_key(env, [[0.0]]),
    ):
        with pytest.raises(TypeError, match="env must be an Environment"):
            question(wrong)


def test_modes_of_numbers_are_counted_once_each():
    # States that are numbers, not rows; of the two best ones one may not be the last.
    env = Graph([[1, 2], [None, 3], [3, None], [None, None]], [True] * 3 + [False], 4)
    assert evaluation.is_mode(env).tolist() == [False, False, True, False]
    assert evaluation.modes_found(env, [2, 1, 2]) == 1


def test_an_environment_may_number_states_that_it_does_not_list():
    class Numbered(Words):
        def index(self, states):
            return tf.reduce_sum(states, axis=1)

    with pytest.raises(ValueError, match=r"that lists its states, got .*Numbered"):
        evaluation.empirical_distribution(Numbered(), np.zeros([1, 6], int))


def test_states_that_no_table_knows_are_refused():
    for terminal in ([[9] * 5], [[-1] * 5], [[2, 0, 0, 0, 0]], [[1, 1, 1, 1, 1]]):
        with pytest.raises(ValueError, match=r"terminal\[0\] must be a state"):
            evaluation.empirical_distribution(Subsets(), terminal)


def test_exact_answers_are_those_of_the_environment_as_it_is():
    env = Graph([[1, 2], [None, 3], [3, None], [None, None]], [True] * 4, max_trajectory_length=4)
    assert evaluation.count_trajectories(env).tolist() == [1, 1, 1, 2]
    env.children[1, 1] = -1
    env.parents[3, 1] = -1
    assert evaluation.count_trajectories(env).tolist() == [1, 1, 1, 1]
