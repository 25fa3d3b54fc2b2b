"""Training under the learner's hand: start, pause, continue, reset, and everything moves."""

import html
import os
from collections.abc import Callable

import ipywidgets
import numpy as np

from gfn_utils import evaluation, losses
from gfn_utils.agent import GFNAgent
from gfn_utils.classroom import plotting
from gfn_utils.classroom.live_training import DEFAULT_SETTINGS, LiveTraining, Settings
from gfn_utils.classroom.plotting import DRAWING, new_figure, png_of
from gfn_utils.classroom.widgets import Picture, display_control, labelled, row
from gfn_utils.runs import History
from gfn_utils.validation import check_flag, check_instance

UPDATES_A_PICTURE = (20, 40, 100, 200, 500)
MAPS, CURVES = (3.4, 1.9), (3.4, 3.2)
"""Sizes of the two pictures, in inches: beside one another, and on a phone as they are."""


def training_dashboard(
    agent: GFNAgent,
    iterations: int = DEFAULT_SETTINGS.iterations,
    objective: str = DEFAULT_SETTINGS.objective,
    batch_size: int = DEFAULT_SETTINGS.batch_size,
    path: str | os.PathLike | None = None,
    preview: bool = False,
) -> "TrainingDashboard":
    """Show a dashboard that trains `agent` on policy, on a two-dimensional grid.

    With `path` the run is saved there as it goes, and found again after the kernel has died. With
    `preview` a copy of the agent is trained at once, and where no widgets run, on GitHub say, the
    picture shows how it ended. Raises ValueError or TypeError, naming the argument, if one is out
    of bounds.
    """
    preview = check_flag("preview", preview)
    plotting.check_grid("agent.env", plotting.env_of(agent))
    training = LiveTraining(agent, Settings(iterations, objective, batch_size), path)
    dashboard = TrainingDashboard(training)
    for button in (dashboard.start_button, dashboard.reset_button):
        _answer_beside_cells(button)
    png, text = picture_of_run(training, preview)
    what = "Control (run this cell to use it): start, pause and reset a training run."
    display_control(dashboard.control, png, f"{what} {text}")
    return dashboard


def picture_of_run(training: LiveTraining, finished: bool) -> tuple[bytes, str]:
    """A run in one picture, a PNG, and a text for who cannot see it: as it is now, or `finished`.

    For the latter an agent of the same arguments is trained to the end.
    """
    check_instance("training", training, LiveTraining, "a LiveTraining")
    finished = check_flag("finished", finished)
    agent, history, settings = training.agent, training.history, training.settings
    if finished:
        agent = GFNAgent(agent.env, network=agent.network, **agent.describe()["arguments"])
        history = agent.train(**settings._asdict(), chunk=LiveTraining.CHUNK)
    learned = evaluation.terminating_distribution(agent)
    with DRAWING:
        figure, curves = new_figure(2 * CURVES[0], CURVES[1]), _shown(history, settings)
        plotting.training(agent.env, learned, curves, settings.iterations, figure)
        png = png_of(figure)
    state = "a finished run" if finished or training.finished else "the run so far"
    shows = f"The picture shows {state}, {len(history.loss):,} of {settings.iterations:,} updates"
    what = "maps of the target and of what is learned, and curves of loss, log Z and exact L1 error"
    # A long training ends elsewhere on another processor: tests accept other numbers here.
    end = f" The last: [measured here: {_latest(training, history)}]." if len(history.loss) else ""
    return png, f"{shows}: {what}.{end}"


