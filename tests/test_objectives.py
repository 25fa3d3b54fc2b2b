"""All objectives of the table: zero at the answer key alone, equal in limits, right gradients."""

import numpy as np
import pytest
import tensorflow as tf
from own_environments import Subsets
from same_agents import assert_same
from small_jobs import GRID, ON_POLICY, WITHOUT_XLA, small_agent

from gfn_utils import (
    EitherEndSequences,
    GFNAgent,
    HyperGrid,
    evaluation,
    losses,
    sampling,
    training,
)
from gfn_utils.policy import (
    BACKWARD_POLICIES,
    network_log_policy,
    tabulate,
    uniform_log_policy,
)

every_objective = pytest.mark.parametrize("objective", losses.OBJECTIVES)
WITH_STATE_FLOW = {
    "detailed_balance",
    "sub_trajectory_balance",
    "flow_matching",
    "forward_looking",
}
WITHOUT_LOG_Z = {"log_variance", "modified_detailed_balance"}
ASKING_ON_THE_WAY = {"modified_detailed_balance", "forward_looking"}


def sum_of_letters(letters):
    return tf.reduce_sum(letters, axis=1) / 2


ENVIRONMENTS = [
    HyperGrid(1, 7),
    HyperGrid(2, 5, r0=0.3),
    HyperGrid(3, 4, r0=1e-3),
    Subsets(),
    EitherEndSequences(sum_of_letters, 3, "ab"),
]
MEASURED = {"data": [[0, 0]], "log_rewards": [0.0], "epochs": 1}
each_environment = pytest.mark.parametrize("env", ENVIRONMENTS, ids=lambda e: type(e).__name__)


def untrained(env, randomise, **settings):
    return randomise(GFNAgent(env, hidden=(6,), state_flow=True, **settings), seed=3)


def weights_of(agent):
    return tuple(tf.convert_to_tensor(variable) for variable in agent._variables())


def everything_of(log_policy, env, trajectories, log_z, sub_trajectory_lambda=0.9):
    """All that any objective may ask for."""
    return {
        **sampling.score(env, log_policy, trajectories, losses.SCORES),
        "taken": trajectories.actions != -1,
        "log_reward": trajectories.log_reward,
        "log_reward_here": sampling.log_rewards_on_the_way(env, trajectories, env.log_reward),
        "log_z": log_z,
        "sub_trajectory_lambda": tf.constant(sub_trajectory_lambda, tf.float64),
    }


def relative_flow(known):
    """The same with log F in units of a state's own reward, but for the origin."""
    after_origin = tf.range(known["log_flow"].shape[1]) > 0
    rewards = tf.where(after_origin, known["log_reward_here"], 0)
    return {**known, "log_flow": known["log_flow"] - rewards}


def every_state_stops(env):
    return np.asarray(env.forward_mask(env.states()))[:, env.stop_action].all()


def test_the_state_flow_is_a_head_only_where_it_is_needed():
    needed = {name for name in losses.OBJECTIVES if "log_flow" in losses.scores_for(name)}
    assert needed == WITH_STATE_FLOW
    assert losses.scores_for("trajectory_balance") == ("log_pf", "log_pb")
    assert losses.scores_for("flow_matching") == ("log_pf", "log_flow", "log_inflow")


@each_environment
@every_objective
def test_zero_at_the_answer_key_and_positive_off_it(env, objective, randomise):
    if objective in ASKING_ON_THE_WAY and not every_state_stops(env):
        pytest.skip("asks for the reward of states that have none")
    agent = untrained(env, randomise)
    key, log_z = evaluation.answer_key(env, tabulate(env, agent.log_policy).log_pb)
    trajectories = agent.sample(200, explore=True)
    known = everything_of(key.log_policy, env, trajectories, tf.constant(log_z, tf.float64))
    if objective == "forward_looking":
        known = relative_flow(known)
    at_key = losses.evaluate(objective, **known)
    np.testing.assert_allclose(at_key, 0, atol=1e-18)
    log_policy = training.log_policy_of_weights(agent.kind)(weights_of(agent))
    off_key = losses.evaluate(
        objective, **everything_of(log_policy, env, trajectories, agent.log_z)
    )
    assert off_key.shape == (200,)
    assert (off_key.numpy() >= 0).all()
    assert off_key.numpy().mean() > 0.05


