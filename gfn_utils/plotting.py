"""Every figure of the course. The same quantity has the same colour in all of them.

Each function draws from exact quantities where the environment lists its states, and returns the
matplotlib Figure, or draws into the given axes. Pictures of the grid are for two dimensions.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from gfn_utils import evaluation
from gfn_utils.environments import Grid
from gfn_utils.sampling import Trajectories

REWARD_MAP = "viridis"
PROBABILITY_MAP = "cividis"
FORWARD = "#0072B2"
BACKWARD = "#009E73"
STOP = "#D55E00"
LEARNED = "#0072B2"
EXACT = "#000000"
FLOW = "#56B4E9"
LETTERS = ["#009E73", "#0072B2", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9"]

CELL = 3.4
"""Side of one picture of a grid, in inches."""


def use_course_style() -> None:
    """Opaque white ground, about 100 dpi, readable text: for this process's figures."""
    plt.rcParams.update(
        {
            "figure.dpi": 100,
            "savefig.dpi": 100,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.grid": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "font.size": 10,
            "legend.frameon": False,
        }
    )


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
    ax = _grid_axes(env, ax)
    values = np.asarray(values, float).reshape(env.height, env.height)
    vmax = values.max() if vmax is None else vmax
    image = ax.imshow(values.T, origin="lower", cmap=cmap, vmin=vmin, vmax=vmax)
    ax.figure.colorbar(image, ax=ax, label=label, shrink=0.85)
    ax.set_title(title)
    if number_format is not None:
        for cell in np.ndindex(*values.shape):
            dark = values[cell] < 0.6 * vmax
            text = format(values[cell], number_format)
            colour = "white" if dark else "black"
            ax.text(*cell, text, ha="center", va="center", fontsize=8, color=colour)
    return ax.figure


def reward(env: Grid, number_format: str | None = ".2f", ax: Axes | None = None) -> Figure:
    """R(x) in every cell of a two-dimensional grid."""
    values = np.exp(env.log_reward(env.states()))
    return grid_map(env, values, "reward R(x)", "", REWARD_MAP, None, number_format, ax)


def reward_slices(env: Grid) -> Figure:
    """R(x) on a three-dimensional grid: one slice for each value of the last coordinate."""
    _require_dimensions(env, 3)
    values = np.exp(env.log_reward(env.states())).reshape([env.height] * 3)
    figure, axes = plt.subplots(
        1, env.height, figsize=(1.35 * env.height, 1.9), sharex=True, sharey=True
    )
    for level, ax in enumerate(axes):
        image = ax.imshow(
            values[:, :, level].T, origin="lower", cmap=REWARD_MAP, vmin=0, vmax=values.max()
        )
        ax.set(title=f"$x_2$ = {level}", xlabel="$x_0$", xticks=[], yticks=[])
    axes[0].set_ylabel("$x_1$")
    figure.colorbar(image, ax=axes, label="reward R(x)", shrink=0.8)
    return figure


def distributions(
    env: Grid, vmax: float | None = None, figure: Figure | SubFigure | None = None, **named
) -> Figure | SubFigure:
    """Distributions over the cells side by side on one colour scale: `target=..., learned=...`.

    The scale ends at `vmax`, by default the largest probability of all, and what is higher has the
    colour of its end. Drawn into an empty `figure` if one is given.
    """
    _require_dimensions(env, 2)
    highest = max(np.max(values) for values in named.values())
    vmax = highest if vmax is None else vmax
    if figure is None:
        figure = plt.figure(figsize=(CELL * len(named) + 0.6, CELL))
    axes = figure.subplots(1, len(named), squeeze=False)
    for ax, (name, values) in zip(axes[0], named.items(), strict=True):
        _grid_axes(env, ax)
        image = ax.imshow(
            np.reshape(values, [env.height] * 2).T,
            origin="lower",
            cmap=PROBABILITY_MAP,
            vmin=0,
            vmax=vmax,
        )
        ax.set_title(name.replace("_", " "))
    beyond = "max" if highest > vmax else "neither"
    figure.colorbar(image, ax=axes, label="probability", shrink=0.85, extend=beyond)
    return figure


def policy(agent, title: str = "", ax: Axes | None = None) -> Figure:
    """P_F in every cell: arrows as long as a move is probable, octagons as large as the stop."""
    env = agent.env
    ax = _grid_axes(env, ax, side=4.6)
    cells = np.asarray(env.states())
    p_forward = np.exp(agent.log_policy(env.states())[0])
    _draw_moves(ax, cells, p_forward[:, :2], FORWARD)
    # Area in proportion to the probability.
    ax.scatter(*cells.T, s=110 * p_forward[:, env.stop_action], marker="8", color=STOP, zorder=3)
    ax.set_title(title)
    return ax.figure


