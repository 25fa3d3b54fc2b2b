"""Chains against their exact transition matrix, PPO's loss and gradient against plain NumPy, and
its soft returns and optimum against the answer key."""

import numpy as np
import pytest
import tensorflow as tf
from own_environments import Subsets
from scipy.stats import chi2

from gfn_utils import GFNAgent, HyperGrid, evaluation, policy, sampling
from gfn_utils.baselines import (
    evolution,
    evolutionary_search,
    metropolis_hastings,
    ppo_loss,
    soft_returns,
    train_ppo,
    transition_matrix,
)
from gfn_utils.environments import Environment, LeftToRightSequences
from gfn_utils.policy import PolicyTable

GRIDS = [
    HyperGrid(ndim=1, height=6),
    HyperGrid(height=4),
    HyperGrid(height=8, r0=1e-3),
    HyperGrid(ndim=3, height=4, r0=0.1),
]
SMALL = HyperGrid(height=4, r0=0.2)


class FarEndsOnly(HyperGrid):
    """A grid that can be left only where its first coordinate has reached the end."""

    def forward_mask(self, states):
        moves = super().forward_mask(states)[:, :-1]
        return tf.concat([moves, states[:, :1] == self.height - 1], axis=1)


def named(env):
    """The environment without the address of the object, which differs between processes."""
    return repr(env).split(" object")[0]


@pytest.mark.parametrize("env", GRIDS, ids=named)
def test_transition_matrix_keeps_the_target(env):
    matrix, target = transition_matrix(env), env.target()
    assert matrix.min() >= 0
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    flow = target[:, None] * matrix
    np.testing.assert_allclose(flow, flow.T, atol=1e-15)  # detailed balance
    np.testing.assert_allclose(target @ matrix, target, atol=1e-12)
    # The target is the only such distribution: the eigenvalue 1 comes once.
    assert np.sum(np.linalg.eigvals(matrix).real > 1 - 1e-9) == 1


def test_transition_matrix_by_hand():
    # A line of four cells with rewards R, R', R', R: half a chance either way.
    env = HyperGrid(ndim=1, height=4, r0=1.0, r1=1.0, r2=0.0)
    np.testing.assert_allclose(np.exp(env.log_reward(env.states())), [2, 1, 1, 2])
    expected = [[0.75, 0.25, 0, 0], [0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5], [0, 0, 0.25, 0.75]]
    np.testing.assert_allclose(transition_matrix(env), expected, atol=1e-12)


def test_simulated_steps_follow_the_matrix():
    chains = metropolis_hastings(SMALL, 200, 1000, seed=1)
    check_transitions(SMALL.index(chains.states).numpy(), transition_matrix(SMALL))


def test_visits_approach_the_target():
    states = metropolis_hastings(SMALL, 100, 10_000, seed=2).states
    errors = [
        evaluation.l1_error(
            evaluation.empirical_distribution(SMALL, states[:n].reshape(-1, 2)), SMALL.target()
        )
        for n in (10, 100, 10_000)
    ]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 0.01


def test_rejected_moves_are_visits_too():
    chains = metropolis_hastings(SMALL, 50, 300, seed=3)
    assert chains.states.shape == (300, 50, 2)
    assert chains.states.dtype == np.int32
    before = np.concatenate([np.zeros([1, 50, 2], int), chains.states[:-1]])
    distance = np.abs(chains.states - before).sum(axis=-1)
    np.testing.assert_array_equal(distance, chains.accepted)
    rate = SMALL.target() @ (1 - np.diag(transition_matrix(SMALL)))
    # 15,000 correlated steps: a tenth is over five standard errors of the fraction.
    assert abs(chains.accepted.mean() - rate) < 0.1 * rate


