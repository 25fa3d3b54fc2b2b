"""Training under the learner's hand: start, pause, continue, reset, and everything moves."""

import html
import os
from collections.abc import Callable

import ipywidgets

from gfn_utils import evaluation, plotting
from gfn_utils.agent import GFNAgent
from gfn_utils.live_training import DEFAULT_SETTINGS, LiveTraining, Settings
from gfn_utils.widgets import (
    DRAWING,
    WHOLE_LABEL,
    WRAPPED_ROW,
    Picture,
    display_control,
    new_figure,
)

UPDATES_A_PICTURE = (20, 40, 100, 200, 500)


def training_dashboard(
    agent: GFNAgent,
    iterations: int = DEFAULT_SETTINGS.iterations,
    objective: str = DEFAULT_SETTINGS.objective,
    batch_size: int = DEFAULT_SETTINGS.batch_size,
    path: str | os.PathLike | None = None,
) -> "TrainingDashboard":
    """Show a dashboard that trains `agent` on policy, on a two-dimensional grid.

    With `path` the run is saved there as it goes, and found again after the kernel has died.
    Raises ValueError or TypeError, naming the argument, if one is out of bounds.
    """
    settings = Settings(iterations, objective, batch_size)
    dashboard = TrainingDashboard(LiveTraining(agent, settings, path))
    text = "Control (run this cell to use it): start, pause and reset a training run."
    display_control(dashboard.control, dashboard.picture, text)
    return dashboard


class TrainingDashboard:
    """Buttons, progress and a picture of one LiveTraining at a time.

    Attributes: `training`; `control`, the container to show; `picture`; `status`, a line of text.
    """

    def __init__(self, training: LiveTraining):
        self.start_button = ipywidgets.Button(button_style="primary", tooltip="train or pause")
        self.reset_button = ipywidgets.Button(
            description="Reset", tooltip="forget what was learned and start again"
        )
        self.every = ipywidgets.SelectionSlider(
            options=UPDATES_A_PICTURE,
            value=40,
            description="updates a picture",
            style=WHOLE_LABEL,
        )
        self.progress = ipywidgets.IntProgress(description="progress", layout={"width": "16em"})
        self.status, self.picture = ipywidgets.HTML(), Picture()
        self.start_button.on_click(self._start_or_pause)
        self.reset_button.on_click(self._reset)
        self.control = ipywidgets.VBox(
            [
                ipywidgets.HBox(
                    [self.start_button, self.reset_button, self.every], layout=WRAPPED_ROW
                ),
                ipywidgets.HBox([self.progress, self.status], layout=WRAPPED_ROW),
                self.picture,
            ]
        )
        self.show(training)

    def show(self, training: LiveTraining) -> None:
        """Take up another run. The one before must not be running."""
        self._planned = None
        self.training = training
        training.on_chunk, training.on_end = self._after_chunk, self._redraw
        self._next_picture = training.done
        self._redraw()

    def plan(self, make_training: Callable[[], LiveTraining]) -> None:
        """Pause this run. The next start makes another one, and starts that."""
        self.training.pause()
        self._planned = make_training
        self._show_state()

    def _start_or_pause(self, _):
        if self._planned is not None:
            self.training.join()
            self.show(self._planned())
        if self.training.running:
            self.training.pause()
            return
        self.training.start()
        self._show_state()

    def _reset(self, _):
        self.training.reset()
        self._next_picture = 0
        self._redraw()

    def _after_chunk(self):
        self._show_state()
        if self.training.done >= self._next_picture:
            self._redraw()
            self._next_picture = self.training.done + self.every.value

    def _redraw(self):
        training = self.training
        env, history = training.agent.env, training.history
        with DRAWING:
            learned = evaluation.terminating_distribution(training.agent)
            figure = new_figure(7.6, 5.2)
            plotting.training(env, learned, history, training.settings.iterations, figure)
            error = evaluation.l1_error(learned, env.target())
            alt = (
                f"Curves of loss, log Z and exact L1 error, and the target beside what is learned. "
                f"After {training.done:,} updates the exact L1 error is {error:.3f}."
            )
            self.picture.show(figure, alt)
        self._show_state()

    def _show_state(self):
        training = self.training
        if self._planned is not None:
            self.start_button.description, self.start_button.disabled = "Start", False
            self.status.value = "changed: Start begins a new run"
            return
        if training.finished:
            self.start_button.description = "Finished"
        elif training.running:
            self.start_button.description = "Pause"
        else:
            self.start_button.description = "Start" if training.done == 0 else "Continue"
        self.start_button.disabled = training.finished
        self.progress.max, self.progress.value = training.settings.iterations, training.done
        self.status.value = html.escape(_status(training))


def _status(training: LiveTraining) -> str:
    """How the run stands, in a line."""
    total = training.settings.iterations
    if training.error is not None:
        return f"stopped by an error: {training.error}"
    if training.running and training.done == 0:
        return "compiling, about two seconds"
    line = f"{training.done:,} of {total:,} updates"
    if training.done:
        history = training.history
        line += f", loss {history.loss[-1]:.2g} nats²"
        line += f", log Z {history.log_z[-1]:.3f} of {training.agent.env.log_partition():.3f} nats"
        line += f", exact L1 {history.l1_error[-1]:.3f}"
    if training.finished:
        return f"finished: {line}"
    if training.running:
        return f"{line}; {training.seconds_left:.0f} s left"
    return f"paused: {line}" if training.done else f"ready: {total:,} updates"