def walk(
    env: Grid, passed, moves, stop: float, backward: bool = False, ax: Axes | None = None
) -> Figure:
    """The cells `passed` `[n, 2]` on a faint map of the reward, and what can come next.

    From the last cell arrows as long as each of the `moves` `[2]` is probable, forward by P_F or
    backward by P_B, and an octagon as large as the `stop` is probable.
    """
    ax = _grid_axes(env, ax)
    rewards = np.reshape(np.exp(env.log_reward(env.states())), [env.height] * 2)
    ax.imshow(rewards.T, origin="lower", cmap=REWARD_MAP, vmin=0, alpha=0.2)
    colour = BACKWARD if backward else FORWARD
    passed, moves = np.asarray(passed), np.asarray(moves)
    ax.plot(*passed.T, "o-", color=colour, linewidth=3, markersize=5, alpha=0.5)
    here = passed[-1]
    sign = -1 if backward else 1
    _draw_moves(ax, here[None], moves[None], colour, sign, tail=0.3, length=1.2, width=0.014)
    # Numbers beside the middle of the arrows, where neither hides the other's.
    aside = sign * np.array([[0, -0.42], [0.6, 0]])
    for direction, offset, probability in zip(sign * np.eye(2), aside, moves, strict=True):
        if probability > 0:
            place = here + (0.3 + 0.6 * probability) * direction + offset
            ax.text(*place, f"{probability:.2f}", ha="center", va="center", fontsize=9)
    ax.plot(*here, "o", color="white", markeredgecolor=EXACT, markersize=15, markeredgewidth=1.5)
    ax.scatter(*here, s=180 * stop, marker="8", color=STOP, zorder=3)
    return ax.figure


def trajectories(env: Grid, drawn: Trajectories, most: int = 200) -> Figure:
    """Left: the first `most` paths, a little apart. Right: all ends, marks sized by reward."""
    _require_dimensions(env, 2)
    figure, (left, right) = plt.subplots(1, 2, figsize=(2 * CELL, CELL))
    rng = np.random.default_rng(0)
    _grid_axes(env, left)
    for states in np.asarray(drawn.states)[:most]:
        path = states[(states >= 0).all(axis=1)] + rng.normal(0, 0.09, 2)
        left.plot(*path.T, color=FORWARD, alpha=0.15, linewidth=1)
    left.set_title(f"the first {min(most, len(drawn.actions)):,} paths")
    _grid_axes(env, right)
    ends = np.asarray(drawn.terminal)
    size = 6 * np.exp(np.asarray(drawn.log_reward)) + 0.3
    right.scatter(*(ends + rng.normal(0, 0.13, ends.shape)).T, s=size, color=STOP, alpha=0.35)
    right.set_title(f"ends of {len(ends):,}, sized by R(x)")
    return figure


def pipes(agent, z: float, title: str = "", ax: Axes | None = None) -> Figure:
    """The flow network: pipes as wide as the exact flow through each edge, a tap for each outflow.

    `z` units enter at the origin and divide as the agent's P_F says.
    """
    env = agent.env
    ax = _grid_axes(env, ax, side=4.6)
    cells = np.asarray(env.states())
    edge = evaluation.flows(agent, z).edge
    width = 22.0 / z
    starts, axes = np.nonzero(edge[:, :2] * width > 0.05)
    lines = np.stack([cells[starts], cells[starts] + np.eye(2)[axes]], axis=1)
    widths = edge[starts, axes] * width
    ax.add_collection(
        LineCollection(lines, linewidths=widths, colors=FLOW, capstyle="round", zorder=1)
    )
    outflow = edge[:, env.stop_action]
    ax.scatter(*cells.T, s=8, color="white", edgecolor="0.6", linewidth=0.5, zorder=2)
    ax.scatter(*cells.T, s=1800 * outflow / z, color=STOP, alpha=0.85, linewidth=0, zorder=3)
    ax.set_title(title)
    return ax.figure


