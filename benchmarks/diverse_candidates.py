"""The searches behind lesson 08: every method at its best, on grids 8⁴ and 16⁴ with R₀ = 0.001.

    python benchmarks/diverse_candidates.py                    # 20 minutes on 2 cores
    python benchmarks/diverse_candidates.py chains evolution   # only these

Prints a table for each method. Every run ends with 10,000 samples, and a row tells, as the mean of
two seeds: the states visited, those for drawing the samples included; the distinct objects whose
reward was asked; the L1 error of the samples; the modes among them; and the part of the target that
the objects asked hold. Budgets are the lesson's or less. diverse_candidates.md holds the result.
"""

import itertools
import sys

import numpy as np

from gfn_utils import GFNAgent, HyperGrid, ReplayBuffer, evaluation
from gfn_utils.baselines import evolutionary_search, metropolis_hastings, train_ppo

SAMPLES = 10_000
SEEDS = (0, 1)
TRAJECTORIES = 32_000
VISITS = {8: 400_000, 16: 800_000}  # about those of so many trajectories of a trained agent
ENVS = {height: HyperGrid(ndim=4, height=height, r0=0.001, r2=2.0) for height in (8, 16)}


def main():
    methods = {"chains": chains, "gflownet": gflownet, "ppo": ppo, "evolution": evolution}
    for name in sys.argv[1:] or methods:
        print(f"\n## {name}\n")
        print("| grid | settings | visited | asked | L1 | modes | known |\n" + "|---" * 7 + "|")
        for height, env in ENVS.items():
            for settings, run in methods[name](env):
                row = np.mean([run(seed) for seed in SEEDS], axis=0)
                shown = " | ".join(f"{value:,.{d}f}" for value, d in zip(row, DIGITS, strict=True))
                print(f"| {height}⁴ | {settings} | {shown} |", flush=True)


DIGITS = (0, 0, 3, 1, 3)


