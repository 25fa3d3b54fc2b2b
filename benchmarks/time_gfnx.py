"""Time gfnx: `python time_gfnx.py steady|cold|sample` (see scenarios.py).

Written after gfnx's walkthrough and its single-file baseline of trajectory balance on the
hypergrid: `gfnx.utils.forward_rollout` draws the batch, the policy is evaluated once more on all
its observations, `gfnx.utils.forward_trajectory_log_probs` scores it, and `jax.lax.fori_loop` makes
all updates in one compiled call, its buffers donated.

The policy is evaluated as its baseline does it, `vmap(vmap(policy))` over the observations
`[B, T, n]`. Weights are plain arrays and not Equinox modules, and nothing is logged. Tried and
slower: a call of a compiled update from Python (1.0 to 1.7 times), and differentiating through the
rollout instead of evaluating again (1.1 to 3 times). Faster, but not as documented: to evaluate the
observations as one matrix `[B·T, n]`, which makes an update 1.2 to 1.4 times as fast.
"""

import functools
import importlib.metadata
import itertools

import numpy as np
import scenarios

(jax, jnp, optax, gfnx), import_seconds = scenarios.timed_import(
    "jax", "jax.numpy", "optax", "gfnx"
)


class Trainer:
    def __init__(self, scenario: scenarios.Scenario, seed: int, chunk: int):
        self.scenario = scenario
        reward = gfnx.GeneralHypergridRewardModule(scenarios.R0, scenarios.R1, scenarios.R2)
        self.env = gfnx.HypergridEnvironment(reward, dim=scenario.ndim, side=scenario.height)
        self.env_params = self.env.init(jax.random.PRNGKey(0))
        weights_key, self.sample_key, train_key = jax.random.split(jax.random.PRNGKey(seed), 3)
        params = {"policy": self._initial_layers(weights_key), "log_z": jnp.zeros([])}
        self.optimizer = optax.multi_transform(
            {
                "policy": optax.adam(scenarios.LEARNING_RATE),
                "log_z": optax.adam(scenarios.LOG_Z_LEARNING_RATE),
            },
            {"policy": "policy", "log_z": "log_z"},
        )
        self.state = params, self.optimizer.init(params), train_key
        self._updates = jax.jit(self._make_updates, donate_argnums=0)

    def train(self, n_updates: int) -> None:
        self.state = jax.block_until_ready(self._updates(self.state, n_updates))

    def p_forward(self) -> np.ndarray:
        states = self._all_states()
        observations = self.env.get_obs(states, self.env_params)
        allowed = ~self.env.get_invalid_mask(states, self.env_params)
        logits = self._policy(self.state[0]["policy"], observations)["forward_logits"]
        return np.asarray(jax.nn.softmax(logits, axis=-1, where=allowed))

    def rewards(self) -> np.ndarray:
        return np.asarray(self.env.reward_module.reward(self._all_states(), self.env_params))

    def sample(self, count: int) -> None:
        self.sample_key, key = jax.random.split(self.sample_key)
        jax.block_until_ready(self._samples(self.state[0]["policy"], key, count))

    def _make_updates(self, state, n_updates):
        return jax.lax.fori_loop(0, n_updates, lambda _, state: self._update(state), state)

    def _update(self, state):
        params, optimizer_state, key = state
        key, rollout_key = jax.random.split(key)
        trajectories, info = self._rollout(params["policy"], rollout_key, self.scenario.batch)

        def loss(params):
            policy = functools.partial(self._policy, params["policy"])
            outputs = jax.vmap(jax.vmap(policy))(trajectories.obs)
            log_pf, log_pb = gfnx.utils.forward_trajectory_log_probs(
                self.env, trajectories.replace(info=outputs), self.env_params
            )
            imbalance = params["log_z"] + log_pf - info["log_gfn_reward"] - log_pb
            return jnp.square(imbalance).mean()

        gradients = jax.grad(loss)(params)
        steps, optimizer_state = self.optimizer.update(gradients, optimizer_state, params)
        return optax.apply_updates(params, steps), optimizer_state, key

    def _rollout(self, layers, key, n):
        def policy(_, observations, layers):
            return self._policy(layers, observations)["forward_logits"], {}

        return gfnx.utils.forward_rollout(key, n, policy, layers, self.env, self.env_params)

    @functools.partial(jax.jit, static_argnums=(0, 3))
    def _samples(self, layers, key, count):
        trajectories, info = self._rollout(layers, key, count)
        return trajectories.state.state, trajectories.action, info["log_gfn_reward"]

    def _policy(self, layers, observations):
        *hidden, (weights, bias) = layers
        for hidden_weights, hidden_bias in hidden:
            observations = jax.nn.relu(observations @ hidden_weights + hidden_bias)
        logits = observations @ weights + bias
        n_actions = self.scenario.ndim + 1
        return {
            "forward_logits": logits[..., :n_actions],
            "backward_logits": logits[..., n_actions:],
        }

    def _initial_layers(self, key):
        """Uniform in ±1/√fan-in, as Equinox and PyTorch do it."""
        ndim, height, hidden = self.scenario.ndim, self.scenario.height, self.scenario.hidden
        sizes = [ndim * height, hidden, hidden, 2 * ndim + 1]
        layers = []
        for n_in, n_out in itertools.pairwise(sizes):
            key, weights_key, bias_key = jax.random.split(key, 3)
            uniform = functools.partial(jax.random.uniform, minval=-(n_in**-0.5), maxval=n_in**-0.5)
            layers.append((uniform(weights_key, (n_in, n_out)), uniform(bias_key, (n_out,))))
        return layers

    def _all_states(self):
        cells = jnp.asarray(scenarios.cells(self.scenario))
        no = jnp.zeros(len(cells), bool)
        is_initial = jnp.all(cells == 0, axis=1)
        return gfnx.HypergridEnvState(state=cells, is_terminal=no, is_initial=is_initial, is_pad=no)


if __name__ == "__main__":
    version = f"{importlib.metadata.version('gfnx')}, jax {jax.__version__}"
    scenarios.main("gfnx", version, Trainer, import_seconds)
