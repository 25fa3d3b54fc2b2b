"""Scores where nothing can be listed: estimates from samples, each with its standard error.

All rest on one ratio. Going back from an object x by P_B along a trajectory τ,

    P_F(τ) / P_B(τ|x)    has the mean P_T(x),

and for the agent's own trajectories R(x)·P_B(τ|x) / P_F(τ) has the mean Z. What they say is as good
as these ratios are even: look at the standard error and at the effective sample size first.
"""

import math
from typing import NamedTuple

import numpy as np

from gfn_utils.environments.base import check_states
from gfn_utils.environments.log_rewards import log_rewards_of
from gfn_utils.evaluation.exact import check_agent
from gfn_utils.evaluation.log_ratios import backward_log_ratios, own_log_weights
from gfn_utils.validation import check_integer, check_log_numbers


class Estimate(NamedTuple):
    """An estimate in nats, and how far off to expect it: of N things both are `[N]`."""

    value: np.ndarray | float
    standard_error: np.ndarray | float
    """value ± 1.96 of these is meant to hold the truth 19 times in 20; inf: nothing is known."""


class LogZBounds(NamedTuple):
    """Bounds on log Z in nats; those from above are None without samples of the target."""

    elbo: Estimate
    """Mean log w over the agent's samples, w = R·P_B/P_F: log Z − KL(P_F ‖ π·P_B)."""
    importance_weighted_elbo: Estimate
    """log mean w over the same: at least as high, and below log Z on average (arXiv 1509.00519)."""
    effective_sample_size: float
    """How many equal weights would tell as much as the w of the agent's samples."""
    eubo: Estimate | None
    """Mean log w over the target's samples: log Z + KL(π·P_B ‖ P_F) (arXiv 2406.07423)."""
    importance_weighted_eubo: Estimate | None
    """−log mean 1/w over the same: at least as low, and above log Z on average."""

    @property
    def gap(self) -> Estimate:
        """EUBO − ELBO = KL(P_F ‖ π·P_B) + KL(π·P_B ‖ P_F), over trajectories, in nats.

        0 only for an agent that samples in proportion to R. The total variation between P_T and π
        is at most √gap / 2 (Pinsker's inequality, both ways round). Raises ValueError without
        samples of the target.
        """
        if self.eubo is None:
            raise ValueError("the gap needs an upper bound: log_z_bounds(target_samples=…)")
        error = math.hypot(self.eubo.standard_error, self.elbo.standard_error)
        return Estimate(self.eubo.value - self.elbo.value, error)


class Correlation(NamedTuple):
    """How log P_T and log R go together, from −1 to 1; nan where one of them is the same for all,
    and Pearson's also where one is −inf."""

    pearson: float
    spearman: float


def log_probability(agent, objects, n_trajectories: int = 64, seed: int = 0) -> Estimate:
    """log P_T(x) of the objects `[N, ...]` by importance sampling from P_B, `[N]` in nats.

    The logarithm of the mean of P_F(τ)/P_B(τ|x) over `n_trajectories` trajectories τ drawn back
    from x (so arXiv 2202.01361 evaluates its models). The standard error is the jackknife's (Efron
    and Stein 1981): where one weight outgrows the others it is larger than that of the delta
    method, and nearer the truth. The same seed gives the same estimates.

    The logarithm of a mean is too low by about se²/2 on average. For a trained agent the weights
    are nearly even, and both hardly matter; along a tree, which has one trajectory to an object,
    the value is exact and the error 0. For an untrained agent, or objects that it all but never
    builds, few trajectories may carry most of P_T(x). While they are not drawn the value is too
    low and the error too small. With weights that are log-normal, ±1.96 errors of 64 trajectories
    hold the truth in 94, 92, 79 and 60% of cases where log w spreads by 0.5, 1, 2 and 3 nats: take
    more trajectories until the value stays. P_B must give every parent some probability, as all
    networks do: what it never goes back along is missing from the value.

    Raises TypeError if `agent` has no env and log_policy; ValueError or TypeError if an object is
    no state in which stop is allowed, or n_trajectories < 2.
    """
    env = check_agent(agent).env
    objects = check_states(env, objects, "objects")
    n = check_integer("n_trajectories", n_trajectories, minimum=2)
    seed = check_integer("seed", seed, minimum=0)
    return _log_mean_exp(backward_log_ratios(agent, objects, n, seed))


