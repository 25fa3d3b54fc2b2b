"""Every interactive control of the course: sliders that redraw a figure of `plotting`.

Each function builds a control, shows it and returns its container. Below the sliders stands a
picture and beside it, in numbers, what the picture shows. Where no widgets run, on GitHub say, the
first picture and a fixed text are shown in place of the control.

A control keeps what it is given as it was then: an agent that is trained further is not redrawn.
"""

import base64
import html
import io
import threading
from collections.abc import Callable
from typing import NamedTuple

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from IPython.display import display
from matplotlib.figure import Figure

from gfn_utils import evaluation, losses
from gfn_utils.classroom import plotting
from gfn_utils.environments import Environment, Grid
from gfn_utils.policy import PolicyTable, tabulate, uniform_log_policy
from gfn_utils.sampling import (
    PADDING,
    Trajectories,
    check_trajectories,
    log_probabilities,
    mix_with_uniform,
)
from gfn_utils.validation import check_flag, check_instance, check_integer, check_number, shown

DRAWING = threading.RLock()
"""Hold this while drawing, `with DRAWING:`, since Matplotlib is not made for several threads."""

WHOLE_LABEL = {"description_width": "initial"}
"""A style: room for all of a control's label."""
WRAPPED_ROW = {"flex_flow": "row wrap", "align_items": "center"}
"""A layout: side by side, or below one another where the page is narrow."""

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
ACTIONS = ("right", "up", "stop")
SAMPLE_SIZES = (10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)


class Picture(ipywidgets.HTML):
    """A picture that can be shown anew, with a text in its place for who cannot see it.

    (`ipywidgets.Image` has no such text.) `png` holds the bytes that are shown now.
    """

    png: bytes = b""

    def show(self, figure: Figure, alt: str) -> None:
        """Show the figure in the place of the one before, and close it."""
        self.png = png_of(figure)
        encoded = base64.b64encode(self.png).decode()
        self.value = (
            f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{encoded}" '
            'style="max-width:100%">'
        )


