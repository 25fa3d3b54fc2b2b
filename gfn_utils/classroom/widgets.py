"""Every interactive control of the course: sliders that redraw a figure of `plotting`.

Each function builds a control, shows it and returns its container. Below the sliders stands a
picture and beside it, in numbers, what the picture shows. Where no widgets run, on GitHub say, the
first picture stands in place of the control; a text with the same numbers is saved with it.

A control keeps what it is given as it was then: an agent that is trained further is not redrawn.
"""

import base64
import html
from typing import NamedTuple

import ipywidgets
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure

from gfn_utils import evaluation
from gfn_utils.classroom import plotting
from gfn_utils.classroom.plotting import DRAWING, new_figure, png_of
from gfn_utils.environments import Conditional, Environment, Grid
from gfn_utils.policy import PolicyTable, mix_with_uniform, tabulate, uniform_log_policy
from gfn_utils.sampling import PADDING, Trajectories, check_trajectories, log_probabilities
from gfn_utils.validation import (
    check_flag,
    check_function,
    check_instance,
    check_integer,
    check_number,
    shown,
)

WHOLE_LABEL = {"description_width": "initial"}
"""A style: room for all of a control's label."""
WIDE = {"width": "30em", "max_width": "100%"}
"""A layout of sliders."""

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
        source = f"data:image/png;base64,{base64.b64encode(self.png).decode()}"
        self.value = f'<img alt="{html.escape(alt)}" src="{source}" style="max-width:100%">'


def row(*parts: ipywidgets.Widget, align: str | None = "center") -> ipywidgets.HBox:
    """The parts side by side, or below one another where the page is narrow."""
    return ipywidgets.HBox(parts, layout={"flex_flow": "row wrap", "align_items": align})


def labelled(kind: type, description: str, layout: dict | None = None, **traits):
    """An input of this kind with room for all of its label, which speaks when it is let go.

    While a slider is dragged a redraw would come too late.
    """
    if kind.class_traits().get("continuous_update"):
        traits["continuous_update"] = False
    return kind(description=description, style=WHOLE_LABEL, layout=layout or {}, **traits)


def display_control(control: ipywidgets.Widget, png: bytes, text: str) -> None:
    """Show a control; where no widgets run a picture of it, or else the text.

    They are one output in three forms. The text says what the picture shows, for who cannot see
    it. It is saved and compared when tests run the notebook, apart from what stands in it as
    "[measured here: …]".
    """
    check_instance("control", control, ipywidgets.Widget, "a widget")
    check_instance("png", png, bytes, "the bytes of a PNG")
    check_instance("text", text, str, "a string")
    view = {"version_major": 2, "version_minor": 0, "model_id": control.model_id}
    display({WIDGET_VIEW: view, "image/png": png, "text/plain": text}, raw=True)


def trajectory_player(
    agent, trajectories: Trajectories, backward: bool = False, log_z: float | None = None, step=0
) -> ipywidgets.VBox:
    """Play trajectories on a two-dimensional grid step by step, with their log-probabilities.

    Forward from the origin, with P_F of what can come next, or `backward` from the object, with
    P_B. `log_z` in nats is by default the agent's. Begins with trajectory 0 after `step` actions.
    """
    backward = check_flag("backward", backward)
    env = _grid_of(agent)
    table = tabulate(env, agent.log_policy)
    walks = _walks(table, check_trajectories(env, trajectories, "trajectories"), backward)
    log_z = _log_z_of(agent) if log_z is None else check_number("log_z", log_z)
    last = [len(walk.actions) for walk in walks]
    step = check_integer("step", step, minimum=0, maximum=last[0])
    which = labelled(ipywidgets.BoundedIntText, "trajectory", max=len(last) - 1)
    slider = labelled(ipywidgets.IntSlider, "step", WIDE, value=step, max=last[0])
    play = ipywidgets.Play(value=step, max=last[0], interval=1000, description="play")
    ipywidgets.jslink((play, "value"), (slider, "value"))

    def draw():
        return _draw_walk(table, walks[which.value], log_z, slider.value, backward)

    what = "trajectories played step by step, with their log-probabilities."
    control, redraw = _control([which, play, slider], draw, what, redraw_on=[slider])

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


