"""Training: each part against a recomputation by hand, whole runs against the exact answer."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from own_environments import Words
from same_agents import assert_different, assert_same, everything
from small_jobs import (
    BOTH_WAYS,
    CHUNK,
    GRID,
    OFFLINE,
    ON_POLICY,
    job_of,
    small_agent,
)

from gfn_utils import GFNAgent, HyperGrid, evaluation, losses, sampling, training
from gfn_utils.policy import network_log_policy
from gfn_utils.training import Batches


@pytest.fixture
def recorded(monkeypatch):
    """The arguments and results of all compiled chunks of updates that `train` calls.

    Without the two at rates of 0 that tell where log Z starts.
    """
    calls, compile_chunk = [], training.compile_chunk

    def recording(*kind):
        def chunk(*arguments):
            result = compile_chunk(*kind)(*arguments)
            if np.any(arguments[1]):
                calls.append((arguments, result))
            return result

        return chunk

    monkeypatch.setattr(training, "compile_chunk", recording)
    return calls


def test_adam_step_is_that_of_keras():
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (4,), ()]
    start = [tf.constant(rng.normal(size=shape)) for shape in shapes]
    variables = [keras.Variable(weight, dtype="float64") for weight in start]
    # Keras takes Python numbers through float32: this rate is the same there, and β₁ and β₂ stay
    # as they are when NumPy holds them.
    rate, beta_1, beta_2 = 2.0**-6, np.float64(0.7), np.float64(0.95)
    optimizer = keras.optimizers.Adam(rate, beta_1, beta_2, epsilon=1e-7)
    state = training.initial_state(start)
    for _ in range(20):
        gradients = [tf.constant(rng.normal(size=shape)) for shape in shapes]
        state = training.adam_step(state, gradients, [rate] * len(shapes), beta_1, beta_2)
        optimizer.apply(gradients, variables)
    assert int(state.iteration) == 20
    for weight, variable, first in zip(state.weights, variables, start, strict=True):
        assert np.abs(weight - first).min() > 1e-3
        np.testing.assert_allclose(weight, variable.numpy(), rtol=0, atol=1e-12)


def test_adam_step_with_weight_decay_is_adamw_of_keras_on_kernels_alone():
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (4,), ()]
    start = [tf.constant(rng.normal(size=shape)) for shape in shapes]
    variables = [
        keras.Variable(weight, dtype="float64", name=f"v{i}") for i, weight in enumerate(start)
    ]
    rate, decay = 2.0**-6, 2.0**-3
    optimizer = keras.optimizers.AdamW(rate, decay, np.float64(0.7), np.float64(0.95), epsilon=1e-7)
    optimizer.exclude_from_weight_decay(var_list=variables[1:])
    state = training.initial_state(start)
    for _ in range(20):
        gradients = [tf.constant(rng.normal(size=shape)) for shape in shapes]
        state = training.adam_step(
            state, gradients, [rate] * 3, np.float64(0.7), np.float64(0.95), decay
        )
        optimizer.apply(gradients, variables)
    for weight, variable in zip(state.weights, variables, strict=True):
        np.testing.assert_allclose(weight, variable.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("clip_norm", [0.5, 13.0, 14.0, np.inf])
def test_gradients_are_clipped_by_their_norm_together(clip_norm):
    gradients = [tf.constant([[3.0, 4.0]], tf.float64), tf.constant(12.0, tf.float64)]
    found = training.clipped(gradients, tf.constant(clip_norm, tf.float64))
    factor = min(1.0, clip_norm / 13)
    np.testing.assert_allclose(found[0], factor * np.array([[3, 4]]), rtol=1e-15)
    np.testing.assert_allclose(found[1], factor * 12, rtol=1e-15)


def test_adam_step_gives_each_weight_its_own_rate():
    weights = [tf.zeros([2], tf.float64), tf.zeros([], tf.float64)]
    gradients = [tf.constant([5.0, -0.1], tf.float64), tf.constant(300.0, tf.float64)]
    state = training.adam_step(training.initial_state(weights), gradients, [0.1, 0.004], 0.7, 0.95)
    # The first step of Adam is the rate against the sign of the gradient.
    np.testing.assert_allclose(state.weights[0], [-0.1, 0.1], rtol=1e-5)
    np.testing.assert_allclose(state.weights[1], -0.004, rtol=1e-5)


def weights_of(agent):
    return tuple(tf.convert_to_tensor(v) for v in [*agent.policy.weights, agent.log_z])


def log_policy_of(agent):
    def log_policy(weights):
        return network_log_policy(
            agent.env, agent.kind.network, weights[:-1], agent.kind.backward_policy
        )

    return log_policy


WANTED = ("log_pf", "log_pb")


def uneven_loss(trajectories, scores, log_z):
    """A loss to which no two steps of a trajectory matter alike."""
    log_pf, log_pb = (scores[name] for name in WANTED)
    steps = tf.range(1, log_pf.shape[1] + 1, dtype=log_pf.dtype)
    return tf.reduce_mean(
        losses.trajectory_balance(
            steps * log_pf, tf.sqrt(steps) * log_pb, trajectories.log_reward, log_z
        )
    )


def gradient_directly(log_policy, env, weights, trajectories, mean_loss):
    """Loss and gradient with the network run on every step of the trajectories."""
    with tf.GradientTape() as tape:
        tape.watch(weights)
        scores = sampling.score(env, log_policy(weights), trajectories, WANTED)
        loss = mean_loss(trajectories, scores, weights[-1])
    return loss, tape.gradient(loss, weights, unconnected_gradients="zero")


@pytest.mark.parametrize("backward_policy", ["learned", "uniform"])
@pytest.mark.parametrize(
    ("direction", "hidden"),
    [("backward", (8,)), ("forward", ()), ("forward", (6, 5, 4))],
    ids=str,
)
@pytest.mark.parametrize("block_sizes", ["table", (1,), (7,), (128,), (16, 3)], ids=str)
def test_the_ways_to_the_gradient_agree(randomise, backward_policy, direction, hidden, block_sizes):
    agent = small_agent(backward_policy=backward_policy, hidden=hidden)
    weights, log_policy = weights_of(randomise(agent, seed=1)), log_policy_of(agent)
    if direction == "backward":
        sampled, kept = agent.sample_backward([[3, 3], [0, 0], [1, 2], [3, 0]]), None
    else:
        evaluate = log_policy(weights).evaluate
        sampled, kept = sampling.draw_forward(GRID, evaluate, 6, tf.constant([1, 2]), 0.5)
        sampled = sampled._replace(log_reward=GRID.log_reward(sampled.terminal))
    arguments = GRID, log_policy, weights, sampled, uneven_loss, WANTED
    if block_sizes == "table":
        loss, gradient = training.tabulated_gradient(*arguments)
    else:
        loss, gradient = training.blockwise_gradient(*arguments, kept, block_sizes)
    expected_loss, expected = gradient_directly(log_policy, GRID, weights, sampled, uneven_loss)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-12)
    for found, value in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-10, atol=1e-10)


def test_a_table_is_made_where_the_states_are_fewer_than_the_steps():
    # 16 states against batches of 7 steps each.
    assert [training.fits_in_a_table(GRID, n) for n in (1, 2, 3, 10)] == [False, False, True, True]
    assert not training.fits_in_a_table(Words(), 10**6)


MIXED = 0.5
SHARES = pytest.mark.parametrize(
    "share_given", [0.0, MIXED, 1.0], ids=["sampled", "mixed", "given"]
)


@pytest.mark.parametrize("batch_size", [2, 6], ids=["blockwise", "tabulated"])
@pytest.mark.parametrize("given_rewards", [False, True], ids=["asked", "given rewards"])
@SHARES
def test_compiled_updates_equal_those_made_by_hand(
    randomise, share_given, given_rewards, batch_size
):
    agent = randomise(small_agent(seed=3, gamma=0.3), seed=4)
    env, log_policy, n_updates = GRID, log_policy_of(agent), 3
    n_given = round(share_given * batch_size)
    job = training.Job(agent.kind, "trajectory_balance", batch_size - n_given, n_given)
    rng = np.random.default_rng(0)
    rates = tf.constant(rng.uniform(0.01, 0.02, [CHUNK, 2]))
    terminal = tf.constant(rng.integers(0, 4, [CHUNK, n_given, 2]), tf.int32)
    weight = np.ones([CHUNK, n_given])
    weight[1, -1:] = 0
    weight[:, : n_given == 1] = 1
    known = tf.constant(rng.normal(size=[CHUNK, n_given])) if given_rewards else None
    state = training.initial_state(weights_of(agent))._replace(iteration=tf.constant(9, tf.int64))
    batches = Batches(terminal, tf.constant(weight), known) if n_given else None
    numbers = [tf.constant(each, tf.float64) for each in ([0.6, 0.9], 0.3, 0.9, 0.02, 0.1)]
    settings = training.Settings(*numbers, tf.constant(6, tf.int64))
    result = training.compile_chunk(job)(state, rates, tf.constant(n_updates), settings, batches)

    for i in range(n_updates):
        now, drawn = log_policy(state.weights), []
        both = 0 < n_given < batch_size
        first, second = ([6, (2 if both else 1) * (9 + i) + part] for part in (0, both))
        if n_given < batch_size:
            drawn.append(
                sampling.sample_forward(env, now, batch_size - n_given, tf.constant(first), 0.3)
            )
        if n_given:
            back = sampling.sample_backward(env, now, terminal[i], tf.constant(second))
            drawn.append(back._replace(log_reward=known[i]) if given_rewards else back)
        trajectories = sampling.Trajectories(
            *(tf.concat(each, 0) for each in zip(*drawn, strict=True))
        )
        counts = np.concatenate([np.ones(batch_size - n_given), weight[i]])

        def weighted_mean(trajectories, scores, log_z, counts=counts):
            loss = losses.trajectory_balance(
                **scores, log_reward=trajectories.log_reward, log_z=log_z
            )
            return tf.reduce_sum(loss * counts) / counts.sum()

        loss, gradient = gradient_directly(
            log_policy, env, state.weights, trajectories, weighted_mean
        )
        gradient, _ = tf.clip_by_global_norm(gradient, 0.02)
        each = [rates[i, 0]] * (len(gradient) - 1) + [rates[i, 1]]
        state = training.adam_step(state, gradient, each, 0.6, 0.9, 0.1)
        np.testing.assert_allclose(result.loss[i], loss, rtol=1e-11)
        np.testing.assert_allclose(result.log_z[i], state.weights[-1], rtol=1e-11)
    assert int(result.state.iteration) == 9 + n_updates
    for found, expected in zip(tf.nest.flatten(result.state), tf.nest.flatten(state), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_train_calls_the_compiled_chunk_with_the_settings_of_the_agent(recorded):
    rates = {"learning_rate": 0.02, "log_z_learning_rate": 0.3}
    agent = small_agent(seed=5, gamma=0.25, adam_betas=(0.8, 0.9), **rates)
    agent.train(**{**ON_POLICY, "decay": "linear"}, resume_from=0)
    ((state, rates, n_updates, settings, _), _), *_, last = recorded
    np.testing.assert_allclose(settings.betas, [0.8, 0.9], rtol=1e-15)
    np.testing.assert_allclose(rates[:, 0], 0.02 * (1 - np.arange(CHUNK) / 24), rtol=1e-14)
    np.testing.assert_allclose(rates[:, 1], 0.3 * (1 - np.arange(CHUNK) / 24), rtol=1e-14)
    assert (int(n_updates), float(settings.gamma), int(state.iteration)) == (CHUNK, 0.25, 0)
    assert int(last[0][2]) == 24 - 3 * CHUNK
    assert len({int(arguments[3].seed) for arguments, _ in recorded}) == 1


def test_no_agent_samples_with_the_random_numbers_that_train_another(recorded):
    agents = [small_agent(seed=seed) for seed in range(4)]
    of_samples = {int(agent._next_sampling_seed()[0]) for agent in agents}
    for agent in agents:
        agent.train(**{**ON_POLICY, "iterations": 7})
    of_training = {int(arguments[3].seed) for arguments, _ in recorded}
    assert len(of_samples) == len(of_training) == 4
    assert not of_samples & of_training


def test_learning_rates_fall_to_zero_or_stay():
    np.testing.assert_allclose(
        training.learning_rates(0, 5, 5, "linear"), [1, 0.8, 0.6, 0.4, 0.2], rtol=1e-15
    )
    assert training.learning_rates(3, 4, 5, "linear").tolist() == pytest.approx([0.4, 0.2, 0, 0])
    assert training.learning_rates(3, 4, 5, "constant").tolist() == [1, 1, 1, 1]
    parts = [training.learning_rates(first, 3, 12, "linear") for first in (0, 3, 6, 9)]
    np.testing.assert_array_equal(
        np.concatenate(parts), training.learning_rates(0, 12, 12, "linear")
    )


def test_epoch_order_is_a_permutation_fixed_by_its_arguments():
    order = training.epoch_order(1, 2, 3, 50)
    assert sorted(order) == list(range(50))
    assert order.tolist() == training.epoch_order(1, 2, 3, 50).tolist()
    for other in [(2, 2, 3), (1, 3, 3), (1, 2, 4)]:
        assert order.tolist() != training.epoch_order(*other, 50).tolist()


def test_every_epoch_visits_each_object_once_in_an_order_of_its_own(recorded):
    small_agent().train(**OFFLINE)
    batches = []
    for (_, _, n_updates, *_, chunk), _ in recorded:
        for i in range(int(n_updates)):
            batches.append(chunk.terminal[i].numpy()[chunk.weight[i].numpy() == 1].tolist())
    assert len(batches) == 8 * 3
    assert [len(batch) for batch in batches] == [6, 6, 4] * 8
    epochs = [list(itertools.chain(*batches[i : i + 3])) for i in range(0, 24, 3)]
    for epoch in epochs:
        assert sorted(epoch) == GRID.states().numpy().tolist()
    assert len({str(epoch) for epoch in epochs}) == 8


def test_the_padding_of_the_last_batch_has_no_influence(recorded):
    agent = small_agent()
    agent.train(**OFFLINE)
    (arguments, result), *_ = recorded
    batches = arguments[-1]
    padded = batches.weight.numpy() == 0
    assert padded[2].tolist() == [False] * 4 + [True] * 2
    rng = np.random.default_rng(0)
    others = rng.integers(0, 4, batches.terminal.shape)
    others = np.where(padded[..., None], others, batches.terminal.numpy()).astype(np.int32)
    assert (others != batches.terminal.numpy()).any()
    chunk = training.compile_chunk(job_of(agent, offline=True))
    again = chunk(*arguments[:-1], Batches(tf.constant(others), batches.weight))
    # All but the terminal states themselves, and what they pay.
    for found, expected in zip(*map(tf.nest.flatten, (again[:3], result[:3])), strict=True):
        np.testing.assert_array_equal(found, expected)


@BOTH_WAYS
def test_the_size_of_the_chunks_changes_nothing(job):
    agent, other = small_agent(), small_agent()
    history = agent.train(**job)
    other_history = other.train(**{**job, "chunk": 100})
    assert agent.iteration == 24
    assert_same(agent, other)
    np.testing.assert_array_equal(history.loss, other_history.loss)
    np.testing.assert_array_equal(history.log_z, other_history.log_z)


def test_objects_that_come_twice_count_once():
    agent, other = small_agent(), small_agent()
    agent.train(**OFFLINE)
    other.train(**{**OFFLINE, "data": np.tile(GRID.states(), [3, 1])[::-1]})
    assert_same(agent, other)


def test_trajectories_are_taken_for_the_objects_they_have_seen():
    agent, other = small_agent(), small_agent()
    trajectories = agent.sample(4)
    other.sample(4)
    seen = sampling.objects_seen(GRID, trajectories)
    assert len(np.unique(trajectories.terminal, axis=0)) < len(seen) < 16
    agent.train(**{**OFFLINE, "data": trajectories})
    other.train(**{**OFFLINE, "data": seen})
    assert_same(agent, other)


def test_two_runs_of_n_updates_equal_one_of_2n():
    agent, other = small_agent(), small_agent()
    agent.train(**ON_POLICY)
    agent.train(**ON_POLICY)
    other.train(**{**ON_POLICY, "iterations": 48})
    assert_same(agent, other)


@BOTH_WAYS
def test_history_tells_the_loss_and_the_exact_error(job, recorded):
    agent = small_agent()
    history = agent.train(**job)
    updates = np.concatenate([result.loss[: int(arguments[2])] for arguments, result in recorded])
    log_zs = np.concatenate([result.log_z[: int(arguments[2])] for arguments, result in recorded])
    per_entry = 3 if job is OFFLINE else 1
    np.testing.assert_allclose(history.loss, updates.reshape(-1, per_entry).mean(axis=1))
    np.testing.assert_array_equal(history.log_z, log_zs[per_entry - 1 :: per_entry])
    assert history.log_z[-1] == agent.log_z.numpy()
    assert history.evaluated_at.tolist() == [7, 14, 21, 24]
    error = evaluation.l1_error(evaluation.terminating_distribution(agent), GRID.target())
    assert history.l1_error[-1] == error
    assert len(set(history.l1_error)) == 4


def test_the_exact_error_can_be_left_out():
    agent, other = small_agent(), small_agent()
    history = agent.train(**ON_POLICY, track_error=False)
    other.train(**ON_POLICY)
    assert history.evaluated_at.shape == history.l1_error.shape == (0,)
    assert_same(agent, other)


@BOTH_WAYS
def test_the_callback_sees_progress_and_may_stop(job):
    agent, seen = small_agent(), []

    def callback(progress):
        seen.append((progress.done, progress.total, agent.iteration))
        assert progress.history.log_z[-1] == agent.log_z.numpy()
        return progress.done >= 14

    history = agent.train(**job, callback=callback)
    assert seen == [(7, 24, 7), (14, 24, 14)]
    assert agent.iteration == 14
    assert len(history.loss) == (5 if job is OFFLINE else 14)
    other = small_agent()
    other.train(**job, callback=lambda progress: None)
    assert other.iteration == 24


@BOTH_WAYS
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(job):
    agent, other = small_agent(seed=2), small_agent(seed=2)
    # Both have trained before: a run's orders depend on where it began.
    for each in (agent, other):
        each.train(**job)

    def interrupt(progress):
        if progress.done == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        agent.train(**job, callback=interrupt)
    assert agent.iteration == 24 + 14
    assert_different(agent, other)
    history = agent.train(**job, resume_from=14)
    whole = other.train(**job)
    assert_same(agent, other)
    assert history.evaluated_at.tolist() == [21, 24]
    assert history.loss[-1] == whole.loss[-1]


class HoleGrid(HyperGrid):
    """A grid that forgot the reward of one cell."""

    def log_reward(self, states):
        hole = tf.reduce_all(tf.convert_to_tensor(states) == [2, 3], axis=-1)
        return tf.where(hole, tf.constant(np.nan, tf.float64), super().log_reward(states))


def test_a_loss_that_is_no_number_stops_training_and_names_the_update():
    env = HoleGrid(2, 4)
    agent, other = (GFNAgent(env, hidden=(8,), seed=1) for _ in range(2))
    whole = np.delete(env.states(), 11, axis=0)
    for each in (agent, other):
        each.train(**{**OFFLINE, "data": whole, "epochs": 3}, track_error=False)
    # Run 2 begins at update 9; its batches have six objects, the broken one somewhere among them.
    assert agent.iteration == 9
    where = training.epoch_order(1, 9, 0, 16).tolist().index(11) // 6
    before = everything(agent)
    with pytest.raises(FloatingPointError, match=f"at iteration {9 + where};.*after iteration 9"):
        agent.train(**{**OFFLINE, "data": env.states()}, track_error=False)
    for value, expected in zip(everything(agent), before, strict=True):
        np.testing.assert_array_equal(value, expected)
    assert_same(agent, other)


def test_a_wild_learning_rate_leaves_the_agent_after_the_last_good_chunk():
    # The first step leads to weights that are still within bounds, the second no longer.
    agent, other = (small_agent(learning_rate=6e9) for _ in range(2))
    job = {**ON_POLICY, "chunk": 1}
    other.train(**job, callback=lambda progress: True)
    message = r"at iteration 1; the agent is as it was after iteration 1\. .*\(now 6e\+09\)"
    with pytest.raises(FloatingPointError, match=message):
        agent.train(**job)
    assert agent.iteration == 1
    assert_same(agent, other)
    with pytest.raises(FloatingPointError, match=r"at iteration 1; .* after iteration 0"):
        small_agent(learning_rate=1e300).train(**ON_POLICY)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_job_learns_the_distribution(seed):
    agent = GFNAgent(HyperGrid(), seed=seed)
    history = agent.train(agent.sample(5000, explore=True), epochs=200)
    learned = evaluation.terminating_distribution(agent)
    # 398 of 400 seeds end below.
    assert evaluation.l1_error(learned, agent.env.target()) <= 0.02
    assert history.loss[0] >= 100 * history.loss[-1]
    assert abs(float(agent.log_z) - agent.env.log_partition()) <= 0.02
    assert len(history.loss) == 200


def test_the_contract_of_names():
    env = HyperGrid(ndim=2, height=8, r0=0.01, r1=0.5, r2=1.0)
    agent = GFNAgent(
        env,
        hidden=(32, 32),
        gamma=0.5,
        seed=0,
        learning_rate=0.01,
        log_z_learning_rate=0.01,
        dtype="float64",
    )
    pf_logits, pb_logits = agent.policy(env.encode(env.states()))
    assert (pf_logits.shape, pb_logits.shape) == ((64, 3), (64, 2))
    assert np.isfinite(pf_logits).all()
    assert np.isfinite(pb_logits).all()
    assert pf_logits.dtype == pb_logits.dtype == agent.log_z.dtype == tf.float64
    assert float(agent.log_z) == 0
    data = agent.sample(5000, explore=True)
    assert data._fields == ("states", "actions", "terminal", "log_reward")
    assert [part.shape for part in data] == [(5000, 16, 2), (5000, 15), (5000, 2), (5000,)]
    terminal_states = data.terminal[:7]
    back = agent.sample_backward(terminal_states)
    assert type(back) is type(data)
    np.testing.assert_array_equal(back.terminal, terminal_states)
    assert (back.states[:, 0] == 0).numpy().all()
    hist = agent.train(data, epochs=200)
    assert len(hist.loss) == 200
    p = evaluation.terminating_distribution(agent)
    assert p.shape == (env.n_states,)
    l1 = evaluation.l1_error(p, env.target())
    assert l1 == pytest.approx(np.abs(p - env.target()).sum(), abs=1e-15)
    assert l1 < 0.02
    hist = agent.train(iterations=2000, batch_size=16)
    assert len(hist.loss) == 2000
    assert agent.iteration == 1400 + 2000


def test_on_policy_learns_the_distribution():
    agent = GFNAgent(HyperGrid())
    history = agent.train(iterations=1000, decay="linear")
    learned = evaluation.terminating_distribution(agent)
    assert evaluation.l1_error(learned, agent.env.target()) < 0.05
    assert len(history.loss) == 1000


def test_a_uniform_backward_policy_stays_so_and_trains():
    agent = GFNAgent(HyperGrid(), backward_policy="uniform")
    head = agent.policy.get_layer("backward_policy").kernel.numpy()
    agent.train(agent.sample(5000, explore=True), epochs=200)
    learned = evaluation.terminating_distribution(agent)
    assert evaluation.l1_error(learned, agent.env.target()) < 0.02
    p_backward = np.exp(agent.log_policy(agent.env.states())[1])
    parents = agent.env.backward_mask(agent.env.states()).numpy()
    np.testing.assert_allclose(
        p_backward[1:], (parents / np.maximum(parents.sum(axis=1, keepdims=True), 1))[1:]
    )
    np.testing.assert_array_equal(agent.policy.get_layer("backward_policy").kernel.numpy(), head)


def test_single_precision_trains_too():
    agent = GFNAgent(HyperGrid(), dtype="float32")
    history = agent.train(agent.sample(5000, explore=True), epochs=200)
    assert {value.dtype for value in tf.nest.flatten(agent._held.state)} == {tf.float32, tf.int64}
    learned = evaluation.terminating_distribution(agent)
    assert evaluation.l1_error(learned, agent.env.target()) < 0.03
    assert history.loss[0] > 100 * history.loss[-1]


def test_the_state_of_training_is_all_of_it():
    # An agent given the state of another goes on as the other does.
    agent, other = small_agent(), small_agent()
    agent.train(**ON_POLICY)
    other._hold(other._held._replace(state=agent._held.state))
    agent.train(**ON_POLICY)
    other.train(**ON_POLICY)
    assert_same(agent, other)
