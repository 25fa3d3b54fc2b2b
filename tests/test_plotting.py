"""The figures: what they refuse, in words and with no figure left open, and what they draw."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from own_environments import Subsets

from gfn_utils import GFNAgent, HyperGrid, evaluation
from gfn_utils.classroom import plotting, widgets
from gfn_utils.environments import PaintedGrid
from gfn_utils.policy import tabulate, uniform_log_policy
from gfn_utils.runs import History

GRID = HyperGrid(2, 4)
CUBE = HyperGrid(3, 4)
TARGET = GRID.target()
AGENT = GFNAgent(GRID, hidden=(4,))
DRAWN = AGENT.sample(3)
HISTORY = History(*map(np.array, ([2.0, 1.0], [0.1, 0.2], [2], [0.5])))
FLOOR = {10: 0.5, 100: 0.2}

# Function, the arguments of a good call, and for each argument what it must not be.
CALLS = [
    (
        plotting.grid_map,
        {
            "env": GRID,
            "values": TARGET,
            "label": "p",
            "title": "t",
            "cmap": "cividis",
            "vmin": 0.0,
            "vmax": 1.0,
        },
        {
            "env": [None, CUBE, HyperGrid(2, 4000)],
            "values": [None, "abc", TARGET[:-1], TARGET * np.nan, [[1, 2], [3]]],
            "label": [None, 3],
            "title": [None, 3],
            "cmap": ["nothing", None, 3, 10**5000],
            "vmin": ["0", np.nan],
            "vmax": ["1", np.inf, -1.0],
            "number_format": ["q", 3],
            "ax": [3, [None, None]],
        },
    ),
    (plotting.reward, {"env": GRID}, {"env": [None, CUBE], "number_format": ["q"], "ax": [3]}),
    (plotting.reward_slices, {"env": CUBE}, {"env": [None, GRID]}),
    (
        plotting.distributions,
        {"env": GRID, "target": TARGET},
        {
            "env": ["grid", CUBE],
            "vmax": ["1", 0.0, np.nan],
            "figure": [3],
            "target": [None, "abc", TARGET[:-1], 2 * TARGET, TARGET - 1],
        },
    ),
    (
        plotting.policy,
        {"agent": AGENT},
        {"agent": [None, GRID, GFNAgent(CUBE)], "title": [None, 3], "ax": ["x"]},
    ),
    (
        plotting.walk,
        {"env": GRID, "passed": [[0, 0]], "moves": [0.3, 0.3], "stop": 0.4},
        {
            "env": [None, CUBE],
            "passed": [None, [], [[4, 0]], [[0.5, 0]]],
            "moves": [None, [0.3], [0.3, 2.0], "ab"],
            "stop": [None, -0.1, [0.4], "0"],
            "backward": [None, "False", 2],
            "ax": [3],
        },
    ),
    (
        plotting.trajectories,
        {"env": GRID, "drawn": DRAWN},
        {"env": [None, CUBE], "drawn": [None, [[0, 0]]], "most": [0, 1.5, "3", None]},
    ),
    (
        plotting.pipes,
        {"agent": AGENT, "z": 1.0},
        {
            "agent": [None, GRID],
            "z": [0.0, -1.0, np.nan, None, "1"],
            "title": [None, 3],
            "ax": [3],
        },
    ),
    (
        plotting.state_graph,
        {"env": GRID, "states": TARGET, "edges": np.full([16, 3], "½"), "title": "t"},
        {
            "env": [None, 3, HyperGrid(2, 8)],
            "states": [3, TARGET[:-1]],
            "edges": [TARGET],
            "highlight": [TARGET, np.zeros([16, 3])],
            "title": [None],
            "ax": [3],
        },
    ),
    (
        plotting.learning_curves,
        {"history": HISTORY, "env": GRID},
        {"history": [None, [1.0, 2.0]], "env": ["grid"], "progress": ["step", 3], "figure": [3]},
    ),
    (
        plotting.imbalance_parabola,
        {"delta": 1.0, "limit": 2.0},
        {
            "delta": [None, np.nan, "1", 1e308],
            "limit": [0.0, None, np.inf, 1e308],
            "ax": [3],
        },
    ),
    (
        plotting.noise_floor,
        {"floor": FLOOR, "n_samples": 10, "error": 0.4},
        {
            "floor": [None, [0.5], {10: "0.5"}, {10: -1.0}],
            "n_samples": [11, None, [10], 10.0],
            "error": [None, np.nan, -0.1],
            "ax": [3],
        },
    ),
    (
        plotting.sequence_logo,
        {"words": ["ACG", "ACT"], "alphabet": "ACGT"},
        {
            "words": [None, [], ["AC", "A"], [1, 2], [""], 3, "ACG"],
            "alphabet": [None, "", "AA", ["A", "C"]],
            "title": [None, 3],
            "ax": [3],
        },
    ),
]
# The same of those that draw into a figure.
FIGURE = widgets.new_figure(4.0, 2.0)
IN_A_FIGURE = [
    (
        plotting.training,
        {"env": GRID, "learned": TARGET, "history": HISTORY, "total": 5, "figure": FIGURE},
        {"env": [None, CUBE], "history": [None], "figure": [None, "f"]},
    ),
    (
        plotting.training_maps,
        {"env": GRID, "learned": TARGET, "figure": FIGURE},
        {"env": [None, CUBE], "learned": [None, TARGET[:-1]], "figure": [None, "f"]},
    ),
    (
        plotting.training_curves,
        {"env": GRID, "history": HISTORY, "total": 5, "figure": FIGURE},
        {
            "env": [None, CUBE],
            "history": [None],
            "total": [0, "5"],
            "figure": [None, "f"],
            "beside": [3, [1.0]],
        },
    ),
]
WRONG = [
    pytest.param(draw, {**good, name: value}, name, id=f"{draw.__name__}-{name}-{number}")
    for draw, good, wrong in CALLS + IN_A_FIGURE
    for name, values in wrong.items()
    for number, value in enumerate(values)
]


@pytest.mark.parametrize(("draw", "arguments", "name"), WRONG)
def test_a_wrong_argument_is_named_and_no_figure_is_left_open(draw, arguments, name):
    # An agent's environment is called env where it turns out not to be a grid.
    called = "(agent|env)" if name == "agent" else name
    with pytest.raises((TypeError, ValueError), match=rf"^{called}(\[.*\])?(\.\w+)? must "):
        draw(**arguments)
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("draw", "arguments"), [call[:2] for call in CALLS], ids=[call[0].__name__ for call in CALLS]
)
def test_the_good_calls_draw(draw, arguments):
    plotting.use_course_style()
    figure = draw(**arguments)
    assert plt.get_fignums() == [figure.number]
    plt.close(figure)


def test_the_graph_of_states_has_each_state_each_edge_and_what_is_written_on_it():
    env = PaintedGrid([[1, 2], [1, 4]])
    edges = [["a", "b", "c"], ["d", None, "e"], [np.nan, "f", "g"], ["", "", 0.12345]]
    highlight = np.zeros([4, 3], bool)
    highlight[0, 0] = True
    (ax,) = plotting.state_graph(env, [8, 4, 3, 4], edges, highlight).axes
    texts = {text.get_text(): text for text in ax.texts if text.get_text()}
    states = {"(0, 0)\n8", "(0, 1)\n4", "(1, 0)\n3", "(1, 1)\n4"}
    assert texts.keys() == states | {*"abcdefg", "0.123"}
    # Two moves from the origin, one from each cell beside it, and four stops.
    arrows = [text.arrow_patch for text in ax.texts if getattr(text, "arrow_patch", None)]
    assert len(arrows) == 8
    assert sorted(arrow.get_linewidth() for arrow in arrows)[-2:] == [1.6, 4]
    assert sum(arrow.get_edgecolor()[:3] == (0.75, 0.75, 0.75) for arrow in arrows) == 7
    # The label of a move stands in the middle of its arrow.
    assert texts["a"].get_position() == (0.5, 0)
    assert texts["f"].get_position() == (1, 0.5)
    plt.close()


def test_states_that_are_compared_have_a_colour_of_their_own():
    marked = np.array([False, True, False, True])
    (ax,) = plotting.state_graph(SMALL, highlight_states=marked).axes
    grounds = [text.get_bbox_patch().get_facecolor() for text in ax.texts[:4]]
    assert grounds[1] == grounds[3] != grounds[0] == grounds[2]
    plt.close()
    for wrong in (marked[:3], marked.astype(int)):
        with pytest.raises(ValueError, match=r"highlight_states must be True or False .*\[4\]"):
            plotting.state_graph(SMALL, highlight_states=wrong)


def test_states_that_are_no_grid_stand_in_columns_by_their_longest_path():
    (ax,) = plotting.state_graph(Subsets()).axes
    columns = {}
    for text in ax.texts:
        if text.get_text():
            columns.setdefault(text.get_position()[0], set()).add(sum(eval(text.get_text())))
    assert columns == {0: {0}, 1: {1}, 2: {2}, 3: {3}}
    plt.close()


SMALL = PaintedGrid([[1, 2], [1, 4]])


def answer_key(env):
    return evaluation.answer_key(env, tabulate(env, uniform_log_policy(env)).log_pb)[0]


def offsets(collections):
    """Where the marks of all these stand, and their sizes: {(x, y): area in square points}."""
    return {
        tuple(place): size
        for each in collections
        for place, size in zip(each.get_offsets().tolist(), each.get_sizes(), strict=True)
    }


def test_pipes_have_arrowheads_that_point_the_way_the_water_flows():
    (ax,) = plotting.pipes(answer_key(SMALL), 8).axes
    flow, right, up, *_ = ax.collections
    # F(s → s') with uniform P_B: the widths of the pipes are in proportion.
    flows = {(0.5, 0): 3, (0, 0.5): 4, (0.5, 1): 2, (1, 0.5): 2}
    middles = [tuple(np.mean(line, axis=0)) for line in flow.get_segments()]
    widths = dict(zip(middles, flow.get_linewidths(), strict=True))
    assert widths == {middle: pytest.approx(22 * flows[middle] / 8) for middle in flows}
    assert offsets([right, up]).keys() == flows.keys()
    assert offsets([right]).keys() == {(0.5, 0), (0.5, 1)}
    for heads, tip in ((right, [1, 0]), (up, [0, 1])):
        corners = heads.get_paths()[0].vertices[:3]
        assert corners[np.argmax(corners @ tip)] @ tip[::-1] == pytest.approx(0)
    plt.close()


def test_the_scale_of_pipes_is_that_of_the_picture():
    (ax,) = plotting.pipes(answer_key(SMALL), 8).axes
    pipe, tap = ax.get_legend().legend_handles
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == ["flow of 2", "outflow of 0.5"]
    widths = ax.collections[0].get_linewidths()
    assert pipe.get_linewidth() == pytest.approx(min(widths))  # the pipes to (1, 1) carry 2
    taps = offsets(ax.collections[4:5])
    assert 8 * tap.get_sizes()[0] == pytest.approx(taps[1, 1])  # which lets 4 out
    # Above the grid, where it hides nothing.
    ax.figure.canvas.draw()
    box = ax.get_legend().get_window_extent().transformed(ax.transData.inverted())
    assert box.y0 > 1.2
    plt.close()


@pytest.mark.parametrize("z", [0.37, 1.0, 7.9, 12.64, np.nextafter(1e4, 0), 2e-9])
def test_the_scale_of_pipes_has_round_numbers_that_fit(z):
    (ax,) = plotting.pipes(AGENT, z).axes
    pipe, tap = (float(text.get_text().split()[-1]) for text in ax.get_legend().get_texts())
    assert z / 8 < pipe < z / 2
    assert z / 30 < tap < z / 9
    assert {f"{pipe:e}"[:3], f"{tap:e}"[:3]} <= {"1.0", "2.0", "5.0"}
    plt.close()


@pytest.mark.parametrize("height", [2, 8, 16])
def test_no_arrow_of_a_policy_is_hidden_by_an_octagon(height):
    env = PaintedGrid(np.arange(1.0, height**2 + 1).reshape(height, height))
    agent = answer_key(env)
    (ax,) = plotting.policy(agent).axes
    *arrows, octagons = ax.collections
    cells, p_forward = np.asarray(env.states()), np.exp(agent.log_pf)
    corners = np.array([octagon.vertices for octagon in octagons.get_paths()]) - cells[:, None]
    reach = np.linalg.norm(corners, axis=2).max(axis=1)
    np.testing.assert_allclose(reach**2 / max(reach) ** 2, p_forward[:, 2], atol=1e-12)
    for axis, quiver in enumerate(arrows):
        drawn = p_forward[:, axis] > 0.02
        begins = (quiver.XY - cells[drawn])[:, axis]
        assert (begins > reach[drawn]).all()
        lengths = np.stack([quiver.U, quiver.V], axis=1)[:, axis]
        ratio = lengths / p_forward[drawn, axis]
        np.testing.assert_allclose(ratio, ratio[0])
    plt.close()


def test_trajectories_say_that_their_marks_are_not_where_the_cells_are():
    left, right = plotting.trajectories(GRID, DRAWN).axes
    assert left.get_title() == "the first 3 paths,\neach shifted a little at random"
    assert right.get_title() == "ends of 3, sized by R(x),\nscattered a little at random"
    plt.close()


def test_a_walk_writes_the_probability_of_everything_that_can_come_next():
    for moves, stop, written in [
        ([0.3, 0.25], 0.45, {"0.30", "0.25", "stop\n0.45"}),
        ([0, 0.6], 0.4, {"0.60", "stop\n0.40"}),
        ([0, 0], 1, {"stop\n1.00"}),
    ]:
        (ax,) = plotting.walk(GRID, [[3, 1]], moves, stop).axes
        assert {text.get_text() for text in ax.texts} == written
        plt.close()


def test_distributions_must_be_named():
    with pytest.raises(TypeError, match=re.escape("as in target=env.target(); got none")):
        plotting.distributions(GRID)
    assert plt.get_fignums() == []


def test_no_part_of_a_curve_is_cut_off():
    low = HISTORY._replace(l1_error=np.array([1e-4]))
    high = HISTORY._replace(loss=np.array([1e6, 1e-6]), log_z=np.array([-5.0, 30.0]))
    figure = plotting.training_curves(GRID, low, 10, plt.figure(layout="none"), beside=high)
    for ax, values in zip(figure.axes, ([1e-6, 1e6], [-5.0, 30.0], [1e-4, 0.5, 2.0]), strict=True):
        bottom, top = ax.get_ylim()
        assert bottom <= min(values)
        assert top >= max(values)
    plt.close(figure)