def _walks(table, trajectories, backward) -> list[_Walk]:
    """Each trajectory as it is played; `backward` has the object first and takes actions back."""
    scores = log_probabilities(table.env, table.log_policy, trajectories)
    walks, order = [], slice(None, None, -1 if backward else 1)
    columns = map(np.asarray, (*trajectories, *scores))
    for states, actions, terminal, log_reward, log_pf, log_pb in zip(*columns, strict=True):
        n = np.count_nonzero(actions != PADDING)
        cells = np.concatenate([states[:n], terminal[None]])[order]
        steps = (each[:n][order] for each in (actions, log_pf, log_pb))
        walks.append(_Walk(cells, *steps, float(log_reward)))
    return walks


def _draw_walk(table, walk, log_z, step, backward):
    """The picture, its text and the numbers after `step` of the actions."""
    here, n = walk.cells[step], len(walk.actions)
    p_forward, p_backward = (np.exp(p[0]) for p in table.log_policy(here[None])[:2])
    stopped = step == (0 if backward else n)
    moves, stop = (p_backward, 0.0) if backward else (p_forward[:-1], p_forward[-1])
    if stopped:
        moves, stop = 0 * moves, 1.0
    figure, passed = new_figure(4.0, 3.9), walk.cells[: step + 1]
    plotting.walk(table.env, passed, moves, stop, backward, figure.subplots())

    place = f"in cell ({here[0]}, {here[1]})"
    if step == n:
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
        f"step {step} of {n}, {place}; action {verb}: {latest}",
        options,
        *_account(walk, log_z, step, backward),
    ]
    way = " → ".join(dict.fromkeys(f"({x0}, {x1})" for x0, x1 in passed))  # a stop stays there
    x0, x1 = walk.cells[0 if backward else n]
    grid = f"Grid of {table.env.height} × {table.env.height} cells"
    return figure, f"{grid} with a trajectory to ({x0}, {x1}), so far {way}.", numbers


def _account(walk, log_z, step, backward):
    """What the steps so far say of the flow along the trajectory, in nats."""
    lines = []
    for name, steps in (("log P_F", walk.log_pf), ("log P_B", walk.log_pb)):
        latest = f"this step {_signed(steps[step - 1])}, " if step else ""
        lines.append(f"{name}: {latest}so far {_signed(steps[:step].sum())} nats")
    ratio = walk.log_pf[:step].sum() - walk.log_pb[:step].sum()
    if backward:
        lines.append(f"log R + Σ log P_B − Σ log P_F = {_signed(walk.log_reward - ratio)} nats")
    else:
        lines.append(f"log Z + Σ log P_F − Σ log P_B = {_signed(log_z + ratio)} nats")
    if step == len(walk.actions):
        end = "log Z less that" if backward else "that less log R"
        lines.append(f"{end}: imbalance δ = {_signed(log_z + ratio - walk.log_reward)} nats")
    return lines


def exploration_slider(agent, gamma: float = 0.0) -> ipywidgets.VBox:
    """γ against where trajectories end under (1−γ)·P_F + γ·uniform, exactly, beside the target.

    Takes an agent or a PolicyTable of a two-dimensional grid, and the γ to begin with.
    """
    env, gamma = _grid_of(agent), check_number("gamma", gamma, minimum=0.0, maximum=1.0)
    table = tabulate(env, agent.log_policy)
    mask, target = env.forward_mask(env.states()), env.target()
    mixing = {"value": gamma, "max": 1.0, "step": 0.05}
    slider = labelled(ipywidgets.FloatSlider, "exploration γ", WIDE, **mixing)

    def draw():
        mixed = PolicyTable(env, mix_with_uniform(table.log_pf, mask, slider.value), table.log_pb)
        ends = evaluation.terminating_distribution(mixed)
        title = f"ends with γ = {slider.value:.2f}"
        # The target's scale for all γ, so that a colour keeps its meaning while the slider moves.
        named = {"target": target, title: ends}
        figure = plotting.distributions(env, target.max(), new_figure(7.2, 3.3), **named)
        numbers = [
            f"γ = {slider.value:.2f}",
            f"L1 distance of the ends to the target: {evaluation.l1_error(ends, target):.3f}",
            f"probability of ending at a mode: {ends[evaluation.is_mode(env)].sum():.3f}",
            f"probability of ending at the origin: {ends[0]:.3f}",
        ]
        return figure, f"Two maps of probabilities: the target, and {title}.", numbers

    return _control([slider], draw, "exploration γ against where trajectories end.")[0]


