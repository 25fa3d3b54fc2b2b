"""Every figure of the course. The same quantity has the same colour in all of them.

Each function draws from exact quantities where the environment lists its states, and returns the
matplotlib Figure, or draws into the given axes. Pictures of the grid are for two dimensions.

Each raises ValueError or TypeError, naming the argument, before it opens a figure.
"""

import io
import threading

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from gfn_utils import evaluation
from gfn_utils.environments import Environment, Grid
from gfn_utils.environments.base import check_states
from gfn_utils.environments.graph import children_of, layers_of
from gfn_utils.environments.log_rewards import log_rewards_of
from gfn_utils.sampling import Trajectories, check_trajectories
from gfn_utils.validation import (
    check_choice,
    check_flag,
    check_instance,
    check_integer,
    check_number,
    check_numbers,
    shown,
)

REWARD_MAP = "viridis"
PROBABILITY_MAP = "cividis"
FORWARD = "#0072B2"
BACKWARD = "#009E73"
STOP = "#D55E00"
LEARNED = "#0072B2"
EXACT = "#000000"
FLOW = "#56B4E9"
MARKED = "#F0E442"
LETTERS = ["#009E73", "#0072B2", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9"]

DRAWING = threading.RLock()
"""Hold this while drawing, `with DRAWING:`, since Matplotlib is not made for several threads."""

CELL = 3.4
"""Side of one picture of a grid, in inches."""
MOST_STATES_DRAWN = 40
STOP_EDGE = np.array([0.27, -0.36])
"""Where the arrow of a stop leads to, from its state, in the picture of a graph."""
STOP_RADIUS = 0.17
"""Of the octagon of a certain stop, in cells."""
WIDEST_PIPE = 22.0
"""Of a pipe that all of the flow takes, in points."""
LARGEST_TAP = 1800.0
"""The area of a tap through which all of it leaves, in square points."""
TAPS = {"color": STOP, "alpha": 0.85, "linewidth": 0}
ARROWS = {"angles": "xy", "scale_units": "xy", "scale": 1}
ARROWHEADS = {"headwidth": 4, "headlength": 4, "headaxislength": 3.6}


def use_course_style() -> None:
    """Opaque white ground, about 100 dpi, readable text: for this process's figures."""
    plt.rc(("figure", "savefig"), dpi=100, facecolor="white")
    plt.rc("figure.constrained_layout", use=True)
    plt.rc("axes", grid=False, titlesize=11)
    plt.rc("axes.spines", top=False, right=False)
    plt.rc("font", size=10)
    plt.rc("legend", frameon=False)


def grid_map(
    env: Grid,
    values,
    label: str,
    title: str = "",
    cmap: str = PROBABILITY_MAP,
    vmax: float | None = None,
    number_format: str | None = None,
    ax: Axes | None = None,
    vmin: float = 0.0,
) -> Figure:
    """One value for each cell `[n_states]` as a coloured map, with its colour bar.

    `label` names the quantity with its unit; `number_format`, ".2f" say, writes it in each cell.
    """
    values = _on_grid(env, "values", values)
    check_instance("label", label, str, "a string")
    vmin = check_number("vmin", vmin)
    vmax = values.max() if vmax is None else check_number("vmax", vmax, minimum=vmin)
    _check_colour_map(cmap)
    _check_format(number_format)
    ax = _grid_axes(env, ax, title)
    image = ax.imshow(values.T, origin="lower", cmap=cmap, vmin=vmin, vmax=vmax)
    ax.figure.colorbar(image, ax=ax, label=label, shrink=0.85)
    if number_format is not None:
        for cell in np.ndindex(*values.shape):
            text = format(values[cell], number_format)
            colour = "white" if values[cell] < 0.6 * vmax else "black"
            ax.text(*cell, text, ha="center", va="center", fontsize=8, color=colour)
    return ax.figure


def reward(env: Grid, number_format: str | None = ".2f", ax: Axes | None = None) -> Figure:
    """R(x) in every cell of a two-dimensional grid."""
    check_grid("env", env)
    values = np.exp(log_rewards_of(env, env.states()))
    return grid_map(env, values, "reward R(x)", "", REWARD_MAP, None, number_format, ax)


def reward_slices(env: Grid) -> Figure:
    """R(x) on a three-dimensional grid: one slice for each value of the last coordinate."""
    check_grid("env", env, 3)
    values = np.exp(log_rewards_of(env, env.states())).reshape([env.height] * 3)
    figure = plt.figure(figsize=(1.35 * env.height, 1.9))
    axes = figure.subplots(1, env.height, sharex=True, sharey=True)
    look = {"origin": "lower", "cmap": REWARD_MAP, "vmin": 0, "vmax": values.max()}
    for level, ax in enumerate(axes):
        image = ax.imshow(values[:, :, level].T, **look)
        ax.set(title=f"$x_2$ = {level}", xlabel="$x_0$", xticks=[], yticks=[])
    axes[0].set_ylabel("$x_1$")
    figure.colorbar(image, ax=axes, label="reward R(x)", shrink=0.8)
    return figure


def distributions(
    env: Grid, vmax: float | None = None, figure: Figure | SubFigure | None = None, **named
) -> Figure | SubFigure:
    """Distributions over the cells side by side on one colour scale: `target=..., learned=...`.

    The scale ends at `vmax`, by default the target's largest probability, and what is higher has
    the colour of its end. Drawn into an empty `figure` if one is given.
    """
    check_grid("env", env)
    named = {
        name: evaluation.check_distribution(name, _on_grid(env, name, values))
        for name, values in named.items()
    }
    if not named:
        raise TypeError("distributions must be named, as in target=env.target(); got none")
    highest = max(np.max(values) for values in named.values())
    vmax = env.target().max() if vmax is None else check_number("vmax", vmax, above=0.0)
    figure = _figure(figure, CELL * len(named) + 0.6, CELL)
    axes = figure.subplots(1, len(named), squeeze=False)
    for ax, (name, values) in zip(axes[0], named.items(), strict=True):
        _grid_axes(env, ax, name.replace("_", " "))
        image = ax.imshow(values.T, origin="lower", cmap=PROBABILITY_MAP, vmin=0, vmax=vmax)
    beyond = "max" if highest > vmax else "neither"
    figure.colorbar(image, ax=axes, label="probability", shrink=0.85, extend=beyond)
    return figure


def policy(agent, title: str = "", ax: Axes | None = None) -> Figure:
    """P_F in every cell: the length of an arrow shows the probability of that move, the area of
    the octagon the probability of stopping.

    Takes a GFNAgent or a PolicyTable of a two-dimensional grid. Every arrow begins outside the
    octagon of its cell. Moves of a probability below 0.02 are not drawn.
    """
    env = env_of(agent)
    ax = _grid_axes(env, ax, title, side=4.6)
    cells = np.asarray(env.states())
    p_forward = np.exp(agent.log_policy(env.states())[0])
    _draw_moves(ax, cells, p_forward[:, :2], FORWARD, tail=STOP_RADIUS + 0.03, length=0.62)
    angles = np.pi / 8 * np.arange(1, 16, 2)
    octagon = STOP_RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    size = np.sqrt(p_forward[:, env.stop_action])[:, None, None]
    ax.add_collection(PolyCollection(cells[:, None] + size * octagon, color=STOP, zorder=3))
    return ax.figure


def walk(
    env: Grid, passed, moves, stop: float, backward: bool = False, ax: Axes | None = None
) -> Figure:
    """The cells `passed` `[n, 2]` on a faint map of the reward, and what can come next.

    From the last cell arrows as long as each of the `moves` `[2]` is probable, forward by P_F or
    backward by P_B, and an octagon as large as the `stop` is probable, with the numbers.
    """
    check_grid("env", env)
    passed = np.asarray(check_states(env, passed, "passed"))
    moves = _probabilities("moves", moves, [2])
    stop = float(_probabilities("stop", stop, []))
    check_flag("backward", backward)
    ax = _grid_axes(env, ax)
    rewards = np.reshape(np.exp(log_rewards_of(env, env.states())), [env.height] * 2)
    ax.imshow(rewards.T, origin="lower", cmap=REWARD_MAP, vmin=0, alpha=0.2)
    colour = BACKWARD if backward else FORWARD
    ax.plot(*passed.T, "o-", color=colour, linewidth=3, markersize=5, alpha=0.5)
    here, sign = passed[-1], -1 if backward else 1
    _draw_moves(ax, here[None], moves[None], colour, sign, tail=0.34, length=1.1, width=0.008)
    # Numbers beside the middle of the arrows, where neither hides the other's.
    aside = sign * np.array([[0, -0.42], [0.6, 0]])
    look = {"ha": "center", "va": "center", "fontsize": 9}
    for direction, offset, probability in zip(sign * np.eye(2), aside, moves, strict=True):
        if probability > 0:
            place = here + (0.34 + 0.55 * probability) * direction + offset
            ax.text(*place, f"{probability:.2f}", **look)
    if stop > 0:
        ax.text(here[0] - 0.7, here[1] + 0.65, f"stop\n{stop:.2f}", **look)
    ax.plot(*here, "o", color="white", markeredgecolor=EXACT, markersize=15, markeredgewidth=1.5)
    ax.scatter(*here, s=180 * stop, marker="8", color=STOP, zorder=3)
    return ax.figure


def trajectories(env: Grid, drawn: Trajectories, most: int = 200) -> Figure:
    """Left: the first `most` paths. Right: all ends, marks sized by reward.

    Each path is shifted and each mark scattered a little at random, so that none hides another.
    """
    check_grid("env", env)
    drawn = check_trajectories(env, drawn, "drawn")
    ends = np.asarray(drawn.terminal)
    most = check_integer("most", most, minimum=1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(2 * CELL, CELL))
    rng = np.random.default_rng(0)
    n_paths = min(most, len(drawn.actions))
    _grid_axes(env, left, f"the first {n_paths:,} paths,\neach shifted a little at random")
    for states in np.asarray(drawn.states)[:most]:
        path = states[(states >= 0).all(axis=1)] + rng.normal(0, 0.09, 2)
        left.plot(*path.T, color=FORWARD, alpha=0.15, linewidth=1)
    _grid_axes(env, right, f"ends of {len(ends):,}, sized by R(x),\nscattered a little at random")
    size = 6 * np.exp(np.asarray(drawn.log_reward)) + 0.3
    right.scatter(*(ends + rng.normal(0, 0.13, ends.shape)).T, s=size, color=STOP, alpha=0.35)
    return figure


def pipes(agent, z: float, title: str = "", ax: Axes | None = None) -> Figure:
    """The flow network: a pipe for each edge, as wide as its exact flow, and a tap for each stop.

    `z` units enter at the origin and divide as the agent's P_F says. The area of a tap shows how
    much leaves there. Arrowheads give the direction; the scale above the grid shows a pipe and a
    tap of a stated flow, in the units of `z`. Pipes of less than 0.5 % of `z` are not drawn.
    Raises ValueError if `z` is not positive and finite, and what `evaluation.flows` raises.
    """
    env, z = env_of(agent), check_number("z", z, above=0.0)
    ax = _grid_axes(env, ax, title, side=4.6)
    cells = np.asarray(env.states())
    share = evaluation.flows(agent).edge
    starts, axes = np.nonzero(share[:, :2] > 0.005)
    lines = np.stack([cells[starts], cells[starts] + np.eye(2)[axes]], axis=1)
    widths = share[starts, axes] * WIDEST_PIPE
    flow = LineCollection(lines, linewidths=widths, colors=FLOW, capstyle="round", zorder=1)
    ax.add_collection(flow)
    for axis, marker in enumerate(">^"):
        middles, sizes = lines[axes == axis].mean(axis=1), 3 + 0.65 * widths[axes == axis]
        ax.scatter(*middles.T, s=sizes**2, marker=marker, color=FORWARD, linewidth=0, zorder=2)
    ax.scatter(*cells.T, s=8, color="white", edgecolor="0.6", linewidth=0.5, zorder=2)
    ax.scatter(*cells.T, s=LARGEST_TAP * share[:, -1], zorder=3, **TAPS)
    _draw_scale_of_pipes(ax, z)
    return ax.figure


def _draw_scale_of_pipes(ax, z):
    """A pipe and a tap with their flows, in a strip above the grid."""
    pipe, tap = _round_below(z / 2.4), _round_below(z / 10)
    look = {"color": FLOW, "linewidth": WIDEST_PIPE * pipe / z, "solid_capstyle": "butt"}
    samples = [
        ax.plot([], [], label=f"flow of {pipe:g}", **look)[0],
        ax.scatter([], [], s=LARGEST_TAP * tap / z, label=f"outflow of {tap:g}", **TAPS),
    ]
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, top + 0.1 * (top - bottom))
    ax.legend(handles=samples, loc="upper center", ncols=2, borderaxespad=0, fontsize=9)


