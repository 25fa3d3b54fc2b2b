"""Time this package: `python time_gfn_utils.py steady|cold|sample` (see scenarios.py).

Run as a lesson runs it, through the public interface: `GFNAgent.train` makes a chunk of updates in
one compiled call and chooses by itself how to evaluate the policy; nothing is tuned for a scenario.
"""

import importlib.metadata

import numpy as np
import scenarios

(gfn_utils,), import_seconds = scenarios.timed_import("gfn_utils")


class Trainer:
    def __init__(self, scenario: scenarios.Scenario, seed: int, chunk: int):
        self.batch, self.chunk = scenario.batch, chunk
        rewards = scenarios.R0, scenarios.R1, scenarios.R2
        self.agent = gfn_utils.GFNAgent(
            gfn_utils.HyperGrid(scenario.ndim, scenario.height, *rewards),
            gamma=0.0,
            seed=seed,
            learning_rate=scenarios.LEARNING_RATE,
            log_z_learning_rate=scenarios.LOG_Z_LEARNING_RATE,
            adam_betas=scenarios.ADAM_BETAS,
            dtype="float32",
            log_z=0.0,
            **self.network(scenario.hidden),
        )

    def network(self, units: int) -> dict:
        # As both peers start, so that errors can be compared.
        return {"hidden": (units, units), "first_weights": "fan_in"}

    def train(self, n_updates: int) -> None:
        self.agent.train(
            iterations=n_updates,
            batch_size=self.batch,
            chunk=self.chunk,
            decay="constant",
            track_error=False,
        )

    def p_forward(self) -> np.ndarray:
        return np.exp(self.agent.log_policy(self.agent.env.states())[0])

    def rewards(self) -> np.ndarray:
        return np.exp(self.agent.env.log_reward(self.agent.env.states()))

    def sample(self, count: int) -> None:
        self.agent.sample(count)


if __name__ == "__main__":
    version = importlib.metadata.version("gfn_utils")
    scenarios.main("gfn_utils", version, Trainer, import_seconds)