@pytest.mark.parametrize("uniform", [True, False])
def test_flows_that_are_wrong_in_one_state_are_noticed(uniform, randomise):
    env = HyperGrid(2, 4)
    agent = untrained(env, randomise)
    log_policy = uniform_log_policy(env) if uniform else agent.log_policy
    key, log_z = evaluation.answer_key(env, tabulate(env, log_policy).log_pb)
    wrong = key.log_flow.numpy()
    wrong[5] += 0.1
    wrong = key._replace(log_flow=tf.constant(wrong))
    trajectories = sampling.sample_forward(env, key.log_policy, 300, tf.constant([0, 1]), 0.5)
    visited = np.asarray(trajectories.states)[:, :-1]
    passes = (visited == np.asarray(env.states())[5]).all(axis=-1).any(axis=1)
    assert 0 < passes.sum() < 300
    for objective in WITH_STATE_FLOW:
        known = everything_of(wrong.log_policy, env, trajectories, tf.constant(log_z, tf.float64))
        if objective == "forward_looking":
            known = relative_flow(known)
        loss = losses.evaluate(objective, **known).numpy()
        assert (loss[passes] > 1e-5).all()
        if objective != "flow_matching":  # there, the children of that state notice too
            np.testing.assert_allclose(loss[~passes], 0, atol=1e-20)


@each_environment
def test_the_log_flow_of_the_key_is_that_of_its_flows(env):
    key, log_z = evaluation.answer_key(env, uniform_log_policy(env)(env.states())[1])
    flow = evaluation.flows(key, np.exp(log_z)).state
    np.testing.assert_allclose(np.exp(key.log_flow), flow, rtol=1e-10)


@each_environment
def test_inflow_is_the_sum_over_the_edges_that_lead_in(env, randomise):
    agent = untrained(env, randomise)
    log_policy = training.log_policy_of_weights(agent.kind)(weights_of(agent))
    log_pf, _, log_flow = (np.asarray(part) for part in log_policy(env.states()))
    states, expected = env.states().numpy(), np.zeros(env.n_states)
    for state in range(env.n_states):
        for action in np.flatnonzero(np.isfinite(log_pf[state, : env.stop_action])):
            child = env.step(states[state : state + 1], tf.constant([action], tf.int32))
            expected[env.index(child)[0]] += np.exp(log_flow[state] + log_pf[state, action])
    found = sampling.log_inflow(env, log_policy, env.states())
    origin = int(env.index(env.initial_states(1))[0])
    assert float(found[origin]) == 0
    inside = np.arange(env.n_states) != origin
    np.testing.assert_allclose(np.exp(found)[inside], expected[inside], rtol=1e-10)
    assert float(log_flow[origin]) == float(agent.log_z)


def pieces_by_hand(known, row, weight_of_length):
    """Weighted mean of squared imbalance over all pieces of one trajectory, in plain Python."""
    log_pf, log_pb, log_flow = (known[name].numpy()[row] for name in losses.SCORES[:3])
    n = int(known["taken"].numpy()[row].sum())
    flow = [*log_flow[:n], float(known["log_reward"][row])]
    total = weights = 0.0
    for i in range(n):
        for j in range(i + 1, n + 1):
            imbalance = flow[i] + sum(log_pf[i:j]) - flow[j] - sum(log_pb[i:j])
            total += weight_of_length(j - i) * imbalance**2
            weights += weight_of_length(j - i)
    return total / weights


