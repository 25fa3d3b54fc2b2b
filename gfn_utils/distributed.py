"""Chunks of updates made by many replicas: data parallelism on `tf.distribute`.

Each replica (a GPU, or a worker's CPU) holds the whole state and makes its share of every batch: it
draws these trajectories, asks their rewards, and differentiates their part of the loss. The parts
are added up over all replicas, and with the sum each makes the same step of Adam. Random numbers
belong to a trajectory's place in the batch and not to the replica that draws it, so the number of
replicas changes no result, up to rounding.
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils import losses, training
from gfn_utils.environments import Environment, log_rewards
from gfn_utils.environments.snapshot import Snapshot
from gfn_utils.interrupts import interrupts_let_through
from gfn_utils.policy import tabulate
from gfn_utils.sampling import Rows, log_rewards_on_the_way, score
from gfn_utils.training import (
    Batches,
    ChunkResult,
    Drawn,
    Job,
    Settings,
    are_trained,
    batch_at,
    draw_batch,
    fits_in_a_table,
    forms_of_record,
    log_policy_of_weights,
    log_rewards_in_program,
    loss_and_gradients,
    packed_numbers,
    record_of,
    rewards_of_batch,
    rewards_outside_programs,
    step,
    unpacked_numbers,
    weight_of_all,
)
from gfn_utils.workers import Workers


def share_of(job: Job, first: int, end: int, n: int) -> Job:
    """What replicas first, …, end − 1 of `n` make of a job: consecutive rows of each of its parts.

    Raises ValueError if a part has fewer trajectories than there are replicas.
    """
    parts = {"on policy": job.n_sampled, "from given objects": job.n_given}
    if any(0 < size < n for size in parts.values()):
        split = " and ".join(f"{size} {name}" for name, size in parts.items() if size)
        raise ValueError(
            f"batch_size must have a trajectory of each kind for each of the {n} replicas of "
            f"strategy, got {job.batch_size}: {split}"
        )
    sampled, given = (
        Rows(size * first // n, size * end // n, size) if size else None for size in parts.values()
    )
    return job._replace(
        n_sampled=sampled.end - sampled.first if sampled else 0,
        n_given=given.end - given.first if given else 0,
        sampled_rows=sampled,
        given_rows=given,
    )


def first_log_z(workers: Workers | None, job: Job, state, settings, batches) -> float:
    """`training.first_log_z`, where each worker draws its rows and asks their rewards."""
    if workers is None:
        return training.first_log_z(job, state, settings, batches)

    def part():
        own = share_of(job, workers.replicas[0], workers.replicas[-1] + 1, workers.n_replicas)
        total = _weight_of_batches(job, 1, batches)[0]
        return [training.first_log_z(own, state, settings, _given_to(own, batches), total)]

    return float(workers.summed(part, 1)[0])


def log_rewards_of(workers: Workers | None, env: Environment, states) -> np.ndarray:
    """log R of states `[N, ...]` that all workers have, float64 `[N]`: each asks for some."""
    if workers is None:
        return np.asarray(log_rewards.log_rewards_of(env, states))
    answers = np.zeros(len(states))

    def part():
        own = slice(*(len(states) * k // workers.n for k in (workers.number, workers.number + 1)))
        with interrupts_let_through():
            answers[own] = log_rewards.log_rewards_of(env, states[own])
        return answers

    return workers.summed(part, len(states))


class Updates(NamedTuple):
    """What a replica is given for U updates, or without the axis `[U]` for one."""

    rates: tf.Tensor
    """The learning rates of policy and of log Z, `[U, 2]`."""
    settings: Settings
    batch: Batches | None
    """The given objects of its share."""
    total: tf.Tensor
    """The weight of each whole batch, `[U]`."""

    def at(self, i) -> "Updates":
        """Update i."""
        return Updates(self.rates[i], self.settings, batch_at(self.batch, i), self.total[i])


class Asked(NamedTuple):
    """The trajectories of a share, and what they pay."""

    drawn: Drawn
    log_reward: tf.Tensor
    """float64 `[B]` in nats."""
    log_reward_here: tf.Tensor | None = None
    """What the states passed pay, `[B, T]`, where the objective asks for that."""


class DistributedChunk:
    """`training.compile_chunk` for the replicas of a strategy and one run.

    Its programs are compiled anew for every run: they are not kept as those of one replica are.
    Terminal states, rewards and trajectories come back only with `gathers`, since each replica
    knows no others than its own, and then those of the on-policy part of the batch.
    """

    def __init__(self, workers: Workers, job: Job, gathers: bool):
        self._workers, self._job, self._gathers = workers, job, gathers
        self._table = Snapshot(job.kind.env, asks=not job.is_measured).log_rewards
        self._shares = [share_of(job, k, k + 1, workers.n_replicas) for k in workers.replicas]
        self._programs = [_programs(share) for share in self._shares]
        self._loop = tf.function(self._loop_of_updates, autograph=False)
        self._forms = None  # of the state and the settings, where they are packed
        self._draw = tf.function(self._draw_shares, autograph=False)
        self._learn = tf.function(self._learn_from_shares, autograph=False)

    def __call__(self, state, rates, n_updates, settings, batches=None) -> ChunkResult:
        totals = _weight_of_batches(self._job, len(rates), batches)
        given = [_given_to(share, batches) for share in self._shares]
        updates = [Updates(rates, settings, each, totals) for each in given]
        if self._job.kind.env.python_reward and not self._job.is_measured:
            state, curves, records = self._one_by_one(state, updates, int(n_updates))
        else:
            with self._workers.together():
                state, curves, records = self._loop(self._table, state, updates, n_updates)
        whole = [self._workers.gathered(each, axis=1) for each in zip(*records, strict=True)]
        return ChunkResult(state, *curves, *(whole or [None, None]))

    def _loop_of_updates(self, table, state, updates, n_updates):
        """All updates in one graph. Returns the state, the curves `[U]` of loss and log Z, and for
        each replica of this worker the records of its share, `[U, B, ...]`."""
        capacity = updates[0].rates.shape[0]
        forms = [[([], self._job.kind.dtype)] * 2, *map(self._forms_of_record, self._shares)]
        no_flags = tf.zeros([0], self._job.kind.dtype)

        def body(i, states, arrays):
            def of_replica(k):
                programs, update = self._programs[k], updates[k].at(i)
                if losses.compares_trajectories(self._job.objective):
                    asked = programs.draw_and_ask(table, states[k], update)
                    mean = _mean_of_all(programs, states[k], asked, update)
                    parts = programs.differentiate(states[k], asked, update, mean, no_flags)
                    record = self._record(k, asked)
                else:
                    parts, record = programs.draw_and_differentiate(table, states[k], update)
                    record = record if self._gathers else []
                state, loss, _ = programs.step(states[k], _summed(parts), update, no_flags)
                return state, loss, record

            states, (loss, *_), records = zip(*self._workers.run(of_replica), strict=True)
            values = [[loss, states[0].weights[-1]], *records]
            arrays = [
                [array.write(i, value) for array, value in zip(*pair, strict=True)]
                for pair in zip(arrays, values, strict=True)
            ]
            return i + 1, list(states), arrays

        arrays = [
            [tf.TensorArray(dtype, capacity, element_shape=shape) for shape, dtype in each]
            for each in forms
        ]
        states = [state] * len(self._shares)
        loop = (tf.constant(0), states, arrays)
        _, states, arrays = tf.while_loop(lambda i, *_: i < n_updates, body, loop)
        curves, *records = [[array.stack() for array in each] for each in arrays]
        return states[0], curves, records

    def _one_by_one(self, state, updates, n_updates):
        """The same by a call for each update, since Python is asked for the rewards on the way.

        That call also draws the next batch, and the state goes in and out as one vector for each
        type: otherwise Python would spend a millisecond an update on handing tensors over.
        """
        packed = [packed_numbers((state, each.settings)) for each in updates]
        self._forms = tf.nest.map_structure(tf.TensorSpec.from_tensor, (state, updates[0].settings))
        of_update = [_small_parts(each, n_updates) for each in updates]
        curves, records, learn = [], [], None
        drawn = self._draw(packed, [each[0] for each in of_update])
        # After the last update one batch is drawn in vain.
        for i in range(n_updates):
            now, following = (
                [each[k] for each in of_update] for k in (i, min(i + 1, n_updates - 1))
            )
            asked, error = self._ask_python(drawn, now)
            flags = tf.constant(self._workers.flags(error), self._job.kind.dtype)
            arguments = packed, asked, now, following, flags
            with self._workers.together():
                learn = learn or self._learn.get_concrete_function(*arguments)
                packed, drawn, *learned, flags = learn(*arguments)
                flags = np.asarray(flags)
            self._workers.end_together(error, flags)
            curves.append(learned)
            records.append([self._record(k, each) for k, each in enumerate(asked)])
        curves = [np.stack(each) for each in zip(*curves, strict=True)]
        records = [
            [np.stack(each) for each in zip(*of_replica, strict=True)]
            for of_replica in zip(*records, strict=True)
        ]
        state, _ = unpacked_numbers(packed[0], self._forms)
        return state, curves, records

    def _draw_shares(self, packed, updates):
        def of_replica(k):
            state, settings = unpacked_numbers(packed[k], self._forms)
            return self._programs[k].draw(state, updates[k]._replace(settings=settings))

        return list(self._workers.run(of_replica))

    def _ask_python(self, drawn, updates):
        """What the trajectories of this worker pay, and the error if it could not be said."""
        env, answers, error = self._job.kind.env, [], None
        for share, own, update in zip(self._shares, drawn, updates, strict=True):
            log_reward = tf.zeros([share.batch_size], tf.float64)
            try:
                if error is None:
                    terminal = own.trajectories.terminal
                    log_reward = rewards_outside_programs(share, env, terminal, update.batch)
            except BaseException as raised:
                error = raised
            answers.append(Asked(own, log_reward))
        return answers, error

    def _learn_from_shares(self, packed, asked, updates, following, flags):
        """One update, and the next batch. Returns the packed states, what was drawn, the loss, log
        Z, and the flags of all workers."""

        def of_replica(k):
            programs = self._programs[k]
            state, settings = unpacked_numbers(packed[k], self._forms)
            now, then = (each[k]._replace(settings=settings) for each in (updates, following))
            mean = None
            if losses.compares_trajectories(self._job.objective):
                mean = _mean_of_all(programs, state, asked[k], now)
            # A worker has one flag, which its first replica hands on.
            own_flags = flags if k == 0 else tf.zeros_like(flags)
            parts = programs.differentiate(state, asked[k], now, mean, own_flags)
            return programs.step_and_draw(state, _summed(parts), now, then, own_flags)

        results = zip(*self._workers.run(of_replica), strict=True)
        packed, drawn, (loss, *_), (log_z, *_), (flags, *_) = results
        return list(packed), list(drawn), loss, log_z, flags

    def _record(self, k, asked):
        """What is to come back of the on-policy part of an update of the k-th replica here."""
        return _record_of_share(self._shares[k], asked) if self._gathers else []

    def _forms_of_record(self, share):
        return forms_of_record(share._replace(n_given=0)) if self._gathers else []


class _Programs(NamedTuple):
    """The compiled parts of an update of a share, of which sums over all replicas are taken."""

    draw: Callable
    draw_and_ask: Callable
    draw_and_differentiate: Callable
    log_ratios: Callable
    mean_log_ratios: Callable
    differentiate: Callable
    step: Callable
    step_and_draw: Callable


def _programs(share):
    return _Programs(
        *(
            training.xla(functools.partial(part, share))
            for part in (
                _draw,
                _draw_and_ask,
                _draw_and_differentiate,
                _log_ratios,
                _mean_log_ratios,
                _differentiate,
                _step,
                _step_and_draw,
            )
        )
    )


def _small_parts(updates, n):
    """What is given for each of `n` updates, without the settings: tensors, and NumPy's arrays,
    of which it takes a slice in a tenth of the time."""
    rates, totals, batches = tf.unstack(updates.rates[:n]), tf.unstack(updates.total[:n]), None
    if updates.batch is not None:
        batches = Batches(*(None if each is None else np.asarray(each) for each in updates.batch))
    return [Updates(rates[i], None, batch_at(batches, i), totals[i]) for i in range(n)]


def _mean_of_all(programs, state, asked, update):
    """In a replica: what each of its trajectories is compared with, from those of all replicas."""
    return programs.mean_log_ratios(_summed(programs.log_ratios(state, asked, update)))


def _summed(tensor):
    """In a replica: the sum of this tensor over all replicas."""
    tensor = tf.identity(tensor)  # on the replica's device, which the sum asks for
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensor)


def _draw(share, state, update):
    """The trajectories of the share."""
    return draw_batch(share, state, update.settings, update.batch)


def _draw_and_ask(share, table, state, update):
    """The trajectories of the share, and what they pay, where rewards are TensorFlow."""
    env, drawn = share.kind.env, _draw(share, state, update)
    ask = functools.partial(log_rewards_in_program, env, table)
    log_reward = rewards_of_batch(share, drawn.trajectories.terminal, update.batch, ask)
    on_the_way = None
    if losses.asks_on_the_way(share.objective):
        on_the_way = log_rewards_on_the_way(env, drawn.trajectories, ask)
    return Asked(drawn, log_reward, on_the_way)


def _draw_and_differentiate(share, table, state, update):
    """`_draw_and_ask` and `_differentiate` in one program, and the record of the share: what is
    worked out on the way stays inside."""
    asked = _draw_and_ask(share, table, state, update)
    no_flags = tf.zeros([0], share.kind.dtype)
    parts = _differentiate(share, state, asked, update, None, no_flags)
    return parts, _record_of_share(share, asked)


def _record_of_share(share, asked):
    """What may come back of the on-policy part of an update."""
    record = record_of(share, asked.drawn, asked.log_reward)
    return [each[: share.n_sampled] for each in record]


def _log_ratios(share, state, asked, update):
    """ξ of the trajectories (see `losses.log_variance`), their weights and their origins: a row for
    each trajectory of the whole batch, `[B, 2 + size of a state]`, with 0 for those of others."""
    env, trajectories, kept = share.kind.env, asked.drawn.trajectories, asked.drawn.kept
    log_policy = log_policy_of_weights(share.kind)(state.weights)
    if fits_in_a_table(env, share.batch_size):
        log_policy, kept = tabulate(env, log_policy).log_policy, None
    scores = score(env, log_policy, trajectories, ("log_pf", "log_pb"), kept)
    log_ratio = losses.log_ratios(**scores, log_reward=asked.log_reward)
    weight = weight_of_all(share, update.batch)
    weight = tf.ones_like(log_ratio) if weight is None else weight
    # A float, as what it is added up with: the number of a condition is not so large that it would
    # be rounded.
    origin = tf.cast(tf.reshape(trajectories.states[:, 0], [share.batch_size, -1]), weight.dtype)
    own = tf.concat([log_ratio[:, None], weight[:, None], origin], axis=1)
    places, n = _places(share)
    return tf.scatter_nd(places[:, None], own, [n, own.shape[1]])


def _mean_log_ratios(share, of_batch):
    """What each trajectory of the share is compared with, `[B]`: from `_log_ratios`, added up."""
    log_ratio, weight = of_batch[:, 0], of_batch[:, 1]
    origin = share.kind.env.n_condition_features and of_batch[:, 2:]
    mean = losses.mean_log_ratios(log_ratio, weight, origin)
    return tf.gather(tf.broadcast_to(mean, log_ratio.shape), _places(share)[0])


def _places(share):
    """The rows of the share in the whole batch, `[B]`, and how many that has."""
    rows, n = [], 0
    for part in (share.sampled_rows, share.given_rows):
        if part is not None:
            rows.append(n + np.arange(part.first, part.end))
            n += part.n
    return np.concatenate(rows), n


def _differentiate(share, state, asked, update, mean_log_ratio, flags):
    """The share's part of the gradient and of the loss, and the flags: all in one vector."""
    loss, gradients = loss_and_gradients(
        share,
        state.weights,
        asked.drawn,
        asked.log_reward,
        update.settings,
        weight_of_all(share, update.batch),
        update.total,
        log_reward_here=asked.log_reward_here,
        mean_log_ratio=mean_log_ratio,
    )
    (vector,) = packed_numbers((gradients, loss, flags))  # of one type, the agent's dtype
    return vector