def png_of(figure: Figure) -> bytes:
    """The figure as a PNG; it is closed."""
    check_instance("figure", figure, Figure, "a matplotlib Figure")
    with DRAWING:
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi="figure")
        plt.close(figure)
    return png.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, for the functions of `plotting` to draw into.

    It is none of pyplot's, which would show it again below the cell that is running, and it has
    no constrained layout, which takes longer than all the rest of drawing it.
    """
    width = check_number("width", width, minimum=1.0, maximum=100.0)
    height = check_number("height", height, minimum=1.0, maximum=100.0)
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white", layout="none")
    figure.subplots_adjust(
        left=0.55 / width, right=1 - 0.2 / width, bottom=0.55 / height, top=1 - 0.35 / height
    )
    return figure


def display_control(control: ipywidgets.Widget, png: bytes, text: str) -> None:
    """Show a control; where no widgets run a picture of it, or else the text.

    They are one output in three forms. The text is saved and compared: no measured numbers in it.
    """
    check_instance("control", control, ipywidgets.Widget, "a widget")
    check_instance("png", png, bytes, "the bytes of a PNG")
    check_instance("text", text, str, "a string")
    view = {"version_major": 2, "version_minor": 0, "model_id": control.model_id}
    display({WIDGET_VIEW: view, "image/png": png, "text/plain": text}, raw=True)


def trajectory_player(
    agent,
    trajectories: Trajectories,
    backward: bool = False,
    log_z: float | None = None,
    step: int = 0,
) -> ipywidgets.VBox:
    """Play trajectories on a two-dimensional grid step by step, with their log-probabilities.

    Forward from the origin, with P_F of what can come next, or `backward` from the object, with
    P_B. `log_z` in nats is by default the agent's. Begins with trajectory 0 after `step` actions.
    """
    backward = check_flag("backward", backward)
    walks = _Walks(agent, trajectories, log_z)
    last = walks.n_actions.tolist()
    step = check_integer("step", step, minimum=0, maximum=last[0])
    which = ipywidgets.BoundedIntText(
        value=0, min=0, max=len(last) - 1, description="trajectory", style=WHOLE_LABEL
    )
    slider = _slider(ipywidgets.IntSlider, "step", step, 0, last[0], 1)
    play = ipywidgets.Play(value=step, min=0, max=last[0], interval=1000, description="play")
    ipywidgets.jslink((play, "value"), (slider, "value"))

    def draw():
        return _draw_walk(walks, walks.row(which.value, backward), slider.value, backward)

    text = "Control (run this cell to use it): play trajectories, with their log-probabilities."
    control, redraw = _control([which, play, slider], [slider], draw, text)

    def choose(_):
        # Back to the start first: the new trajectory may have fewer steps than are played now.
        if slider.value == 0:
            redraw()
        slider.value = play.value = 0
        slider.max = play.max = last[which.value]

    which.observe(choose, "value")
    return control


class _Walk(NamedTuple):
    """One trajectory of n actions in the order in which it is played."""

    cells: np.ndarray
    """`[n + 1, 2]`: the one before the first action, and after each."""
    actions: np.ndarray
    log_pf: np.ndarray
    log_pb: np.ndarray
    log_reward: float


class _Walks:
    """Trajectories, and what an agent says of each of their steps."""

    def __init__(self, agent, trajectories, log_z):
        self.env = _grid_of(agent)
        trajectories = check_trajectories(self.env, trajectories, "trajectories")
        self.log_z = _log_z_of(agent) if log_z is None else check_number("log_z", log_z)
        self.table = tabulate(self.env, agent.log_policy)
        scores = log_probabilities(self.env, self.table.log_policy, trajectories)
        self._log_pf, self._log_pb = map(np.asarray, scores)
        self._trajectories = Trajectories(*map(np.asarray, trajectories))
        self.n_actions = np.sum(self._trajectories.actions != PADDING, axis=1)

    def row(self, number: int, backward: bool) -> _Walk:
        """Trajectory `number`; `backward` has the object first and takes actions back."""
        states, actions, terminal, log_reward = (each[number] for each in self._trajectories)
        n = self.n_actions[number]
        order = slice(None, None, -1 if backward else 1)
        cells = np.concatenate([states[:n], terminal[None]])[order]
        steps = (each[:n][order] for each in (actions, self._log_pf[number], self._log_pb[number]))
        return _Walk(cells, *steps, float(log_reward))

    def probabilities(self, cell):
        """P_F `[n_actions]` and P_B `[n_actions − 1]` in one cell."""
        return [np.exp(each[0]) for each in self.table.log_policy(tf.constant(cell[None]))[:2]]


def _draw_walk(walks, walk, step, backward):
    """The picture, its text and the numbers after `step` of the actions."""
    here = walk.cells[step]
    p_forward, p_backward = walks.probabilities(here)
    stopped = step == (0 if backward else len(walk.actions))
    moves, stop = (p_backward, 0.0) if backward else (p_forward[:-1], p_forward[-1])
    if stopped:
        moves, stop = 0 * moves, 1.0
    figure = new_figure(4.0, 3.9)
    passed = walk.cells[: step + 1]
    plotting.walk(walks.env, passed, moves, stop, backward, figure.subplots())

    place = f"in cell ({here[0]}, {here[1]})"
    if step == len(walk.actions):
        options = "the trajectory ends here"
    elif stopped:
        options = "next: undo the stop, which is certain"
    elif backward:
        options = f"next, by P_B: back left {moves[0]:.3f}, back down {moves[1]:.3f}"
    else:
        options = f"next, by P_F: right {moves[0]:.3f}, up {moves[1]:.3f}, stop {stop:.3f}"
    verb = "undone" if backward else "taken"
    latest = ACTIONS[walk.actions[step - 1]] if step else "none yet"
    numbers = [
        f"step {step} of {len(walk.actions)}, {place}; action {verb}: {latest}",
        options,
        *_account(walk, walks.log_z, step, backward),
    ]
    return figure, f"Grid with the way so far, now {place}; {options}.", numbers


def _account(walk, log_z, step, backward):
    """What the steps so far say of the flow along the trajectory, in nats."""
    sums = []
    lines = []
    for name, steps in (("log P_F", walk.log_pf), ("log P_B", walk.log_pb)):
        latest = f"this step {_signed(steps[step - 1])}, " if step else ""
        sums.append(steps[:step].sum())
        lines.append(f"{name}: {latest}so far {_signed(sums[-1])} nats")
    if backward:
        balance = walk.log_reward + sums[1] - sums[0]
        lines.append(f"log R + Σ log P_B − Σ log P_F = {_signed(balance)} nats")
        delta, end = log_z - balance, "log Z less that"
    else:
        balance = log_z + sums[0] - sums[1]
        lines.append(f"log Z + Σ log P_F − Σ log P_B = {_signed(balance)} nats")
        delta, end = balance - walk.log_reward, "that less log R"
    if step == len(walk.actions):
        lines.append(f"{end}: imbalance δ = {_signed(delta)} nats")
    return lines


def exploration_slider(agent, gamma: float = 0.0) -> ipywidgets.VBox:
    """γ against where trajectories end under (1−γ)·P_F + γ·uniform, exactly, beside the target.

    Takes an agent or a PolicyTable of a two-dimensional grid, and the γ to begin with.
    """
    env, gamma = _grid_of(agent), check_number("gamma", gamma, minimum=0.0, maximum=1.0)
    table = tabulate(env, agent.log_policy)
    mask, target = env.forward_mask(env.states()), env.target()
    slider = _slider(ipywidgets.FloatSlider, "exploration γ", gamma, 0.0, 1.0, 0.05)

    def draw():
        mixed = PolicyTable(env, mix_with_uniform(table.log_pf, mask, slider.value), table.log_pb)
        ends = evaluation.terminating_distribution(mixed)
        title = f"ends with γ = {slider.value:.2f}"
        # The target's scale for all γ, so that a colour keeps its meaning while the slider moves.
        figure = plotting.distributions(
            env, target.max(), new_figure(7.2, 3.3), target=target, **{title: ends}
        )
        numbers = [
            f"γ = {slider.value:.2f}",
            f"L1 distance of the ends to the target: {evaluation.l1_error(ends, target):.3f}",
            f"probability of ending at a mode: {ends[evaluation.is_mode(env)].sum():.3f}",
            f"probability of ending at the origin: {ends[0]:.3f}",
        ]
        return figure, f"Two maps of probabilities: the target, and {title}.", numbers

    text = "Control (run this cell to use it): exploration γ against where trajectories end."
    return _control([slider], [slider], draw, text)[0]


def pipes_slider(agent) -> ipywidgets.VBox:
    """The answer key's pipes for P_B = (1−w)·uniform + w·the agent's, w from 1 down to 0.

    Takes an agent or a PolicyTable of a two-dimensional grid.
    """
    env = _grid_of(agent)
    uniform = np.exp(tabulate(env, uniform_log_policy(env)).log_pb)
    learned = np.exp(tabulate(env, agent.log_policy).log_pb)
    slider = _slider(ipywidgets.FloatSlider, "w, the weight of the agent's P_B", 1.0, 0, 1, 0.1)

    def key_flows(w):
        with np.errstate(divide="ignore"):
            log_pb = np.log((1 - w) * uniform + w * learned)
        key, log_z = evaluation.answer_key(env, log_pb)
        return key, np.exp(log_z), evaluation.flows(key, np.exp(log_z)).edge

    at_uniform = key_flows(0.0)[2]

    def draw():
        key, z, edge = key_flows(slider.value)
        figure = new_figure(4.4, 4.2)
        title = f"answer key, w = {slider.value:.1f}"
        plotting.pipes(key, z, title, figure.subplots())
        moved = np.abs(edge - at_uniform).max(axis=0)
        numbers = [
            f"w = {slider.value:.1f}",
            f"of {z:.2f} litres start to the right {edge[0, 0]:.2f}, up {edge[0, 1]:.2f}",
            f"the pipe that differs most from uniform P_B's: by {moved[:-1].max():.2f} litres",
            f"the tap that differs most: by {moved[-1]:.2f} litres",
        ]
        return figure, f"Pipes as wide as the flow of the {title}, and a tap in each cell.", numbers

    text = "Control (run this cell to use it): the answer key's pipes, for different P_B."
    return _control([slider], [slider], draw, text)[0]


def loss_sliders(agent, trajectory: Trajectories, step: int = 0) -> ipywidgets.VBox:
    """log Z and P_F of one step against the trajectory-balance loss and its gradient.

    Takes Trajectories that hold exactly one. All but its action number `step`, counted from 0,
    keep the log-probabilities that the agent gives them.
    """
    scores = _Scores(agent, trajectory, step)
    start = scores.at(scores.log_z, scores.probability)
    lowest, highest = sorted([scores.log_z, scores.log_z - start.delta])
    ends, least = (np.floor(lowest) - 2, np.ceil(highest) + 2), min(0.05, scores.probability)
    log_z = _slider(ipywidgets.FloatSlider, "log Z (nats)", scores.log_z, *ends, 0.1)
    name = f"P_F of action {step + 1} of {scores.n_actions}"
    probability = _slider(ipywidgets.FloatSlider, name, scores.probability, least, 1.0, 0.01)
    limit = max(abs(scores.at(z, p).delta) for z in ends for p in (least, 1.0))

    def draw():
        now = scores.at(log_z.value, probability.value)
        figure = new_figure(4.8, 3.4)
        plotting.imbalance_parabola(now.delta, limit, figure.subplots())
        numbers = [
            f"log Z = {_signed(log_z.value)} nats, {name} = {probability.value:.3f}",
            f"imbalance δ = {_signed(now.delta)} nats",
            f"loss δ² = {now.loss:.3f} nats²",
            f"gradient of the loss in log Z: {_signed(now.gradient_log_z)} nats",
            f"and in log P_F of this action: {_signed(now.gradient_log_pf)} nats",
        ]
        return figure, f"The loss as a parabola; the point at δ = {_signed(now.delta)}.", numbers

    text = "Control (run this cell to use it): log Z and one probability against the loss."
    return _control([log_z, probability], [log_z, probability], draw, text)[0]


class _Balance(NamedTuple):
    """One trajectory's imbalance in nats and loss in nats², and the slopes of the loss in nats."""

    delta: float
    loss: float
    gradient_log_z: float
    gradient_log_pf: float


