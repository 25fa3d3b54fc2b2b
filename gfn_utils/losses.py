"""Training objectives: pure functions of what the policy says of each step, in nats.

B trajectories of up to T actions, the last of them the stop. Of every step an objective takes what
its arguments name, 0 in the padding:

- `log_pf`, `log_pb` `[B, T]`: log P_F(sₜ₊₁|sₜ) and log P_B(sₜ|sₜ₊₁), the latter 0 for the stop;
- `log_flow` `[B, T]`: log F(sₜ) of the state before the action, with log F(s₀) = log Z;
- `log_inflow` `[B, T]`: log Σ F(s)·P_F(sₜ|s) over the parents s of that state, 0 at the origin;
- `log_stop` `[B, T]`: log P_F(stop|sₜ), whichever action was taken there;
- `log_reward_here` `[B, T]`: log R(sₜ) of the state before the action. An objective that takes it
  asks for a reward in every state passed, and not for one a trajectory;
- `taken` `[B, T]`: whether there was an action, bool;
- `log_reward` `[B]`, `log_z` `[]` (or `[B]`, where each trajectory has a condition with a log Z of
  its own), and the weight `sub_trajectory_lambda` `[]`;
- `origin` `[B, ...]`: the state in which each began where there are conditions, otherwise 0;
- `weight` `[B]`: 1 for a trajectory, 0 for one that only fills up a batch, or None: all count;
- `mean_log_ratio` `[B]`: what is known of the rest of the batch, where these are a share of it.

Each returns the loss of each trajectory, `[B]` in nats². To add one, write it here and name it in
OBJECTIVES.
"""

import inspect

import numpy as np
import tensorflow as tf


def flow_matching(log_pf, log_flow, log_inflow, log_reward, taken):
    """Squared imbalance of states (arXiv 2106.04399): what flows in flows out.

        L(τ) = mean over the states of τ after s₀ of (log Σ F(s → sₜ) − log F(sₜ))²

    The last of these states is the end, into which F(sₙ)·P_F(stop|sₙ) flows and out of which R(x).
    Edge flows are F(s → s') = F(s)·P_F(s'|s), so what leaves a state is F(s) by construction.
    P_B plays no part.
    """
    is_stop = tf.range(tf.shape(taken)[1]) == _count(taken, tf.int32)[:, None] - 1
    after_origin = taken & (tf.range(tf.shape(taken)[1]) > 0)
    inside = tf.where(after_origin, log_inflow, 0) - tf.where(after_origin, log_flow, 0)
    at_end = log_flow + log_pf - tf.cast(log_reward, log_pf.dtype)[:, None]
    squares = tf.square(inside) + tf.where(is_stop, tf.square(at_end), 0)
    return tf.reduce_sum(squares, -1) / _count(taken, log_pf.dtype)


def detailed_balance(log_pf, log_pb, log_flow, log_reward, taken):
    """Squared imbalance of edges (arXiv 2111.09266).

        L(τ) = mean over the steps of τ of (log F(s) + log P_F(s'|s) − log F(s') − log P_B(s|s'))²

    with F(s') = R(x) after the stop.
    """
    flow_after = _flow_at_nodes(log_flow, log_reward, taken)[:, 1:]
    imbalance = tf.where(taken, log_flow + log_pf - flow_after - log_pb, 0)
    return tf.reduce_sum(tf.square(imbalance), -1) / _count(taken, log_pf.dtype)


def trajectory_balance(
    log_pf: tf.Tensor, log_pb: tf.Tensor, log_reward: tf.Tensor, log_z: tf.Tensor
) -> tf.Tensor:
    """Squared imbalance of whole trajectories (arXiv 2201.13259, equation 14).

        L(τ) = (log Z + Σₜ log P_F(sₜ₊₁|sₜ) − log R(x) − Σₜ log P_B(sₜ|sₜ₊₁))²

    Takes log P_F and log P_B of every step `[B, T]` (0 in the padding), log R `[B]` and log Z
    `[]`; returns the loss of each trajectory `[B]` in nats². It is zero on all trajectories if
    and only if log Z is exact and P_F is the answer key of P_B (`evaluation.answer_key`); then the
    policy samples in proportion to the reward.
    """
    log_reward = tf.cast(log_reward, log_pf.dtype)
    imbalance = log_z + tf.reduce_sum(log_pf, -1) - log_reward - tf.reduce_sum(log_pb, -1)
    return tf.square(imbalance)


