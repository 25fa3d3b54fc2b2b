"""Training that runs beside everything else: it can be paused, continued, and survives a crash."""

import json
import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gfn_utils import checkpoint, losses
from gfn_utils.agent import GFNAgent
from gfn_utils.runs import DECAYS, History, Progress
from gfn_utils.training import LARGEST_BATCH
from gfn_utils.validation import (
    check_choice,
    check_function,
    check_instance,
    check_integer,
    check_number,
)

SECONDS_BETWEEN_CHECKPOINTS = 1.0
REPLACED = "a newer LiveTraining with the same path goes on in its place"
EMPTY_HISTORY = History(*(np.zeros(0) for _ in History._fields))


class Settings(NamedTuple):
    """The run: what `GFNAgent.train` is asked for."""

    iterations: int = 2000
    objective: str = "trajectory_balance"
    batch_size: int = 16
    decay: str = "linear"


DEFAULT_SETTINGS = Settings()


class LiveTraining:
    """One run of on-policy training in a thread of its own.

    `start` begins or continues, `pause` stops after the present chunk of updates, and any number
    of pauses changes nothing: the run ends where one without pauses ends. `on_chunk` is called in
    that thread between chunks, `on_end` there when it has paused, finished or failed.

    With `path`, the agent and its curves are saved there about once a second and at every pause,
    in a file that `GFNAgent.load` reads too. A run that was cut off is found again, by its settings
    and those that the agent began with, and continues from its last save. A file that is not this
    run's is never overwritten or deleted. If another LiveTraining of this process makes the same
    run on the same path, because a cell was run twice, it is paused and the new one goes on.

    Attributes: `agent`; `history`, of the whole run so far; `error`, what made it fail, or None;
    `running`, whether it is training at this moment: from `start` until `on_end` is called.

    Raises ValueError or TypeError naming the setting that is out of bounds, FileNotFoundError if
    the folder of `path` does not exist, and ValueError if there is a file that is not this run's.
    """

    CHUNK = 20

    def __init__(
        self,
        agent: GFNAgent,
        settings: Settings = DEFAULT_SETTINGS,
        path: str | os.PathLike | None = None,
        on_chunk: Callable[[], None] = lambda: None,
        on_end: Callable[[], None] = lambda: None,
    ):
        check_instance("agent", agent, GFNAgent, "a GFNAgent")
        check_instance("settings", settings, Settings, "a live_training.Settings")
        settings = _checked(settings)
        self.on_chunk = check_function("on_chunk", on_chunk, "a function without arguments")
        self.on_end = check_function("on_end", on_end, "a function without arguments")
        self.agent, self.settings = agent, settings
        self.error: Exception | None = None
        self.history = EMPTY_HISTORY
        self.seconds = 0.0
        self.running = False
        self._path = None if path is None else checkpoint.check_path(path)
        self._pausing = threading.Event()
        self._thread: threading.Thread | None = None
        self._run = _describe_run(agent, settings)
        self._stamp: tuple | None = None
        self._taken_over = False
        if self._path is not None:
            self._take_over_path()

    @property
    def done(self) -> int:
        """Updates of this run made so far."""
        return len(self.history.loss)

    @property
    def finished(self) -> bool:
        """Whether all updates are made."""
        return self.done >= self.settings.iterations

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None before there is any."""
        if self.done == 0 or self.seconds == 0:
            return None
        return self.seconds / self.done * (self.settings.iterations - self.done)

    def start(self) -> None:
        """Begin, or continue where it paused; nothing while it runs or once it has finished."""
        if self.running or self.finished:
            return
        if self._taken_over:
            self.error = RuntimeError(REPLACED)
            self.on_end()
            return
        self.error = None
        self._pausing.clear()
        self.running = True
        self._thread = threading.Thread(target=self._train, name="live training", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Ask it to stop after the present chunk; `join` waits for that."""
        self._pausing.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has paused, finished or failed; TimeoutError if that takes longer."""
        if timeout is not None:
            timeout = check_number("timeout", timeout, minimum=0.0, maximum=threading.TIMEOUT_MAX)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise TimeoutError(f"training has not stopped within {timeout:g} s")

    def reset(self, seed: int | None = None) -> None:
        """Start anew, untrained, from `seed` or the present one; forget what was saved.

        Raises FileExistsError, and changes nothing, if the file is no longer this run's.
        """
        self.pause()
        self.join()
        self._check_file_is_ours()
        self.agent.reset(seed)
        self._run |= {"first_update": 0, "seed": self.agent.seed}
        self.history, self.seconds, self.error = EMPTY_HISTORY, 0.0, None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._stamp = None

    def _train(self):
        before, saved = self.history, time.perf_counter()
        began = saved - self.seconds

        def after_chunk(progress: Progress) -> bool:
            nonlocal saved
            self.history = History(*map(np.append, before, progress.history))
            self.seconds = time.perf_counter() - began
            if time.perf_counter() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                self._save()
                saved = time.perf_counter()
            self.on_chunk()
            return self._pausing.is_set()

        try:
            how = {"resume_from": self.done, "chunk": self.CHUNK, "callback": after_chunk}
            self.agent.train(**self.settings._asdict(), **how)
            self._save()
        except Exception as error:  # shown beside the buttons, not lost in a thread
            self.error = error
        self.running = False
        self.on_end()

    def _save(self):
        if self._path is None:
            return
        self._check_file_is_ours()
        curves = {f"history_{name}": value for name, value in self.history._asdict().items()}
        run = np.array(json.dumps(self._run))
        self.agent._write(self._path, run=run, seconds=np.array(self.seconds), **curves)
        self._stamp = _stamp(self._path)

    def _check_file_is_ours(self):
        if self._path is not None and _stamp(self._path) not in (None, self._stamp):
            raise FileExistsError(
                f"{os.fspath(self._path)!r} was written by something else since this run last "
                "used it, and is left as it is: make a new LiveTraining to go on from there, move "
                "that file away, or choose another path"
            )

    def _take_over_path(self):
        """Take up the run at `path`, after pausing who else makes it in this process."""
        key = os.fspath(self._path)
        older = _LATEST.get(key)
        if older is not None and older.running and older._run != self._run:
            raise _refusal(self._path, f"another run, {_first_difference(older._run, self._run)}")
        self._find_earlier_run()
        if older is not None:
            older.pause()
            older.join()
            older._path, older._taken_over = None, True
            self._find_earlier_run()
        _LATEST[key] = self

    def _find_earlier_run(self):
        """Take up the run at `path`; ValueError if there is something that is not this run."""
        stamp = _stamp(self._path)
        if stamp is None:
            return
        try:
            saved = checkpoint.read(self._path)
        except ValueError as error:
            raise _refusal(self._path, f"something else ({error})") from error
        if "run" not in saved.others:
            raise _refusal(self._path, "an agent that was saved by hand")
        try:
            run, seconds, history = _read_run(saved)
        except Exception as error:  # damaged data can fail in any way
            raise _refusal(self._path, f"a damaged run ({error})") from error
        if run != self._run:
            raise _refusal(self._path, f"another run, {_first_difference(run, self._run)}")
        try:
            self.agent = GFNAgent._of_saved(self._path, saved, self.agent.env, self.agent.network)
        except ValueError as error:
            raise _refusal(self._path, f"the run of another agent ({error})") from error
        self.seconds, self.history, self._stamp = seconds, history, stamp


_LATEST: weakref.WeakValueDictionary[str, LiveTraining] = weakref.WeakValueDictionary()
"""The latest training of this process on each path."""


def _describe_run(agent, settings) -> dict:
    """What tells one run from another: its settings, and the agent's when it began."""
    run = {**settings._asdict(), "first_update": agent.iteration, **agent.describe()["arguments"]}
    return json.loads(json.dumps(run))


