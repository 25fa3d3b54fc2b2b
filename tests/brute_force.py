"""Hypergrids in plain Python: every trajectory written out, every reward an exact fraction."""

import itertools
import math
from collections import defaultdict
from fractions import Fraction


def cells(ndim, height):
    """All cells, the last coordinate running fastest."""
    return list(itertools.product(range(height), repeat=ndim))


def reward(cell, height, r0=0.01, r1=0.5, r2=1.0):
    """R(x) of arXiv 2106.04399, section 4.1, without rounding."""
    distances = [abs(Fraction(x, height - 1) - Fraction(1, 2)) for x in cell]
    near_corner = all(Fraction(1, 4) < d for d in distances)
    at_mode = all(Fraction(3, 10) < d <= Fraction(2, 5) for d in distances)
    return Fraction(r0) + near_corner * Fraction(r1) + at_mode * Fraction(r2)


def children(cell, height):
    """The cell that each possible action but the stop leads to: {action: cell}."""
    return {
        axis: (*cell[:axis], x + 1, *cell[axis + 1 :])
        for axis, x in enumerate(cell)
        if x + 1 < height
    }


def parents(cell):
    """The cell that each action can have come from: {action: cell}."""
    return {axis: (*cell[:axis], x - 1, *cell[axis + 1 :]) for axis, x in enumerate(cell) if x > 0}


def trajectories(ndim, height):
    """Every trajectory from the origin to a stop, as (cells passed, actions with the stop)."""
    unfinished = [([(0,) * ndim], [])]
    while unfinished:
        passed, actions = unfinished.pop()
        yield passed, [*actions, ndim]
        for action, child in children(passed[-1], height).items():
            unfinished.append(([*passed, child], [*actions, action]))


def probability(passed, actions, p_forward):
    """P(τ), the product of `p_forward[cell][action]` along the trajectory."""
    product = 1.0
    for cell, action in zip(passed, actions, strict=True):
        product *= p_forward[cell][action]
    return product


def terminating_distribution(ndim, height, p_forward):
    """P_T(x) in the order of `cells`, by adding up the probabilities of all trajectories."""
    total = defaultdict(float)
    for passed, actions in trajectories(ndim, height):
        total[passed[-1]] += probability(passed, actions, p_forward)
    return [total[cell] for cell in cells(ndim, height)]


def forward_policy(ndim, height, logits):
    """{cell: {action: P_F}} from rows of logits in the order of `cells`; stop is action `ndim`."""
    return {
        cell: _softmax(row, [*children(cell, height), ndim])
        for cell, row in zip(cells(ndim, height), logits, strict=True)
    }


def backward_policy(ndim, height, logits):
    """{cell: {action: P_B}} likewise."""
    return {
        cell: _softmax(row, parents(cell))
        for cell, row in zip(cells(ndim, height), logits, strict=True)
    }


def _softmax(logits, allowed):
    weights = {action: math.exp(logits[action]) for action in allowed}
    return {action: weight / sum(weights.values()) for action, weight in weights.items()}