def pipes_slider(agent) -> ipywidgets.VBox:
    """The answer key's pipes for P_B = (1−w)·uniform + w·the agent's, w from 1 down to 0.

    Takes an agent or a PolicyTable of a two-dimensional grid.
    """
    env = _grid_of(agent)
    uniform = np.exp(tabulate(env, uniform_log_policy(env)).log_pb)
    learned = np.exp(tabulate(env, agent.log_policy).log_pb)
    name = "w, the weight of the agent's P_B"
    slider = labelled(ipywidgets.FloatSlider, name, WIDE, value=1.0, max=1.0, step=0.1)

    def key_flows(w):
        with np.errstate(divide="ignore"):
            log_pb = np.log((1 - w) * uniform + w * learned)
        key, log_z = evaluation.answer_key(env, log_pb)
        return key, np.exp(log_z), evaluation.flows(key, np.exp(log_z)).edge

    at_uniform = key_flows(0.0)[2]

    def draw():
        key, z, edge = key_flows(slider.value)
        title = f"answer key, w = {slider.value:.1f}"
        figure = plotting.pipes(key, z, title, new_figure(4.4, 4.2).subplots())
        moved = np.abs(edge - at_uniform).max(axis=0)
        numbers = [
            f"w = {slider.value:.1f}",
            f"of {z:.2f} litres start to the right {edge[0, 0]:.2f}, up {edge[0, 1]:.2f}",
            f"the pipe that differs most from uniform P_B's: by {moved[:-1].max():.2f} litres",
            f"the tap that differs most: by {moved[-1]:.2f} litres",
        ]
        return figure, f"Pipes as wide as the flow of the {title}, and a tap in each cell.", numbers

    return _control([slider], draw, "the answer key's pipes, for different P_B.")[0]


def loss_sliders(agent, trajectory: Trajectories, step: int = 0) -> ipywidgets.VBox:
    """log Z and P_F of one step against the trajectory-balance loss and its gradient.

    Takes Trajectories that hold exactly one. All but its action number `step`, counted from 0,
    keep the log-probabilities that the agent gives them.
    """
    first_log_z, first_probability, imbalance, n_actions = _imbalance(agent, trajectory, step)
    least = min(0.05, first_probability)
    balanced = first_log_z - imbalance(first_log_z, first_probability)
    lowest, highest = sorted([first_log_z, balanced])
    ends = {"min": np.floor(lowest) - 2, "max": np.ceil(highest) + 2}
    limit = max(abs(imbalance(z, p)) for z in ends.values() for p in (least, 1.0))
    log_z = labelled(ipywidgets.FloatSlider, "log Z (nats)", WIDE, value=first_log_z, **ends)
    name = f"P_F of action {step + 1} of {n_actions}"
    bounds = {"value": first_probability, "min": least, "max": 1.0, "step": 0.01}
    probability = labelled(ipywidgets.FloatSlider, name, WIDE, **bounds)

    def draw():
        delta = imbalance(log_z.value, probability.value)
        figure = plotting.imbalance_parabola(delta, limit, new_figure(4.8, 3.4).subplots())
        # δ is a sum in which log Z and each log P_F stand once: δ² has the slope 2δ in all of them.
        numbers = [
            f"log Z = {_signed(log_z.value)} nats, {name} = {probability.value:.3f}",
            f"imbalance δ = {_signed(delta)} nats",
            f"loss δ² = {delta**2:.3f} nats²",
            f"gradient of the loss in log Z: {_signed(2 * delta)} nats",
            f"and in log P_F of this action: {_signed(2 * delta)} nats",
        ]
        return figure, f"The loss as a parabola; the point at δ = {_signed(delta)}.", numbers

    return _control([log_z, probability], draw, "log Z and one probability against the loss.")[0]


