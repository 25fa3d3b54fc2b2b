"""The picture of reward against frequency shows the numbers themselves: nothing is moved."""

import matplotlib.pyplot as plt
import numpy as np

from gfn_utils import HyperGrid
from gfn_utils.classroom import plotting


def marks(figure, label):
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    return [np.asarray(data) for data in lines[label].get_data()]


def test_marks_stand_at_the_target_and_the_frequency():
    env = HyperGrid()
    cells = np.asarray(env.states())
    times = np.arange(1, 65)
    figure = plotting.reward_against_frequency(env, np.repeat(cells, times, axis=0))
    across, up = marks(figure, "a cell")
    np.testing.assert_allclose(across, env.target(), rtol=1e-12)
    np.testing.assert_allclose(up, times / times.sum(), rtol=1e-12)
    plt.close(figure)


def test_cells_never_sampled_are_marked_as_such():
    env = HyperGrid()
    cells = np.asarray(env.states())
    figure = plotting.reward_against_frequency(env, cells[2:])
    across, up = marks(figure, "never sampled")
    np.testing.assert_allclose(across, env.target()[:2], rtol=1e-12)
    assert np.all(up == figure.axes[0].get_ylim()[0])
    assert len(marks(figure, "a cell")[0]) == 62
    plt.close(figure)