def chains(env):
    """Jumps, temperatures, and few long or many short chains."""
    ladders = (None, (1, 4), (1, 4, 16), (1, 3, 10, 30))
    for jump, ladder, n in itertools.product(
        (1, env.height // 2, env.height - 1), ladders, (16, 64)
    ):
        yield f"jump {jump}, {n} chains, temperatures {ladder or 1}", _chains(env, n, jump, ladder)


def _chains(env, n_chains, jump, ladder):
    def run(seed):
        n_steps = VISITS[env.height] // n_chains // len(ladder or [1])
        found = metropolis_hastings(env, n_chains, n_steps, seed, None, jump, ladder)
        cells = env.index(spread(found.states).reshape(-1, env.ndim)).numpy()
        asked = found.asked.reshape(-1, env.ndim)
        counts = np.bincount(cells[:SAMPLES], minlength=env.n_states)
        return scores(env, n_chains * n_steps * len(ladder or [1]), asked[asked[:, 0] >= 0], counts)

    return run


def spread(states):
    """The samples among states `[T, C, ...]`: those of all chains after steps at even distances,
    without the first tenth."""
    n_steps, n_chains = states.shape[:2]
    each = -(-SAMPLES // n_chains)
    return states[np.linspace(n_steps / 10, n_steps - 1, each).astype(int)]


def gflownet(env):
    """Learning rates, exploration, width, and how much is drawn from the replay buffer."""
    choices = itertools.product((3e-3, 1e-2), (0.0, 0.1, 0.5), (64, 128), (1 / 16,))
    replayed = [(3e-3, 0.0, 128, 1 / 4), (3e-3, 0.0, 128, 1 / 2), (1e-2, 0.0, 64, 1 / 4)]
    for rate, gamma, width, share in (*choices, *replayed):
        name = f"rate {rate}, γ {gamma}, {width} units, replayed {share:g}"
        yield name, _gflownet(env, rate, gamma, width, share)


def _gflownet(env, rate, gamma, width, share):
    agent = GFNAgent(
        env,
        hidden=(width, width),
        learning_rate=rate,
        log_z_learning_rate=0.1,
        gamma=gamma,
        dtype="float32",
        adam_betas=(0.9, 0.999),
    )

    def run(seed):
        agent.reset(seed)
        asked = Asked(10**9, refresh=50)
        updates = round(TRAJECTORIES / 16 / (1 - share))
        agent.train(
            iterations=updates,
            decay="linear",
            chunk=500,
            track_error=False,
            replay=asked,
            replay_share=share,
        )
        return scores_of_agent(env, agent, asked.visited, asked.objects, seed)

    return run


class Asked(ReplayBuffer):
    """A buffer that keeps all it is given, and counts the states that were visited for that."""

    visited = 0

    def add(self, objects, log_rewards):
        super().add(objects, log_rewards)
        self.visited += int(np.sum(objects)) + len(objects)


def ppo(env):
    """Both returns: learning rates, bonuses, and batches with one or four steps each."""
    plain = itertools.product(("reward",), (3e-4, 1e-3, 3e-3), (0.1, 0.3, 1.0), (16,), (4,))
    soft = itertools.product(("soft",), (3e-4, 1e-3, 3e-3), (0.0,), (16, 64), (1, 2, 4))
    curious = itertools.product(("soft",), (1e-3,), (0.3,), (16, 64), (4,))
    for returns, rate, weight, batch, epochs in (*plain, *soft, *curious):
        name = f"{returns}, rate {rate}, bonus {weight}, batch {batch}, epochs {epochs}"
        yield name, _ppo(env, returns, rate, weight, batch, epochs)


def _ppo(env, returns, rate, weight, batch, epochs):
    def run(seed):
        agent = train_ppo(
            env,
            TRAJECTORIES // batch,
            batch_size=batch,
            hidden=(64, 64),
            seed=seed,
            learning_rate=rate,
            entropy_weight=weight,
            returns=returns,
            epochs=epochs,
        )
        asked = agent.asked.reshape(-1, env.ndim)
        return scores_of_agent(env, agent, agent.visited.sum(), asked, seed)

    return run


def evolution(env):
    """Population, tournament, moves and jumps. Its samples are members of the last population."""
    choices = itertools.product((100, 300, 1000, 3000), (2, 4, 8), (1, env.height - 1))
    several = [(300, 2, 1), (300, 4, 1), (300, 4, env.height - 1)]
    settings = [(*choice, 1) for choice in choices] + [(*choice, 2) for choice in several]
    for population, tournament, jump, mutations in settings:
        name = f"population {population}, best of {tournament}, jump {jump}, {mutations} moves"
        yield name, _evolution(env, population, tournament, mutations, jump)


def _evolution(env, population, tournament, mutations, jump):
    def run(seed):
        generations = {8: 6000, 16: 24_000}[env.height] // population
        found = evolutionary_search(env, generations, population, tournament, mutations, jump, seed)
        members = env.index(found.population).numpy()
        picked = np.random.default_rng(seed).choice(members, SAMPLES)
        counts = np.bincount(picked, minlength=env.n_states)
        return scores(env, found.visited_by[-1], found.asked, counts)

    return run


def scores_of_agent(env, agent, visited, asked, seed):
    """Of 10,000 samples drawn by an agent, which costs as many trajectories."""
    flows = evaluation.flows(agent)
    p = flows.edge[:, env.stop_action]
    counts = np.random.default_rng(seed).multinomial(SAMPLES, p / p.sum())
    return scores(env, visited + SAMPLES * flows.state.sum(), asked, counts)


def scores(env, visited, asked, counts):
    target = env.target()
    error = evaluation.l1_error(counts / SAMPLES, target)
    modes = np.count_nonzero(counts[evaluation.is_mode(env)])
    known = np.unique(env.index(asked))
    return visited, len(known), error, modes, target[known].sum()


if __name__ == "__main__":
    main()