def _imbalance(agent, trajectory, step):
    """The agent's log Z and its P_F of the step; δ in nats as a function of both; n_actions."""
    env = plotting.env_of(agent)
    trajectory = check_trajectories(env, trajectory, "trajectory")
    if len(trajectory.actions) != 1:
        raise ValueError(f"trajectory must hold exactly one, got {len(trajectory.actions)}")
    n_actions = int(np.sum(trajectory.actions != PADDING))
    step = check_integer("step", step, minimum=0, maximum=n_actions - 1)
    scores = log_probabilities(env, agent.log_policy, trajectory)
    log_pf, log_pb = (np.array(score, np.float64)[0] for score in scores)
    rest = np.delete(log_pf, step).sum() - log_pb.sum() - float(trajectory.log_reward[0])
    probability = float(np.exp(log_pf[step]))
    return _log_z_of(agent), probability, lambda z, p: float(z + np.log(p) + rest), n_actions


def noise_floor_slider(env: Environment) -> ipywidgets.VBox:
    """The number n of samples against a perfect sampler's histogram, its L1 error and the floor.

    The samples come straight from the target; another draw is another seed.
    """
    target = plotting.check_grid("env", env).target()
    floor = {n: evaluation.noise_floor(target, n) for n in SAMPLE_SIZES}
    sizes = {"options": [(f"{n:,}", n) for n in SAMPLE_SIZES], "value": 300}
    size = labelled(ipywidgets.SelectionSlider, "number of samples n", WIDE, **sizes)
    seed = labelled(ipywidgets.IntSlider, "draw", WIDE, value=1, min=1, max=20)

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
        few, many = SAMPLE_SIZES[0], SAMPLE_SIZES[-1]
        falls = f"from {floor[few]:.2f} at {few} samples to {floor[many]:.3f} at {many:,}"
        alt = f"Maps of the target and of {n:,} samples of it; the noise floor falls {falls}."
        return figure, alt, numbers

    return _control([size, seed], draw, "the number of samples against the noise floor.")[0]


def condition_sliders(agent, numbers: dict[str, tuple[float, float, float]], condition_of=None):
    """The condition against the target and what the agent learned, exactly, side by side.

    Takes a GFNAgent of a Conditional whose base is a two-dimensional grid, and for each slider its
    name with (least, greatest, first) value. `condition_of` makes the condition `[D]` of these
    values; by default they are the condition. Returns the control.
    """
    conditional = plotting.env_of(agent)
    check_instance("agent.env", conditional, Conditional, "a Conditional")
    plotting.check_grid("agent.env.base", conditional.base)
    condition_of = check_function("condition_of", condition_of or np.array)
    sliders = []
    for name, (least, greatest, first) in numbers.items():
        bounds = {"min": least, "max": greatest, "value": first, "step": (greatest - least) / 100}
        sliders.append(labelled(ipywidgets.FloatSlider, name, WIDE, **bounds))

    def draw():
        given = agent.given(condition_of([slider.value for slider in sliders]))
        target, learned = given.env.target(), evaluation.terminating_distribution(given)
        figure = new_figure(7.2, 3.3)
        plotting.distributions(given.env, target.max(), figure, target=target, learned=learned)
        off = evaluation.total_variation(learned, target)
        condition = ", ".join(f"{number:.2f}" for number in given.env.condition)
        numbers = [
            f"condition ({condition})",
            f"exact log Z: {given.env.log_partition():.2f} nats",
            f"learned log Z [measured here: {given.log_z:.2f} nats]",
            f"total variation [measured here: {off:.2f}]",
        ]
        return (
            figure,
            "Two maps of probabilities: the target of the condition, and learned.",
            numbers,
        )

    return _control(sliders, draw, "the condition against target and learned.")[0]


def _control(inputs, draw, what, redraw_on=None):
    """Show inputs above a picture and its numbers, which `draw` makes anew when one is moved.

    `draw` returns a figure, a text for who cannot see it, and lines of numbers. `what` says what
    the control shows. Returns the control, and what draws it anew.
    """
    picture, numbers = Picture(), ipywidgets.HTML()

    def redraw(_=None):
        with DRAWING:
            figure, alt, lines = draw()
            picture.show(figure, alt)
        numbers.value = f"<p>{'<br>'.join(map(html.escape, lines))}</p>"
        return f"{alt} In numbers: {'; '.join(lines)}."

    first = redraw()
    for each in redraw_on or inputs:
        each.observe(redraw, "value")
    control = ipywidgets.VBox([*inputs, row(picture, numbers)])
    display_control(control, picture.png, f"Control (run this cell to use it): {what} {first}")
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
