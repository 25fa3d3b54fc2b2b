"""The four test functions, by known values and by their definitions written out."""

import math

import numpy as np
import pytest

from gfn_utils.rewards import four_objectives


def test_branin_is_best_at_its_three_minima():
    minima = np.array([[-math.pi, 12.275], [math.pi, 2.275], [9.42478, 2.475]])  # a, b
    points = np.stack([(minima[:, 0] - 2.5) / 7.5, (minima[:, 1] - 7.5) / 7.5], axis=1)
    best = four_objectives.branin(points)
    np.testing.assert_allclose(best, 1 - 0.397887 / 308.13, atol=1e-6)
    assert best.min() > four_objectives.on_grid(64)[:, 0].max() - 1e-6


def test_sphere_is_best_in_the_corners_and_nothing_in_the_centre():
    points = np.array([[1, 1], [-1, 1], [0, 0], [1, 0]])
    np.testing.assert_allclose(four_objectives.sphere(points), [1, 1, 0, 0.5])


def test_currin_by_hand():
    a, b = 0.25, 0.5
    top = 2300 * a**3 + 1900 * a**2 + 2092 * a + 60
    expected = (1 - math.exp(-1)) * top / (100 * a**3 + 500 * a**2 + 4 * a + 20) / 13.77
    assert four_objectives.currin(np.array([2 * a - 1, 2 * b - 1])) == pytest.approx(expected)


def test_shubert_by_hand():
    def waves(x):
        return sum(i * math.cos((i + 1) * x + 10 * i) for i in range(1, 6))

    expected = (waves(0.3) * waves(-0.7) + 12.58133095975989) / 25.43364668887865
    assert four_objectives.shubert(np.array([0.3, -0.7])) == pytest.approx(expected)


def test_on_the_grid_all_are_positive_and_at_most_about_one():
    values = four_objectives.on_grid(32)
    assert values.shape == (1024, 4)
    assert (values >= 1e-4).all()
    assert (values.max(axis=0) < 1.005).all()
    assert (values.max(axis=0) > 0.995).all()
    # Cell (x0, x1) stands in row 32·x0 + x1.
    np.testing.assert_allclose(values[32 * 31, 0], four_objectives.branin(np.array([1.0, -1.0])))
    with pytest.raises(ValueError, match="height"):
        four_objectives.on_grid(1)
