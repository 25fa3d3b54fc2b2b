"""Time torchgfn: `python time_torchgfn.py steady|cold|sample` (see scenarios.py).

Written after torchgfn's `train_hypergrid_simple.py`, without its clipping, logging and metrics.
Of the documented ways this one is the fastest on a CPU: the batch is drawn without gradients, and
`TBGFlowNet.loss(..., recalculate_all_logprobs=True)` evaluates all its steps at once. With the
log-probabilities saved while sampling, as in that example, an update takes 1.5 times as long in
scenario a, twice in c, 1.1 times in b and d. PyTorch's checks of distributions are off: 7 % less.

`torch.compile` was tried as in `train_with_compile.py`: of the policies, by
`gfn.utils.compile.try_compile_gflownet`, an update takes 9 to 25 % longer, and of the loss 8 to
17 % longer, after 5 to 25 s of compiling. The time goes to the sampler's loop in Python, which is
not compiled, and the shapes of the loss depend on the data. The compiled samplers of
`train_hypergrid_optimized.py` need interfaces that release 2.4.1 does not have.
"""

import importlib.metadata
import os

import numpy as np
import scenarios

modules, import_seconds = scenarios.timed_import(
    *("torch", "gfn.estimators", "gfn.gflownet", "gfn.gym"),
    *("gfn.preprocessors", "gfn.samplers", "gfn.utils.modules"),
)
torch, estimators, gflownet, gym, preprocessors, samplers, networks = modules

torch.set_num_threads(os.cpu_count())
torch.distributions.Distribution.set_default_validate_args(False)


class Trainer:
    def __init__(self, scenario: scenarios.Scenario, seed: int, chunk: int):
        torch.manual_seed(seed)
        self.scenario = scenario
        rewards = {"R0": scenarios.R0, "R1": scenarios.R1, "R2": scenarios.R2}
        self.env = gym.HyperGrid(scenario.ndim, scenario.height, reward_fn_kwargs=rewards)
        self.preprocessor = preprocessors.KHotPreprocessor(scenario.height, scenario.ndim)
        forward = self._network(self.env.n_actions)
        backward = self._network(self.env.n_actions - 1, trunk=forward.trunk)
        self.p_f = self._policy(forward)
        self.flow = gflownet.TBGFlowNet(self.p_f, self._policy(backward, is_backward=True))
        self.sampler = samplers.Sampler(self.p_f)
        self.optimizer = torch.optim.Adam(
            [
                {"params": self.flow.pf_pb_parameters(), "lr": scenarios.LEARNING_RATE},
                {"params": self.flow.logz_parameters(), "lr": scenarios.LOG_Z_LEARNING_RATE},
            ]
        )

    def train(self, n_updates: int) -> None:
        for _ in range(n_updates):
            trajectories = self._sample(self.scenario.batch)
            self.optimizer.zero_grad()
            self.flow.loss(self.env, trajectories, recalculate_all_logprobs=True).backward()
            self.optimizer.step()

    @torch.no_grad()
    def p_forward(self) -> np.ndarray:
        states = self._all_states()
        return self.p_f.to_probability_distribution(states, self.p_f(states)).probs.numpy()

    def rewards(self) -> np.ndarray:
        return self.env.reward(self._all_states()).numpy()

    def sample(self, count: int) -> None:
        self._sample(count)

    @torch.no_grad()
    def _sample(self, n):
        return self.sampler.sample_trajectories(self.env, n=n, save_logprobs=False)

    def _network(self, n_out, trunk=None):
        n_in = self.preprocessor.output_dim
        return networks.MLP(n_in, n_out, self.scenario.hidden, n_hidden_layers=2, trunk=trunk)

    def _policy(self, network, is_backward=False):
        return estimators.DiscretePolicyEstimator(
            network, self.env.n_actions, self.preprocessor, is_backward
        )

    def _all_states(self):
        return self.env.states_from_tensor(torch.from_numpy(scenarios.cells(self.scenario)))


if __name__ == "__main__":
    version = f"{importlib.metadata.version('torchgfn')}, torch {torch.__version__}"
    scenarios.main("torchgfn", version, Trainer, import_seconds)
