"""Sampled trajectories: their structure, their statistics, and the probabilities given to them.

The statistical tests have fixed seeds; a right sampler fails each of them at one seed in 10,000.
"""

import itertools
import math
from collections import Counter

import brute_force
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from own_environments import Graph, Subsets, Words
from scipy.stats import chi2

from gfn_utils import GFNAgent, HyperGrid, sampling
from gfn_utils.networks import DenseNetwork
from gfn_utils.policy import (
    masked_log_softmax,
    network_log_policy,
    tabulate,
    uniform_log_policy,
)

LEVEL = 1e-4


def assert_drawn_from(counts, probabilities):
    """Pearson's chi-square test at LEVEL, cells with an expected count below 5 taken together."""
    counts, expected = np.asarray(counts), np.asarray(probabilities) * np.sum(counts)
    assert expected.sum() == pytest.approx(counts.sum())
    rare = expected < 5
    counts, expected = (
        np.append(array[~rare], array[rare].sum() if rare.any() else [])
        for array in (counts, expected)
    )
    statistic = np.sum((counts - expected) ** 2 / np.maximum(expected, 1e-300))
    assert len(counts) > 4
    assert statistic < chi2.isf(LEVEL, len(counts) - 1)


@pytest.fixture
def agent(randomise):
    """An agent of strong views on a 5×5 grid."""
    return randomise(GFNAgent(HyperGrid(2, 5), hidden=(8,), seed=3), seed=7)


@pytest.fixture
def log_policy(agent):
    """The agent's log-policy as a table, which is quick to ask."""
    return tabulate(agent.env, agent.log_policy).log_policy