class _Scores:
    """What an agent says of one trajectory, of which one step's probability can be changed."""

    def __init__(self, agent, trajectory, step):
        env = plotting.env_of(agent)
        trajectory = check_trajectories(env, trajectory, "trajectory")
        if len(trajectory.actions) != 1:
            raise ValueError(f"trajectory must hold exactly one, got {len(trajectory.actions)}")
        self.n_actions = int(np.sum(trajectory.actions != PADDING))
        self._step = check_integer("step", step, minimum=0, maximum=self.n_actions - 1)
        scores = log_probabilities(env, agent.log_policy, trajectory)
        self._log_pf, self._log_pb = (np.array(score, np.float64) for score in scores)
        self._log_reward = np.asarray(trajectory.log_reward)
        self.probability = float(np.exp(self._log_pf[0, step]))
        self.log_z = _log_z_of(agent)

    def at(self, log_z: float, probability: float) -> _Balance:
        """The balance with this log Z, and this P_F of the step."""
        log_pf = self._log_pf.copy()
        log_pf[0, self._step] = np.log(probability)
        given = tf.constant(log_z, tf.float64), tf.constant(log_pf)
        with tf.GradientTape() as tape:
            tape.watch(given)
            loss = losses.trajectory_balance(given[1], self._log_pb, self._log_reward, given[0])[0]
        in_log_z, in_log_pf = tape.gradient(loss, given)
        delta = log_z + log_pf.sum() - self._log_reward[0] - self._log_pb.sum()
        return _Balance(float(delta), float(loss), float(in_log_z), float(in_log_pf[0, self._step]))