def sub_trajectory_balance(log_pf, log_pb, log_flow, log_reward, taken, sub_trajectory_lambda):
    """Squared imbalance of all pieces of trajectories (arXiv 2209.12782).

        L(τ) = Σᵢ﹤ⱼ λʲ⁻ⁱ·(log F(sᵢ) + Σ log P_F − log F(sⱼ) − Σ log P_B)² / Σᵢ﹤ⱼ λʲ⁻ⁱ

    where the sums go over the steps from sᵢ to sⱼ, F(s₀) = Z, and F after the stop is R(x). With
    λ → 0 only pieces of one step count (detailed balance), with λ → ∞ only the whole trajectory.
    """
    gain = tf.pad(tf.cumsum(log_pf - log_pb, axis=1), [[0, 0], [1, 0]])
    level = _flow_at_nodes(log_flow, log_reward, taken) - gain
    imbalance = level[:, :, None] - level[:, None, :]
    place = tf.range(tf.shape(level)[1])
    n_steps = place[None, :] - place[:, None]
    inside = place <= _count(taken, tf.int32)[:, None]
    is_piece = (n_steps > 0) & inside[:, None, :]
    # Relative to the most that a piece weighs here, so that no power overflows.
    log_weight = tf.cast(n_steps, log_pf.dtype) * tf.math.log(sub_trajectory_lambda)
    log_weight = tf.where(is_piece, log_weight, tf.constant(-np.inf, log_pf.dtype))
    weight = tf.exp(log_weight - tf.reduce_max(log_weight, axis=[1, 2], keepdims=True))
    squares = tf.where(is_piece, tf.square(imbalance), 0)
    return tf.reduce_sum(weight * squares, [1, 2]) / tf.reduce_sum(weight, [1, 2])


def modified_detailed_balance(log_pf, log_pb, log_stop, log_reward_here, taken):
    """Squared imbalance of edges where every state can stop (arXiv 2202.13903).

        L(τ) = mean over the moves s → s' of τ of
               (log R(s) + log P_F(s'|s) + log P_F(stop|s')
                − log R(s') − log P_B(s|s') − log P_F(stop|s))²

    A state that can stop has F(s)·P_F(stop|s) = R(s). Put in the place of F(s) and F(s') in
    detailed balance, this leaves neither state flows nor log Z to be learned. The stop itself is no
    term; the loss of a trajectory that only stops is 0.
    """
    log_reward_here = tf.cast(log_reward_here, log_pf.dtype)
    is_move = _of_next(taken)
    flow = log_reward_here - log_stop
    imbalance = tf.where(is_move, flow + log_pf - _of_next(flow) - log_pb, 0)
    return tf.reduce_sum(tf.square(imbalance), -1) / tf.maximum(_count(is_move, log_pf.dtype), 1)


def forward_looking(log_pf, log_pb, log_flow, log_reward_here, log_reward, taken):
    """Detailed balance with F(s) = R(s)·F̃(s), where every state can stop (arXiv 2302.01687).

    What is learned, `log_flow`, is here log F̃(s) at all states but the origin, where it is log Z as
    ever. So a state's reward is known on the way, and what is learned is by what factor more passes
    the state than it keeps. After the stop F = R(x), as in detailed balance.
    """
    log_reward_here = tf.cast(log_reward_here, log_pf.dtype)
    after_origin = tf.range(tf.shape(taken)[1]) > 0
    log_flow += tf.where(after_origin, log_reward_here, 0)
    return detailed_balance(log_pf, log_pb, log_flow, log_reward, taken)


def log_variance(log_pf, log_pb, log_reward, weight=None, origin=0, mean_log_ratio=None):
    """Squared distance of each trajectory's imbalance to their mean (arXiv 2302.05446).

        L(τ) = (ξ(τ) − mean of ξ over the batch)²,   ξ(τ) = Σ log P_F − log R(x) − Σ log P_B

    Its mean is the variance of ξ. In balance ξ is −log Z on all trajectories, whatever Z is, so
    log Z need not be learned. Where there are conditions each has a Z of its own: then the mean is
    over the trajectories of the batch that began in the same origin. Where these are a share of a
    batch, `mean_log_ratio` `[B]` is that mean over all of it. The gradient is the same when the
    mean counts as a constant, because the distances to it add up to 0.
    """
    log_ratio = log_ratios(log_pf, log_pb, log_reward)
    if mean_log_ratio is None:
        mean_log_ratio = mean_log_ratios(log_ratio, weight, origin)
    return tf.square(log_ratio - mean_log_ratio)


