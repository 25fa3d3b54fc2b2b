"""Training with a tf.distribute strategy: as many replicas as there are, the same result."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import distributed_jobs
import numpy as np
import pytest
import tensorflow as tf
from distributed_jobs import GRID, agent_of
from small_jobs import WITHOUT_XLA

from gfn_utils import GFNAgent, HyperGrid, distributed_example, sampling, training, workers
from gfn_utils.distributed import share_of
from gfn_utils.distributed_example import free_ports
from gfn_utils.sampling import Rows

SCRIPT = pathlib.Path(distributed_jobs.__file__)
SECONDS = 900  # after which what was started is ended


def start(file, *arguments, **environment):
    command = [sys.executable, SCRIPT, file, *arguments]
    return subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.PIPE)


def wait_for(processes, killed=()):
    """Until all have ended; those that were to end well have, and all are gone in any case."""
    deadline = time.monotonic() + SECONDS
    try:
        for number, process in enumerate(processes):
            _, errors = process.communicate(timeout=max(1, deadline - time.monotonic()))
            assert number in killed or process.returncode == 0, errors.decode()[-3000:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def by_logical_cpus(folder, n, *arguments):
    """The results of jobs whose replicas are `n` logical CPUs of one process."""
    file = folder / f"{n}.npz"
    wait_for([start(file, "--replicas", str(n), *arguments)])
    return np.load(file)


def by_workers(folder, n, *arguments, killed=()):
    """The results of jobs on each of `n` processes, None for those that are killed."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(n)]
    tasks = [{"type": "worker", "index": index} for index in range(n)]
    configs = [json.dumps({"cluster": {"worker": addresses}, "task": task}) for task in tasks]
    files = [folder / f"worker-{index}.npz" for index in range(n)]
    pairs = zip(files, configs, strict=True)
    wait_for([start(file, *arguments, TF_CONFIG=config) for file, config in pairs], killed)
    return [None if index in killed else np.load(file) for index, file in enumerate(files)]


