"""Training that runs beside everything else: it can be paused, continued, and survives a crash."""

import json
import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gfn_utils import checkpoint, losses
from gfn_utils.agent import DECAYS, GFNAgent, History, Progress
from gfn_utils.validation import check_choice, check_integer

SECONDS_BETWEEN_CHECKPOINTS = 1.0


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
    and a run that was cut off is found again: it continues from its last save.

    Attributes: `agent`; `history`, of the whole run so far; `error`, what made it fail, or None.

    Raises ValueError or TypeError naming the setting that is out of bounds, FileNotFoundError if
    the folder of `path` does not exist, and ValueError if a file there is not an agent's.
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
        if not isinstance(agent, GFNAgent):
            raise TypeError(f"agent must be a GFNAgent, got {agent!r}")
        _check_settings(settings)
        self.agent = agent
        self.settings = settings
        self.on_chunk, self.on_end = on_chunk, on_end
        self.error: Exception | None = None
        self.history = _empty_history()
        self.seconds = 0.0
        self._path = None if path is None else checkpoint.check_path(path)
        self._pausing = threading.Event()
        self._thread: threading.Thread | None = None
        self._running = False
        self._first = agent.iteration
        if self._path is not None:
            self._find_earlier_run()

    @property
    def done(self) -> int:
        """Updates of this run made so far."""
        return len(self.history.loss)

    @property
    def running(self) -> bool:
        """Whether it is training at this moment: from `start` until `on_end` is called."""
        return self._running

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
        self.error = None
        self._pausing.clear()
        self._running = True
        self._thread = threading.Thread(target=self._train, name="live training", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Ask it to stop after the present chunk; `join` waits for that."""
        self._pausing.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has paused, finished or failed; TimeoutError if that takes longer."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise TimeoutError(f"training has not stopped within {timeout:g} s")

    def reset(self, seed: int | None = None) -> None:
        """Start anew, untrained, from `seed` or the present one; forget what was saved."""
        self.pause()
        self.join()
        self.agent.reset(seed)
        self._first = 0
        self.history, self.seconds, self.error = _empty_history(), 0.0, None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._curves_path.unlink(missing_ok=True)

    def _train(self):
        before, began, saved = self.history, time.perf_counter(), time.perf_counter()
        seconds_before = self.seconds

        def after_chunk(progress: Progress) -> bool:
            nonlocal saved
            self.history = History(*map(np.append, before, progress.history))
            self.seconds = seconds_before + time.perf_counter() - began
            if time.perf_counter() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                self._save()
                saved = time.perf_counter()
            self.on_chunk()
            return self._pausing.is_set()

        try:
            self.agent.train(
                **self.settings._asdict(),
                resume_from=self.done,
                chunk=self.CHUNK,
                callback=after_chunk,
            )
            self._save()
        except Exception as error:  # shown by whoever drew the buttons, not lost in a thread
            self.error = error
        self._running = False
        self.on_end()

    @property
    def _curves_path(self):
        return self._path.with_name(self._path.name + ".curves")

    def _save(self):
        if self._path is None:
            return
        run = json.dumps([self.settings._asdict(), self._first])
        curves = dict(self.history._asdict(), run=np.array(run), seconds=np.array(self.seconds))
        with checkpoint.replacing(self._curves_path) as file:
            np.savez(file, **curves)
        self.agent.save(self._path)

    def _find_earlier_run(self):
        """Take up the run at `path`, if it is this one: the same agent and the same settings."""
        if not self._path.exists() or not self._curves_path.exists():
            return
        saved = GFNAgent.load(self._path, self.agent.env)
        with np.load(self._curves_path, allow_pickle=False) as archive:
            curves = {name: archive[name] for name in archive.files}
        run, seconds = json.loads(str(curves.pop("run"))), float(curves.pop("seconds"))
        # An objective may have given the saved one its state flow.
        arguments, ours = (
            {**agent.describe()["arguments"], "state_flow": None} for agent in (saved, self.agent)
        )
        if run != [self.settings._asdict(), self._first] or arguments != ours:
            return
        # The curves are written first: a crash in between leaves them a save ahead of the agent.
        done = saved.iteration - self._first
        evaluations = curves["evaluated_at"] <= done
        self.agent = saved
        self.seconds = seconds
        self.history = History(
            curves["loss"][:done],
            curves["log_z"][:done],
            curves["evaluated_at"][evaluations],
            curves["l1_error"][evaluations],
        )


def _check_settings(settings):
    check_integer("iterations", settings.iterations, minimum=1)
    check_integer("batch_size", settings.batch_size, minimum=1)
    check_choice("objective", settings.objective, losses.OBJECTIVES)
    check_choice("decay", settings.decay, DECAYS)


def _empty_history():
    return History(*(np.zeros(0) for _ in History._fields))