def test_same_seed_same_chains():
    first, again, other = (metropolis_hastings(SMALL, 5, 100, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.states, again.states)
    assert np.any(first.states != other.states)


def test_chains_start_where_they_are_told():
    start = np.array([[3, 3], [0, 2], [1, 1]])
    states = metropolis_hastings(SMALL, 3, 1, start=start).states
    assert np.abs(states[0] - start).sum(axis=1).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"n_chains": 0}, "n_chains"),
        ({"n_steps": 0}, "n_steps"),
        ({"seed": -1}, "seed"),
        ({"start": [[0, 0]]}, "start"),
        ({"start": [[0, 0], [0, 9]]}, "start"),
        ({"jump": 0}, "jump"),
        ({"jump": 1001}, "jump"),
        ({"temperatures": []}, "temperatures"),
        ({"temperatures": [2.0, 3.0]}, "temperatures must be a list that begins with 1"),
        ({"temperatures": [1.0, 3.0, 2.0]}, "temperatures must be finite and ascend"),
        ({"temperatures": [1.0, np.inf]}, "temperatures must be finite and ascend"),
    ],
)
def test_bad_arguments_of_the_chains_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        metropolis_hastings(SMALL, **{"n_chains": 2, "n_steps": 3, **arguments})


def test_a_state_in_which_nothing_may_stop_is_never_entered():
    env = FarEndsOnly(height=4, r0=0.2)
    matrix, target = transition_matrix(env, jump=3), env.target()
    assert np.sum(target == 0) == 12
    np.testing.assert_allclose(matrix[target == 0], np.eye(16)[target == 0])
    np.testing.assert_allclose(target @ matrix, target, atol=1e-15)
    start = [[3, 0], [3, 3]]
    chains = metropolis_hastings(env, 2, 500, start=start, jump=3)
    assert np.all(chains.states[..., 0] == 3)
    assert len(np.unique(chains.states[..., 1])) == 4
    asked = chains.asked[chains.asked[..., 0] >= 0]
    assert np.all(asked[:, 0] == 3)  # no reward is asked where there is none
    with pytest.raises(ValueError, match=r"start\[0\] must be a state in which stop is allowed"):
        metropolis_hastings(env, 2, 3)
    with pytest.raises(ValueError, match=r"start\[1\] must be a state in which stop is allowed"):
        metropolis_hastings(env, 2, 3, start=[[3, 0], [1, 1]])


@pytest.mark.parametrize("env", [*GRIDS, Subsets()], ids=named)
@pytest.mark.parametrize(("jump", "temperature"), [(2, 1.0), (7, 1.0), (3, 5.0)])
def test_long_jumps_and_heat_keep_their_target_in_detailed_balance(env, jump, temperature):
    matrix = transition_matrix(env, jump, temperature)
    target = env.target() ** (1 / temperature) * (env.target() > 0)
    target /= target.sum()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    flow = target[:, None] * matrix
    np.testing.assert_allclose(flow, flow.T, atol=1e-15)
    np.testing.assert_allclose(target @ matrix, target, atol=1e-12)


def test_transition_matrix_of_jumps_by_hand():
    # Rewards 2, 1, 1, 2; one of four ways: left or right, once or twice.
    env = HyperGrid(ndim=1, height=4, r0=1.0, r1=1.0, r2=0.0)
    expected = [[6, 1, 1, 0], [2, 2, 2, 2], [2, 2, 2, 2], [0, 1, 1, 6]]
    np.testing.assert_allclose(transition_matrix(env, jump=2), np.array(expected) / 8, atol=1e-12)
    with pytest.raises(ValueError, match="states"):
        transition_matrix(HyperGrid(ndim=20))


def test_simulated_jumps_follow_the_matrix():
    chains = metropolis_hastings(SMALL, 200, 1000, seed=5, jump=3)
    check_transitions(SMALL.index(chains.states).numpy(), transition_matrix(SMALL, jump=3))


def check_transitions(walk, matrix):
    """Whether steps from each row of `walk` `[T, C]` to the next follow the matrix (a χ² test)."""
    counts = np.zeros_like(matrix)
    np.add.at(counts, (walk[:-1].ravel(), walk[1:].ravel()), 1)
    assert counts[matrix < 1e-15].sum() == 0
    expected = counts.sum(axis=1, keepdims=True) * matrix
    possible = expected > 1e-9
    statistic = np.sum((counts - expected)[possible] ** 2 / expected[possible])
    # A right sampler fails for 1 seed in 10,000; this seed is fixed.
    freedom = possible.sum() - np.sum(expected.sum(axis=1) > 0)
    assert statistic < chi2.ppf(1 - 1e-4, freedom)