@each_environment
def test_sub_trajectory_balance_is_a_mean_over_all_pieces(env, randomise):
    agent = untrained(env, randomise)
    log_policy = training.log_policy_of_weights(agent.kind)(weights_of(agent))
    trajectories = agent.sample(20, explore=True)
    for power in (0.3, 0.9, 1.0, 1.7):
        known = everything_of(log_policy, env, trajectories, agent.log_z, power)
        loss = losses.evaluate("sub_trajectory_balance", **known)
        expected = [pieces_by_hand(known, row, lambda k, p=power: p**k) for row in range(20)]
        np.testing.assert_allclose(loss, expected, rtol=1e-10)
    known = everything_of(log_policy, env, trajectories, agent.log_z)
    detailed = losses.evaluate("detailed_balance", **known)
    by_hand = [pieces_by_hand(known, row, lambda length: length == 1) for row in range(20)]
    np.testing.assert_allclose(detailed, by_hand, rtol=1e-10)


@each_environment
@pytest.mark.parametrize(
    ("power", "limit"), [(1e-12, "detailed_balance"), (1e12, "trajectory_balance")]
)
def test_the_limits_of_sub_trajectory_balance(env, power, limit, randomise):
    agent = untrained(env, randomise)
    log_policy = training.log_policy_of_weights(agent.kind)(weights_of(agent))
    known = everything_of(log_policy, env, agent.sample(50, explore=True), agent.log_z, power)
    found = losses.evaluate("sub_trajectory_balance", **known)
    np.testing.assert_allclose(found, losses.evaluate(limit, **known), rtol=1e-6)


def test_log_variance_is_the_variance_of_the_imbalance_and_needs_no_log_z(randomise):
    agent = untrained(HyperGrid(2, 4), randomise)
    trajectories = agent.sample(64)
    log_pf, log_pb = sampling.log_probabilities(agent.env, agent.log_policy, trajectories)
    imbalance = tf.reduce_sum(log_pf - log_pb, axis=1) - trajectories.log_reward
    loss = losses.log_variance(log_pf, log_pb, trajectories.log_reward)
    assert np.mean(loss) == pytest.approx(np.var(imbalance), rel=1e-12)
    # With the log Z that fits best, the mean of trajectory balance is the same.
    best = -tf.reduce_mean(imbalance)
    balance = losses.trajectory_balance(log_pf, log_pb, trajectories.log_reward, best)
    np.testing.assert_allclose(loss, balance, rtol=1e-9)


@pytest.mark.parametrize("backward_policy", BACKWARD_POLICIES)
@every_objective
def test_every_way_to_the_gradient_is_that_of_finite_differences(
    objective, backward_policy, randomise
):
    env = HyperGrid(2, 4)
    agent = untrained(env, randomise, backward_policy=backward_policy)
    weights = weights_of(agent)
    log_policy_of = training.log_policy_of_weights(agent.kind)
    seed = tf.constant([1, 2])
    evaluate = log_policy_of(weights).evaluate
    trajectories, kept = sampling.draw_forward(env, evaluate, 5, seed, 0.5)
    trajectories = trajectories._replace(log_reward=env.log_reward(trajectories.terminal))
    wanted = losses.scores_for(objective)
    on_the_way = sampling.log_rewards_on_the_way(env, trajectories, env.log_reward)

    def mean_loss(trajectories, scores, log_z):
        known = {
            **scores,
            "taken": trajectories.actions != -1,
            "log_reward": trajectories.log_reward,
            "log_reward_here": on_the_way,
            "log_z": log_z,
            "sub_trajectory_lambda": tf.constant(0.8, tf.float64),
        }
        return tf.reduce_mean(losses.evaluate(objective, **known))

    @tf.function
    def loss_at(*weights):
        scores = sampling.score(env, log_policy_of(weights), trajectories, wanted)
        return mean_loss(trajectories, scores, weights[-1])

    arguments = env, log_policy_of, weights, trajectories, mean_loss, wanted
    ways = [training.tabulated_gradient(*arguments)]
    for block_sizes in ((1,), (16, 3)) if backward_policy == "learned" else ((16, 3),):
        ways.append(training.blockwise_gradient(*arguments, kept, block_sizes=block_sizes))
    for loss, _ in ways:
        np.testing.assert_allclose(loss, loss_at(*weights), rtol=1e-12)
    # Along five random directions in the space of all weights.
    rng = np.random.default_rng(0)
    for _ in range(5):
        direction = [rng.normal(size=weight.shape) for weight in weights]
        step = 1e-6
        above, below = (
            loss_at(*(w + s * d for w, d in zip(weights, direction, strict=True)))
            for s in (step, -step)
        )
        for _, gradient in ways:
            slope = sum(np.sum(g * d) for g, d in zip(gradient, direction, strict=True))
            np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@every_objective