class TrainingDashboard:
    """Buttons, progress and pictures of one LiveTraining at a time, on a two-dimensional grid.

    Attributes: `training`; `control`, the container to show; `maps` and `curves`, its pictures;
    `status`, a line of text; `beside`, a function that returns the History of another run to draw
    in grey, or None; `on_stop`, called when a run has paused, ended or been replaced.
    """

    def __init__(self, training: LiveTraining):
        self.start_button = ipywidgets.Button(button_style="primary", tooltip="train or pause")
        what = "forget what was learned and start again"
        self.reset_button = ipywidgets.Button(description="Reset", tooltip=what)
        every = {"options": UPDATES_A_PICTURE, "value": 40}
        self.every = labelled(ipywidgets.SelectionSlider, "updates per picture", **every)
        self.show_pipes = ipywidgets.Checkbox(description="show the flow as pipes", indent=False)
        self.progress = ipywidgets.IntProgress(description="progress", layout={"width": "16em"})
        self.status = ipywidgets.HTML()
        self.maps, self.curves, self.pipes = Picture(), Picture(), Picture()
        self.beside: Callable[[], History | None] = lambda: None
        self.on_stop: Callable[[], object] = lambda: None
        self.start_button.on_click(self._start_or_pause)
        self.reset_button.on_click(self._reset)
        self.show_pipes.observe(self.redraw_pipes, "value")
        buttons = [self.start_button, self.reset_button, self.every, self.show_pipes]
        pictures = [self.maps, self.curves, self.pipes]
        rows = [row(*buttons), row(self.progress, self.status), row(*pictures, align="flex-start")]
        self.control = ipywidgets.VBox(rows)
        self.training = training
        self.show(training)

    def show(self, training: LiveTraining) -> None:
        """Take up another run; the one before is paused, and its curves are forgotten."""
        check_instance("training", training, LiveTraining, "a LiveTraining")
        plotting.check_grid("agent.env", training.agent.env)
        if training is not self.training:
            self.training.on_chunk = self.training.on_end = lambda: None
            self.training.pause()
        self.training = training
        training.on_chunk, training.on_end = self._after_chunk, self._after_end
        self._next_picture = training.done
        self._after_end()

    @property
    def history(self) -> History:
        """The curves that are drawn: of the run so far, without log Z where it is not learned."""
        return _shown(self.training.history, self.training.settings)

    def start(self) -> None:
        """Begin or continue the run; nothing while it runs or once it has finished."""
        self.training.start()
        self._show_state()

    def redraw(self) -> None:
        """Draw what is learned now, and the curves so far."""
        self.redraw_maps()
        self.redraw_curves()
        self.redraw_pipes()
        self._show_state()

    def redraw_maps(self) -> None:
        """Draw the target beside what is learned now."""
        agent = self.training.agent
        with DRAWING:
            learned = evaluation.terminating_distribution(agent)
            figure = plotting.training_maps(agent.env, learned, new_figure(*MAPS))
            error = evaluation.l1_error(learned, agent.env.target())
            alt = f"Maps of the target and of what is learned: exact L1 error {error:.3f}"
            self.maps.show(figure, f"{alt} after {self.training.done:,} updates.")

    def redraw_curves(self) -> None:
        """Draw the curves so far, and those of the run `beside` this one."""
        env, total = self.training.agent.env, self.training.settings.iterations
        with DRAWING:
            figure = new_figure(*CURVES)
            plotting.training_curves(env, self.history, total, figure, self.beside())
            alt = "Curves of loss, log Z and exact L1 error"
            self.curves.show(figure, f"{alt}: {_status(self.training)}.")

    def redraw_pipes(self, _=None) -> None:
        """Draw how the flow divides now, if that is wished."""
        with DRAWING:
            if not self.show_pipes.value:
                self.pipes.value = ""
                return
            figure = new_figure(MAPS[0], MAPS[0])
            plotting.pipes(self.training.agent, 1.0, "where the flow goes", figure.subplots())
            self.pipes.show(figure, "Pipes as wide as the flow, and a tap in each cell.")

    def _start_or_pause(self, _):
        if self.training.running:
            self.training.pause()
        else:
            self.start()

    def _reset(self, _):
        try:
            self.training.reset()
        except OSError as error:  # the file is no longer this run's
            self.training.error = error
        self._next_picture = self.training.done
        self._after_end()

    def _after_chunk(self):
        self._show_state()
        if self.training.done >= self._next_picture:
            self.redraw()
            self._next_picture = self.training.done + self.every.value

    def _after_end(self):
        self.redraw()
        self.on_stop()

    def _show_state(self):
        training = self.training
        waiting = "Continue" if training.done else "Start"
        next_press = "Finished" if training.finished else "Pause" if training.running else waiting
        self.start_button.description = next_press
        self.start_button.disabled = training.finished
        self.progress.max, self.progress.value = training.settings.iterations, training.done
        self.status.value = html.escape(_status(training))


def _status(training: LiveTraining) -> str:
    """How the run stands, in a line. What is not known is left out."""
    history, total = training.history, f"{training.settings.iterations:,} updates"
    done = len(history.loss)
    if training.error is not None:
        return f"stopped by an error: {training.error}"
    if not done:
        return "compiling, about two seconds" if training.running else f"ready: {total}"
    line = f"{done:,} of {total}, {_latest(training, history)}"
    if training.finished:
        return f"finished: {line}"
    return f"{line}; {training.seconds_left:.0f} s left" if training.running else f"paused: {line}"


def _latest(training, history):
    """Where the curves have got to, in numbers."""
    line = f"loss {history.loss[-1]:.2g} nats²"
    if losses.learns_log_z(training.settings.objective):
        exact = training.agent.env.log_partition()
        line += f", log Z {history.log_z[-1]:.3f} of {exact:.3f} nats"
    else:
        line += ", log Z not learned by this objective"
    if len(history.l1_error):
        line += f", exact L1 {history.l1_error[-1]:.3f}"
    return line


def _shown(history, settings):
    """The curves to draw: no log Z where it is not learned."""
    if losses.learns_log_z(settings.objective):
        return history
    return history._replace(log_z=np.full(len(history.log_z), np.nan))


def _answer_beside_cells(button):
    """Let presses be answered while cells run, where the kernel has subshells for that.

    JupyterLab (4.4 and later) sends what a widget says to a thread of its own, but ipykernel (7.4)
    passes it on to where the widget last spoke, and that is among the cells that are waiting to
    run. The second line leaves out what ends a cell: pyplot would show the figures that the
    running cell is still drawing. On other kernels a press waits until the cells are done.
    """
    button.comm._reply_subshell_for = None
    button.comm.handle_msg = button._handle_msg
