"""Train one agent on several machines, or on all GPUs of one: a script to copy and change.

Every worker starts the same command. They find each other by TF_CONFIG, or under Slurm's srun:

    python -m gfn_utils.distributed_example --updates 400 --checkpoint run.npz --log-dir logs

With neither, this process trains alone, on all its GPUs or on the CPU. `--workers 2` starts two
workers on this machine. The first worker, the chief, saves the agent from time to time and shows
how it goes on. All workers read what it saved, so the checkpoint lies where all of them see it.

Exit codes: 0, the run is done; 75, it should be started again, because another worker is gone or
because this one was asked to stop (SIGTERM) and has saved; 2, the arguments are wrong; 1, not all
workers have come within `--patience` seconds, or something is wrong here, and the message says
what. When all workers are started again they go on from the checkpoint as if nothing had happened.
"""

import argparse
import faulthandler
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np

from gfn_utils import GFNAgent, HyperGrid, callbacks
from gfn_utils.checkpoint import check_path
from gfn_utils.workers import NO_ANSWER, WorkerLostError, Workers

import tensorflow as tf  # isort: skip  after gfn_utils, which chooses its settings

START_AGAIN = 75  # EX_TEMPFAIL: a scheduler can tell it from an error
NOT_ALL_CAME = 1  # the only code with which Python's faulthandler ends a process
SECONDS_TO_END = 20
FIRST_PORT_OF_SLURM, N_PORTS_OF_SLURM = 10_000, 20_000


def new_environment():
    """What to train on: the same on all workers."""
    return HyperGrid(ndim=4, height=8, r0=0.1, r1=0.5, r2=2.0)


def new_agent(args, start: int = 0) -> GFNAgent:
    """The agent as it is after `start` updates: the saved one, unless that is 0.

    A network of your own is given in both cases: `network=...`.
    """
    env = new_environment()
    if start:
        return GFNAgent.load(args.checkpoint, env=env)
    return GFNAgent(env, hidden=(args.hidden, args.hidden), seed=args.seed, learning_rate=1e-3)


def new_strategy(patience: float):
    """The replicas to train on, or None for one CPU.

    Of many workers each waits until all are there, and ends after so many seconds if they are not.
    """
    if "TF_CONFIG" not in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        os.environ["TF_CONFIG"] = tf_config_of_slurm()
    if "TF_CONFIG" not in os.environ:
        return tf.distribute.MirroredStrategy() if tf.config.list_physical_devices("GPU") else None
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    cluster = resolver.cluster_spec().as_dict()
    awaited = ", ".join(f"{job} {n} ({at})" for job in cluster for n, at in enumerate(cluster[job]))
    print(f"Waiting at most {patience:g} s for {awaited}", flush=True)
    with open(os.devnull, "w") as nowhere:
        # TensorFlow lets no other thread of Python run while it waits. This clock needs none.
        faulthandler.dump_traceback_later(patience, exit=True, file=nowhere)
        try:
            return tf.distribute.MultiWorkerMirroredStrategy(resolver)
        except (*NO_ANSWER, tf.errors.InternalError) as error:  # it came, went and came again
            reason = str(error).splitlines()[0]
            raise WorkerLostError(f"a worker was lost before all had come: {reason}") from error
        finally:
            faulthandler.cancel_dump_traceback_later()


def tf_config_of_slurm() -> str:
    """What TensorFlow's resolver finds out from the variables that srun sets.

    GPUs are Slurm's to give: a worker takes those that it sees. The resolver would choose others,
    and fails where there are none, so it is told of one for each task and is not handed on. The
    port is made from the job's number, since jobs may share a node.

    Raises SystemExit if it takes this node for another.
    """
    resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=FIRST_PORT_OF_SLURM + int(os.environ["SLURM_JOB_ID"]) % N_PORTS_OF_SLURM,
        gpus_per_node=int(os.environ["SLURM_STEP_NUM_TASKS"]),
        gpus_per_task=1,
        auto_set_gpu=False,
    )
    cluster = resolver.cluster_spec().as_dict()
    kind, index = resolver.get_task_info()
    nodes = [address.rsplit(":", 1)[0] for address in cluster[kind]]
    here = os.environ.get("SLURMD_NODENAME")
    if here in nodes and here != nodes[index]:
        raise SystemExit(
            f"task {index} runs on {here}, but by TensorFlow's order of nodes on {nodes[index]}: "
            "set TF_CONFIG, as docs/more_than_one_machine.md shows"
        )
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


def end_now(message: str):
    """End this process, to be started again, without waiting for workers that are gone."""
    print(message, file=sys.stderr, flush=True)
    os._exit(START_AGAIN)