def _read_run(saved: checkpoint.Saved) -> tuple[dict, float, History]:
    """The description, the seconds and the curves of a saved run; any error if they do not fit."""
    run, seconds = json.loads(str(saved.others["run"])), float(saved.others["seconds"])
    history = History(*(saved.others[f"history_{name}"] for name in History._fields))
    done = int(saved.state.iteration) - run["first_update"]
    if not 0 <= done <= run["iterations"] or not 0 <= seconds < math.inf:
        raise ValueError(f"{done} updates in {seconds} s")
    if any(curve.ndim != 1 or curve.dtype.kind != "f" for curve in history):
        raise TypeError("the curves are not numbers")
    lengths = [len(curve) for curve in (history.loss, history.log_z)]
    if lengths != [done, done] or len(history.evaluated_at) != len(history.l1_error):
        raise ValueError(f"the curves do not have the lengths that {done} updates give")
    return run, seconds, history


def _first_difference(theirs: dict, ours: dict) -> str:
    for name in ours:
        if theirs.get(name) != ours[name]:
            return f"with {name} {theirs.get(name)!r} where this one has {ours[name]!r}"
    return "with other settings"


def _refusal(path, found: str) -> ValueError:
    return ValueError(
        f"path must be free or hold this very run, got {os.fspath(path)!r}, which holds {found}. "
        "Delete that file to start afresh, or choose another path"
    )


def _stamp(path) -> tuple | None:
    """What changes whenever the file is written; None if there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _checked(settings: Settings) -> Settings:
    """The same in Python's own numbers and strings, which a saved run is described by."""
    return Settings(
        check_integer("iterations", settings.iterations, minimum=1),
        check_choice("objective", settings.objective, losses.OBJECTIVES),
        check_integer("batch_size", settings.batch_size, minimum=1, maximum=LARGEST_BATCH),
        check_choice("decay", settings.decay, DECAYS),
    )
