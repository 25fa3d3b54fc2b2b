"""Training as a pure function: (weights, optimiser state) → the same after a chunk of updates.

One call of the compiled chunk makes many updates: sample, score, differentiate, step. Everything
that an update needs comes in as an argument and goes out as a result, so that all agents of one
kind share one compiled program, and an interrupt between chunks leaves nothing half-done.
"""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils import losses
from gfn_utils.environments import Environment
from gfn_utils.environments.snapshot import Snapshot, has_table
from gfn_utils.networks import DenseNetwork
from gfn_utils.policy import network_log_policy, tabulate
from gfn_utils.sampling import (
    PADDING,
    log_probabilities,
    sample_backward,
    sample_forward,
    sample_forward_keeping,
    score,
    score_steps,
)

LARGEST_BATCH = 100_000
"""Trajectories an update. More are a slip, and would end for want of memory."""

LARGEST_WEIGHT = 1e10
"""Where a weight is larger, training has diverged: the network's products soon overflow."""

BLOCK_SIZES = (512, 128)
"""Steps on which the network is differentiated at once, where it visits states one by one: large
blocks as long as they are full, then small ones for the rest."""

LEAST_PRODUCTS_OF_TWO_PARTS = 4_000_000
"""Multiplications of one step of a batch from which it is worth drawing it in two parts."""

LEAST_PRODUCTS_SPARED = 500_000
"""Multiplications of one step that a halving of its rows must spare to be worth it."""


class Kind(NamedTuple):
    """What the compiled programs of an agent depend on.

    They are kept by a Kind whose `env` is a Snapshot of the environment."""

    env: Environment
    network: DenseNetwork
    dtype: str
    backward_policy: str
    state_flow: bool = False


class TrainingState(NamedTuple):
    """All that training changes. Each tuple holds the policy's weights, then those of the state
    flow if there is one, and last log Z."""

    weights: tuple[tf.Tensor, ...]
    first_moments: tuple[tf.Tensor, ...]
    second_moments: tuple[tf.Tensor, ...]
    iteration: tf.Tensor
    """How many updates were made, int64 `[]`."""


class Batches(NamedTuple):
    """Terminal states to train on offline, for U updates of B trajectories."""

    terminal: tf.Tensor
    """int32 `[U, B, ...]`."""
    weight: tf.Tensor
    """1 for a trajectory, 0 for padding, `[U, B]`."""


class ChunkResult(NamedTuple):
    state: TrainingState
    loss: tf.Tensor
    """Mean loss of each update's batch in nats², `[U]`."""
    log_z: tf.Tensor
    """log Z after each update in nats, `[U]`."""
    terminal: tf.Tensor
    """The states in which the updates' trajectories stopped, int32 `[U, B, ...]`."""
    log_reward: tf.Tensor
    """What they were taken to pay, in nats, float64 `[U, B]`."""


def has_diverged(weights) -> bool:
    """Whether a weight is NaN or larger than any that is of use."""
    return not all((np.abs(np.asarray(weight)) < LARGEST_WEIGHT).all() for weight in weights)


def initial_state(weights) -> TrainingState:
    """The state before the first update: Adam's moments at zero."""
    zeros = tuple(tf.zeros_like(weight) for weight in weights)
    return TrainingState(tuple(weights), zeros, zeros, tf.constant(0, tf.int64))


def log_policy_of_weights(kind: Kind):
    """A function from the weights of an agent of this kind (log Z last) to its log-policy."""

    def log_policy_of(weights):
        *of_network, log_z = weights
        return network_log_policy(
            kind.env,
            kind.network,
            of_network,
            kind.backward_policy,
            log_z if kind.state_flow else None,
        )

    return log_policy_of


def compile_chunk(kind: Kind, batch_size: int, offline: bool, objective: str):
    """The compiled function that makes a chunk of updates by an objective of `gfn_utils.losses`.

    It takes a TrainingState, `rates` `[U, 2]` (the learning rate of policy and of log Z in each
    update), `n_updates` ≤ U, Adam's β₁ and β₂ `[2]`, γ, the λ of sub-trajectory balance, the
    agent's seed and, offline, Batches; returns a ChunkResult of which the first `n_updates` entries
    count. U is fixed by the shape of `rates`: another U compiles again, another `n_updates`, β, γ,
    λ or seed does not.

    The environment is taken as it is at this call (see `Snapshot`).
    """
    snapshot = Snapshot(kind.env)
    program = _program(kind._replace(env=snapshot), batch_size, offline, objective)
    return functools.partial(program, snapshot.log_rewards)


