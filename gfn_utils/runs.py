"""One call of `GFNAgent.train`: what it is asked for, what it trains on, and what it tells."""

import warnings
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils import training
from gfn_utils.environments import Environment
from gfn_utils.environments.base import check_states
from gfn_utils.replay import ReplayBuffer, check_finite
from gfn_utils.sampling import (
    Trajectories,
    check_trajectories,
    most_trajectories,
    objects_near,
)
from gfn_utils.training import LARGEST_BATCH, Batches, ChunkResult
from gfn_utils.validation import (
    check_choice,
    check_flag,
    check_instance,
    check_integer,
    check_number,
)

DECAYS = ("linear", "constant")
LARGEST_CHUNK = 10_000
FEWEST_JUDGED = 200
"""Runs of fewer updates than this are not expected to have found log Z."""
LARGEST_LAST_TRAVEL = 0.1


class History(NamedTuple):
    """What a call of `train` saw."""

    loss: np.ndarray
    """Mean loss in nats²: one value an epoch (offline) or an update (on policy)."""
    log_z: np.ndarray
    """log Z after each of these, in nats."""
    evaluated_at: np.ndarray
    """The updates of this run after which the exact error was taken."""
    l1_error: np.ndarray
    """The exact L1 error Σ|P_T − R/Z| then."""

    @property
    def log_z_travel(self) -> float:
        """How far log Z went in one direction over the last quarter of the run, in nats.

        0 where it rather went to and fro, as it does once it is found. Where it is 0.1 or more at
        the end of a run, log Z was still on its way and the policy cannot be right yet: train
        longer, or with a higher `log_z_learning_rate`.
        """
        last = self.log_z[-(len(self.log_z) // 4 + 1) :]
        went = float(last[-1] - last[0])
        return went if 2 * abs(went) > np.abs(np.diff(last)).sum() else 0.0


class Progress(NamedTuple):
    """What `train` tells its callback between chunks of updates; the agent is up to date then."""

    done: int
    """Updates of this run made so far."""
    total: int
    """Updates of this run in all."""
    history: History
    trajectories: Trajectories | None = None
    """With `keep_trajectories`, those that the chunk's updates drew on policy, in their order."""


class DataSet(NamedTuple):
    """What an offline run learns from: each object once."""

    objects: np.ndarray
    """int32 `[N, ...]`."""
    log_rewards: np.ndarray | None
    """Their measured log R in nats, `[N]`, or None: the environment is asked."""


class Plan(NamedTuple):
    """What a call of `train` is asked for, checked before anything is changed."""

    data: DataSet | None
    """None: on policy."""
    replay: ReplayBuffer | None
    batch_size: int
    n_given: int
    """How many trajectories of a batch are drawn backward from given objects; the others are
    sampled on policy."""
    batches_per_epoch: int
    total: int
    """Updates in all."""
    resume_from: int
    decay: str
    n_together: int
    """Updates that are planned and made together."""
    chunk: int
    """Updates between two calls of the callback: a multiple of `n_together`."""
    keep_trajectories: bool

    @property
    def n_sampled(self) -> int:
        return self.batch_size - self.n_given

    @property
    def is_measured(self) -> bool:
        """Whether all rewards are given."""
        return self.data is not None and self.data.log_rewards is not None

    def ends_chunk(self, done: int) -> bool:
        """Whether a chunk is complete after so many updates of the run."""
        return done == self.total or (done - self.resume_from) % self.chunk == 0


def plan_run(
    env: Environment,
    n_made: int,
    data=None,
    log_rewards=None,
    *,
    epochs=None,
    iterations=None,
    batch_size=None,
    decay="linear",
    resume_from=0,
    chunk=100,
    neighbours_within=2,
    replay=None,
    replay_share=0.5,
    keep_trajectories=False,
) -> Plan:
    """The arguments of `GFNAgent.train`, checked, for an agent that has made `n_made` updates."""
    offline = data is not None
    _check_together(offline, log_rewards, epochs, iterations, replay, keep_trajectories)
    if batch_size is None:
        batch_size = 10 if offline else 16
    batch_size = check_integer("batch_size", batch_size, minimum=1, maximum=LARGEST_BATCH)
    check_choice("decay", decay, DECAYS)
    chunk = n_together = check_integer("chunk", chunk, minimum=1, maximum=LARGEST_CHUNK)
    n_given, per_epoch = 0, 1
    if offline:
        data = data_set(env, data, log_rewards, neighbours_within)
        n_given, per_epoch = batch_size, -(-len(data.objects) // batch_size)
        total = check_integer("epochs", epochs, minimum=1) * per_epoch
    else:
        total = check_integer("iterations", iterations, minimum=1)
    if replay is not None:
        n_given = _n_replayed(env, replay, replay_share, batch_size)
        n_together = replay.refresh
        chunk = -(-chunk // n_together) * n_together
    if keep_trajectories:
        _check_room(env, chunk, batch_size - n_given)
    first = _check_resume(resume_from, total, n_made)
    lengths = per_epoch, total, first, decay, n_together, chunk
    return Plan(data, replay, batch_size, n_given, *lengths, keep_trajectories)


def _check_together(offline, log_rewards, epochs, iterations, replay, keep_trajectories):
    """Refuse arguments of `train` that do not go together."""
    if offline and (epochs is None or iterations is not None):
        raise ValueError("train(data, ...) takes epochs, and not iterations")
    if not offline and (iterations is None or epochs is not None):
        raise ValueError("train() without data takes iterations, and not epochs")
    if not offline and log_rewards is not None:
        raise ValueError("log_rewards must come with the objects that they were measured of")
    keeps = check_flag("keep_trajectories", keep_trajectories)
    for name, wanted in (("replay", replay is not None), ("keep_trajectories", keeps)):
        if offline and wanted:
            raise ValueError(f"{name} goes with iterations, on policy, and not with data")


def _check_resume(resume_from, total, n_made):
    resume_from = check_integer("resume_from", resume_from, minimum=0)
    if resume_from >= total:
        raise ValueError(f"resume_from must be below {total}, got {resume_from}")
    if resume_from > n_made:
        raise ValueError(
            f"resume_from must be at most {n_made}, the updates that this agent has "
            f"made, got {resume_from}"
        )
    return resume_from


def data_set(env: Environment, data, log_rewards, neighbours_within) -> DataSet:
    """Each object once: those given, or those that the given trajectories came near.

    Measurements of the same object are averaged in log R. The objectives are squares of
    differences in log R, so this mean is what they would settle on between the measurements; the
    mean of R itself would let the one that happened to be highest decide.
    """
    if isinstance(data, Trajectories):
        if log_rewards is not None:
            raise ValueError(
                "log_rewards must come with objects, and data is Trajectories: pass their terminal"
            )
        trajectories = check_trajectories(env, data, "data")
        within = check_integer("neighbours_within", neighbours_within, minimum=0)
        within = min(within, env.max_trajectory_length)
        return DataSet(objects_near(env, trajectories, within), None)
    objects = np.asarray(check_states(env, data, "data"))
    if log_rewards is None:
        return DataSet(np.unique(objects, axis=0), None)
    measured = check_finite("log_rewards", log_rewards, len(objects))
    objects, which, times = np.unique(objects, axis=0, return_inverse=True, return_counts=True)
    return DataSet(objects, np.bincount(which.ravel(), measured / times[which.ravel()]))


def _n_replayed(env, replay, share, batch_size):
    check_instance("replay", replay, ReplayBuffer, "a ReplayBuffer")
    share = check_number("replay_share", share, minimum=0.0, maximum=1.0)
    n = round(share * batch_size)
    if not 0 < n < batch_size:
        raise ValueError(
            f"replay_share must leave at least one trajectory of a batch of {batch_size} to the "
            f"buffer and one to the policy, got {share:g}"
        )
    if len(replay):
        check_states(env, replay.objects, "replay.objects")
    return n


def _check_room(env, chunk, n_forward):
    most = most_trajectories(env)
    if chunk * n_forward > most:
        raise ValueError(
            f"keep_trajectories must find room for the trajectories of a chunk: {most:,} of {env!r}"
            f" have it, got {chunk} updates of {n_forward}. Take a smaller chunk"
        )


def given_objects(
    plan: Plan, dtype: str, seed: int, number: int, first: int, n: int
) -> Batches | None:
    """What updates first, …, first + n − 1 are given to go backward from; None on policy alone.

    `seed` is the agent's and `number` the updates that it had made when the run began. Padded to
    whole batches and to `plan.n_together` updates.
    """
    if plan.n_given == 0:
        return None
    if plan.replay is None:
        return _of_epochs(plan, dtype, seed, number, first, n)
    shape = [plan.n_together, plan.n_given]
    rng = np.random.default_rng((seed, number, first))
    objects, log_rewards = plan.replay.sample(plan.n_together * plan.n_given, rng)
    return Batches(
        tf.constant(objects.reshape(*shape, *objects.shape[1:])),
        tf.ones(shape, dtype),
        tf.constant(log_rewards.reshape(shape)),
    )


def _of_epochs(plan, dtype, seed, number, first, n):
    """Every epoch takes each object once, in an order of its own."""
    n_objects, size = len(plan.data.objects), plan.batch_size
    rows = np.zeros([plan.n_together, size], np.int64)
    weight = np.zeros(rows.shape)
    for i in range(n):
        epoch, batch = divmod(first + i, plan.batches_per_epoch)
        if i == 0 or batch == 0:
            order = training.epoch_order(seed, number, epoch, n_objects)
        chosen = order[batch * size : (batch + 1) * size]
        rows[i, : len(chosen)] = chosen
        weight[i, : len(chosen)] = 1
    objects, log_rewards = plan.data
    measured = None if log_rewards is None else tf.constant(log_rewards[rows])
    return Batches(tf.constant(objects[rows]), tf.constant(weight, dtype), measured)


class Record:
    """What a run has seen so far."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._losses, self._log_zs, self._evaluated_at, self._errors = [], [], [], []
        self._sampled: list[Trajectories] = []

    def add(self, result: ChunkResult, n: int) -> None:
        """Take in what `n` updates gave; the buffer takes in what they sampled."""
        plan = self._plan
        self._losses.extend(np.asarray(result.loss)[:n])
        self._log_zs.extend(np.asarray(result.log_z)[:n])
        if plan.replay is not None:
            plan.replay.add(
                *(_sampled(plan, each, n) for each in (result.terminal, result.log_reward))
            )
        if plan.keep_trajectories:
            parts = result.states, result.actions, result.terminal, result.log_reward
            self._sampled.append(Trajectories(*(_sampled(plan, each, n) for each in parts)))

    def add_error(self, done: int, l1_error: float) -> None:
        """Take in the exact error after so many updates."""
        self._evaluated_at.append(done)
        self._errors.append(l1_error)

    def history(self) -> History:
        """Grouped by epoch (an on-policy epoch is one update)."""
        plan, losses = self._plan, self._losses
        epoch = (plan.resume_from + np.arange(len(losses))) // plan.batches_per_epoch
        starts = np.flatnonzero(np.diff(epoch, prepend=-1))
        ends = np.append(starts[1:], len(losses))
        loss = np.add.reduceat(losses, starts) / (ends - starts)
        log_z = np.asarray(self._log_zs)[ends - 1]
        return History(loss, log_z, np.array(self._evaluated_at), np.array(self._errors))

    def take_trajectories(self) -> Trajectories | None:
        """What was sampled since this was last asked for, if it is kept."""
        sampled, self._sampled = self._sampled, []
        if not sampled:
            return None
        return Trajectories(*(tf.constant(np.concatenate(e)) for e in zip(*sampled, strict=True)))


def _sampled(plan, values, n):
    """The on-policy part `[n·n_sampled, ...]` of what updates hold, `[U, B, ...]`."""
    values = np.asarray(values)[:n, : plan.n_sampled]
    return values.reshape(-1, *values.shape[2:])


def warn_if_log_z_travels(plan: Plan, history: History) -> None:
    """Warn the caller of `train` of a run that ended too early."""
    if plan.total < FEWEST_JUDGED or abs(history.log_z_travel) < LARGEST_LAST_TRAVEL:
        return
    warnings.warn(
        f"log Z was still on its way at the end: it went {history.log_z_travel:+.2g} nats in the "
        "last quarter of the run, so the policy is not right yet. Train longer, or with a higher "
        "log_z_learning_rate",
        stacklevel=4,
    )