def numpy_policies(agent):
    logits = agent.policy(agent.env.encode(agent.env.states()))
    grid = agent.env.ndim, agent.env.height
    return (
        brute_force.forward_policy(*grid, logits[0].numpy()),
        brute_force.backward_policy(*grid, logits[1].numpy()),
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_forward_samples_follow_the_exact_distribution_of_the_mixture(agent, gamma):
    p_forward, _ = numpy_policies(agent)
    mixed = {
        cell: {action: (1 - gamma) * p + gamma / len(row) for action, p in row.items()}
        for cell, row in p_forward.items()
    }
    expected = brute_force.terminating_distribution(2, 5, mixed)
    agent.gamma = gamma
    terminal = agent.sample(50_000, explore=True).terminal
    counts = np.bincount(agent.env.index(terminal), minlength=25)
    assert_drawn_from(counts, expected)
    # The test has the power to tell the three mixtures apart.
    other = brute_force.terminating_distribution(2, 5, p_forward if gamma else _uniform(p_forward))
    with pytest.raises(AssertionError):
        assert_drawn_from(counts, other)


def _uniform(p_forward):
    return {cell: dict.fromkeys(row, 1 / len(row)) for cell, row in p_forward.items()}


def test_without_explore_gamma_plays_no_part(agent):
    p_forward, _ = numpy_policies(agent)
    agent.gamma = 1.0
    terminal = agent.sample(50_000).terminal
    counts = np.bincount(agent.env.index(terminal), minlength=25)
    assert_drawn_from(counts, brute_force.terminating_distribution(2, 5, p_forward))


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_whole_forward_paths_come_as_often_as_they_should(agent, log_policy, gamma):
    p_forward, _ = numpy_policies(agent)
    mixed = {
        cell: {action: (1 - gamma) * p + gamma / len(row) for action, p in row.items()}
        for cell, row in p_forward.items()
    }
    paths = {
        tuple(actions): brute_force.probability(passed, actions, mixed)
        for passed, actions in brute_force.trajectories(2, 5)
    }
    # So many that a temperature 3 % off shows.
    drawn = sampling.sample_forward(agent.env, log_policy, 300_000, tf.constant([5, 6]), gamma)
    counts = count_paths(drawn)
    assert set(counts) <= set(paths)
    assert_drawn_from([counts[path] for path in paths], list(paths.values()))


def count_paths(trajectories):
    """How often each sequence of actions came, without the padding."""
    return Counter(tuple(row[row >= 0].tolist()) for row in trajectories.actions.numpy())


def backward_paths(p_backward, cell):
    """{actions: probability} of every path from the cell back to the origin of the 5×5 grid."""
    paths = {}
    for passed, actions in brute_force.trajectories(2, 5):
        if passed[-1] == cell:
            steps = zip(passed[1:], actions[:-1], strict=True)
            paths[tuple(actions)] = math.prod(p_backward[s][action] for s, action in steps)
    return paths


@pytest.mark.parametrize("cell", [(4, 4), (2, 3)])
def test_whole_backward_paths_come_as_often_as_they_should(agent, cell):
    _, p_backward = numpy_policies(agent)
    paths = backward_paths(p_backward, cell)
    assert len(paths) == math.comb(sum(cell), cell[0])
    assert sum(paths.values()) == pytest.approx(1)
    counts = count_paths(agent.sample_backward(np.tile(cell, [50_000, 1])))
    assert set(counts) <= set(paths)
    assert_drawn_from([counts[path] for path in paths], list(paths.values()))
    with pytest.raises(AssertionError):
        assert_drawn_from([counts[path] for path in paths], [1 / len(paths)] * len(paths))


def assert_well_formed(env, trajectories):
    """What every batch of trajectories must be, forward or backward, found one action at a time."""
    states, actions, terminal, log_reward = (np.asarray(part) for part in trajectories)
    batch_size, length = len(terminal), env.max_trajectory_length
    assert states.shape == (batch_size, length + 1, *env.state_shape)
    assert actions.shape == (batch_size, length)
    assert terminal.shape == (batch_size, *env.state_shape)
    assert states.dtype == actions.dtype == terminal.dtype == np.int32
    assert log_reward.dtype == np.float64
    origin = np.asarray(env.initial_states(1))[0]
    allowed = env.forward_mask(tf.maximum(states.reshape(-1, *env.state_shape), 0)).numpy()
    allowed = allowed.reshape(batch_size, length + 1, env.n_actions)
    for row in range(batch_size):
        (stop,) = np.flatnonzero(actions[row] == env.stop_action)
        assert (actions[row, :stop] >= 0).all()
        assert (actions[row, stop + 1 :] == -1).all()
        assert (states[row, stop + 1 :] == -1).all()
        assert (states[row, 0] == origin).all()
        assert (states[row, stop] == terminal[row]).all()
        for t in range(stop + 1):
            assert allowed[row, t, actions[row, t]]
        if stop > 0:
            moved = env.step(tf.constant(states[row, :stop]), tf.constant(actions[row, :stop]))
            np.testing.assert_array_equal(states[row, 1 : stop + 1], moved)
    np.testing.assert_allclose(log_reward, env.log_reward(terminal), rtol=1e-14)


@given(
    st.builds(HyperGrid, ndim=st.integers(1, 3), height=st.integers(4, 6)),
    st.integers(1, 9),
    st.integers(0, 2**40),
)
def test_trajectories_are_well_formed_on_every_grid(env, batch_size, seed):
    log_policy, seed = uniform_log_policy(env), tf.constant([seed, 1], tf.int64)
    forward = sampling.sample_forward(env, log_policy, batch_size, seed)
    assert_well_formed(env, forward)
    far = tf.fill([1, env.ndim], env.height - 1)
    terminal = tf.concat([forward.terminal, env.initial_states(1), far], axis=0)
    backward = sampling.sample_backward(env, log_policy, terminal, seed)
    assert_well_formed(env, backward)
    np.testing.assert_array_equal(backward.terminal, terminal)
    # The grid written out: the position is the number of times that each axis was chosen.
    for row, cell in enumerate(terminal.numpy()):
        chosen = np.bincount(backward.actions[row] + 1, minlength=env.ndim + 2)
        assert chosen[1:].tolist() == [*cell, 1]


@pytest.mark.parametrize(
    "env",
    [
        Subsets(),
        Words(),
        Graph([[1, 2], [None, 3], [3, None], [None, None]], [False, True, True, True], 3),
    ],
    ids=["sets", "words", "single numbers"],
)
def test_trajectories_are_well_formed_in_own_environments(env):
    log_policy, seed = uniform_log_policy(env), tf.constant([0, 1])
    forward = sampling.sample_forward(env, log_policy, 60, seed)
    assert_well_formed(env, forward)
    backward = sampling.sample_backward(env, log_policy, forward.terminal, seed)
    assert_well_formed(env, backward)
    np.testing.assert_array_equal(backward.terminal, forward.terminal)


def test_log_probabilities_are_those_of_a_recomputation(agent):
    p_forward, p_backward = numpy_policies(agent)
    for trajectories in (
        agent.sample(100, explore=True),
        agent.sample_backward(agent.env.states()),
    ):
        log_pf, log_pb = sampling.log_probabilities(agent.env, agent.log_policy, trajectories)
        states, actions = trajectories.states.numpy(), trajectories.actions.numpy()
        expected_pf, expected_pb = np.zeros(actions.shape), np.zeros(actions.shape)
        for row, t in np.argwhere(actions >= 0):
            action = actions[row, t]
            expected_pf[row, t] = math.log(p_forward[tuple(states[row, t])][action])
            if action != agent.env.stop_action:
                expected_pb[row, t] = math.log(p_backward[tuple(states[row, t + 1])][action])
        np.testing.assert_allclose(log_pf, expected_pf, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(log_pb, expected_pb, rtol=1e-12, atol=1e-13)


def test_the_stop_costs_the_backward_policy_nothing(agent):
    trajectories = agent.sample(200)
    log_pf, log_pb = sampling.log_probabilities(agent.env, agent.log_policy, trajectories)
    is_stop = trajectories.actions == agent.env.stop_action
    assert np.count_nonzero(is_stop) == 200
    assert (log_pb.numpy()[is_stop] == 0).all()
    assert (log_pf.numpy()[is_stop] < 0).any()


def test_a_masked_action_is_never_drawn_even_if_its_logit_is_the_largest():
    env = HyperGrid(2, 4)

    def stubborn(states):
        # Forward it wants to go on along axis 0 for ever, backward to come from axis 1.
        forward = tf.tile(tf.constant([[50.0, 0.0, 0.0]], tf.float64), [len(states), 1])
        backward = tf.tile(tf.constant([[0.0, 50.0]], tf.float64), [len(states), 1])
        masks = env.forward_mask(states), env.backward_mask(states)
        return masked_log_softmax(forward, masks[0]), masked_log_softmax(backward, masks[1])

    seed = tf.constant([1, 2])
    forward = sampling.sample_forward(env, stubborn, 500, seed)
    assert_well_formed(env, forward)
    assert (forward.terminal.numpy()[:, 0] == 3).all()
    assert set(forward.terminal.numpy()[:, 1]) == {0, 1, 2, 3}
    backward = sampling.sample_backward(env, stubborn, tf.fill([500, 2], 3), seed)
    assert np.unique(backward.actions, axis=0).tolist() == [[0, 0, 0, 1, 1, 1, 2]]


@pytest.mark.parametrize("compiler", ["graph", "XLA"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_compiled_samples_equal_eager_ones(agent, direction, compiler):
    def sample(seed, gamma):
        if direction == "forward":
            return sampling.sample_forward(agent.env, agent.log_policy, 40, seed, gamma)
        return sampling.sample_backward(agent.env, agent.log_policy, agent.env.states(), seed)

    compiled = tf.function(sample, jit_compile=compiler == "XLA", autograph=False)
    arguments = tf.constant([11, 12], tf.int64), tf.constant(0.25, tf.float64)
    for found, eager in zip(compiled(*arguments)[:3], sample(*arguments)[:3], strict=True):
        np.testing.assert_array_equal(found, eager)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_xla_samples_follow_the_exact_distribution(agent, dtype):
    p_forward, p_backward = numpy_policies(agent)
    table = tabulate(agent.env, agent.log_policy)
    log_policy = table._replace(
        log_pf=tf.cast(table.log_pf, dtype), log_pb=tf.cast(table.log_pb, dtype)
    ).log_policy
    env, seed = agent.env, tf.constant([21, 22])
    forward = tf.function(
        lambda seed: sampling.sample_forward(env, log_policy, 20_000, seed), jit_compile=True
    )(seed)
    assert_well_formed(env, sampling.Trajectories(*(part[:50] for part in forward)))
    counts = np.bincount(env.index(forward.terminal), minlength=25)
    assert_drawn_from(counts, brute_force.terminating_distribution(2, 5, p_forward))
    backward = tf.function(
        lambda seed: sampling.sample_backward(env, log_policy, tf.fill([20_000, 2], 3), seed),
        jit_compile=True,
    )(seed)
    assert_well_formed(env, sampling.Trajectories(*(part[:50] for part in backward)))
    paths = backward_paths(p_backward, (3, 3))
    counts = count_paths(backward)
    assert_drawn_from([counts[path] for path in paths], list(paths.values()))


def test_compiled_log_probabilities_equal_eager_ones(agent):
    trajectories = agent.sample(60)

    def score(trajectories):
        return sampling.log_probabilities(agent.env, agent.log_policy, trajectories)

    compiled = tf.function(score, jit_compile=True)(trajectories)
    for found, eager in zip(compiled, score(trajectories), strict=True):
        np.testing.assert_allclose(found, eager, rtol=1e-12, atol=1e-13)


def draw_and_keep(agent, gamma=0.5):
    log_policy = network_log_policy(agent.env, agent.kind.network, agent.policy.weights)
    return sampling.draw_forward(agent.env, log_policy.evaluate, 101, tf.constant([1, 2]), gamma)


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_the_sampler_keeps_what_was_worked_out_in_every_state(agent, gamma):
    trajectories, kept = draw_and_keep(agent, gamma)
    assert trajectories.log_reward is None
    taken = trajectories.actions.numpy() != -1
    assert not taken.all()
    logits = agent.kind.network.logits(agent.env, agent.policy.weights)
    _, *expected = logits.layer_outputs(trajectories.states[:, :-1][taken])
    for found, outputs in zip(kept, expected, strict=True):
        found = np.swapaxes(found, 0, 1)[taken]
        np.testing.assert_allclose(found, outputs, rtol=1e-12, atol=1e-13)


def test_scores_from_what_was_kept_are_those_of_log_probabilities(agent):
    trajectories, kept = draw_and_keep(agent)
    log_policy = network_log_policy(agent.env, agent.kind.network, agent.policy.weights)
    wanted = ("log_pf", "log_pb")
    scores = sampling.score(agent.env, log_policy, trajectories, wanted, kept)
    expected = sampling.log_probabilities(agent.env, log_policy, trajectories)
    for name, values in zip(wanted, expected, strict=True):
        np.testing.assert_allclose(scores[name], values, rtol=1e-12, atol=1e-13)


def test_the_seed_decides_the_sample(agent, log_policy):
    def actions(*seed):
        return (
            sampling.sample_forward(agent.env, log_policy, 40, tf.constant(seed))
            .actions.numpy()
            .tolist()
        )

    assert actions(1, 2) == actions(1, 2)
    assert actions(1, 2) != actions(1, 3)
    assert actions(1, 2) != actions(2, 2)


def test_draws_of_neighbouring_steps_and_seeds_are_not_shared():
    # On a line every step is a fair coin. No two streams of them may agree on more than chance
    # allows: 6 standard deviations, which one pair in 500 million right ones exceeds.
    env = HyperGrid(1, 6)
    streams = []
    for seed in ([1, 7], [1, 8], [2, 7]):
        drawn = sampling.sample_forward(env, uniform_log_policy(env), 4000, tf.constant(seed))
        streams.extend(drawn.actions.numpy().T[:3])
    for one, other in itertools.combinations(streams, 2):
        tossed = (one >= 0) & (other >= 0)
        agreement = np.mean(one[tossed] == other[tossed])
        assert abs(agreement - 0.5) < 6 * 0.5 / math.sqrt(tossed.sum())


def trajectories_of(env, rows):
    """Trajectories from lists of actions, written out by hand."""
    length = env.max_trajectory_length
    states = np.full([len(rows), length + 1, env.ndim], -1, np.int32)
    actions = np.full([len(rows), length], -1, np.int32)
    terminal = np.zeros([len(rows), env.ndim], np.int32)
    for row, moves in enumerate(rows):
        cell = np.zeros(env.ndim, np.int32)
        for t, action in enumerate([*moves, env.ndim]):
            states[row, t], actions[row, t] = cell, action
            cell = cell + (np.arange(env.ndim) == action)
        terminal[row] = cell
    terminal = tf.constant(terminal)
    return sampling.Trajectories(
        tf.constant(states), tf.constant(actions), terminal, env.log_reward(terminal)
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # A stop at the origin has seen the two cells beside it as well.
        ([[]], [[0, 0], [0, 1], [1, 0]]),
        ([[0]], [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0]]),
        ([[], [0], [0]], [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0]]),
        # Along the edge of the grid there is nothing further out.
        ([[1, 1, 1]], [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1], [1, 2], [1, 3]]),
        (
            [[0, 0, 0, 1, 1, 1]],
            [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1], [3, 0], [3, 1], [3, 2], [3, 3]],
        ),
    ],
)
def test_objects_seen_on_trajectories_written_by_hand(rows, expected):
    env = HyperGrid(2, 4)
    seen = sampling.objects_seen(env, trajectories_of(env, rows), within=1)
    assert seen.tolist() == expected
    assert seen.dtype == np.int32