def _round_below(number):
    """The largest of 1, 2, 5, 10, 20, 50, … and of 0.5, 0.2, 0.1, … that is not above a number."""
    power = 10.0 ** np.floor(np.log10(number))
    # A number just below a power of ten may have the logarithm of that power.
    return power * max(digit for digit in (1, 2, 5) if digit * power <= number * (1 + 1e-9))


def state_graph(
    env: Environment,
    states=None,
    edges=None,
    highlight=None,
    title: str = "",
    ax: Axes | None = None,
    highlight_states=None,
) -> Figure:
    """The graph of a small environment: its states, an arrow for each move and one for each stop.

    `states` `[n_states]` and `edges` `[n_states, n_actions]`, the stop last, are written in the
    states, below their names, and on the arrows: numbers or strings; nothing for NaN. `highlight`,
    bool, like `edges`, says which arrows to draw thick, and the others in grey; `highlight_states`,
    bool, like `states`, which states to draw in colour. The states of a
    two-dimensional grid have their places there; any others stand in columns, by the number of
    actions on the longest path to them. Raises ValueError for more than 40 states.
    """
    check_instance("env", env, Environment, "an Environment")
    if env.n_states is None or env.n_states > MOST_STATES_DRAWN:
        form = f"an environment of at most {MOST_STATES_DRAWN} listed states"
        raise ValueError(f"env must be {form} to be drawn as a graph, got {shown(env)}")
    states = _texts("states", states, (env.n_states,))
    edges = _texts("edges", edges, (env.n_states, env.n_actions))
    if highlight is not None:
        highlight = np.asarray(highlight)
        if highlight.shape != edges.shape or highlight.dtype != bool:
            form = f"True or False for each edge, of shape {list(edges.shape)}"
            raise ValueError(f"highlight must be {form}, got {shown(highlight)}")
    if highlight_states is None:
        highlight_states = np.zeros(env.n_states, bool)
    highlight_states = np.asarray(highlight_states)
    if highlight_states.shape != states.shape or highlight_states.dtype != bool:
        form = f"True or False for each state, of shape {list(states.shape)}"
        raise ValueError(f"highlight_states must be {form}, got {shown(highlight_states)}")
    check_instance("title", title, str, "a string")
    children = children_of(env)
    places = _places_of_states(env, children)
    width, height = np.ptp(places, axis=0)
    ax = _axes(ax, 1.7 * width + 1.9, 1.4 * height + 1.6)
    ax.set(title=title, xlim=(-0.5, width + 0.6), ylim=(-0.65, height + 0.4))
    ax.axis("off")
    boxes = _draw_states(ax, env, places, states, highlight_states)
    for state, action in np.argwhere(np.asarray(env.forward_mask(env.states()))):
        child = None if action == env.stop_action else children[state, action]
        marked = None if highlight is None else bool(highlight[state, action])
        _draw_edge(ax, places, boxes, state, child, edges[state, action], marked)
    return ax.figure