def test_tempered_replicas_follow_the_exact_joint_kernel():
    env, ladder = HyperGrid(ndim=1, height=4, r0=0.3), [1.0, 2.0, 6.0]

    chains = metropolis_hastings(env, 1000, 600, seed=6, temperatures=ladder)
    joint = chains.replicas[..., 0].astype(int)  # [T, 3, C]
    joint = joint[:, 0] * 16 + joint[:, 1] * 4 + joint[:, 2]
    np.testing.assert_array_equal(chains.states, chains.replicas[:, 0])
    reward = np.exp(env.log_reward(env.states()).numpy())
    moves = np.eye(1)
    for temperature in ladder:
        moves = np.kron(moves, transition_matrix(env, temperature=temperature))
    cells = np.stack(np.unravel_index(np.arange(64), (4, 4, 4)), axis=1)
    target = np.prod(reward[cells] ** (1 / np.array(ladder)), axis=1)
    target /= target.sum()
    for parity, lower in [(0, 0), (1, 1)]:  # even steps swap the first pair, odd ones the second
        swapped = cells.copy()
        swapped[:, [lower, lower + 1]] = cells[:, [lower + 1, lower]]
        to = swapped @ [16, 4, 1]
        accept = np.minimum(1, target[to] / target)
        swaps = np.diag(1 - accept)
        swaps[np.arange(64), to] += accept
        kernel = moves @ swaps
        np.testing.assert_allclose(target @ kernel, target, atol=1e-14)
        # Step t leads from row t − 1 to row t, and swaps by the parity of t.
        pairs = np.stack([joint[1 - parity : -1 : 2], joint[2 - parity :: 2]])
        check_transitions(pairs.reshape(2, -1), kernel)


def test_heat_helps_across_a_desert():
    env = HyperGrid(height=8, r0=1e-4)
    cold = metropolis_hastings(env, 50, 4000, seed=1).states
    hot = metropolis_hastings(env, 50, 1000, seed=1, temperatures=[1, 4, 16, 64]).states
    errors = [
        evaluation.l1_error(
            evaluation.empirical_distribution(env, states.reshape(-1, 2)), env.target()
        )
        for states in (cold, hot)
    ]
    assert errors[1] < errors[0] / 2  # at the same number of visits


def test_chains_walk_where_nothing_can_be_listed():
    env = HyperGrid(ndim=20, height=4, r0=0.5)
    assert env.n_states is None
    chains = metropolis_hastings(env, 3, 200, jump=2, temperatures=[1.0, 2.0])
    assert chains.states.shape == (200, 3, 20)
    assert chains.replicas.shape == chains.asked.shape == (200, 2, 3, 20)
    assert env.contains(chains.states.reshape(-1, 20)).all()
    step = np.abs(np.diff(chains.states[:, 0], axis=0)).sum(axis=1)
    assert step.max() > 1


def test_what_was_asked_are_the_proposals_that_are_allowed():
    chains = metropolis_hastings(SMALL, 100, 500, seed=7)
    before = np.concatenate([np.zeros([1, 100, 2], int), chains.states[:-1]])
    asked = chains.asked[:, 0, ..., 0] >= 0
    np.testing.assert_array_equal(np.abs(chains.asked[:, 0] - before)[asked].sum(axis=-1), 1)
    np.testing.assert_array_equal(
        chains.asked[:, 0][chains.accepted], chains.states[chains.accepted]
    )
    # From a corner of a 2-dimensional grid two of four ways lead off it.
    corner = np.all((before == 0) | (before == 3), axis=-1)
    share = asked[corner].mean()
    assert abs(share - 0.5) < 5 * np.sqrt(0.25 / corner.sum())  # one seed in a million


def loss_by_hand(log_pf, value, trajectories, old_log_pf, returns, advantage, weight, clip):
    """`ppo_loss` step by step, from a table `[n_states, n_actions]` and values `[n_states]`."""
    losses = []
    for b, actions in enumerate(trajectories.actions.numpy()):
        for t, action in enumerate(actions[actions >= 0]):
            row = int(SMALL.index(trajectories.states[b, t]))
            p = np.exp(log_pf[row])
            p = p[p > 0]
            ratio = np.exp(log_pf[row, action] - old_log_pf[b, t])
            a = advantage[b, t]
            gain = min(ratio * a, np.clip(ratio, 1 - clip, 1 + clip) * a)
            entropy = -np.sum(p * np.log(p))
            losses.append((value[row] - returns[b, t]) ** 2 / 2 - gain - weight * entropy)
    return np.mean(losses)