@pytest.mark.parametrize("within", [0, 1, 2, 3])
def test_objects_seen_lie_within_so_many_actions(within):
    env = HyperGrid(2, 5)
    stopped_at_once = sampling.Trajectories(
        states=tf.constant([[[0, 0]] + [[-1, -1]] * 9]),
        actions=tf.constant([[2] + [-1] * 8]),
        terminal=tf.constant([[0, 0]]),
        log_reward=env.log_reward(tf.constant([[0, 0]])),
    )
    seen = sampling.objects_seen(env, stopped_at_once, within).tolist()
    cells = itertools.product(range(5), repeat=2)
    assert seen == [list(cell) for cell in cells if sum(cell) <= within]


def test_policies_and_their_scores_name_what_they_are_not_given():
    env = HyperGrid(2, 4)
    known, drawn = uniform_log_policy(env), GFNAgent(env, hidden=(4,)).sample(2)
    for call, message in [
        (lambda: sampling.log_probabilities(None, known, drawn), "env must be an Environment"),
        (lambda: sampling.log_probabilities(env, None, drawn), "log_policy must be a function"),
        (lambda: sampling.log_probabilities(env, known, [1]), "trajectories must be Trajectories"),
        (lambda: tabulate(None, known), "env must be an Environment"),
        (lambda: tabulate(env, env), "log_policy must be a function"),
        (lambda: DenseNetwork().build("grid"), "env must be an Environment, got 'grid'"),
        (lambda: DenseNetwork(32), "hidden must be a tuple of integers"),
        (lambda: DenseNetwork().build(env, dtype=np.float32), "dtype must be one of"),
        (lambda: DenseNetwork().build(env, seed="1"), "seed must be an integer"),
    ]:
        with pytest.raises(TypeError, match=f"^{message}"):
            call()