def _step(share, state, summed, update, flags):
    """The state after the update, its loss, and the flags, from what was added up."""
    trained = itertools.compress(state.weights, are_trained(share.kind))
    forms = list(trained), tf.zeros([], share.kind.dtype), flags
    gradients, loss, flags = unpacked_numbers([summed], forms)
    return step(share, state, gradients, update.rates, update.settings), loss, flags


def _step_and_draw(share, state, summed, update, following, flags):
    """`_step`, and the trajectories of the following update. Returns the packed state and settings,
    what was drawn, the loss, log Z and the flags."""
    state, loss, flags = _step(share, state, summed, update, flags)
    drawn = _draw(share, state, following)
    packed = packed_numbers((state, update.settings))
    return packed, drawn, loss, state.weights[-1], flags


def _given_to(share: Job, batches: Batches | None) -> Batches | None:
    """The given objects of a share, for each update."""
    if batches is None:
        return None
    rows = share.given_rows.slice
    return Batches(*(None if each is None else each[:, rows] for each in batches))


def _weight_of_batches(job: Job, n_updates: int, batches: Batches | None) -> tf.Tensor:
    """The weight of the whole batch of each update, `[U]`."""
    given = np.zeros(n_updates) if batches is None else np.sum(batches.weight, axis=1)
    return tf.constant(job.n_sampled + given[:n_updates], job.kind.dtype)