def masked(logits):
    mask = SMALL.forward_mask(SMALL.states()).numpy()
    weights = np.where(mask, np.exp(logits), 0)
    with np.errstate(divide="ignore"):
        return np.log(weights / weights.sum(axis=1, keepdims=True))


def test_loss_and_gradient_by_hand():
    rng = np.random.default_rng(0)
    logits, value = rng.normal(size=[16, 3]), rng.normal(size=16)
    trajectories = GFNAgent(SMALL, seed=0).sample(12)
    log_pf = masked(logits)
    rows = SMALL.index(tf.maximum(trajectories.states[:, :-1], 0)).numpy()
    actions = np.maximum(trajectories.actions, 0)
    old = log_pf[rows, actions] + rng.normal(scale=0.3, size=actions.shape)  # some are clipped
    rest = (trajectories, old, *rng.normal(size=[2, *actions.shape]), 0.3, 0.2)

    def loss(logits, value):
        log_pf = tf.math.log_softmax(tf.where(np.isinf(masked(np.zeros([16, 3]))), -1e30, logits))
        log_pf = tf.where(log_pf < -1e29, tf.constant(-np.inf, tf.float64), log_pf)
        table = PolicyTable(SMALL, log_pf, tf.zeros([16, 2], tf.float64), value)
        return ppo_loss(SMALL, table.log_policy, *rest)

    given = tf.constant(logits), tf.constant(value)
    with tf.GradientTape() as tape:
        tape.watch(given)
        found = loss(*given)
    np.testing.assert_allclose(found, loss_by_hand(log_pf, value, *rest), rtol=1e-12)
    slopes = [tf.convert_to_tensor(slope) for slope in tape.gradient(found, given)]
    for number, (array, slope) in enumerate(zip((logits, value), slopes, strict=True)):
        for place in np.ndindex(array.shape):
            up, down = ([logits.copy(), value.copy()] for _ in range(2))
            up[number][place] += 1e-5
            down[number][place] -= 1e-5
            ends = [loss_by_hand(masked(a), v, *rest) for a, v in (up, down)]
            np.testing.assert_allclose(slope[place], (ends[0] - ends[1]) / 2e-5, atol=1e-8)


def test_ppo_without_entropy_bonus_concentrates_on_the_best_cells():
    # 4 of 16 cells have R = 10.2, the others 0.2.
    env = HyperGrid(height=4, r0=0.2, r1=10.0, r2=0.0)
    agent = train_ppo(env, 200, hidden=(16,), entropy_weight=0.0, learning_rate=0.01, seed=0)
    learned = evaluation.terminating_distribution(agent)
    np.testing.assert_allclose(learned.sum(), 1, atol=1e-5)
    assert learned[evaluation.is_mode(env)].sum() > 0.98
    assert agent.visited.shape == (200,)
    assert agent.visited.min() >= 16


def test_ppo_with_a_large_entropy_bonus_stays_near_uniform():
    agent = train_ppo(SMALL, 200, hidden=(16,), entropy_weight=100.0, learning_rate=0.01)
    p_forward = np.exp(agent.log_policy(SMALL.states())[0])
    allowed = SMALL.forward_mask(SMALL.states()).numpy()
    np.testing.assert_allclose(p_forward, allowed / allowed.sum(axis=1, keepdims=True), atol=0.05)


@pytest.mark.parametrize("env", [SMALL, Subsets()], ids=named)
def test_soft_returns_of_the_answer_key_are_its_flows(env):
    uniform = np.asarray(policy.uniform_log_policy(env)(env.states())[1])
    key, log_z = evaluation.answer_key(env, uniform)
    drawn = sampling.sample_forward(env, key.log_policy, 50, tf.constant([1, 2]))
    actions, states = drawn.actions.numpy(), drawn.states.numpy()[:, :-1]
    taken = actions != sampling.PADDING
    log_pf, _ = sampling.log_probabilities(env, key.log_policy, drawn)
    returns = soft_returns(env, drawn, log_pf).numpy()
    log_flow = key.log_policy(tf.constant(states[taken]))[2]
    np.testing.assert_allclose(returns[taken], log_flow, atol=1e-9)
    np.testing.assert_allclose(returns[:, 0], log_z, atol=1e-9)