def noise_floor_slider(env: Environment) -> ipywidgets.VBox:
    """The number n of samples against a perfect sampler's histogram, its L1 error and the floor.

    The samples come straight from the target; another draw is another seed.
    """
    target = plotting.check_grid("env", env).target()
    floor = {n: evaluation.noise_floor(target, n) for n in SAMPLE_SIZES}
    size = ipywidgets.SelectionSlider(
        options=[(f"{n:,}", n) for n in SAMPLE_SIZES],
        value=300,
        description="number of samples n",
        continuous_update=False,
        style=WHOLE_LABEL,
        layout=_WIDE,
    )
    seed = _slider(ipywidgets.IntSlider, "draw", 1, 1, 20, 1)

    def draw():
        n = size.value
        found = np.random.default_rng([n, seed.value]).multinomial(n, target) / n
        error = evaluation.l1_error(found, target)
        figure = new_figure(10.4, 3.3)
        figure.subplots_adjust(right=0.64)
        sampled = {f"{n:,} samples of it": found}
        plotting.distributions(env, target.max(), figure, target=target, **sampled)
        plotting.noise_floor(floor, n, error, figure.add_axes([0.73, 0.17, 0.24, 0.72]))
        numbers = [
            f"{n:,} samples, draw {seed.value}",
            f"L1 error of this sample: {error:.3f}",
            f"expected of a perfect sampler, the noise floor: {floor[n]:.3f}",
        ]
        alt = f"Maps of the target and of {n:,} samples of it; the noise floor falling with n."
        return figure, alt, numbers

    text = "Control (run this cell to use it): the number of samples against the noise floor."
    return _control([size, seed], [size, seed], draw, text)[0]


