"""The workers of a `tf.distribute.Strategy`: what they add up, and how they end together.

A worker is a process, and has one replica or several: one for each of its GPUs, or one on its CPU.
"""

import contextlib
import hashlib
import re
import socket
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

SUPPORTED = (
    tf.distribute.MirroredStrategy,
    tf.distribute.MultiWorkerMirroredStrategy,
    tf.distribute.OneDeviceStrategy,
)
NO_ANSWER = (
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
)
"""What TensorFlow raises when a worker is gone."""
TOLERANCE = 1e-5
"""Relative. Numbers that differ by less may have been rounded by another kind of processor."""


class WorkerLostError(ConnectionError):
    """A worker does not answer any more, so the run ends: all must be started again."""


class Workers:
    """The workers of a strategy, as one of them sees them.

    They are numbered from 0, and the first is the chief: `number` is this one's. Those of a
    MultiWorkerMirroredStrategy are many; another strategy has one. `replicas` are the numbers of
    this worker's own replicas, of `n_replicas` in all.

    Raises TypeError if `strategy` is of a kind that does not add up gradients in every update.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        if not isinstance(strategy, SUPPORTED):
            allowed = ", ".join(f"tf.distribute.{kind.__name__}" for kind in SUPPORTED)
            raise TypeError(f"strategy must be None or one of {allowed}, got {strategy!r}")
        self.strategy = strategy
        self.n_replicas = strategy.num_replicas_in_sync
        self.replicas: tuple[int, ...] = strategy.experimental_local_results(
            strategy.experimental_distribute_values_from_function(
                lambda context: context.replica_id_in_sync_group
            )
        )
        self.n = self.n_replicas // len(self.replicas)
        self.number = self.replicas[0] // len(self.replicas)
        self._names = _names_of_workers(strategy)
        self._is_broken = False

    def run(self, call: Callable[[int], object]) -> tuple:
        """In a graph: `call(k)` for this worker's k-th replica, on its device; one result each."""

        def of_replica():
            context = tf.distribute.get_replica_context()
            number = int(tf.get_static_value(context.replica_id_in_sync_group))
            return call(number - self.replicas[0])

        return self.strategy.experimental_local_results(self.strategy.run(of_replica))

    def gathered(self, arrays: Sequence, axis: int) -> np.ndarray:
        """One array from those of all replicas, in their order; each worker gives its own ones."""
        if self.n_replicas == 1:
            return np.asarray(arrays[0])
        with self.together():
            return np.asarray(self.strategy.gather(self._spread(arrays), axis))

    def summed(self, call: Callable[[], Sequence[float]], n: int) -> np.ndarray:
        """The sum over workers of the `n` numbers that `call()` gives on each, float64 `[n]`.

        Where it raises on a worker all raise: this one its error, the others a RuntimeError.
        """
        numbers, error = np.zeros(n), None
        try:
            numbers = np.asarray(call(), np.float64)
        except BaseException as raised:
            if self.n == 1 or self._is_broken:
                raise
            error = raised
        if self.n == 1:
            return numbers
        parts = np.concatenate([self.flags(error), numbers])
        zeros = [np.zeros_like(parts)] * (len(self.replicas) - 1)
        with self.together():
            total = self.strategy.reduce("SUM", self._spread([parts, *zeros]), axis=None)
        self.end_together(error, np.asarray(total)[: self.n])
        return np.asarray(total)[self.n :]

    def flags(self, error: BaseException | None) -> np.ndarray:
        """A number for each worker, `[n]`: 1 at the place of this one, if it has an error."""
        return np.eye(self.n)[self.number] * (error is not None)

    def end_together(self, error: BaseException | None, flags: np.ndarray) -> None:
        """Raise this worker's error, if there is one, or else that others have one.

        `flags` `[n]` are added up over all workers.
        """
        if error is not None:
            raise error
        if np.any(flags):
            names = ", ".join(self._names[number] for number in np.flatnonzero(flags))
            raise RuntimeError(f"the run was ended by an error on {names}: see what it says there")

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What needs all workers goes inside. If one is gone a WorkerLostError says which do not
        answer, and what to do.

        When one is gone its neighbours end, and then theirs: so the last to see it names several.
        """
        try:
            yield
        except BaseException as error:
            self._is_broken = True
            if self.n == 1 or not isinstance(error, NO_ANSWER):
                raise
            raise WorkerLostError(
                f"no answer any more from {self._lost(str(error))}, so this run cannot go on. End "
                "all workers and start them again: the run goes on from the last agent that was "
                "saved, with GFNAgent.load and train(resume_from=...)"
            ) from error

    def _spread(self, values):
        """One value for each of this worker's replicas."""
        own = iter(values)
        return self.strategy.experimental_distribute_values_from_function(
            lambda _: tf.convert_to_tensor(next(own))
        )

    def _lost(self, message):
        """The workers that are gone: those that refuse a connection, and the one that an error of
        TensorFlow is about, since one that has only stopped accepts connections."""
        own = self._names[self.number]
        lost = {name for name in self._names if name != own and not _accepts(name)}
        for pattern in (r"unhealthy[^/]*", r"remote target "):
            if found := re.search(pattern + r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", message):
                lost |= {n for n in self._names if n.startswith(f"{found[1]} {found[2]} ")}
                break
        names = [name + " (this worker)" * (name == own) for name in self._names if name in lost]
        return ", ".join(names) or "another worker"


def _accepts(name):
    """Whether anybody listens at the address in a worker's name."""
    host, port = name.split("(")[1].rstrip(")").rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def check_same(workers: Workers, items: dict[str, object]) -> None:
    """Raise ValueError, naming which, unless all workers have the same items.

    Text, and arrays of integers, must be equal, and other numbers so up to a rounding of 1e-5.
    """
    table = np.zeros([workers.n, len(items)])

    def of_this_worker():
        table[workers.number] = [_digest(item) for item in items.values()]
        return table.ravel()

    table = workers.summed(of_this_worker, table.size).reshape(table.shape)
    differs = ~np.isclose(table, table[0], rtol=TOLERANCE, atol=0)
    if differs.any():
        number, item = np.argwhere(differs)[0]
        raise ValueError(
            f"all workers must train alike, but {list(items)[item]} on worker {number} of "
            f"{workers.n} (the chief is 0) is not that of the chief"
        )


def _digest(item) -> float:
    """A number that tells one item from another."""
    if isinstance(item, str):
        item = np.frombuffer(item.encode(), np.uint8)
    array = np.ascontiguousarray(item)
    if array.dtype.kind == "f":
        flat = array.astype(np.float64).ravel()
        return float(flat @ np.cos(np.arange(flat.size)))
    return float(int.from_bytes(hashlib.blake2b(array.tobytes(), digest_size=6).digest()))


def _names_of_workers(strategy):
    """Job, number and address of each worker, the chief first."""
    resolver = strategy.cluster_resolver
    cluster = resolver.cluster_spec().as_dict() if resolver is not None else {}
    return [
        f"{job} {number} ({address})"
        for job in ("chief", "worker")
        for number, address in enumerate(cluster.get(job, []))
    ]
