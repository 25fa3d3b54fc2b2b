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
from gfn_utils.environments.log_rewards import log_rewards_of
from gfn_utils.environments.snapshot import Snapshot, has_table
from gfn_utils.interrupts import interrupts_let_through
from gfn_utils.networks import DenseNetwork, KerasNetwork
from gfn_utils.networks.log_z import log_z_of, n_log_z_weights
from gfn_utils.policy import network_log_policy, tabulate
from gfn_utils.sampling import (
    PADDING,
    Rows,
    Trajectories,
    draw_backward,
    draw_forward,
    log_probabilities,
    log_rewards_on_the_way,
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


class Kind(NamedTuple):
    """What the compiled programs of an agent depend on.

    They are kept by a Kind whose `env` is a Snapshot of the environment."""

    env: Environment
    network: DenseNetwork | KerasNetwork
    dtype: str
    backward_policy: str
    state_flow: bool = False

    @property
    def n_log_z(self) -> int:
        """How many of an agent's weights tell log Z: the last ones."""
        return n_log_z_weights(self.env)


class TrainingState(NamedTuple):
    """All that training changes. Each tuple holds the policy's weights, then those of the state
    flow if there is one, those of the network of log Z where conditions have one, and last log Z,
    which that network adds to."""

    weights: tuple[tf.Tensor, ...]
    first_moments: tuple[tf.Tensor, ...]
    second_moments: tuple[tf.Tensor, ...]
    iteration: tf.Tensor
    """How many updates were made, int64 `[]`."""


MOVED = ("weights", "first_moments", "second_moments")


class Batches(NamedTuple):
    """Given objects to learn from, for U updates: a trajectory is drawn backward from each."""

    terminal: tf.Tensor
    """int32 `[U, N, ...]`."""
    weight: tf.Tensor
    """1 for a trajectory, 0 for padding, `[U, N]`."""
    log_reward: tf.Tensor | None = None
    """What the objects are known to pay, in nats, float64 `[U, N]`; None: the environment is
    asked."""


def batch_at(batches: Batches | None, i) -> Batches | None:
    """What is given for update i."""
    if batches is None:
        return None
    return Batches(*(None if each is None else each[i] for each in batches))


class Settings(NamedTuple):
    """The numbers of a run: arguments of its program, so that no other value compiles again."""

    betas: tf.Tensor
    """Adam's β₁ and β₂, `[2]`."""
    gamma: tf.Tensor
    """The weight of uniform exploration, `[]`."""
    sub_trajectory_lambda: tf.Tensor
    """λ of sub-trajectory balance, `[]`."""
    clip_norm: tf.Tensor
    """The greatest global norm of a gradient, `[]`; infinite where it is not clipped."""
    weight_decay: tf.Tensor
    """λ of decoupled weight decay (arXiv 1711.05101), `[]`."""
    seed: tf.Tensor
    """int64 `[]`."""


class Job(NamedTuple):
    """What a compiled program makes."""

    kind: Kind
    objective: str
    n_sampled: int
    """On-policy trajectories of each update."""
    n_given: int = 0
    """Trajectories of each update from given objects. They come after the sampled ones."""
    keep_trajectories: bool = False
    """Whether the sampled trajectories come back."""
    is_measured: bool = False
    """Whether all rewards are given, so that the environment is never asked."""
    sampled_rows: Rows | None = None
    """Which of the whole batch's sampled trajectories these are, where they are only a share."""
    given_rows: Rows | None = None
    """Likewise of those from given objects."""

    @property
    def batch_size(self) -> int:
        return self.n_sampled + self.n_given


class ChunkResult(NamedTuple):
    state: TrainingState
    loss: tf.Tensor
    """Mean loss of each update's batch in nats², `[U]`."""
    log_z: tf.Tensor
    """log Z after each update in nats, `[U]`; with conditions its level, the last weight."""
    terminal: tf.Tensor
    """The states in which the updates' trajectories stopped, int32 `[U, B, ...]`."""
    log_reward: tf.Tensor
    """What they were taken to pay, in nats, float64 `[U, B]`."""
    states: tf.Tensor | None = None
    """Those of the sampled trajectories, if they are kept, int32 `[U, n_sampled, T+1, ...]`."""
    actions: tf.Tensor | None = None
    """Their actions, int32 `[U, n_sampled, T]`."""


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
        of_network, log_z = weights[: -kind.n_log_z], weights[-kind.n_log_z :]
        return network_log_policy(
            kind.env,
            kind.network,
            of_network,
            kind.backward_policy,
            log_z if kind.state_flow else (),
        )

    return log_policy_of


def compile_chunk(job: Job):
    """The function that makes a chunk of updates.

    It takes a TrainingState, `rates` `[U, 2]` (the learning rate of policy and of log Z in each
    update), `n_updates` ≤ U, Settings and, where objects are given, Batches; returns a ChunkResult
    of which the first `n_updates` entries count. U is fixed by the shape of `rates`: another U
    compiles again, another `n_updates` or Settings do not.

    The environment is taken as it is at this call (see `Snapshot`).
    """
    snapshot = Snapshot(job.kind.env, asks=not job.is_measured)
    program = _program(job._replace(kind=job.kind._replace(env=snapshot)))
    paying = snapshot.env if snapshot.env.python_reward else snapshot.log_rewards
    return functools.partial(program, paying)


class CheckedChunk:
    """`compile_chunk` for one run, which notices when a program pays rewards of another time.

    Where rewards are no argument of the program, what it took the trajectories to pay is compared
    with what the environment says now. If they differ all programs are compiled anew, once.
    """

    def __init__(self, job: Job):
        self._job = job
        self._chunk = compile_chunk(job)

    def __call__(self, state, rates, n_updates, settings, batches=None) -> ChunkResult:
        arguments = state, rates, n_updates, settings, batches
        result = self._chunk(*arguments)
        if self._difference(result, n_updates, batches) is None:
            return result
        forget_programs()
        self._chunk = compile_chunk(self._job)
        result = self._chunk(*arguments)
        difference = self._difference(result, n_updates, batches)
        if difference is not None:
            raise ValueError(f"env must give each state one log_reward, but {difference}")
        return result

    def _difference(self, result, n_updates, batches):
        """Where the rewards of up to 256 of the trajectories differ from the environment's."""
        env, n_asked = self._job.kind.env, self._job.batch_size
        if batches is not None and batches.log_reward is not None:
            n_asked = self._job.n_sampled
        if has_table(env) or env.python_reward or n_asked == 0:
            return None
        paid = np.asarray(result.log_reward[:n_updates, :n_asked]).ravel()
        terminal = np.asarray(result.terminal[:n_updates, :n_asked])
        terminal = terminal.reshape(-1, *env.state_shape)
        some = slice(None, None, -(-len(paid) // 256))
        paid, terminal = paid[some], tf.constant(terminal[some])
        now = np.asarray(env.log_reward(terminal))
        may_stop = np.asarray(env.forward_mask(terminal))[:, env.stop_action]
        same = np.isclose(paid, now, rtol=1e-3, atol=1e-3, equal_nan=True) & may_stop
        if same.all():
            return None
        row = int(np.argmin(same))
        return f"{terminal[row].numpy().tolist()} has {now[row]:g} now and had {paid[row]:g}"


def forget_programs() -> None:
    """Let every program be compiled anew when it is next asked for."""
    _program.cache_clear()


@functools.lru_cache(maxsize=64)
def _program(job):
    """`compile_chunk`, but for what pays: the table of rewards, or the environment if it is to be
    asked in Python, is the function's first argument."""
    job = job._replace(kind=job.kind._replace(env=job.kind.env.env))
    asks_python = job.kind.env.python_reward and not job.is_measured
    return (_chunk_with_python_reward if asks_python else _compiled_chunk)(job)


def _compiled_chunk(job):
    """All updates of a chunk as one program."""
    env = job.kind.env

    def chunk(log_rewards, state, rates, n_updates, settings, batches=None):
        def body(i, state, *arrays):
            batch = batch_at(batches, i)
            drawn = draw_batch(job, state, settings, batch)
            ask = functools.partial(log_rewards_in_program, env, log_rewards)
            log_reward = rewards_of_batch(job, drawn.trajectories.terminal, batch, ask)
            on_the_way = None
            if losses.asks_on_the_way(job.objective):
                on_the_way = log_rewards_on_the_way(env, drawn.trajectories, ask)
            state, loss = learn(
                job, state, drawn, log_reward, rates[i], settings, batch, on_the_way
            )
            results = loss, state.weights[-1], *record_of(job, drawn, log_reward)
            written = (array.write(i, value) for array, value in zip(arrays, results, strict=True))
            return i + 1, state, *written

        capacity = rates.shape[0]
        arrays = [
            tf.TensorArray(dtype, capacity, element_shape=shape)
            for shape, dtype in [([], job.kind.dtype)] * 2 + forms_of_record(job)
        ]
        _, state, *arrays = tf.while_loop(lambda i, *_: i < n_updates, body, (0, state, *arrays))
        return ChunkResult(state, *(array.stack() for array in arrays))

    return xla(chunk)


def _chunk_with_python_reward(job):
    """One program for each update, which also draws the next batch; the rewards are asked between.

    A program is called through its concrete function, and the state goes in and out as one vector
    for each type: otherwise Python would spend a millisecond an update on handing tensors over.
    """

    @functools.lru_cache(maxsize=1)
    def programs(forms):
        """Draw the first batch; learn from one and draw the next. For a state of these forms."""

        def draw(packed, batch):
            return draw_batch(job, *unpacked_numbers(packed, forms), batch)

        def learn_and_draw(packed, drawn, log_reward, rates, batch, next_batch, once):
            state, settings = unpacked_numbers(packed, forms)

            # A loop, as in the one program that makes all updates: so XLA joins the same operations
            # in both, and they give the same numbers to the last digit.
            def body(i, state, _):
                return i + 1, *learn(job, state, drawn, log_reward, rates, settings, batch)

            loop = (tf.constant(0), state, tf.zeros([], job.kind.dtype))
            _, state, loss = tf.while_loop(lambda i, *_: i < once, body, loop)
            packed = packed_numbers((state, settings))
            return packed, draw_batch(job, state, settings, next_batch), loss, state.weights[-1]

        return _by_concrete_function(draw), _by_concrete_function(learn_and_draw)

    def chunk(env, state, rates, n_updates, settings, batches=None):
        forms = tf.nest.map_structure(tf.TensorSpec.from_tensor, (state, settings))
        draw, learn_and_draw = programs(forms)
        packed, once, results = packed_numbers((state, settings)), tf.constant(1), []
        if batches is not None:  # NumPy takes a slice in a tenth of the time
            batches = Batches(*(None if each is None else np.asarray(each) for each in batches))
        given = [batch_at(batches, i) for i in range(int(n_updates))]
        drawn = draw(packed, given[0])
        # After the last update one batch is drawn in vain.
        for i, rates_now in enumerate(tf.unstack(rates[:n_updates])):
            batch, next_batch = given[i], given[min(i + 1, len(given) - 1)]
            log_reward = rewards_outside_programs(job, env, drawn.trajectories.terminal, batch)
            record = record_of(job, drawn, log_reward)
            packed, drawn, *learned = learn_and_draw(
                packed, drawn, log_reward, rates_now, batch, next_batch, once
            )
            results.append((*learned, *record))
        state, _ = unpacked_numbers(packed, forms)
        return ChunkResult(state, *(np.stack(each) for each in zip(*results, strict=True)))

    return chunk


def _by_concrete_function(function):
    """The function as a program, compiled for its first arguments: all later ones are like them."""
    compiled = []

    def call(*arguments):
        if not compiled:
            compiled.append(xla(function).get_concrete_function(*arguments))
        return compiled[0](*arguments)

    return call


def packed_numbers(nest) -> list[tf.Tensor]:
    """All numbers of a nest of tensors, in one vector for each type."""
    of_type = {}
    for each in tf.nest.flatten(nest):
        of_type.setdefault(each.dtype, []).append(tf.reshape(each, [-1]))
    return [tf.concat(parts, axis=0) for parts in of_type.values()]


def unpacked_numbers(packed, forms):
    """The nest of tensors, of these forms, that was packed."""
    flat, sizes = tf.nest.flatten(forms), {}
    for form in flat:
        sizes.setdefault(form.dtype, []).append(form.shape.num_elements())
    parts = {
        dtype: iter(tf.split(vector, sizes[dtype]))
        for dtype, vector in zip(sizes, packed, strict=True)
    }
    tensors = [tf.reshape(next(parts[form.dtype]), form.shape) for form in flat]
    return tf.nest.pack_sequence_as(forms, tensors)


class Drawn(NamedTuple):
    """The trajectories of a batch before anybody has asked what they pay."""

    trajectories: Trajectories
    kept: list[tf.Tensor] | None
    """What was worked out on the way, or None."""


def draw_batch(job: Job, state: TrainingState, settings: Settings, batch: Batches | None) -> Drawn:
    """The trajectories of one update: those sampled on policy, then those from given objects."""
    env, evaluate = job.kind.env, _evaluate_for_drawing(job, state.weights)
    n_parts = (job.n_sampled > 0) + (job.n_given > 0)
    seeds = [tf.stack([settings.seed, n_parts * state.iteration + part]) for part in range(n_parts)]
    parts, kept = [], None
    if job.n_sampled:
        sampled, kept = draw_forward(
            env, evaluate, job.n_sampled, seeds[0], settings.gamma, job.sampled_rows
        )
        parts.append(sampled)
    if job.n_given:

        def log_policy(states):
            return evaluate(states)[0]

        parts.append(draw_backward(env, log_policy, batch.terminal, seeds[-1], job.given_rows))
        kept = None
    joined = (tf.concat(each, axis=0) for each in zip(*(part[:3] for part in parts), strict=True))
    return Drawn(Trajectories(*joined, None), kept)


def _evaluate_for_drawing(job, weights):
    """What a log-policy says of states and what to keep; from a table where that is quicker."""
    log_policy = log_policy_of_weights(job.kind)(weights)
    if not fits_in_a_table(job.kind.env, job.batch_size):
        return log_policy.evaluate
    table = tabulate(job.kind.env, log_policy)
    return lambda states: (table.log_policy(states), [])


def log_rewards_in_program(env: Environment, log_rewards: tf.Tensor | None, states) -> tf.Tensor:
    """log R of states `[N, ...]`, float64 `[N]`: from the table `[n_states]` where there is one."""
    if log_rewards is None:
        return tf.cast(env.log_reward(states), tf.float64)
    return tf.gather(log_rewards, env.index(states))


def rewards_of_batch(job: Job, terminal, batch: Batches | None, ask) -> tf.Tensor:
    """log R of the terminal states `[B, ...]`, float64 `[B]`: asked for unless it is given."""
    if batch is None or batch.log_reward is None:
        return ask(terminal)
    if job.n_sampled == 0:
        return batch.log_reward
    return tf.concat([ask(terminal[: job.n_sampled]), batch.log_reward], axis=0)


def learn(
    job: Job,
    state: TrainingState,
    drawn: Drawn,
    log_reward: tf.Tensor,
    rates: tf.Tensor,
    settings: Settings,
    batch: Batches | None,
    log_reward_here: tf.Tensor | None = None,
) -> tuple[TrainingState, tf.Tensor]:
    """One step of Adam on the objective; returns the state after it and the loss before it.

    `log_reward_here` `[B, T]` where the objective asks for the rewards of the states passed.
    """
    arguments = job, state.weights, drawn, log_reward, settings, weight_of_all(job, batch)
    loss, gradients = loss_and_gradients(*arguments, log_reward_here=log_reward_here)
    return step(job, state, gradients, rates, settings), loss


def loss_and_gradients(
    job: Job,
    weights,
    drawn: Drawn,
    log_reward: tf.Tensor,
    settings: Settings,
    weight: tf.Tensor | None,
    total: tf.Tensor | None = None,
    **known,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The mean loss of the trajectories, and its gradient by those weights that are trained.

    `weight` `[B]` are theirs, or None. Where they are only a share of a batch `total` is the weight
    of all of it, and these are the share's parts of the sums. `known` is what else an objective
    may take.
    """
    kind, wanted = job.kind, losses.scores_for(job.objective)
    trajectories = drawn.trajectories._replace(log_reward=log_reward)

    def mean_loss(trajectories, scores, log_z):
        loss = losses.evaluate(
            job.objective,
            **scores,
            **known,
            taken=trajectories.actions != PADDING,
            log_reward=trajectories.log_reward,
            log_z=log_z,
            origin=kind.env.n_condition_features and trajectories.states[:, 0],
            sub_trajectory_lambda=settings.sub_trajectory_lambda,
            weight=weight,
        )
        return losses.weighted_mean(loss, weight, total)

    log_policy_of = log_policy_of_weights(kind)
    arguments = kind.env, log_policy_of, weights, trajectories, mean_loss, wanted
    if fits_in_a_table(kind.env, job.batch_size):
        loss, gradients = tabulated_gradient(*arguments)
    else:
        loss, gradients = blockwise_gradient(*arguments, drawn.kept)
    # That of an embedding comes as the rows that were looked up.
    return loss, [
        tf.convert_to_tensor(each) for each in itertools.compress(gradients, are_trained(kind))
    ]


def are_trained(kind: Kind) -> list[bool]:
    """Which of an agent's weights training changes."""
    return [*kind.network.trained(kind.state_flow), *[True] * kind.n_log_z]


def step(job: Job, state: TrainingState, gradients, rates, settings: Settings) -> TrainingState:
    """The state after Adam's step by these gradients of the weights that are trained."""
    moving = _only(are_trained(job.kind), state)
    gradients = clipped(gradients, settings.clip_norm)
    n_log_z = job.kind.n_log_z
    rate_of_weight = [rates[0]] * (len(gradients) - n_log_z) + [rates[1]] * n_log_z
    moved = adam_step(
        moving, gradients, rate_of_weight, *tf.unstack(settings.betas), settings.weight_decay
    )
    return _put_back(are_trained(job.kind), state, moved)


def _only(trained, state):
    """The state of those weights that are trained."""
    return state._replace(
        **{part: tuple(itertools.compress(getattr(state, part), trained)) for part in MOVED}
    )


def _put_back(trained, state, moved):
    """`state` with what `_only` took from it as it is after a step."""
    parts = {}
    for part in MOVED:
        new = iter(getattr(moved, part))
        pairs = zip(getattr(state, part), trained, strict=True)
        parts[part] = tuple(next(new) if is_trained else old for old, is_trained in pairs)
    return moved._replace(**parts)


def rewards_outside_programs(job: Job, env: Environment, terminal, batch: Batches | None):
    """`rewards_of_batch` between programs: an interrupt reaches what is asked at once.

    For padding nothing is asked: 0.
    """
    terminal, counts = np.asarray(terminal), np.ones(job.batch_size, bool)
    log_reward = np.zeros(job.batch_size)
    if batch is not None:
        counts[job.n_sampled :] = np.asarray(batch.weight) > 0
        if batch.log_reward is not None:
            counts[job.n_sampled :] = False
            log_reward[job.n_sampled :] = batch.log_reward
    if not counts.any():
        return tf.constant(log_reward)
    with interrupts_let_through():
        log_reward[counts] = log_rewards_of(env, tf.constant(terminal[counts]))
    return tf.constant(log_reward)


def weight_of_all(job: Job, batch: Batches | None) -> tf.Tensor | None:
    """The weights of a batch's trajectories, `[B]`: those sampled on policy all count.

    None where nothing is given, so that there is no padding."""
    if batch is None:
        return None
    return tf.concat([tf.ones([job.n_sampled], batch.weight.dtype), batch.weight], axis=0)


def record_of(job: Job, drawn: Drawn, log_reward: tf.Tensor) -> list[tf.Tensor]:
    """What a ChunkResult holds of the trajectories of an update: see `forms_of_record`."""
    trajectories = drawn.trajectories
    record = [trajectories.terminal, log_reward]
    if job.keep_trajectories:
        record += [each[: job.n_sampled] for each in (trajectories.states, trajectories.actions)]
    return record


def forms_of_record(job: Job) -> list[tuple]:
    """Shape and type of each of what `record_of` gives."""
    env, length = job.kind.env, job.kind.env.max_trajectory_length
    forms = [([job.batch_size, *env.state_shape], tf.int32), ([job.batch_size], tf.float64)]
    if job.keep_trajectories:
        forms += [
            ([job.n_sampled, length + 1, *env.state_shape], tf.int32),
            ([job.n_sampled, length], tf.int32),
        ]
    return forms


def started_at(
    kind: Kind, state: TrainingState, level: float, is_relative: bool = False
) -> TrainingState:
    """The state with log Z, and with it all state flows, higher by `level` nats.

    State flows that are relative to a state's own reward stay: a factor in R is none in them.
    """
    weights = list(state.weights)
    rises = kind.state_flow and not is_relative
    # The bias of the state flow's head stands before the weights of log Z.
    for place in (-1, -1 - kind.n_log_z) if rises else (-1,):
        weights[place] += level
    return state._replace(weights=tuple(weights))


def first_log_z(
    job: Job,
    state: TrainingState,
    settings: Settings,
    batches: Batches | None,
    total: tf.Tensor | None = None,
) -> float:
    """log Z as the first batch tells it, in nats: the mean of log R + Σ log P_B − Σ log P_F.

    It is where the trajectory-balance loss of that batch is least. Where the job is only a share of
    a batch, `total` is the weight of all of it, and this is the share's part of the mean.
    """
    env, log_policy = job.kind.env, log_policy_of_weights(job.kind)(state.weights)
    batch = batch_at(batches, 0)
    trajectories = draw_batch(job, state, settings, batch).trajectories
    weight = weight_of_all(job, batch)
    log_reward = rewards_outside_programs(job, env, trajectories.terminal, batch)
    log_pf, log_pb = log_probabilities(env, log_policy, trajectories)
    log_ratio = tf.cast(log_reward, log_pf.dtype) + tf.reduce_sum(log_pb - log_pf, axis=1)
    return float(losses.weighted_mean(log_ratio, weight, total))


def fits_in_a_table(env: Environment, batch_size: int) -> bool:
    """Whether the listed states are fewer than the steps of a batch of trajectories.

    Then the network had better run once on all states, and every step look its row up: the same
    numbers, 2 to 15 times faster. Otherwise it runs on the states that are visited, and no others.
    """
    return env.n_states is not None and env.n_states <= batch_size * env.max_trajectory_length


def tabulated_gradient(env, log_policy_of, weights, trajectories, mean_loss, wanted):
    """The loss of a batch of trajectories and its gradient.

    The network is evaluated once, on all states. `log_policy_of(weights)` is a NetworkPolicy;
    `mean_loss` of trajectories, the `wanted` scores of their steps, and log Z is the scalar to
    differentiate. (Environments with conditions list no states, so log Z is one number here.)
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(_floats(weights))
        table = tabulate(env, log_policy_of(weights))
        scores = score(env, table.log_policy, trajectories, wanted)
        loss = mean_loss(trajectories, scores, weights[-1])
    return loss, tape.gradient(loss, weights, unconnected_gradients="zero")


def blockwise_gradient(
    env,
    log_policy_of,
    weights,
    trajectories,
    mean_loss,
    wanted,
    kept=None,
    block_sizes=BLOCK_SIZES,
):
    """The same as `tabulated_gradient`, with the network run on visited states alone.

    Most of a padded batch is padding. The scores of the steps are known when the trajectories are
    drawn, so the loss and its slope along each of them are too. What is left of the chain rule
    is a weighted sum over the steps taken, for which the layers' outputs are known as well, where
    `draw_forward` has kept them.
    """
    scores = score(env, log_policy_of(weights), trajectories, wanted, kept)
    of_log_z = weights[-n_log_z_weights(env) :]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch((scores, of_log_z))
        log_z = log_z_of(env, of_log_z, trajectories.states[:, 0])
        loss = mean_loss(trajectories, scores, log_z)
    slopes, by_loss = tape.gradient(loss, (scores, of_log_z), unconnected_gradients="zero")
    gradients = gradient_of_steps(
        env, log_policy_of, weights, trajectories, kept, slopes, wanted, block_sizes
    )
    by_steps = gradients[-len(of_log_z) :]
    return loss, [*gradients[: -len(of_log_z)], *map(tf.add, by_steps, by_loss)]


def gradient_of_steps(
    env, log_policy_of, weights, trajectories, kept, slopes, wanted, block_sizes=BLOCK_SIZES
):
    """Σ slope · ∂score/∂weights over the steps taken, with slopes `[B, T]` for the `wanted` scores.

    The steps are packed together, whatever trajectory they are from, and differentiated in as
    many blocks as they fill. `kept` are the layers' outputs `[T, B, units]` as `draw_forward` kept
    them, or None.
    """
    actions = trajectories.actions
    came_by = tf.pad(actions[:, :-1], [[0, 0], [1, 0]], constant_values=PADDING)
    if "log_pb" in slopes:  # that of the arrival in a state, as `score_steps` gives it
        slopes = {**slopes, "log_pb": tf.pad(slopes["log_pb"][:, :-1], [[0, 0], [1, 0]])}
    ends = tf.cumsum(tf.reduce_sum(tf.cast(actions != PADDING, tf.int32), axis=1))
    starts = tf.pad(ends[:-1], [[1, 0]])

    # Gradients add up for the layers as they are multiplied, and only then go back to the weights.
    with tf.GradientTape(watch_accessed_variables=False) as to_weights:
        to_weights.watch(_floats(weights))
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

        known = kept and [tf.gather_nd(each, step[:, ::-1]) for each in kept]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(parameters)
            states, *moves = (of_step(each) for each in (trajectories.states, actions, came_by))
            said, _ = log_policy.evaluate(states, known)
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


def _floats(weights):
    """Those that have gradients: a network of one's own may count something."""
    return [weight for weight in weights if weight.dtype.is_floating]


def xla(function):
    """The function as a program that XLA compiles."""
    return tf.function(function, jit_compile=True, autograph=False)


def clipped(gradients, clip_norm):
    """The gradients, scaled down together where their global norm exceeds `clip_norm`."""
    norm = tf.sqrt(tf.add_n([tf.cast(tf.reduce_sum(g * g), clip_norm.dtype) for g in gradients]))
    scale = clip_norm / tf.maximum(norm, clip_norm)
    scale = tf.where(tf.math.is_inf(clip_norm), tf.ones_like(scale), scale)
    return [g * tf.cast(scale, g.dtype) for g in gradients]


def adam_step(
    state: TrainingState,
    gradients,
    rates,
    beta_1=0.9,
    beta_2=0.999,
    weight_decay=0.0,
    epsilon=1e-7,
) -> TrainingState:
    """One step of Adam (arXiv 1412.6980, end of section 2), each weight at its own rate.

    With decoupled weight decay (arXiv 1711.05101) kernels, which are weights of two axes or more,
    shrink by the factor 1 − rate·λ first; biases and log Z do not. A pure function, which Keras'
    optimisers are not under TensorFlow; tests hold it equal to keras.optimizers.Adam and AdamW.
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
        w * (1 - rate * weight_decay * (len(w.shape) >= 2))
        - rate * correction * m / (tf.sqrt(v) + epsilon)
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
