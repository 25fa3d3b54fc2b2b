"""What an agent that was trained for many conditions does under one of them."""

from typing import NamedTuple

import tensorflow as tf

from gfn_utils import sampling
from gfn_utils.environments import Conditional, Environment
from gfn_utils.environments.base import check_any_states
from gfn_utils.networks.log_z import log_z_of
from gfn_utils.policy import NetworkPolicy
from gfn_utils.sampling import Trajectories
from gfn_utils.training import Kind, log_policy_of_weights
from gfn_utils.validation import check_integer


class GivenAgent(NamedTuple):
    """A conditional agent under one condition: an ordinary agent of an ordinary environment.

    `gfn_utils.evaluation` and pictures take it like a GFNAgent. It keeps the weights as they were
    when it was made.
    """

    env: Environment
    conditional: Conditional
    """The environment of a table with this one condition."""
    network_policy: NetworkPolicy
    log_z: float
    """The learned log Z of the condition, in nats."""
    seed: int

    def log_policy(self, states: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """As `GFNAgent.log_policy`, of states of `env`; and log F where it is learned."""
        states = check_any_states(self.env, states, "states")
        return self.network_policy(self.conditional.with_condition(states, 0))

    def sample(self, n: int, seed: int | None = None) -> Trajectories:
        """Draw `n` trajectories from the origin by P_F: with the same seed the same ones.

        Raises ValueError if n < 1, or if the states would fill 4 GB.
        """
        n = check_integer("n", n, minimum=1, maximum=sampling.most_trajectories(self.env))
        seed = self.seed if seed is None else check_integer("seed", seed, minimum=0)
        pair = tf.constant([2 * seed + 1, 0], tf.int64)
        return sampling.sample_forward(self.env, self.log_policy, n, pair)


def given_agent(kind: Kind, weights, condition, seed: int) -> GivenAgent:
    """The agent of this kind, whose `env` is Conditional, and weights under one condition `[D]`."""
    env = kind.env.given(condition)
    conditional = kind.env.with_conditions([kind.env.check_condition(condition)])
    log_policy = log_policy_of_weights(kind._replace(env=conditional))(weights)
    of_log_z = weights[-kind.n_log_z :]
    log_z = float(log_z_of(conditional, of_log_z, conditional.initial_states(1))[0])
    return GivenAgent(env, conditional, log_policy, log_z, seed)
