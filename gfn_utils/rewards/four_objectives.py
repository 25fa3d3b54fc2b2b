"""Four test functions of optimisation as objectives: the synthetic task of arXiv 2210.12765.

Each takes points of the square [−1, 1]², `[..., 2]`, and gives `[...]`, about 0 at worst and 1 at
best.
"""

import numpy as np

from gfn_utils.validation import check_integer


def branin(points) -> np.ndarray:
    """1 less Branin's function, scaled: three equal best points in a long valley."""
    a, b = 7.5 * points[..., 0] + 2.5, 7.5 * points[..., 1] + 7.5
    parabola = b - 5.1 / (4 * np.pi**2) * a**2 + 5 / np.pi * a - 6
    return 1 - (parabola**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(a) + 10) / 308.13


def currin(points) -> np.ndarray:
    """The exponential of Currin et al. (1991), scaled: one peak at the lower side."""
    a, b = (points[..., 0] + 1) / 2, (points[..., 1] + 1) / 2
    decay = 1 - np.exp(-1 / (2 * b + 1e-10))
    ratio = (2300 * a**3 + 1900 * a**2 + 2092 * a + 60) / (100 * a**3 + 500 * a**2 + 4 * a + 20)
    return decay * ratio / 13.77


def shubert(points) -> np.ndarray:
    """A product of two sums of five cosines, scaled: a lattice of peaks."""
    i = np.arange(1, 6)
    waves = np.sum(i * np.cos((i + 1) * points[..., None] + 10 * i), axis=-1)
    lowest, highest = -12.58133095975989, 12.85231572911876
    return (waves[..., 0] * waves[..., 1] - lowest) / (highest - lowest)


def sphere(points) -> np.ndarray:
    """The squared distance to the centre, scaled: best in the four corners."""
    return np.sum(points**2, axis=-1) / 2


OBJECTIVES = (branin, currin, shubert, sphere)


def grid_points(height: int) -> np.ndarray:
    """The cells of a two-dimensional grid as points of [−1, 1]², in the order of its `states()`,
    float64 `[height², 2]`. Raises ValueError if height < 2."""
    side = np.linspace(-1, 1, check_integer("height", height, minimum=2))
    return np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)


def on_grid(height: int, least: float = 1e-4) -> np.ndarray:
    """The four objectives of each cell, `[height², 4]`, none below `least`: logarithms follow."""
    points = grid_points(height)
    return np.maximum(np.stack([each(points) for each in OBJECTIVES], axis=-1), least)