class CheckedChunk:
    """`compile_chunk` for one run, which notices when a program pays rewards of another time.

    Where rewards are no argument of the program, what it took the trajectories to pay is compared
    with what the environment says now. If they differ all programs are compiled anew, once.
    """

    def __init__(self, kind: Kind, batch_size: int, offline: bool, objective: str):
        self._compile = functools.partial(compile_chunk, kind, batch_size, offline, objective)
        self._env = kind.env
        self._chunk = self._compile()

    def __call__(self, state, rates, n_updates, *others) -> ChunkResult:
        result = self._chunk(state, rates, n_updates, *others)
        if self._difference(result, n_updates) is None:
            return result
        forget_programs()
        self._chunk = self._compile()
        result = self._chunk(state, rates, n_updates, *others)
        difference = self._difference(result, n_updates)
        if difference is not None:
            raise ValueError(f"env must give each state one log_reward, but {difference}")
        return result

    def _difference(self, result, n_updates):
        """Where the rewards of up to 256 of the trajectories differ from the environment's."""
        if has_table(self._env):
            return None
        paid = np.asarray(result.log_reward[:n_updates]).ravel()
        terminal = np.asarray(result.terminal[:n_updates]).reshape(-1, *self._env.state_shape)
        some = slice(None, None, -(-len(paid) // 256))
        paid, terminal = paid[some], tf.constant(terminal[some])
        now = np.asarray(self._env.log_reward(terminal))
        may_stop = np.asarray(self._env.forward_mask(terminal))[:, self._env.stop_action]
        same = np.isclose(paid, now, rtol=1e-3, atol=1e-3, equal_nan=True) & may_stop
        if same.all():
            return None
        row = int(np.argmin(same))
        return f"{terminal[row].numpy().tolist()} has {now[row]:g} now and had {paid[row]:g}"


def forget_programs() -> None:
    """Let every program be compiled anew when it is next asked for."""
    _program.cache_clear()


@functools.lru_cache(maxsize=64)
def _program(kind, batch_size, offline, objective):
    """`compile_chunk`, but for the table of rewards, which is the function's first argument."""
    kind = kind._replace(env=kind.env.env)
    env, log_policy_of = kind.env, log_policy_of_weights(kind)
    wanted = losses.scores_for(objective)
    n_parts = n_parts_of_batch(kind, batch_size)

    def update(state, rates, betas, seed, gamma, sub_trajectory_lambda, log_rewards, batch):
        def draw(evaluate, part=0):
            part_seed = tf.stack([seed, n_parts * state.iteration + part])
            if offline:
                terminal = tf.stack(tf.split(batch.terminal, n_parts))[part]
                trajectories = sample_backward(env, lambda s: evaluate(s)[0], terminal, part_seed)
                kept = None
            else:
                size = batch_size // n_parts
                n_halvings = n_halvings_of_batch(kind, batch_size)
                trajectories, kept = sample_forward_keeping(
                    env, evaluate, size, part_seed, gamma, n_halvings
                )
            if log_rewards is not None:
                looked_up = tf.gather(log_rewards, env.index(trajectories.terminal))
                trajectories = trajectories._replace(log_reward=looked_up)
            return trajectories, kept

        def mean_loss(trajectories, scores, log_z):
            weight = None if batch is None else batch.weight
            loss = losses.evaluate(
                objective,
                **scores,
                taken=trajectories.actions != PADDING,
                log_reward=trajectories.log_reward,
                log_z=log_z,
                sub_trajectory_lambda=sub_trajectory_lambda,
                weight=weight,
            )
            return losses.weighted_mean(loss, weight)

        arguments = env, log_policy_of, state.weights, draw, mean_loss, wanted
        if fits_in_a_table(env, batch_size):
            loss, gradients, drawn = tabulated_gradient(*arguments)
        else:
            loss, gradients, drawn = blockwise_gradient(*arguments, n_parts)
        rate_of_weight = [rates[0]] * (len(state.weights) - 1) + [rates[1]]
        state = _xla(adam_step)(state, gradients, rate_of_weight, betas[0], betas[1])
        terminal, log_reward = drawn
        return state, loss, state.weights[-1], terminal, tf.cast(log_reward, tf.float64)

    def chunk(
        log_rewards,
        state,
        rates,
        n_updates,
        betas,
        gamma,
        sub_trajectory_lambda,
        seed,
        batches=None,
    ):
        capacity = rates.shape[0]
        forms = (
            ([], kind.dtype),
            ([], kind.dtype),
            ([batch_size, *env.state_shape], tf.int32),
            ([batch_size], tf.float64),
        )

        def body(i, state, *arrays):
            batch = None if batches is None else tf.nest.map_structure(lambda a: a[i], batches)
            state, *results = update(
                state, rates[i], betas, seed, gamma, sub_trajectory_lambda, log_rewards, batch
            )
            written = (array.write(i, value) for array, value in zip(arrays, results, strict=True))
            return i + 1, state, *written

        arrays = [tf.TensorArray(dtype, capacity, element_shape=shape) for shape, dtype in forms]
        _, state, *arrays = tf.while_loop(lambda i, *_: i < n_updates, body, (0, state, *arrays))
        return ChunkResult(state, *(array.stack() for array in arrays))

    # One program makes all updates, unless parts of it are to run beside one another.
    return _xla(chunk) if n_parts == 1 else tf.function(chunk, autograph=False)


def started_at(kind: Kind, state: TrainingState, level: float) -> TrainingState:
    """The state with log Z, and with it all state flows, higher by `level` nats."""
    shared = 2 if kind.state_flow else 1  # the bias of the state flow's head stands before log Z
    fixed, moved = state.weights[:-shared], state.weights[-shared:]
    return state._replace(weights=(*fixed, *(weight + level for weight in moved)))


def first_log_z(kind: Kind, weights, batch_size: int, seed, gamma, terminal=None) -> float:
    """log Z as the first batch tells it, in nats: the mean of log R + Σ log P_B − Σ log P_F.

    It is where the trajectory-balance loss of that batch is least. On policy the batch is drawn
    here, offline backward from the `terminal` states `[B, ...]`.
    """
    env, log_policy = kind.env, log_policy_of_weights(kind)(weights)
    seed = tf.stack([seed, tf.constant(0, tf.int64)])
    if terminal is None:
        trajectories = sample_forward(env, log_policy, batch_size, seed, gamma)
    else:
        trajectories = sample_backward(env, log_policy, terminal, seed)
    log_pf, log_pb = log_probabilities(env, log_policy, trajectories)
    log_ratio = np.asarray(trajectories.log_reward) + np.sum(log_pb - log_pf, axis=1)
    return float(np.mean(log_ratio))


def fits_in_a_table(env: Environment, batch_size: int) -> bool:
    """Whether the listed states are fewer than the steps of a batch of trajectories.

    Then the network had better run once on all states, and every step look its row up: the same
    numbers, 2 to 15 times faster. Otherwise it runs on the states that are visited, and no others.
    """
    return env.n_states is not None and env.n_states <= batch_size * env.max_trajectory_length


def n_parts_of_batch(kind: Kind, batch_size: int) -> int:
    """In how many parts the trajectories of a batch are drawn and differentiated, each on a core.

    The steps of a trajectory follow one another, so a second core has little to do while a batch
    is drawn: of 128 rows by 256 units it gains a quarter of the update. Small batches stay whole:
    a program multiplies few rows hardly faster, and starting one takes 10 to 20 µs.
    """
    whole = fits_in_a_table(kind.env, batch_size) or batch_size % 2 == 1
    products = _products_of_a_step(kind, batch_size)
    return 1 if whole or products < LEAST_PRODUCTS_OF_TWO_PARTS else 2


def n_halvings_of_batch(kind: Kind, batch_size: int) -> int:
    """How often the sampler leaves behind those trajectories of a part that have stopped.

    Half the rows are multiplied in half the time, but each halving is one more loop to compile, of
    0.4 s. With 256 units it spares 5 % of the update where 16 rows are halved once, 6 % where 64
    are halved twice. With rows that are looked up there is nothing to spare.
    """
    if fits_in_a_table(kind.env, batch_size):
        return 0
    n_rows = batch_size // n_parts_of_batch(kind, batch_size)
    spared = [_products_of_a_step(kind, n_rows // 2**i) for i in (1, 2)]
    return sum(products >= LEAST_PRODUCTS_SPARED for products in spared)


def _products_of_a_step(kind, n_rows):
    widths = [*kind.network.hidden, 2 * kind.env.n_actions - 1]
    return n_rows * sum(a * b for a, b in itertools.pairwise(widths))


def tabulated_gradient(env, log_policy_of, weights, draw, mean_loss, wanted):
    """The loss of a batch, its gradient, and the terminal states with their log R.

    The network is evaluated once, on all states. `log_policy_of(weights)` is a NetworkPolicy;
    `draw(evaluate)` gives trajectories and what was kept of evaluating it, or None, as
    `sample_forward_keeping` does; `mean_loss` of trajectories, the `wanted` scores of their steps,
    and log Z is the scalar to differentiate.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(weights)
        table = tabulate(env, log_policy_of(weights))
        with tape.stop_recording():
            trajectories, _ = draw(lambda states: (table.log_policy(states), []))
        scores = score(env, table.log_policy, trajectories, wanted)
        loss = mean_loss(trajectories, scores, weights[-1])
    gradient = tape.gradient(loss, weights, unconnected_gradients="zero")
    return loss, gradient, (trajectories.terminal, trajectories.log_reward)


def blockwise_gradient(
    env, log_policy_of, weights, draw, mean_loss, wanted, n_parts=1, block_sizes=BLOCK_SIZES
):
    """The same as `tabulated_gradient`, with the network run on visited states alone.

    Most of a padded batch is padding. The scores of the steps are known when the trajectories are
    drawn, so the loss and its slope along each of them are too. What is left of the chain rule
    is a weighted sum over the steps taken, for which the layers' outputs are known as well.

    `draw(evaluate, part)` gives a part of the batch. Each stage is a program of its own, and
    those of two parts run at once; inside a larger program they are one with it.
    """

    @_xla
    def draw_part(weights, part):
        log_policy = log_policy_of(weights)
        trajectories, known = draw(log_policy.evaluate, part)
        return (trajectories, score(env, log_policy, trajectories, wanted, known)), known

    @_xla
    def loss_and_slopes(parts, log_z):
        trajectories, scores = tf.nest.map_structure(lambda *each: tf.concat(each, 0), *parts)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch((scores, log_z))
            loss = mean_loss(trajectories, scores, log_z)
        slopes, slope_log_z = tape.gradient(loss, (scores, log_z), unconnected_gradients="zero")
        split = {name: tf.split(slope, len(parts)) for name, slope in slopes.items()}
        return loss, [{name: split[name][i] for name in split} for i in range(n_parts)], slope_log_z

    @_xla
    def gradient_of_part(weights, trajectories, known, slopes):
        return gradient_of_steps(
            env, log_policy_of, weights, trajectories, known, slopes, wanted, block_sizes
        )

    @_xla
    def add_up(gradients, slope_log_z):
        *policy, log_z = [sum(parts) for parts in zip(*gradients, strict=True)]
        return [*policy, log_z + slope_log_z]

    parts = [draw_part(weights, tf.constant(part, tf.int64)) for part in range(n_parts)]
    loss, slopes, slope_log_z = loss_and_slopes([scored for scored, _ in parts], weights[-1])
    gradients = [
        gradient_of_part(weights, trajectories, known, slopes[i])
        for i, ((trajectories, _), known) in enumerate(parts)
    ]
    drawn = [(trajectories.terminal, trajectories.log_reward) for (trajectories, _), _ in parts]
    drawn = [tf.concat(each, axis=0) for each in zip(*drawn, strict=True)]
    return loss, add_up(gradients, slope_log_z), drawn


def gradient_of_steps(
    env, log_policy_of, weights, trajectories, known, slopes, wanted, block_sizes=BLOCK_SIZES
):
    """Σ slope · ∂score/∂weights over the steps taken, with slopes `[B, T]` for the `wanted` scores.

    The steps are packed together, whatever trajectory they are from, and differentiated in as
    many blocks as they fill. `known` are the layers' outputs as they were kept, or None.
    """
    actions = trajectories.actions
    came_by = tf.pad(actions[:, :-1], [[0, 0], [1, 0]], constant_values=PADDING)
    if "log_pb" in slopes:  # that of the arrival in a state, as `score_steps` gives it
        slopes = {**slopes, "log_pb": tf.pad(slopes["log_pb"][:, :-1], [[0, 0], [1, 0]])}
    ends = tf.cumsum(tf.reduce_sum(tf.cast(actions != PADDING, tf.int32), axis=1))
    starts = tf.pad(ends[:-1], [[1, 0]])

    # Gradients add up for the layers as they are multiplied, and only then go back to the weights.
    with tf.GradientTape(watch_accessed_variables=False) as to_weights:
        to_weights.watch(weights)
        log_policy = log_policy_of(weights)
    parameters = log_policy.parameters

    def add_block(start, block_size, gradients):
        place = start + tf.range(block_size)
        row = tf.reduce_sum(tf.cast(ends <= place[:, None], tf.int32), axis=1)
        used = row < tf.shape(actions)[0]
        row = tf.where(used, row, 0)
        step = tf.stack([row, tf.where(used, place - tf.gather(starts, row), 0)], axis=1)

        def of_step(array):
            return tf.gather_nd(array, step)

        outputs = known and known.at(of_step(known.place))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(parameters)
            states, *moves = (of_step(each) for each in (trajectories.states, actions, came_by))
            said, _ = log_policy.evaluate(states, outputs)
            scores_of_steps = score_steps(env, log_policy, said, states, *moves, wanted)
            contribution = sum(of_step(slopes[name]) * scores_of_steps[name] for name in wanted)
            total = tf.reduce_sum(tf.where(used, contribution, 0.0))
        block = tape.gradient(total, parameters, unconnected_gradients="zero")
        return start + block_size, tf.nest.map_structure(tf.add, gradients, block)

    start, gradients = 0, tf.nest.map_structure(tf.zeros_like, parameters)
    most = actions.shape.num_elements() or math.inf
    *large, smallest = block_sizes
    # A block that no batch could fill would be compiled in vain.
    for block_size in [*(size for size in large if size <= most), smallest]:
        least = block_size if block_size != smallest else 1
        start, gradients = tf.while_loop(
            lambda start, _, least=least: start + least <= ends[-1],
            lambda start, sums, size=block_size: add_block(start, size, sums),
            (start, gradients),
        )
    return to_weights.gradient(
        parameters, weights, output_gradients=gradients, unconnected_gradients="zero"
    )


def _xla(function):
    return tf.function(function, jit_compile=True, autograph=False)


def adam_step(
    state: TrainingState, gradients, rates, beta_1=0.9, beta_2=0.999, epsilon=1e-7
) -> TrainingState:
    """One step of Adam (arXiv 1412.6980, end of section 2), each weight at its own rate.

    A pure function, which Keras' optimisers are not under TensorFlow; a test holds it equal to
    keras.optimizers.Adam.
    """
    iteration = state.iteration + 1
    t = tf.cast(iteration, gradients[0].dtype)
    correction = tf.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    first = [
        beta_1 * m + (1 - beta_1) * g for m, g in zip(state.first_moments, gradients, strict=True)
    ]
    second = [
        beta_2 * v + (1 - beta_2) * g * g
        for v, g in zip(state.second_moments, gradients, strict=True)
    ]
    weights = [
        w - rate * correction * m / (tf.sqrt(v) + epsilon)
        for w, rate, m, v in zip(state.weights, rates, first, second, strict=True)
    ]
    return TrainingState(tuple(weights), tuple(first), tuple(second), iteration)


def learning_rates(first: int, n_updates: int, total: int, decay: str) -> np.ndarray:
    """The factor on the learning rate in updates first, …, first + n − 1 of `total`, `[n]`.

    "linear" falls from 1 to 0; "constant" stays at 1.
    """
    if decay == "constant":
        return np.ones(n_updates)
    return 1 - np.minimum((first + np.arange(n_updates)) / total, 1.0)


def epoch_order(seed: int, run: int, epoch: int, n: int) -> np.ndarray:
    """The order in which an epoch visits its n objects: a permutation fixed by its arguments."""
    return np.random.default_rng((seed, run, epoch)).permutation(n)