def log_z_bounds(agent, n_samples: int = 1000, target_samples=None, seed: int = 0) -> LogZBounds:
    """Bounds on log Z from `n_samples` of the agent's own trajectories, and from given objects.

    Args:
        target_samples: independent samples of π = R/Z, `[M, ...]`, M ≥ 2, from wherever they can be
            had; one trajectory is drawn back from each. Without them there is no upper bound, and
            no sign of a mode that the agent never visits: the lower bounds are then close to
            log of what R adds up to elsewhere, and look sure of it.

    Each bound holds on average: one estimate may lie on the wrong side by its standard error. The
    means have the usual standard error, logarithms of means that of the jackknife.

    Raises as `log_probability` does.
    """
    env = check_agent(agent).env
    n = check_integer("n_samples", n_samples, minimum=2)
    seed = check_integer("seed", seed, minimum=0)
    log_w = own_log_weights(agent, n, seed)
    upper = None, None
    if target_samples is not None:
        target_samples = check_states(env, target_samples, "target_samples")
        check_integer("the number of target_samples", len(target_samples), minimum=2)
        log_reward = np.asarray(log_rewards_of(env, target_samples))
        target_log_w = log_reward - backward_log_ratios(agent, target_samples, 1, seed)[:, 0]
        low, error = _log_mean_exp(-target_log_w)
        upper = _mean(target_log_w), Estimate(float(-low), float(error))
    tighter = Estimate(*map(float, _log_mean_exp(log_w)))
    return LogZBounds(_mean(log_w), tighter, effective_sample_size(log_w), *upper)


def correlation(
    agent, objects, n_trajectories: int = 64, seed: int = 0, log_rewards=None
) -> Correlation:
    """The correlation of log P_T, by `log_probability`, with log R on objects `[N, ...]`, N ≥ 2.

    Take objects that the agent was not trained on: what it saw says little of what it learned
    (as in arXiv 2201.13259, section 5). `log_rewards` `[N]` in nats are what they pay where
    that is known already; otherwise the environment is asked. Noise in log P_T draws both
    correlations to 0. Raises as `log_probability` does.
    """
    env = check_agent(agent).env
    objects = check_states(env, objects, "objects")
    check_integer("the number of objects", len(objects), minimum=2)
    if log_rewards is None:
        log_rewards = log_rewards_of(env, objects)
    log_rewards = check_log_numbers("log_rewards", log_rewards, len(objects))
    log_p, _ = log_probability(agent, objects, n_trajectories, seed)
    return Correlation(_pearson(log_p, log_rewards), _pearson(_ranks(log_p), _ranks(log_rewards)))


def effective_sample_size(log_weights) -> float:
    """(Σw)² / Σw² of weights given as log w `[K]` in nats: K if all are equal, 1 if one has it all.

    (Kish 1965.) Raises ValueError if there are none, if one is NaN or +inf, or if all are −inf.
    """
    log_w = check_log_numbers("log_weights", log_weights)
    if not log_w.max() > -math.inf:
        raise ValueError("log_weights must hold one above -inf at least, got -inf throughout")
    w = np.exp(log_w - log_w.max())
    return float(w.sum() ** 2 / np.square(w).sum())


def _log_mean_exp(log_weights) -> Estimate:
    """log of the mean weight `[..., n]` → `[...]`, and the jackknife's standard error of it."""
    n = log_weights.shape[-1]
    highest = np.max(log_weights, axis=-1, keepdims=True)
    weights = np.exp(log_weights - np.where(np.isfinite(highest), highest, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        total = weights.sum(axis=-1, keepdims=True)
        value = highest + np.log(total / n)
        left_out = np.log1p(-weights / total)  # up to a constant, the value without each weight
        error = np.std(left_out, axis=-1) * math.sqrt(n - 1)
    return Estimate(value[..., 0], np.where(np.isnan(error), np.inf, error))


def _mean(values) -> Estimate:
    with np.errstate(invalid="ignore"):
        error = float(np.std(values, ddof=1) / math.sqrt(len(values)))
    return Estimate(float(np.mean(values)), math.inf if math.isnan(error) else error)


def _pearson(x, y) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.corrcoef(x, y)[0, 1])


def _ranks(values):
    """Ranks from 1, of equal values the mean of theirs, float64 `[N]`."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