def test_every_objective_trains(objective, seed):
    agent = GFNAgent(HyperGrid(), seed=seed)
    agent.train(objective=objective, iterations=2000, decay="linear", chunk=2000, track_error=False)
    p = evaluation.terminating_distribution(agent)
    assert evaluation.l1_error(p, agent.env.target()) < 0.05
    error = abs(float(agent.log_z) - agent.env.log_partition())
    assert error < 0.1 or objective in WITHOUT_LOG_Z
    assert (float(agent.log_z) == 0) == (objective in WITHOUT_LOG_Z)
    if objective in WITH_STATE_FLOW:
        # F(s) is Z times the probability that a trajectory passes s.
        flow = evaluation.flows(agent, np.exp(agent.env.log_partition())).state
        # Where hardly anything flows, the agent has hardly been.
        passed = flow > 1e-3 * flow.max()
        learned = agent.log_flow(agent.env.states()).numpy()
        if objective == "forward_looking":
            learned[1:] += agent.env.log_reward(agent.env.states())[1:]
        gap = np.abs(learned - np.log(flow))[passed]
        assert gap.max() < 0.3
        assert gap.mean() < 0.05


@pytest.mark.parametrize("batch_size", [2, 40], ids=["blockwise", "tabulated"])
@every_objective
def test_every_objective_trains_offline(objective, batch_size):
    agent = GFNAgent(HyperGrid(2, 4), seed=1)
    agent.train(agent.env.states(), objective=objective, epochs=300, batch_size=batch_size)
    p = evaluation.terminating_distribution(agent)
    # Of two trajectories the variance says little; it is a noisy teacher.
    allowed = 0.2 if objective == "log_variance" and batch_size == 2 else 0.05
    assert evaluation.l1_error(p, agent.env.target()) < allowed


@WITHOUT_XLA
def test_a_state_flow_is_added_when_it_is_needed():
    agent, other = small_agent(seed=5), small_agent(seed=5)
    with pytest.raises(ValueError, match="no state flow"):
        agent.log_flow(agent.env.states())
    for each in (agent, other):
        each.train(**ON_POLICY)
    before = agent.policy.get_weights()
    agent.train(**{**ON_POLICY, "iterations": 1}, objective="detailed_balance")
    assert agent.kind.state_flow
    assert agent.iteration == 25
    assert agent.log_flow(agent.env.states()).shape == (16,)
    assert len(agent.policy.weights) == len(before)
    # Trajectory balance leaves the new head alone, and learns as it did without.
    third, fourth = small_agent(seed=5, state_flow=True), other
    fourth.reset()
    for each in (third, fourth):
        each.train(**ON_POLICY)
    for weight, expected in zip(third.policy.weights, fourth.policy.weights, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-9)


@WITHOUT_XLA
def test_a_state_flow_is_saved_and_reset(tmp_path):
    job = {**ON_POLICY, "objective": "sub_trajectory_balance"}
    agent = small_agent(seed=5)
    agent.train(**job)
    agent.save(tmp_path / "agent.npz")
    again = GFNAgent.load(tmp_path / "agent.npz")
    np.testing.assert_array_equal(again.log_flow(GRID.states()), agent.log_flow(GRID.states()))
    for each in (agent, again):
        each.train(**job)
    assert_same(agent, again)
    again.reset(7)
    fresh = small_agent(seed=7, state_flow=True)
    for each in (again, fresh):
        each.train(**job)
    assert_same(again, fresh)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objective": "tb"}, "objective must be one of 'trajectory_balance', .*got 'tb'"),
        (
            {"objective": "forward_looking", "iterations": None, **MEASURED},
            "asks for the reward of every state passed, which log_rewards does not hold",
        ),
        ({"sub_trajectory_lambda": 0}, "sub_trajectory_lambda must be .*at least 1e-30"),
        ({"sub_trajectory_lambda": float("inf")}, "sub_trajectory_lambda must be finite"),
    ],
)
def test_arguments_that_no_objective_takes(arguments, message):
    agent = GFNAgent(HyperGrid(2, 4))
    with pytest.raises(ValueError, match=message):
        agent.train(**{"iterations": 1, **arguments})
    assert agent.iteration == 0
    assert not agent.kind.state_flow