def test_soft_returns_by_hand():
    # Right, up, stop: P_F 0.5, 0.25, 0.2; the cell (1, 1) has two ways back, (1, 0) one.
    states = tf.constant(
        [[[0, 0], [1, 0], [1, 1], [-1, -1], [-1, -1], [-1, -1], [-1, -1], [-1, -1]]]
    )
    actions = tf.constant([[0, 1, 2, -1, -1, -1, -1]])
    drawn = sampling.Trajectories(states, actions, tf.constant([[1, 1]]), tf.math.log([3.0]))
    log_pf = np.log([[0.5, 0.25, 0.2, 1, 1, 1, 1]])
    expected = np.log([3 / 2 / 0.5 / 0.25 / 0.2, 3 / 2 / 0.25 / 0.2, 3 / 0.2])
    np.testing.assert_allclose(soft_returns(SMALL, drawn, tf.constant(log_pf))[0, :3], expected)


def test_ppo_with_soft_returns_reaches_the_target():
    settings = {"hidden": (32,), "learning_rate": 0.01, "returns": "soft"}
    agent = train_ppo(SMALL, 1000, **settings)
    learned = evaluation.terminating_distribution(agent)
    # 0.001 to 0.003 with seeds 0 to 4; with the reward as return it stays above 1.
    assert evaluation.l1_error(learned, SMALL.target()) < 0.02
    with pytest.raises(TypeError, match="returns must be one of 'reward', 'soft', got None"):
        train_ppo(SMALL, 5, returns=None)


def test_ppo_same_seed_same_agent_and_visits_counted():
    seen = []
    settings = {"hidden": (8,), "seed": 3, "dtype": "float64"}
    first = train_ppo(SMALL, 25, chunk=10, callback=seen.append, **settings)
    again = train_ppo(SMALL, 25, chunk=1, **settings)
    for one, other in zip(first.weights, again.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    assert [len(agent.visited) for agent in seen] == [10, 20, 25]
    assert first.asked.shape == (25, 16, 2)
    np.testing.assert_array_equal(first.asked, again.asked)
    np.testing.assert_array_equal(first.visited, (first.asked.sum(axis=2) + 1).sum(axis=1))
    start = train_ppo(SMALL, 1, **settings, learning_rate=1e-12)
    seed = tf.constant([3, 0], tf.int64)
    drawn = sampling.sample_forward(SMALL, start.log_policy, 16, seed)
    assert start.visited[0] == np.sum(drawn.actions != sampling.PADDING)
    stopped = train_ppo(SMALL, 25, chunk=10, callback=lambda agent: True, **settings)
    assert len(stopped.visited) == 10


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", 0),
        ("batch_size", 0),
        ("batch_size", 2**31 - 1),
        ("hidden", (0,)),
        ("seed", -1),
        ("learning_rate", 0.0),
        ("entropy_weight", -0.1),
        ("clip", 0.0),
        ("returns", "hard"),
        ("epochs", 0),
        ("epochs", 2**31 - 1),
        ("dtype", "float16"),
        ("chunk", 0),
    ],
)
def test_bad_arguments_of_ppo_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        train_ppo(SMALL, **{"iterations": 5, name: value})


def test_environment_must_be_one():
    assert isinstance(SMALL, Environment)
    with pytest.raises(TypeError, match="env"):
        train_ppo("a grid", 5)
    with pytest.raises(TypeError, match="env"):
        metropolis_hastings("a grid", 1, 1)
    with pytest.raises(TypeError, match="hidden"):
        train_ppo(SMALL, 5, hidden=32)


def test_weights_that_are_no_longer_finite_are_an_error():
    with pytest.raises(FloatingPointError, match=r"not finite after 5 updates.*\(now 1e\+30\)"):
        train_ppo(SMALL, 5, hidden=(8,), learning_rate=1e30)


def test_callbacks_of_ppo():
    with pytest.raises(TypeError, match=r"callback must be a function or None, got \[1\]"):
        train_ppo(SMALL, 5, callback=[1])
    for answer in ("no", 0, [], np.array([True, False])):
        with pytest.raises(TypeError, match="callback must return True"):
            train_ppo(SMALL, 5, hidden=(8,), callback=lambda agent, answer=answer: answer)