def updates_in(checkpoint: pathlib.Path | None) -> int:
    """How many updates the saved agent has made, read without waking TensorFlow."""
    if checkpoint is None or not checkpoint.exists():
        return 0
    with np.load(checkpoint) as file:
        return int(file["iteration"])


def train(args) -> int:
    """Train as one of the workers; returns the exit code."""
    if updates_in(args.checkpoint) >= args.updates:
        print(f"{args.checkpoint} has made {args.updates} updates already")
        return 0
    strategy = new_strategy(args.patience)
    is_chief = strategy is None or Workers(strategy).number == 0
    # Not before all workers are there: by then no chief of an earlier start is still saving.
    start = updates_in(args.checkpoint)
    agent = new_agent(args, start)
    if is_chief and start:
        print(f"Going on from {start:,} updates in {args.checkpoint}", flush=True)
    asked_to_stop = []
    signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.append(True))
    report = reporter(args, start) if is_chief else None

    def callback(progress):
        if is_chief:
            if args.checkpoint is not None:
                agent.save(args.checkpoint)
            report(progress)
        return bool(asked_to_stop)

    history = agent.train(
        iterations=args.updates,
        batch_size=args.batch_size,
        resume_from=start,
        chunk=args.save_every,
        track_error=False,
        callback=callback,
        strategy=strategy,
    )
    if is_chief and args.losses is not None:
        np.savez(args.losses, loss=history.loss, log_z=history.log_z)
    return 0 if agent.iteration >= args.updates else START_AGAIN


def reporter(args, start: int):
    """A callback that prints a line, and writes a log for TensorBoard."""
    began = time.perf_counter()

    def report(progress):
        rate = (progress.done - start) / (time.perf_counter() - began)
        print(
            f"{progress.done:,} of {progress.total:,} updates, {rate:.1f} a second: "
            f"loss {progress.history.loss[-1]:.4f} nats², log Z {progress.history.log_z[-1]:.4f}",
            flush=True,
        )

    if args.log_dir is None:
        return report
    return callbacks.several(report, callbacks.tensorboard(args.log_dir))


def start_workers(n: int, arguments: list[str]) -> int:
    """Run the same script as `n` workers on this machine; returns the first exit code not 0.

    When one fails the others have a moment to say what they see, and are then ended. So they are
    when this process is interrupted.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(n)]
    command = [sys.executable, "-m", "gfn_utils.distributed_example", *arguments]
    workers, codes = [], []
    try:
        for index in range(n):
            task = {"type": "worker", "index": index}
            config = json.dumps({"cluster": {"worker": addresses}, "task": task})
            workers.append(subprocess.Popen(command, env=os.environ | {"TF_CONFIG": config}))
        deadline = None
        while None in (codes := [worker.poll() for worker in workers]):
            if deadline is None and any(codes):
                deadline = time.monotonic() + SECONDS_TO_END
            if deadline is not None and time.monotonic() > deadline:
                break
            time.sleep(0.1)
    finally:
        for worker in workers:
            worker.kill()  # TensorFlow lets no gentler signal end a worker that waits
            worker.wait()
    return next((code for code in codes if code), 0)


def free_ports(n: int) -> list[int]:
    """Ports at which nobody listens."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=400, help="of the whole run")
    parser.add_argument("--batch-size", type=int, default=128, help="trajectories of all replicas")
    parser.add_argument("--hidden", type=int, default=64, help="units of each of two layers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=pathlib.Path, help="where to save and to go on from")
    parser.add_argument("--save-every", type=int, default=100, help="updates between two saves")
    parser.add_argument("--log-dir", type=pathlib.Path, help="write TensorBoard events there")
    parser.add_argument("--losses", type=pathlib.Path, help="an npz file for loss and log Z")
    parser.add_argument("--workers", type=int, default=0, help="start these on this machine")
    parser.add_argument("--patience", type=float, default=600, help="seconds to wait for workers")
    args = parser.parse_args(arguments)
    if args.workers and "TF_CONFIG" in os.environ:
        parser.error(
            "argument --workers: it starts workers on this machine alone, so it must be left out "
            "where TF_CONFIG names workers on others"
        )
    if args.checkpoint is not None:
        try:
            folder = check_path(args.checkpoint).parent
        except (OSError, ValueError) as error:
            parser.error(f"argument --checkpoint: {error}")
        if not os.access(folder, os.W_OK | os.X_OK):
            parser.error(f"argument --checkpoint: {folder} cannot be written to")
    return args


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parse_arguments(arguments)
    if args.workers:
        return start_workers(args.workers, [*arguments, "--workers", "0"])
    try:
        return train(args)
    except WorkerLostError as error:
        end_now(str(error))


if __name__ == "__main__":
    sys.exit(main())