_WIDE = {"width": "30em", "max_width": "100%"}


def _slider(kind, description, value, minimum, maximum, step):
    """A slider that redraws when it is let go: while it is dragged a redraw would come too late."""
    return kind(
        value=value,
        min=minimum,
        max=maximum,
        step=step,
        description=description,
        continuous_update=False,
        style=WHOLE_LABEL,
        layout=_WIDE,
    )


def _control(
    inputs: list[ipywidgets.Widget],
    redraw_on: list[ipywidgets.Widget],
    draw: Callable[[], tuple[Figure, str, list[str]]],
    text: str,
) -> tuple[ipywidgets.VBox, Callable[[], None]]:
    """Show inputs above a picture and its numbers, which `draw` makes anew at every change.

    `draw` returns a figure, a text for who cannot see it, and lines of numbers. Returns the
    control, and what draws it anew.
    """
    picture, numbers = Picture(), ipywidgets.HTML()

    def redraw(_=None):
        with DRAWING:
            figure, alt, lines = draw()
            picture.show(figure, alt)
        numbers.value = f"<p>{'<br>'.join(map(html.escape, lines))}</p>"

    redraw()
    for each in redraw_on:
        each.observe(redraw, "value")
    beside = ipywidgets.HBox([picture, numbers], layout=WRAPPED_ROW)
    control = ipywidgets.VBox([*inputs, beside])
    display_control(control, picture.png, text)
    return control, redraw


def _grid_of(agent) -> Grid:
    return plotting.check_grid("agent.env", plotting.env_of(agent))


def _log_z_of(agent) -> float:
    if not hasattr(agent, "log_z"):
        raise TypeError(f"agent must be a GFNAgent, which knows log Z, got {shown(agent)}")
    return float(agent.log_z)


def _signed(number) -> str:
    """Three digits, with a minus that screen readers read, and none before a zero."""
    return f"{round(number, 3) + 0.0:.3f}".replace("-", "−")