def test_a_chunk_longer_than_the_run_costs_nothing():
    agent = train_ppo(SMALL, 5, hidden=(8,), chunk=10**9)
    assert agent.visited.shape == (5,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_chains": 2.0}, "n_chains must be an integer"),
        ({"n_chains": None}, "n_chains must be an integer"),
        ({"n_steps": "3"}, "n_steps must be an integer"),
        ({"n_steps": True}, "n_steps must be an integer"),
        ({"seed": 0.5}, "seed must be an integer"),
        ({"start": "ab"}, "start must be an integer array"),
        ({"start": [[0.5, 0]] * 2}, "start must be an integer array"),
        ({"start": [[0, 0], [1]]}, "start must be an integer array"),
        ({"n_chains": 10**6, "n_steps": 10**6}, "states must be at most 1,000,000,000 numbers"),
    ],
)
def test_what_the_chains_cannot_use_is_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        metropolis_hastings(SMALL, **{"n_chains": 2, "n_steps": 3, **arguments})


def test_numbers_of_numpy_count_for_chains():
    chains = metropolis_hastings(SMALL, np.int64(2), np.array(3), seed=np.uint8(1))
    np.testing.assert_array_equal(chains.states, metropolis_hastings(SMALL, 2, 3, seed=1).states)


def test_a_matrix_of_too_many_states_is_refused():
    with pytest.raises(ValueError, match=r"env must have at most 10,000 states.*got 10,201"):
        transition_matrix(HyperGrid(height=101))


def test_evolution_finds_the_best_and_asks_each_object_once():
    env = HyperGrid(ndim=3, height=8, r0=0.01)
    found = evolutionary_search(env, 30, population=50, jump=7, seed=0)
    assert evaluation.is_mode(env)[env.index(found.population[:8])].all()  # all eight of them
    cells = env.index(found.asked).numpy()
    assert len(np.unique(cells)) == len(cells) == found.asked_by[-1] < env.n_states
    np.testing.assert_allclose(found.log_reward, env.log_reward(found.asked))
    assert len(found.asked_by) == len(found.visited_by) == 31
    assert (np.diff(found.asked_by) >= 0).all()
    assert (np.diff(found.visited_by) >= 50).all()  # every child is at least one action away
    pays = env.log_reward(found.population).numpy()
    assert (np.diff(pays) <= 0).all()
    assert len(np.unique(env.index(found.population))) == len(found.population) == 50
    again = evolutionary_search(env, 30, population=50, jump=7, seed=0)
    np.testing.assert_array_equal(again.asked, found.asked)
    other = evolutionary_search(env, 30, population=50, jump=7, seed=1)
    assert len(other.asked) != len(found.asked) or (other.asked != found.asked).any()


def test_one_move_of_evolution_is_a_neighbour_and_all_are_as_likely():
    env, start = HyperGrid(height=8), np.full([20_000, 2], 4, np.int32)
    rng = np.random.default_rng(0)
    moved, total = evolution._mutated(env, start, 1, 1, rng)
    cells, counts = np.unique(moved, axis=0, return_counts=True)
    np.testing.assert_array_equal(cells, [[3, 4], [4, 3], [4, 5], [5, 4]])
    assert np.abs(counts - 5000).max() < 5 * np.sqrt(20_000 * 0.25 * 0.75)  # five standard errors
    assert total == 20_000
    far, total = evolution._mutated(env, start, 1, 3, rng)
    assert set(np.abs(far - start).sum(axis=1)) == {1, 2, 3}
    assert total == np.abs(far - start).sum()


def test_evolution_where_only_full_objects_pay():
    env = LeftToRightSequences(letters_b, length=12, alphabet="ab")
    found = evolutionary_search(env, 40, population=20, mutations=4, seed=0)
    assert (found.asked > 0).all()  # no place is empty
    np.testing.assert_allclose(found.log_reward, np.sum(found.asked == 2, axis=1))
    assert found.log_reward.max() > found.log_reward[:20].max()


def letters_b(letters):
    return tf.reduce_sum(tf.cast(letters, tf.float64), axis=1)


@pytest.mark.parametrize("name", ["generations", "population", "tournament", "mutations", "jump"])
def test_bad_arguments_of_evolution_are_named(name):
    for value, error in [(0, ValueError), (1.5, TypeError)]:
        with pytest.raises(error, match=f"{name} must be an integer of at least 1"):
            evolutionary_search(SMALL, **{"generations": 2, name: value})
    with pytest.raises(TypeError, match="env"):
        evolutionary_search("a grid", 2)
