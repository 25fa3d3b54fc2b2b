"""Runs that must end the same however many replicas share them, and a script that makes them.

    python distributed_jobs.py FILE [--replicas N] [--compiled] [--jobs JOB...] [--faults]

With --replicas, logical CPUs of this process are the replicas of a MirroredStrategy; without it the
process is a worker of the cluster in TF_CONFIG. FILE gets the results of each job, an npz archive.
"""

import argparse
import functools
import os
import signal

import numpy as np

from gfn_utils import Conditional, GFNAgent, HyperGrid, ReplayBuffer, training
from gfn_utils.workers import Workers

import own_networks  # isort: skip  after gfn_utils, which chooses TensorFlow's settings
import tensorflow as tf  # isort: skip

GRID = HyperGrid(2, 8, 0.1, 0.5, 2.0)
BATCH = 10  # which neither 3 nor 4 divides


class AskingGrid(HyperGrid):
    """A grid that is asked for its rewards in Python, and counts how many were asked."""

    python_reward = True
    n_asked = 0

    def log_reward(self, states):
        type(self).n_asked += len(states)
        return np.asarray(super().log_reward(tf.constant(states)))


def agent_of(env=GRID, **settings):
    return GFNAgent(env, **({"hidden": (8,), "seed": 3} | settings))


def train(agent, strategy, *data, **settings):
    """The agent trained, and all that tells of it."""
    if not data:
        settings = {"iterations": 60, **settings}
    settings = {"batch_size": BATCH, "chunk": 40, "strategy": strategy, **settings}
    history = agent.train(*data, **settings)
    weights = [np.ravel(weight) for weight in agent._weights()]
    return {"loss": history.loss, "log_z": history.log_z, "weights": np.concatenate(weights)}


def on_policy(strategy, **settings):
    agent = agent_of(clip_norm=5.0, weight_decay=0.01)
    return train(agent, strategy, **{"iterations": 200, **settings})


def offline(strategy):
    """64 objects in batches of 10: the last of each epoch is of 4."""
    return train(agent_of(backward_policy="uniform"), strategy, GRID.states(), epochs=9)


def measured(strategy):
    objects = np.asarray(GRID.states())[::3]
    log_rewards = np.sin(np.arange(len(objects)))
    settings = {"epochs": 20, "objective": "detailed_balance"}
    return train(agent_of(), strategy, objects, log_rewards, **settings)


def mixed(strategy):
    """With a reward in Python, of which each worker asks its share."""
    AskingGrid.n_asked = 0
    agent, buffer, kept = agent_of(AskingGrid(2, 8)), ReplayBuffer(30, 1.0, refresh=20), []
    settings = {"replay": buffer, "replay_share": 0.4, "keep_trajectories": True}
    result = train(agent, strategy, callback=lambda p: kept.append(p.trajectories), **settings)
    return result | {
        "objects": buffer.objects,
        "log_rewards": buffer.log_rewards,
        "kept": np.concatenate([each.states for each in kept]),
        "n_asked": np.array(AskingGrid.n_asked),
    }


def own_network(strategy):
    agent = GFNAgent(own_networks.TokenGrid(2, 8), network=own_networks.transformer, seed=3)
    return train(agent, strategy)


def conditional(strategy, objective="trajectory_balance"):
    env = Conditional(
        GRID,
        [[0.5], [1.0], [2.0]],
        lambda states, conditions: GRID.log_reward(states) * conditions[:, 0],
        trajectories_per_condition=3,
    )
    return train(agent_of(env), strategy, objective=objective)


def blockwise(strategy):
    """Where the network runs on the states that are visited alone."""
    return train(agent_of(HyperGrid(4, 8)), strategy, objective="sub_trajectory_balance")


JOBS = {
    "on policy": on_policy,
    "offline": offline,
    "measured": measured,
    "mixed": mixed,
    "own network": own_network,
    "conditional": conditional,
    "log variance": functools.partial(conditional, objective="log_variance"),
    "blockwise": blockwise,
    "forward looking": functools.partial(on_policy, objective="forward_looking", iterations=60),
}


def what_goes_wrong(call):
    """The kind and the words of the error that a call raises, or None."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def faults(strategy):
    """What a worker sees when the last one has another seed, stops, fails and is killed."""
    is_last = Workers(strategy).number == Workers(strategy).n - 1
    settings = {"iterations": 40, "chunk": 10}

    def fail(states):
        if is_last:
            raise LookupError("the table has no such object")
        return np.zeros(len(states))

    def kill(progress):
        if is_last and progress.done == 20:
            os.kill(os.getpid(), signal.SIGKILL)

    def failing_agent():
        env = AskingGrid(2, 8)
        object.__setattr__(env, "log_reward", fail)
        return agent_of(env, log_z=1.0)

    def failing_callback(progress):
        if is_last:
            raise OSError("no space left")

    def run(agent, **more):
        return lambda: train(agent, strategy, **settings, **more)

    seen = {
        "another seed": what_goes_wrong(run(agent_of(seed=is_last * 1))),
        "another batch size": what_goes_wrong(run(agent_of(), batch_size=BATCH + is_last)),
        "a reward": what_goes_wrong(run(failing_agent())),
        "a callback": what_goes_wrong(run(agent_of(), callback=failing_callback)),
    }
    agent = agent_of()
    run(agent, callback=lambda progress: is_last)()
    seen["made until one stopped"] = str(agent.iteration)
    seen["killed"] = what_goes_wrong(run(agent, callback=kill))
    seen["made until one was killed"] = str(agent.iteration)
    return {name: np.array(words) for name, words in seen.items()}


def use_traced_programs():
    """As conftest.without_xla: programs take less time to make, and more to run."""
    training.xla = functools.partial(tf.function, autograph=False)


def strategy_of(n_replicas):
    """Logical CPUs of this process, or the workers of the cluster in TF_CONFIG.

    A process can have one only: TensorFlow mixes up the sums of two of different sizes.
    """
    if n_replicas is None:
        return tf.distribute.MultiWorkerMirroredStrategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * n_replicas
    tf.config.set_logical_device_configuration(cpu, parts)
    return tf.distribute.MirroredStrategy([f"CPU:{k}" for k in range(n_replicas)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--replicas", type=int)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--jobs", nargs="*", default=list(JOBS))
    parser.add_argument("--faults", action="store_true")
    args = parser.parse_args()
    strategy = strategy_of(args.replicas)
    if not args.compiled:
        use_traced_programs()
    jobs = {name: JOBS[name] for name in args.jobs} | ({"faults": faults} if args.faults else {})
    results = {
        f"{job}/{name}": value
        for job, make in jobs.items()
        for name, value in make(strategy).items()
    }
    with open(args.file, "wb") as file:
        np.savez(file, **results)
        file.flush()
    os._exit(0)  # the workers that are gone would be waited for


if __name__ == "__main__":
    main()