def test_objects_seen_name_what_they_are_not_given():
    env = HyperGrid(2, 4)
    drawn = GFNAgent(env, hidden=(4,)).sample(2)
    for arguments, message in [
        ((None, drawn), "env must be an Environment, got None"),
        ((env, None), "trajectories must be Trajectories, got None"),
        ((env, drawn._replace(actions="no")), "trajectories.actions must be an array of numbers"),
        ((env, drawn, 1.5), "within must be an integer of at least 0, got 1.5"),
    ]:
        with pytest.raises(TypeError, match=message):
            sampling.objects_seen(*arguments)


def test_objects_seen_are_only_those_that_may_be_the_last():
    env = Subsets()
    data = sampling.sample_forward(env, uniform_log_policy(env), 1, tf.constant([0, 1]))
    passed = [frozenset(np.flatnonzero(s)) for s in data.states[0].numpy() if s[0] >= 0]
    expected = {s for s in passed if len(s) >= 2}
    expected |= {s | {i} for s in passed if 1 <= len(s) <= 2 for i in range(5)} - {passed[1]}
    seen = {frozenset(np.flatnonzero(s)) for s in sampling.objects_seen(env, data, within=1)}
    assert seen == expected


@given(st.floats(0, 1), st.integers(0, 1000))
def test_the_mixture_is_a_distribution_over_the_allowed_actions(gamma, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random([6, 4]) < 0.5
    mask[:, 3] = True
    log_pf = masked_log_softmax(tf.constant(rng.normal(scale=3, size=[6, 4])), mask)
    mixed = np.exp(sampling.mix_with_uniform(log_pf, mask, tf.constant(gamma, tf.float64)))
    np.testing.assert_allclose(mixed.sum(axis=1), 1, rtol=1e-12)
    assert (mixed[~mask] == 0).all()
    uniform = mask / mask.sum(axis=1, keepdims=True)
    expected = (1 - gamma) * np.exp(log_pf) + gamma * uniform
    np.testing.assert_allclose(mixed, expected, rtol=1e-12)


def test_gamma_may_be_a_python_number():
    log_pf = tf.math.log(tf.constant([[0.125, 0.875]], tf.float64))
    mixed = np.exp(sampling.mix_with_uniform(log_pf, np.array([[True, True]]), 0.1))
    np.testing.assert_allclose(mixed, [[0.1625, 0.8375]], rtol=1e-12)


def test_masked_softmax_renormalises_over_the_allowed():
    logits = tf.constant([[1.0, 2.0, 3.0], [700.0, -700.0, 0.0], [1.0, 1.0, 1.0]], tf.float64)
    mask = tf.constant([[True, False, True], [False, True, False], [False, False, False]])
    expected = [
        [-math.log(1 + math.exp(2)), -math.inf, -math.log(1 + math.exp(-2))],
        [-math.inf, 0.0, -math.inf],
        [-math.inf] * 3,
    ]
    np.testing.assert_allclose(masked_log_softmax(logits, mask), expected, rtol=1e-14)


@pytest.mark.parametrize("n", [3, 64, 65, 300])
def test_actions_few_or_many_are_drawn_by_their_probabilities_and_none_that_is_impossible(n):
    rng = np.random.default_rng(n)
    p = np.where(rng.random(n) < 0.5, 0, rng.random(n))
    p[[0, -1]] = 0
    p[1] += 0.1
    p /= p.sum()
    uniform = np.append(rng.random(50_000), [2.0**-53, 1 - 2.0**-53])
    with np.errstate(divide="ignore"):
        log_p = tf.constant(np.tile(np.log(p), [len(uniform), 1]))
    for way in (sampling.draw, tf.function(sampling.draw, jit_compile=True)):
        drawn = np.asarray(way(log_p, tf.constant(uniform)))
        counts = np.bincount(drawn, minlength=n)
        assert counts[p == 0].sum() == 0
        # Six standard errors: one action of one case in 500 million lies further out by chance.
        error = np.sqrt(p * (1 - p) / len(uniform))
        assert (np.abs(counts / len(uniform) - p) <= 6 * error + 1e-12).all()


def test_neighbours_that_would_fill_the_memory_are_left_out(monkeypatch):
    env = HyperGrid(2, 8)
    trajectories = sampling.sample_forward(
        env, uniform_log_policy(env), 2, tf.constant([1, 2]), 0.0
    )
    near = [sampling.objects_seen(env, trajectories, within) for within in (0, 1, 2)]
    assert len(near[0]) < len(near[1]) < len(near[2])
    # Each state has at most two children of two numbers.
    monkeypatch.setattr(sampling, "MOST_NUMBERS_SEEN", 2 * 2 * len(near[0]))
    np.testing.assert_array_equal(sampling.objects_seen(env, trajectories), near[1])
    monkeypatch.setattr(sampling, "MOST_NUMBERS_SEEN", 1)
    np.testing.assert_array_equal(sampling.objects_seen(env, trajectories), near[0])