def log_ratios(log_pf, log_pb, log_reward):
    """ξ(τ) = Σ log P_F − log R(x) − Σ log P_B of each trajectory, `[B]` in nats."""
    return tf.reduce_sum(log_pf - log_pb, -1) - tf.cast(log_reward, log_pf.dtype)


def mean_log_ratios(log_ratio, weight=None, origin=0):
    """The mean of ξ that `log_variance` compares trajectories with, `[]` or, by origin, `[B]`."""
    if isinstance(origin, int):
        return weighted_mean(log_ratio, weight)
    same = tf.reduce_all(origin[:, None] == origin[None], axis=-1)
    share = tf.cast(same, log_ratio.dtype) * (1 if weight is None else weight)
    share /= tf.maximum(tf.reduce_sum(share, axis=1, keepdims=True), 1)
    return tf.linalg.matvec(share, log_ratio)


OBJECTIVES = {
    objective.__name__: objective
    for objective in (
        trajectory_balance,
        detailed_balance,
        sub_trajectory_balance,
        flow_matching,
        log_variance,
        modified_detailed_balance,
        forward_looking,
    )
}
"""The objectives by the names that `GFNAgent.train` knows."""


SCORES = ("log_pf", "log_pb", "log_flow", "log_inflow", "log_stop")


def scores_for(objective: str) -> tuple[str, ...]:
    """Which scores of the steps the objective of this name takes."""
    arguments = inspect.signature(OBJECTIVES[objective]).parameters
    return tuple(name for name in SCORES if name in arguments)


def asks_on_the_way(objective: str) -> bool:
    """Whether the objective of this name asks for the reward of every state passed."""
    return "log_reward_here" in inspect.signature(OBJECTIVES[objective]).parameters


def compares_trajectories(objective: str) -> bool:
    """Whether the loss of a trajectory depends on the others of its batch."""
    return "mean_log_ratio" in inspect.signature(OBJECTIVES[objective]).parameters


def flow_is_relative(objective: str) -> bool:
    """Whether what this objective learns of a state is log F(s) − log R(s), and not log F(s)."""
    return asks_on_the_way(objective) and "log_flow" in scores_for(objective)


def learns_log_z(objective: str) -> bool:
    """Whether the objective of this name takes log Z, or log F of the origin, which is the same."""
    return bool({"log_z", "log_flow"} & set(inspect.signature(OBJECTIVES[objective]).parameters))


def evaluate(objective: str, **known) -> tf.Tensor:
    """The loss of each trajectory, `[B]`, by the objective of this name.

    `known` may hold more of the arguments listed above than the objective takes.
    """
    loss = OBJECTIVES[objective]
    wanted = inspect.signature(loss).parameters
    return loss(**{name: known[name] for name in wanted if name in known})


def weighted_mean(values, weight=None, total=None):
    """The mean of `[B]` numbers, `[]`; those of weight 0 do not count.

    With `total`, the weight of a larger batch of which these are a share, their part of its mean.
    """
    if weight is None:
        return tf.reduce_mean(values) if total is None else tf.reduce_sum(values) / total
    return tf.reduce_sum(values * weight) / (tf.reduce_sum(weight) if total is None else total)


def _of_next(of_step):
    """What `[B, T]` holds of the step after each step; 0 or False after the last."""
    return tf.pad(of_step[:, 1:], [[0, 0], [0, 1]])


def _count(taken, dtype):
    """The number of steps of each trajectory, `[B]`."""
    return tf.reduce_sum(tf.cast(taken, dtype), axis=-1)


def _flow_at_nodes(log_flow, log_reward, taken):
    """log F of the states and, after the stop, log R: `[B, T+1]`; 0 in the padding."""
    is_end = tf.range(taken.shape[1] + 1) == _count(taken, tf.int32)[:, None]
    log_reward = tf.cast(log_reward, log_flow.dtype)[:, None]
    return tf.where(is_end, log_reward, tf.pad(log_flow, [[0, 0], [0, 1]]))