def learning_curves(
    history, env=None, progress: str = "epoch", figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """Loss (log scale), log Z beside the exact one, and exact L1 error.

    `progress` says what the entries of `history.loss` are: "epoch" or "update". Drawn into an
    empty `figure` if one is given.
    """
    if figure is None:
        figure = plt.figure(figsize=(10, 2.9))
    axes = figure.subplots(1, 3)
    number = np.arange(1, len(history.loss) + 1)
    axes[0].semilogy(number, history.loss, color=LEARNED, linewidth=1)
    axes[0].set(title="loss (nats²)", xlabel=progress)
    axes[1].plot(number, history.log_z, color=LEARNED, linewidth=1.5, label="learned")
    if env is not None:
        axes[1].axhline(env.log_partition(), color=EXACT, linestyle="--", label="exact")
    axes[1].legend()
    axes[1].set(title="log Z (nats)", xlabel=progress)
    axes[2].semilogy(history.evaluated_at, history.l1_error, "o-", color=LEARNED, markersize=3)
    axes[2].set(title="exact L1 error", xlabel="update", ylim=(None, 2.2))
    axes[2].set_ylim(bottom=min(0.1, axes[2].get_ylim()[0]))
    return figure


def training(env: Grid, learned, history, total: int, figure: Figure) -> Figure:
    """A run of `total` updates so far: its curves, and the target beside what is `learned`.

    `learned` is a distribution `[n_states]`. Drawn into an empty figure, of any size.
    """
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.15])
    width = figure.get_size_inches()[0]
    learning_curves(history, env, "update", above)
    above.subplots_adjust(
        left=0.6 / width, right=1 - 0.2 / width, bottom=0.24, top=0.87, wspace=0.35
    )
    above.axes[1].set_ylim(bottom=min(0.0, above.axes[1].get_ylim()[0]))
    for ax in above.axes:
        ax.set_xlim(0, total)
        ax.minorticks_off()
    below.subplots_adjust(left=0.08, right=0.98, bottom=0.17, top=0.9)
    distributions(env, env.target().max(), below, target=env.target(), learned=learned)
    return figure


def imbalance_parabola(delta: float, limit: float, ax: Axes | None = None) -> Figure:
    """The loss δ² against the imbalance δ up to ±`limit` nats, and its tangent at `delta`."""
    if ax is None:
        _, ax = plt.subplots(figsize=(4.6, 3.2))
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
    """The expected L1 error of a perfect sampler `{n: floor}`, and one sample's beside it."""
    if ax is None:
        _, ax = plt.subplots(figsize=(4.2, 3.2))
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
    found, target, n = evaluation.empirical_distribution(env, terminal), env.target(), len(terminal)
    ends = np.geomspace(target.min() / 2, target.max() * 2, 200)
    bottom, spread = ends[0] / 2, 2 * np.sqrt(ends * np.maximum(1 - ends, 0) / n)
    figure, ax = plt.subplots(figsize=(4.2, 3.6))
    ax.fill_between(
        ends,
        np.maximum(ends - spread, bottom),
        ends + spread,
        color="0.85",
        label="perfect sampler ± 2 standard errors",
    )
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
    places = np.array([list(word) for word in words])
    count = np.stack([(places == letter).sum(axis=0) for letter in alphabet], axis=1)
    frequency = count / np.maximum(count.sum(axis=1, keepdims=True), 1)
    entropy = -(frequency * np.log2(np.where(frequency > 0, frequency, 1))).sum(axis=1)
    bits = np.where(count.sum(axis=1) > 0, np.log2(len(alphabet)) - entropy, 0)
    if ax is None:
        _, ax = plt.subplots(figsize=(CELL, 0.5 * CELL))
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
    stretch = (
        Affine2D()
        .translate(-box.x0, -box.y0)
        .scale(0.9 / box.width, height / box.height)
        .translate(place - 0.45, bottom)
    )
    colour = LETTERS[number % len(LETTERS)]
    ax.add_patch(PathPatch(stretch.transform_path(outline), color=colour, linewidth=0))


def _require_dimensions(env, ndim):
    if not isinstance(env, Grid) or env.ndim != ndim:
        raise ValueError(f"env must be a grid of {ndim} dimensions to be drawn, got {env!r}")


def _draw_moves(ax, cells, probabilities, colour, sign=1, tail=0.12, length=0.75, width=0.006):
    """From cells `[n, 2]` arrows up and right, as long as each move `[n, 2]` is probable."""
    for axis, direction in enumerate(sign * np.eye(2)):
        moving = probabilities[:, axis] > 0.02
        tails = cells[moving] + tail * direction
        arrows = length * probabilities[moving, axis, None] * direction
        ax.quiver(
            *tails.T,
            *arrows.T,
            color=colour,
            angles="xy",
            scale_units="xy",
            scale=1,
            width=width,
            headwidth=4,
            headlength=4,
            headaxislength=3.6,
        )


def _grid_axes(env, ax, side=CELL):
    """Axes on which cell (x₀, x₁) is the unit square around that point."""
    _require_dimensions(env, 2)
    if ax is None:
        _, ax = plt.subplots(figsize=(side + 0.6, side))
    last = env.height - 1
    ticks = range(0, env.height, max(1, env.height // 8))
    ax.set(xlim=(-0.6, last + 0.6), ylim=(-0.6, last + 0.6), xticks=ticks, yticks=ticks)
    ax.set(xlabel="$x_0$", ylabel="$x_1$", aspect="equal")
    return ax