def learning_curves(
    history, env=None, progress: str = "epoch", figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """Loss (log scale), log Z beside the exact one, and exact L1 error.

    `progress` says what the entries of `history.loss` are: "epoch" or "update". Drawn into an
    empty `figure` if one is given.
    """
    _check_history(history)
    check_instance("env", env, Environment | None, "an Environment or None")
    check_choice("progress", progress, ("epoch", "update"))
    figure = _figure(figure, 10, 2.9)
    axes = figure.subplots(1, 3)
    _draw_curves(env, axes, (history, LEARNED, "learned"))
    axes[1].legend()
    for ax, what in zip(axes, (progress, progress, "update"), strict=True):
        ax.set_xlabel(what)
    return figure


def training(env: Grid, learned, history, total: int, figure: Figure) -> Figure:
    """A run of `total` updates so far: the maps beside the curves.

    Takes what `training_maps` and `training_curves` take. Drawn into an empty figure that is twice
    as wide as it is high.
    """
    check_instance("figure", figure, Figure | SubFigure, "a matplotlib Figure")
    left, right = figure.subfigures(1, 2)
    training_maps(env, learned, left)
    training_curves(env, history, total, right)
    return figure


def training_maps(env: Grid, learned, figure: Figure | SubFigure) -> Figure | SubFigure:
    """The target beside what is `learned` `[n_states]`, on the target's colour scale.

    Drawn into an empty figure.
    """
    check_grid("env", env)
    check_instance("figure", figure, Figure | SubFigure, "a matplotlib Figure")
    figure.subplots_adjust(left=0.13, right=0.87, bottom=0.2, top=0.91, wspace=0.1)
    distributions(env, figure=figure, target=env.target(), learned=learned)
    ticks = range(0, env.height, -(-env.height // 4))
    for ax in figure.axes[:2]:
        ax.set(xticks=ticks, yticks=ticks)
    figure.axes[1].set(ylabel="", yticklabels=[])
    return figure


def training_curves(
    env: Grid, history, total: int, figure: Figure | SubFigure, beside=None
) -> Figure | SubFigure:
    """Loss, log Z and exact L1 error, one above the other, over a run of `total` updates.

    `beside` is the History of another run, drawn in grey on the same axes. A log Z of NaN is one
    that the objective does not learn. Drawn into an empty figure.
    """
    check_grid("env", env)
    _check_history(history)
    total = check_integer("total", total, minimum=1)
    check_instance("figure", figure, Figure | SubFigure, "a matplotlib Figure")
    if beside is not None:
        _check_history(beside, "beside")
    _, log_z, error = axes = figure.subplots(3, 1, sharex=True)
    figure.subplots_adjust(left=0.14, right=0.95, bottom=0.15, top=0.93, hspace=0.5)
    runs = [] if beside is None else [(beside, "0.65", "other run")]
    _draw_curves(env, axes, *runs, (history, LEARNED, "learned"))
    log_z.set_ylim(bottom=min(0.0, log_z.get_ylim()[0]))
    if len(history.loss) and np.isnan(history.log_z).all():
        _say(log_z, "not learned by this objective")
    else:
        log_z.legend(fontsize=8, loc="lower right", ncols=3, handlelength=1.2, columnspacing=1.0)
    if len(history.loss) and not len(history.l1_error):
        _say(error, "not tracked where there are so many states")
    for ax in axes:
        ax.set_xlim(0, total)
        ax.minorticks_off()
    error.set_xlabel("update")
    return figure


def _draw_curves(env, axes, *runs):
    """Loss, log Z and exact L1 error of each run (history, colour, label), each in its axes."""
    loss, log_z, error = axes
    for history, colour, label in runs:
        number = np.arange(1, len(history.loss) + 1)
        loss.semilogy(number, history.loss, color=colour, linewidth=1)
        log_z.plot(number, history.log_z, color=colour, linewidth=1.5, label=label)
        error.semilogy(history.evaluated_at, history.l1_error, "o-", color=colour, markersize=3)
    if env is not None and env.n_states is not None:
        log_z.axhline(env.log_partition(), color=EXACT, linestyle="--", label="exact")
    loss.set(title="loss (nats²)")
    log_z.set(title="log Z (nats)")
    # Room for all of the curves, and for at least 0.1 to 2.
    error.set(title="exact L1 error", ylim=(min(0.1, error.get_ylim()[0]), 2.2))


def _say(ax, text):
    """Words in the middle of axes in which there is nothing to see."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="0.35")


def imbalance_parabola(delta: float, limit: float, ax: Axes | None = None) -> Figure:
    """The loss δ² against the imbalance δ up to ±`limit` nats, and its tangent at `delta`."""
    delta = check_number("delta", delta, minimum=-1e100, maximum=1e100)  # its square is drawn
    limit = check_number("limit", limit, above=0.0, maximum=1e100)
    ax = _axes(ax, 4.6, 3.2)
    across = np.linspace(-limit, limit, 201)
    ax.plot(across, across**2, color="0.6")
    ax.axvline(0, ymax=0.8, color=EXACT, linestyle=":", linewidth=1)
    ax.axline((delta, delta**2), slope=2 * delta, color=FORWARD, linewidth=1.5, label="slope 2δ")
    ax.plot(delta, delta**2, "o", color=STOP, markersize=9, label="this trajectory")
    ax.set(xlim=(-limit, limit), ylim=(-0.06 * limit**2, limit**2))
    ax.set(xlabel="imbalance δ (nats)", ylabel="loss δ² (nats²)")
    ax.legend(loc="upper center", fontsize=8, frameon=True, framealpha=1, edgecolor="white")
    return ax.figure


def noise_floor(
    floor: dict[int, float], n_samples: int, error: float, ax: Axes | None = None
) -> Figure:
    """The expected L1 error of a perfect sampler `{n: floor}`, and one sample's beside it.

    `n_samples` is one of the n; `error` is above 0.
    """
    check_instance("floor", floor, dict, "a dict from numbers of samples to L1 errors")
    n_samples = check_integer("n_samples", n_samples, minimum=1)
    if n_samples not in floor:
        raise ValueError(f"n_samples must be one of {[*floor]}, got {shown(n_samples)}")
    for n in floor:
        check_number(f"floor[{n!r}]", floor[n], above=0.0)
    error = check_number("error", error, minimum=0.0)
    ax = _axes(ax, 4.2, 3.2)
    ax.loglog(list(floor), list(floor.values()), "--", color=EXACT, label="noise floor")
    ax.loglog(n_samples, floor[n_samples], "o", color=EXACT, label="expected at this n")
    ax.loglog(n_samples, error, "X", color=LETTERS[4], markersize=9, label="this sample")
    ax.set(xlabel="number of samples n", ylabel="L1 error")
    # Minor marks and powers of ten would take half of the time to draw it.
    ax.minorticks_off()
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.legend(fontsize=8)
    return ax.figure


def reward_against_frequency(env: Grid, terminal) -> Figure:
    """One mark a cell: its target probability R/Z and how often it was sampled, log scales.

    The band holds what a perfect sampler would show, give or take two standard errors. Cells that
    were never sampled have a cross on the lower edge.
    """
    found, target = evaluation.empirical_distribution(env, terminal), env.target()
    n = len(np.asarray(terminal))
    ends = np.geomspace(target.min() / 2, target.max() * 2, 200)
    bottom, spread = ends[0] / 2, 2 * np.sqrt(ends * np.maximum(1 - ends, 0) / n)
    figure, ax = plt.subplots(figsize=(4.2, 3.6))
    label, low = "perfect sampler ± 2 standard errors", np.maximum(ends - spread, bottom)
    ax.fill_between(ends, low, ends + spread, color="0.85", label=label)
    ax.plot(ends, ends, color=EXACT, linestyle="--", linewidth=1, label="perfect agreement")
    seen = found > 0
    ax.plot(target[seen], found[seen], "o", color=LEARNED, markersize=4, alpha=0.5, label="a cell")
    if not seen.all():
        never = np.full(np.count_nonzero(~seen), bottom)
        ax.plot(target[~seen], never, "x", color=STOP, clip_on=False, label="never sampled")
    ax.set(xscale="log", yscale="log", xlim=ends[[0, -1]], ylim=(bottom, None))
    ax.set(xlabel="target probability R(x)/Z", ylabel=f"frequency in {n:,} samples")
    ax.legend(fontsize=8)
    return figure


def sequence_logo(words, alphabet: str, title: str = "", ax: Axes | None = None) -> Figure:
    """What words of one length have in common: letters as tall as they are telling, in bits.

    Characters that are not of the alphabet are gaps, which do not count. At each place the pile is
    as high as the information log₂(n_letters) − entropy, and each letter takes the part of it that
    its frequency is (Schneider and Stephens 1990).
    """
    words = _check_words(words)
    check_instance("alphabet", alphabet, str, "a string of different letters")
    if not alphabet or len(set(alphabet)) < len(alphabet):
        raise ValueError(f"alphabet must be a string of different letters, got {shown(alphabet)}")
    check_instance("title", title, str, "a string")
    places = np.array([list(word) for word in words])
    count = np.stack([(places == letter).sum(axis=0) for letter in alphabet], axis=1)
    frequency = count / np.maximum(count.sum(axis=1, keepdims=True), 1)
    entropy = -(frequency * np.log2(np.where(frequency > 0, frequency, 1))).sum(axis=1)
    bits = np.where(count.sum(axis=1) > 0, np.log2(len(alphabet)) - entropy, 0)
    ax = _axes(ax, CELL, 0.5 * CELL)
    for place, row in enumerate(frequency * bits[:, None]):
        bottom = 0.0
        for number in np.argsort(row):
            _draw_letter(ax, alphabet[number], number, place, bottom, row[number])
            bottom += row[number]
    ax.set(xlim=(-0.5, len(bits) - 0.5), ylim=(0, np.log2(len(alphabet))))
    ax.set(xticks=range(len(bits)), xticklabels=range(1, len(bits) + 1))
    ax.set(title=title, xlabel="place", ylabel="bits")
    return ax.figure


def _draw_letter(ax, letter, number, place, bottom, height):
    """The letter stretched to a box of width 0.9 and the given height."""
    if height < 1e-3:
        return
    outline = TextPath((0, 0), letter, size=1, prop=FontProperties(weight="bold"))
    box = outline.get_extents()
    stretch = Affine2D().translate(-box.x0, -box.y0).scale(0.9 / box.width, height / box.height)
    stretch.translate(place - 0.45, bottom)
    colour = LETTERS[number % len(LETTERS)]
    ax.add_patch(PathPatch(stretch.transform_path(outline), color=colour, linewidth=0))


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


def env_of(agent) -> Environment:
    """The environment of a GFNAgent or a PolicyTable; TypeError if it is neither."""
    env = getattr(agent, "env", None)
    if not isinstance(env, Environment) or not hasattr(agent, "log_policy"):
        raise TypeError(f"agent must be a GFNAgent or a PolicyTable, got {shown(agent)}")
    return env


def check_grid(name: str, env, ndim: int = 2) -> Grid:
    """Return `env`, which is called `name`; raise unless it can be drawn as a grid."""
    check_instance(name, env, Environment, "an Environment")
    if not isinstance(env, Grid) or env.ndim != ndim:
        raise ValueError(f"{name} must be a grid of {ndim} dimensions to be drawn, got {env!r}")
    if env.n_states is None:
        raise ValueError(f"{name} must be small enough to list its states, got {env!r}")
    return env


def _on_grid(env, name, values):
    """Numbers in the order of `env.states()`, `[n_states]`, as `[height, height]`."""
    check_grid("env", env)
    numbers, side = check_numbers(name, values), env.height
    if numbers.shape not in [(side**2,), (side, side)]:
        raise ValueError(
            f"{name} must have a number for each of the {side**2:,} states, "
            f"got shape {list(numbers.shape)}"
        )
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be finite, got {shown(values)}")
    return numbers.reshape(side, side)


def _probabilities(name, values, shape):
    """Numbers from 0 to 1, which may be a rounding error outside."""
    numbers = check_numbers(name, values)
    inside = (numbers >= -1e-6) & (numbers <= 1 + 1e-6)
    if list(numbers.shape) != shape or not inside.all():
        raise ValueError(f"{name} must be from 0 to 1, of shape {shape}, got {shown(values)}")
    return numbers


def _check_history(history, name="history"):
    if not all(hasattr(history, each) for each in ("loss", "log_z", "evaluated_at", "l1_error")):
        raise TypeError(f"{name} must be a History, as train returns, got {shown(history)}")


def _check_words(given):
    form = "strings of one length, at least one"
    words = [None] if isinstance(given, str) or not np.iterable(given) else list(given)
    if not all(isinstance(word, str) for word in words):
        raise TypeError(f"words must be {form}, got {shown(given)}")
    if len({len(word) for word in words}) != 1 or not words[0]:
        raise ValueError(f"words must be {form}, got {shown(words)}")
    return words


def _draw_states(ax, env, places, texts, marked):
    """A box for each state, with its name and a text; returns the boxes."""
    names = np.reshape(env.states(), [env.n_states, -1]).tolist()
    boxes = []
    for place, name, text, is_marked in zip(places, names, texts, marked, strict=True):
        words = str(tuple(name)).replace(",)", ")") + (f"\n{text}" if text else "")
        ground = MARKED if is_marked else "#F2F2F2"
        look = {"boxstyle": "round,pad=0.45", "facecolor": ground, "edgecolor": "0.3"}
        boxes.append(ax.text(*place, words, ha="center", va="center", bbox=look, zorder=3))
    return [box.get_bbox_patch() for box in boxes]


def _draw_edge(ax, places, boxes, state, child, text, marked):
    """An arrow to the child, or out of the graph if that is None, with a text beside it."""
    start, colour, box = places[state], FORWARD, None
    if child is None:
        end, colour = start + STOP_EDGE, STOP
    else:
        end, box = places[child], boxes[child]
    look = {"arrowstyle": "-|>", "mutation_scale": 14, "linewidth": 4 if marked else 1.6}
    look |= {"color": "0.75" if marked is False else colour, "patchA": boxes[state], "patchB": box}
    ax.annotate("", end, start, arrowprops=look | {"shrinkA": 0, "shrinkB": 1}, zorder=2)
    words = {"ha": "center", "va": "center", "color": colour, "zorder": 4, "fontsize": 10}
    ground = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none"}
    if child is None:
        ax.text(*(start + [1.2, 1.25] * STOP_EDGE), text, **words)
    elif text:
        ax.text(*((start + end) / 2), text, bbox=ground, **words)


def _places_of_states(env, children):
    """Where each state stands in the picture of a graph, `[n_states, 2]`."""
    if isinstance(env, Grid) and env.ndim == 2:
        return np.asarray(env.states(), float)
    places = np.zeros([env.n_states, 2])
    for column, layer in enumerate(layers_of(children)):
        places[layer, 0] = column
        places[layer, 1] = (len(layer) - 1) / 2 - np.arange(len(layer))
    return places - places.min(axis=0)


def _texts(name, values, shape):
    """What to write: strings as they are, numbers with three digits, nothing for NaN and None."""
    if values is None:
        return np.full(shape, "", object)
    values = np.asarray(values, object)
    if values.shape != shape:
        raise ValueError(f"{name} must have shape {list(shape)}, got {list(values.shape)}")
    return np.vectorize(_text, otypes=[object])(values)


def _text(value):
    if isinstance(value, str):
        return value
    return "" if value is None or np.isnan(value) else f"{value:.3g}"


def _axes(ax, width, height):
    """The given axes, or those of a new figure of this size in inches."""
    check_instance("ax", ax, Axes | None, "Axes of matplotlib or None")
    return plt.figure(figsize=(width, height)).subplots() if ax is None else ax


def _figure(figure, width, height):
    """The given figure, or a new one of this size in inches."""
    check_instance("figure", figure, Figure | SubFigure | None, "a matplotlib Figure or None")
    return plt.figure(figsize=(width, height)) if figure is None else figure


def _check_colour_map(cmap):
    known = isinstance(cmap, Colormap) or (isinstance(cmap, str) and cmap in matplotlib.colormaps)
    if not known:
        raise ValueError(f"cmap must name a colour map of matplotlib, got {shown(cmap)}")


def _check_format(number_format):
    try:
        format(0.0, "" if number_format is None else number_format)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'number_format must format a number, as ".2f" does, got {shown(number_format)}'
        ) from error


def _draw_moves(ax, cells, probabilities, colour, sign=1, tail=0.12, length=0.75, width=0.006):
    """From cells `[n, 2]` arrows up and right, as long as each move `[n, 2]` is probable."""
    for axis, direction in enumerate(sign * np.eye(2)):
        moving = probabilities[:, axis] > 0.02
        tails = cells[moving] + tail * direction
        arrows = length * probabilities[moving, axis, None] * direction
        ax.quiver(*tails.T, *arrows.T, color=colour, width=width, **ARROWS, **ARROWHEADS)


def _grid_axes(env, ax, title="", side=CELL):
    """Axes on which cell (x₀, x₁) is the unit square around that point."""
    check_grid("env", env)
    check_instance("title", title, str, "a string")
    ax = _axes(ax, side + 0.6, side)
    last = env.height - 1
    ticks = range(0, env.height, max(1, env.height // 8))
    ax.set(xlim=(-0.6, last + 0.6), ylim=(-0.6, last + 0.6), xticks=ticks, yticks=ticks)
    ax.set(title=title, xlabel="$x_0$", ylabel="$x_1$", aspect="equal")
    return ax
