"""The searches behind lesson 11: how the condition is encoded, and the rivals' best settings.

    python benchmarks/one_agent_for_every_trade_off.py      # 2 minutes on 2 cores

Prints two tables. First the conditional agent of the lesson, with a third of its updates, for each
encoding of β: its total variation, mean over 16 preferences and two seeds; and as a control that
of an answer which ignores the preference, the exact target of equal weights. Then agents for one
preference each, for each budget of the lesson, learning rate and exploration γ: their total
variation at β = 4, mean over (at most 8) preferences and two seeds. The preferences are not those
by which the lesson examines its agents.
"""

import itertools

import numpy as np

from gfn_utils import Conditional, GFNAgent, HyperGrid, evaluation  # before TensorFlow
from gfn_utils.rewards import four_objectives

# isort: split
import tensorflow as tf

HEIGHT, BATCH, UPDATES = 32, 96, 2200
SEEDS = (0, 1)
BETAS = (1.0, 4.0, 16.0)
PREFERENCES = np.random.default_rng(98).dirichlet(np.ones(4), 16)  # the lesson's have the seed 99
OF_CELL = tf.constant(four_objectives.on_grid(HEIGHT))


def main():
    print("| what the network sees of β | β = 1 | β = 4 | β = 16 |\n|---|---|---|---|")
    print_row("none: equal weights for all", errors_of_equal_weights())
    for name, encode in ENCODINGS.items():
        print_row(name, np.mean([errors_of_one_agent(encode, seed) for seed in SEEDS], axis=0))
    print(
        "\n| agents | updates each | learning rate | γ | total variation |\n|---|---|---|---|---|"
    )
    env = conditional(ENCODINGS["log β / log 16"])  # of which the rivals see one condition each
    settings = itertools.product((2, 8, 32), (3e-3, 1e-2, 3e-2), (0.0, 0.05, 0.1))
    for n_agents, rate, gamma in settings:
        error = np.mean([error_of_many(env, n_agents, rate, gamma, seed) for seed in SEEDS])
        row = n_agents, UPDATES // n_agents, rate, gamma, f"{error:.3f}"
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def print_row(name, errors):
    print(f"| {name} | " + " | ".join(f"{error:.3f}" for error in errors) + " |", flush=True)


def thermometer(beta):
    """16 tubes for β from 0 to 16, each as full as β reaches into it."""
    return np.clip(beta - np.arange(16), 0, 1)


ENCODINGS = {
    "β/16": lambda beta: beta / 16,
    "log β / log 16": lambda beta: np.log(beta) / np.log(16),
    "both": lambda beta: np.concatenate([beta / 16, np.log(beta) / np.log(16)], axis=1),
    "thermometer of 16 tubes": thermometer,
}


def conditional(encode) -> Conditional:
    """The environment of the lesson: 20,000 conditions (w, β)."""
    rng = np.random.default_rng(0)
    preference = rng.dirichlet(np.ones(4), 20_000)
    beta = np.exp(rng.uniform(np.log(0.75), np.log(18), [20_000, 1]))

    def encode_condition(condition):
        return np.concatenate([condition[:, :4], encode(condition[:, 4:])], axis=1)

    return Conditional(
        HyperGrid(ndim=2, height=HEIGHT),
        np.concatenate([preference, beta], axis=1),
        log_reward_of,
        encode_condition,
    )


def log_reward_of(states, condition):
    """β log Σ wᵢ fᵢ(x), `[B]`."""
    objectives = tf.gather(OF_CELL, states[:, 0] * HEIGHT + states[:, 1])
    return condition[:, 4] * tf.math.log(tf.reduce_sum(condition[:, :4] * objectives, axis=1))


def errors_of_one_agent(encode, seed):
    env = conditional(encode)
    agent = new_agent(env, 1e-2, 0.0, 0.02, seed)
    agent.train(iterations=UPDATES // 3, batch_size=BATCH)
    return [np.mean([error_of(agent.given([*w, beta])) for w in PREFERENCES]) for beta in BETAS]


def errors_of_equal_weights():
    """The mean error of the target of equal weights, taken for every preference, at each β."""
    env = conditional(ENCODINGS["log β / log 16"])
    errors = []
    for beta in BETAS:
        same = env.given([0.25, 0.25, 0.25, 0.25, beta]).target()
        targets = [env.given([*w, beta]).target() for w in PREFERENCES]
        errors.append(np.mean([evaluation.total_variation(same, each) for each in targets]))
    return errors


def error_of_many(env, n_agents, rate, gamma, seed):
    """The mean error of the first agents at β = 4, each with its share of the updates."""
    errors = []
    for w in PREFERENCES[: min(n_agents, 8)]:
        agent = new_agent(env.given([*w, 4.0]), rate, gamma, 0.1, seed)
        agent.train(iterations=UPDATES // n_agents, batch_size=BATCH)
        errors.append(error_of(agent))
    return np.mean(errors)


def new_agent(env, rate, gamma, log_z_rate, seed) -> GFNAgent:
    return GFNAgent(
        env,
        hidden=(96, 96),
        gamma=gamma,
        learning_rate=rate,
        log_z_learning_rate=log_z_rate,
        clip_norm=10.0,
        dtype="float32",
        seed=seed,
    )


def error_of(agent):
    learned = evaluation.terminating_distribution(agent)
    return evaluation.total_variation(learned, agent.env.target())


if __name__ == "__main__":
    main()
