"""Training objectives: pure functions of per-step log-probabilities, in nats."""

import tensorflow as tf


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