class OnlyBorders(HyperGrid):
    """A grid on which one may stop at the far borders alone."""

    def forward_mask(self, states):
        at_border = tf.reduce_any(states == self.height - 1, axis=1, keepdims=True)
        return tf.concat([super().forward_mask(states)[:, :-1], at_border], axis=1)


class UnlistedBorders(OnlyBorders):
    n_states = None


@pytest.mark.parametrize("kind", [OnlyBorders, UnlistedBorders])
@pytest.mark.parametrize("objective", sorted(ASKING_ON_THE_WAY))
def test_states_that_cannot_stop_are_refused(objective, kind):
    agent = GFNAgent(kind(2, 4))
    message = r"asks for the reward of every state passed, but in .* the state \[0, 0\] cannot stop"
    with pytest.raises(ValueError, match=message):
        agent.train(iterations=1, objective=objective)
    assert agent.iteration == 0
    assert not agent.kind.state_flow


@pytest.mark.parametrize("objective", sorted(ASKING_ON_THE_WAY))
def test_rewards_in_python_are_refused(objective):
    class Asked(HyperGrid):
        python_reward = True

        def log_reward(self, states):
            raise AssertionError

    agent = GFNAgent(Asked(2, 4))
    with pytest.raises(ValueError, match=r"needs a reward in TensorFlow, got .*Asked"):
        agent.train(iterations=1, objective=objective)


@pytest.mark.parametrize("objective", sorted(ASKING_ON_THE_WAY))
def test_a_state_that_cannot_stop_after_all_gives_no_number(objective, randomise):
    env = OnlyBorders(2, 4)
    agent = untrained(env, randomise)
    log_policy = training.log_policy_of_weights(agent.kind)(weights_of(agent))
    known = everything_of(log_policy, env, agent.sample(50), agent.log_z)
    assert not np.isfinite(losses.evaluate(objective, **known)).any()


def test_rewards_on_the_way_are_those_of_the_states_passed():
    env = HyperGrid(2, 4)
    trajectories = GFNAgent(env).sample(20)
    found = sampling.log_rewards_on_the_way(env, trajectories, env.log_reward).numpy()
    for row, actions in enumerate(trajectories.actions.numpy()):
        for t, action in enumerate(actions):
            state = trajectories.states[row : row + 1, t]
            expected = 0 if action < 0 else float(env.log_reward(state)[0])
            assert found[row, t] == pytest.approx(expected, abs=1e-12)
        last = (actions >= 0).sum() - 1
        assert found[row, last] == pytest.approx(float(trajectories.log_reward[row]))


def test_modified_detailed_balance_by_hand():
    # Two moves and a stop; and a trajectory that only stops.
    log_pf = tf.constant([[-1.0, -2.0, -3.0], [-0.5, 0.0, 0.0]], tf.float64)
    log_pb = tf.constant([[0.0, -0.25, 0.0], [0.0, 0.0, 0.0]], tf.float64)
    log_stop = tf.constant([[-1.5, -0.75, -3.0], [-0.5, 0.0, 0.0]], tf.float64)
    here = tf.constant([[0.5, 1.0, 2.0], [0.5, 0.0, 0.0]], tf.float64)
    taken = tf.constant([[True, True, True], [True, False, False]])
    # 0.5 − 1 − 0.75 − 1 − 0 + 1.5 = −0.75 and 1 − 2 − 3 − 2 + 0.25 + 0.75 = −5.
    loss = losses.modified_detailed_balance(log_pf, log_pb, log_stop, here, taken)
    np.testing.assert_allclose(loss, [(0.75**2 + 5**2) / 2, 0])