def assert_same_results(found, job, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(found[f"{job}/{name}"], value, 0, 1e-9, err_msg=f"{job}: {name}")


@WITHOUT_XLA
@pytest.mark.parametrize(
    ("n", "jobs"),
    [
        (2, ["mixed", "log variance"]),
        (2, [job for job in distributed_jobs.JOBS if job not in ("mixed", "log variance")]),
        (4, ["on policy", "mixed"]),
    ],
    ids=["two", "two, more ways to train", "four"],
)
def test_logical_cpus_give_the_results_of_one(n, jobs, tmp_path):
    found = by_logical_cpus(tmp_path, n, "--jobs", *jobs)
    for job in jobs:
        assert_same_results(found, job, distributed_jobs.JOBS[job](None))


@WITHOUT_XLA
def test_workers_give_the_results_of_one(tmp_path):
    jobs = "on policy", "mixed"  # Conditional draws other conditions in compiled programs
    by = by_workers(tmp_path, 2, "--compiled", "--jobs", *jobs)
    for job in jobs:
        expected = distributed_jobs.JOBS[job](None)
        n_asked = expected.pop("n_asked", 0)
        for found in by:
            assert_same_results(found, job, expected)
        if n_asked:  # by each worker for its own share, of which the chief's is not the whole
            assert sum(found[f"{job}/n_asked"] for found in by) == n_asked
            assert by[0][f"{job}/n_asked"] < n_asked


def test_workers_are_killed_and_nothing_is_lost():
    """Each role before the first update, between updates, and while the agent is saved."""
    command = [sys.executable, SCRIPT.parent.parent / "tools" / "kill_workers.py", "--kills", "6"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 kills, and the agent is the same" in done.stdout


def test_workers_end_together(tmp_path):
    chief, worker, _ = by_workers(tmp_path, 3, "--jobs", "--faults", killed=(2,))
    for survivor in (chief, worker):
        seen = {name.removeprefix("faults/"): str(value) for name, value in survivor.items()}
        told = "ValueError: all workers must train alike, but {} on worker 2 of 3 (the chief is 0)"
        assert seen["another seed"].startswith(told.format("seed"))
        assert seen["another batch size"].startswith(told.format("batch_size"))
        assert seen["a reward"].startswith(
            "RuntimeError: the run was ended by an error on worker 2"
        )
        assert seen["a callback"].startswith(
            "RuntimeError: the run was ended by an error on worker"
        )
        assert seen["made until one stopped"] == "10"
        assert seen["killed"].startswith("WorkerLostError: no answer any more from worker")
        assert "worker 2 (127.0.0.1:" in seen["killed"]
        assert "start them again" in seen["killed"]
        assert seen["made until one was killed"] == "30"


def test_the_rows_of_a_share_are_those_of_the_whole_batch():
    agent, rows = agent_of(), Rows(3, 8, 11)
    seed = tf.constant([1, 2], tf.int64)

    def evaluate(states):
        return agent.log_policy(states), []

    whole, _ = sampling.draw_forward(GRID, evaluate, 11, seed, 0.5)
    share, _ = sampling.draw_forward(GRID, evaluate, 5, seed, 0.5, rows)
    for found, expected in zip(share[:3], whole[:3], strict=True):
        np.testing.assert_array_equal(found, expected[3:8])
    whole = sampling.draw_backward(GRID, agent.log_policy, whole.terminal, seed)
    share = sampling.draw_backward(GRID, agent.log_policy, whole.terminal[3:8], seed, rows)
    for found, expected in zip(share[:3], whole[:3], strict=True):
        np.testing.assert_array_equal(found, expected[3:8])


def test_shares_are_all_of_a_batch_and_as_even_as_can_be():
    job = training.Job(agent_of().kind, "trajectory_balance", 10, 7)
    shares = [share_of(job, k, k + 1, 4) for k in range(4)]
    assert [share.n_sampled for share in shares] == [2, 3, 2, 3]
    assert sum(share.n_given for share in shares) == 7
    assert [share.sampled_rows.first for share in shares] == [0, 2, 5, 7]
    assert share_of(job, 1, 3, 4).sampled_rows == Rows(2, 7, 10)


@pytest.mark.parametrize("replicas", [8, 11])
def test_a_batch_too_small_for_the_replicas_is_refused(replicas):
    job = training.Job(agent_of().kind, "trajectory_balance", 10, 7)
    told = rf"batch_size must have .* each of the {replicas} replicas of strategy, got 17: 10 on"
    with pytest.raises(ValueError, match=told):
        share_of(job, 0, 1, replicas)


@pytest.mark.parametrize("strategy", ["GPU:0", tf.distribute.get_strategy()])
def test_other_strategies_are_refused(strategy):
    agent = agent_of()
    with pytest.raises(TypeError, match=r"strategy must be None or one of .*MirroredStrategy"):
        agent.train(iterations=1, strategy=strategy)
    assert agent.iteration == 0


@WITHOUT_XLA
def test_a_strategy_of_one_replica_changes_nothing():
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    for job in ("on policy", "mixed"):
        found = distributed_jobs.JOBS[job](strategy)
        expected = distributed_jobs.JOBS[job](None)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, 0, 1e-9, err_msg=f"{job}: {name}")


def test_an_error_of_the_reward_leaves_the_agent_as_it_was():
    agent = agent_of(distributed_jobs.AskingGrid(2, 8), log_z=1.0)

    def fail(states):
        raise LookupError("the table has no such object")

    object.__setattr__(agent.env, "log_reward", fail)
    with pytest.raises(LookupError, match="no such object"):
        agent.train(iterations=5, strategy=tf.distribute.OneDeviceStrategy("CPU:0"))
    assert agent.iteration == 0


def test_workers_that_are_gone_are_named():
    """One that refuses connections, and one that accepts them and has stopped."""
    team = workers.Workers(tf.distribute.OneDeviceStrategy("CPU:0"))
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        stopped = f"worker 0 (127.0.0.1:{server.getsockname()[1]})"
        team.n, team._names = 3, ["chief 0 (a:1)", stopped, f"worker 1 (127.0.0.1:{port})"]
        message = (
            "/job:chief/replica:0/task:0/device:CPU:0 Collective ops is aborted by: The following "
            "tasks are unhealthy (stopped sending heartbeats):\n/job:worker/replica:0/task:0\n"
            "from remote target /job:chief/replica:0/task:0 while calling CompleteInstance"
        )
        told = re.escape(f"no answer any more from {stopped}, {team._names[2]}, so this run")
        with pytest.raises(workers.WorkerLostError, match=told), team.together():
            raise tf.errors.UnavailableError(None, None, message)
        with pytest.raises(ZeroDivisionError), team.together():
            1 / 0  # noqa: B018


def test_a_worker_does_not_name_itself():
    """TensorFlow 2.21 names the device of the operation that failed before the cause."""
    team = workers.Workers(tf.distribute.OneDeviceStrategy("CPU:0"))
    team.n, team._names = 2, ["worker 0 (b:1)", "worker 1 (c:1)"]
    message = (
        "{{function_node __wrapped__CollectiveReduceV2_device_/job:worker/replica:0/task:0/device:"
        "CPU:0}} Collective ops is aborted by: Error reported from /job:worker/task:1: ..."
    )
    with pytest.raises(workers.WorkerLostError, match=r"from worker 1 \(c:1\)"), team.together():
        raise tf.errors.UnavailableError(None, None, message)


def test_the_example_goes_on_from_its_checkpoint(tmp_path, capsys):
    def run(name, updates):
        files = [
            "--checkpoint",
            tmp_path / f"{name}.npz",
            "--losses",
            tmp_path / f"{name}-loss.npz",
        ]
        sizes = ["--updates", updates, "--save-every", 4, "--batch-size", 8, "--hidden", 4]
        return distributed_example.main([str(word) for word in [*files, *sizes]])

    assert run("whole", 12) == 0
    assert "12 of 12 updates" in capsys.readouterr().out
    # The first part of the same run: its learning rates are those of 12 updates.
    killed = GFNAgent.load(tmp_path / "whole.npz")
    killed.reset()
    killed.train(iterations=12, batch_size=8, chunk=4, callback=lambda progress: progress.done == 4)
    killed.save(tmp_path / "killed.npz")
    assert run("killed", 12) == 0
    with np.load(tmp_path / "killed.npz") as found, np.load(tmp_path / "whole.npz") as expected:
        np.testing.assert_array_equal(found["weights_0"], expected["weights_0"])
    with (
        np.load(tmp_path / "killed-loss.npz") as found,
        np.load(tmp_path / "whole-loss.npz") as all_,
    ):
        np.testing.assert_array_equal(found["loss"], all_["loss"][4:])
    assert "Going on from 4 updates" in capsys.readouterr().out
    assert run("killed", 12) == 0
    assert "has made 12 updates already" in capsys.readouterr().out


FEW = ["--save-every", "4", "--batch-size", "8", "--hidden", "4"]


def test_the_example_asked_to_stop_saves_and_goes_on_when_it_is_started_again(
    tmp_path, monkeypatch
):
    arguments = [*FEW, "--updates", "12", "--checkpoint", str(tmp_path / "run.npz")]

    def reporter(args, start):
        return lambda progress: os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    try:
        monkeypatch.setattr(distributed_example, "reporter", reporter)
        for updates in (4, 8):
            assert distributed_example.main(arguments) == distributed_example.START_AGAIN
            assert distributed_example.updates_in(tmp_path / "run.npz") == updates
        assert distributed_example.main(arguments) == 0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_example_goes_on_in_an_environment_of_ones_own(tmp_path, monkeypatch):
    class OwnGrid(HyperGrid):
        pass

    monkeypatch.setattr(distributed_example, "new_environment", lambda: OwnGrid(2, 4))
    for updates in (4, 8):
        run = ["--updates", str(updates), "--checkpoint", str(tmp_path / "run.npz")]
        assert distributed_example.main([*FEW, *run]) == 0


def test_a_worker_that_is_lost_before_all_have_come_is_one_to_start_again(monkeypatch):
    def strategy(resolver):
        raise tf.errors.InternalError(None, None, "task:1 connected with another incarnation")

    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", strategy)
    cluster = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}
    config = {"cluster": cluster, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    with pytest.raises(
        workers.WorkerLostError, match=r"before all had come: .*another incarnation"
    ):
        distributed_example.new_strategy(patience=60)


def test_an_error_of_a_service_that_a_reward_asks_is_not_taken_for_a_lost_worker(monkeypatch):
    def refuse(args):
        raise ConnectionRefusedError("the service does not answer")

    monkeypatch.setattr(distributed_example, "train", refuse)
    with pytest.raises(ConnectionRefusedError, match="the service"):
        distributed_example.main([])


def test_wrong_arguments_of_the_example_are_named_before_anything_starts(
    tmp_path, monkeypatch, capsys
):
    def told(*arguments):
        with pytest.raises(SystemExit) as ended:
            distributed_example.main(list(arguments))
        assert ended.value.code == 2
        return capsys.readouterr().err

    assert "folder that exists" in told("--checkpoint", str(tmp_path / "none" / "run.npz"))
    monkeypatch.setenv("TF_CONFIG", "{}")
    assert "must be left out where TF_CONFIG" in told("--workers", "2")


def test_the_example_ends_all_workers_when_one_fails():
    assert distributed_example.start_workers(2, ["--no-such-argument"]) == 2


def set_slurm(monkeypatch, nodes, tasks, number, n_tasks):
    """The variables that srun sets for a task."""
    monkeypatch.setenv("SLURM_JOB_ID", "4000007")
    monkeypatch.setenv("SLURM_PROCID", str(number))
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", str(n_tasks))
    monkeypatch.setenv("SLURM_STEP_NODELIST", nodes)
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", tasks)


@pytest.mark.parametrize(
    ("nodes", "tasks", "number", "addresses"),
    [
        ("n[1-2]", "1(x2)", 1, ["n1:10007", "n2:10007"]),
        (
            "node[09-10]",
            "2(x2)",
            2,
            ["node09:10007", "node09:10008", "node10:10007", "node10:10008"],
        ),
    ],
    ids=["a worker a node", "two workers a node"],
)
def test_workers_find_each_other_under_slurm(nodes, tasks, number, addresses, monkeypatch):
    set_slurm(monkeypatch, nodes, tasks, number, len(addresses))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert json.loads(distributed_example.tf_config_of_slurm()) == {
        "cluster": {"worker": addresses},
        "task": {"type": "worker", "index": number},
    }
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"  # what Slurm has bound to the task


def test_a_task_that_slurm_runs_on_another_node_than_tensorflow_believes_is_told(monkeypatch):
    # As text, node10 comes before node9.
    set_slurm(monkeypatch, "node[9-10]", "1(x2)", 0, 2)
    monkeypatch.setenv("SLURMD_NODENAME", "node9")
    with pytest.raises(SystemExit, match=r"task 0 runs on node9, but .* on node10: set TF_CONFIG"):
        distributed_example.tf_config_of_slurm()