def test_forward_looking_is_detailed_balance_of_whole_flows(randomise):
    env = HyperGrid(2, 5, r0=0.3)
    agent = untrained(env, randomise)
    log_policy = training.log_policy_of_weights(agent.kind)(weights_of(agent))
    known = everything_of(log_policy, env, agent.sample(50, explore=True), agent.log_z)
    expected = losses.evaluate("detailed_balance", **known)
    found = losses.evaluate("forward_looking", **relative_flow(known))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@WITHOUT_XLA
@pytest.mark.parametrize("objective", sorted(ASKING_ON_THE_WAY))
def test_they_train_where_states_cannot_be_listed(objective):
    class Unlisted(HyperGrid):
        n_states = None

    listed, unlisted = (GFNAgent(kind(2, 4), hidden=(8,)) for kind in (HyperGrid, Unlisted))
    for agent in (listed, unlisted):
        agent.train(iterations=3, objective=objective, batch_size=6)
    for weight, expected in zip(unlisted.policy.weights, listed.policy.weights, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-9, atol=1e-12)


@WITHOUT_XLA
def test_a_callback_may_anneal_the_exploration():
    agent, gammas = small_agent(seed=1, gamma=1.0), []

    def anneal(progress):
        gammas.append(agent.gamma)
        agent.gamma = 1 - progress.done / progress.total

    agent.train(**ON_POLICY, callback=anneal)
    assert gammas == pytest.approx([1, 17 / 24, 10 / 24, 3 / 24])
    fixed = small_agent(seed=1, gamma=1.0)
    fixed.train(**ON_POLICY)
    first, other = agent.policy.get_weights()[0], fixed.policy.get_weights()[0]
    assert np.abs(first - other).max() > 1e-6


def test_log_policies_without_flows_have_two_results(randomise):
    agent = untrained(HyperGrid(2, 4), randomise)
    states = agent.env.states()
    assert len(agent.log_policy(states)) == 2
    two = network_log_policy(agent.env, agent.kind.network, agent.policy.weights)(states)
    three = training.log_policy_of_weights(agent.kind)(weights_of(agent))(states)
    for found, expected in zip(three, two, strict=False):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_offline_log_variance_leaves_the_padding_out():
    # 16 objects in batches of 6 leave one of 4 and two that only fill up.
    rng = np.random.default_rng(0)
    log_pf, log_pb = (tf.constant(rng.normal(size=[6, 3])) for _ in range(2))
    log_reward = tf.constant(rng.normal(size=6))
    weight = tf.constant([1.0, 1, 1, 1, 0, 0], tf.float64)
    loss = losses.log_variance(log_pf, log_pb, log_reward, weight)
    ratio = np.sum(log_pf - log_pb, axis=1) - log_reward
    assert float(losses.weighted_mean(loss, weight)) == pytest.approx(np.var(ratio[:4]))
    whole = losses.log_variance(log_pf, log_pb, log_reward)
    assert float(losses.weighted_mean(whole)) == pytest.approx(np.var(ratio))


def test_an_objective_of_ones_own_in_the_table_is_trained_with(monkeypatch):
    def contrastive_balance(log_pf, log_pb, log_reward):
        """Half the squared difference of two trajectories' imbalances (arXiv 2406.03288)."""
        log_ratio = tf.reduce_sum(log_pf - log_pb, axis=1) - log_reward
        return tf.square(log_ratio - tf.roll(log_ratio, shift=1, axis=0)) / 2

    monkeypatch.setitem(losses.OBJECTIVES, "contrastive_balance", contrastive_balance)
    agent = GFNAgent(HyperGrid(2, 4), seed=0)
    first_log_z = float(agent.log_z)
    history = agent.train(iterations=800, objective="contrastive_balance")
    assert history.l1_error[-1] < 0.02
    assert float(agent.log_z) == first_log_z  # it plays no part, as in log-variance
