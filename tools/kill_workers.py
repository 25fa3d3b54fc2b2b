"""Kill the workers of a run again and again, and see that nothing is lost.

    python tools/kill_workers.py --kills 20

Workers of `gfn_utils.distributed_example` train on this machine. One of them is killed (SIGKILL):
now the chief, now the last worker, before the first update, between updates, or while the agent is
being saved. Then the others must end by themselves, with a message that names it; the checkpoint
must be whole; and all are started again. The agent that comes out must be that of a run that nobody
has disturbed. Prints a line for each kill, and ends with an error if anything is not so.
"""

import argparse
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

from gfn_utils.distributed_example import NOT_ALL_CAME, START_AGAIN, free_ports

SAVE_EVERY = 20
MOMENTS = ("between updates", "while saving", "before the first update")


class Worker:
    """A process, and what it has said so far."""

    def __init__(self, index: int, addresses: list[str], arguments: list[str]):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        self.name = f"worker {index} ({addresses[index]})"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gfn_utils.distributed_example", *arguments],
            env=os.environ | {"TF_CONFIG": json.dumps(cluster)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def has_ended(self) -> bool:
        return self.process.poll() is not None


def start(n: int, checkpoint: pathlib.Path, updates: int, patience: float) -> list[Worker]:
    """The workers of one run."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(n)]
    arguments = ["--checkpoint", str(checkpoint), "--updates", str(updates)]
    arguments += ["--save-every", str(SAVE_EVERY), "--patience", str(patience), "--hidden", "16"]
    return [Worker(index, addresses, arguments) for index in range(n)]


def wait_until(happened, seconds: float, what: str) -> None:
    """Poll `happened()`; TimeoutError if it stays false."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:g} s: {what}")
        time.sleep(0.002)


def end(workers: list[Worker]) -> None:
    for worker in workers:
        worker.process.kill()
        worker.process.wait()


def run_undisturbed(args, checkpoint: pathlib.Path, updates: int) -> None:
    """Train to the end."""
    workers = start(args.workers, checkpoint, updates, args.seconds)
    try:
        for worker in workers:
            wait_until(worker.has_ended, args.seconds, f"{worker.name} has not ended")
            assert worker.process.returncode == 0, "".join(worker.lines)
    finally:
        end(workers)


def kill_one(args, checkpoint: pathlib.Path, updates: int, role: str, moment: str, rng) -> str:
    """Start a run, and kill one of its workers; returns what another said of it."""
    workers = start(args.workers, checkpoint, updates, args.patience)
    victim, others = (workers[0], workers[1:]) if role == "chief" else (workers[-1], workers[:-1])
    try:
        wait_for_moment(args, moment, workers[0], checkpoint, rng)
        assert not victim.has_ended(), "".join(victim.lines)
        victim.process.send_signal(signal.SIGKILL)
        for other in others:
            wait_until(other.has_ended, args.patience + 60, f"{other.name} goes on alone")
            said = "".join(other.lines[-3:])
            still_waited = said.splitlines()[-1].startswith("Waiting at most")
            expected = NOT_ALL_CAME if still_waited else START_AGAIN
            assert other.process.returncode == expected, f"{other.process.returncode}: {said}"
            assert victim.name in said, f"{other.name} does not name {victim.name}: {said}"
    finally:
        end(workers)
    return said.strip().splitlines()[-1]


def wait_for_moment(args, moment, chief, checkpoint, rng) -> None:
    """Return when it is time to kill."""
    if moment == "before the first update":
        time.sleep(rng.uniform(0, args.before))
        return
    has_begun = lambda: any("updates," in line for line in chief.lines)  # noqa: E731
    wait_until(has_begun, args.seconds, "no progress")
    if moment == "between updates":
        time.sleep(rng.uniform(0, 0.5))
        return
    old = unfinished_files(checkpoint)  # a chief that was killed may have left one
    wait_until(lambda: unfinished_files(checkpoint) - old, args.seconds, "nothing is saved")


def unfinished_files(checkpoint) -> set[pathlib.Path]:
    """What is being saved, before it takes the checkpoint's place (`checkpoint.replacing`)."""
    return set(checkpoint.parent.glob(f".{checkpoint.name}.*.part"))


def made(checkpoint: pathlib.Path) -> int:
    """How many updates the saved agent has made; every array of the file is read."""
    if not checkpoint.exists():
        return 0
    with np.load(checkpoint) as file:
        arrays = {name: file[name] for name in file.files}
    return int(arrays["iteration"])


def assert_same(checkpoint: pathlib.Path, undisturbed: pathlib.Path) -> float:
    """Both agents have the same weights and moments; returns the greatest difference."""
    with np.load(checkpoint) as found, np.load(undisturbed) as expected:
        assert set(found.files) == set(expected.files)
        names = [name for name in expected.files if name.startswith(("weights", "first", "second"))]
        difference = max(np.abs(found[name] - expected[name]).max() for name in names)
        assert found["iteration"] == expected["iteration"]
    assert difference < 1e-9, difference
    return float(difference)


def main():
    args = parse_arguments()
    rng = np.random.default_rng(args.seed)
    updates = 3 * SAVE_EVERY * (args.kills + 2)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, undisturbed = (
            pathlib.Path(folder) / f"{name}.npz" for name in ("run", "plain")
        )
        run_undisturbed(args, undisturbed, updates)
        roles = itertools.cycle(["chief", "worker"])
        moments = [MOMENTS[number // 2 % len(MOMENTS)] for number in range(args.kills)]
        for number, (role, moment) in enumerate(zip(roles, moments, strict=False), 1):
            before = made(checkpoint)
            said = kill_one(args, checkpoint, updates, role, moment, rng)
            after = made(checkpoint)
            assert before <= after < updates, f"{before} updates were saved, and then {after}"
            print(f"{number}: {role}, {moment}, {after} of {updates} saved: {said}", flush=True)
        run_undisturbed(args, checkpoint, updates)
        difference = assert_same(checkpoint, undisturbed)
    print(f"{args.kills} kills, and the agent is the same: weights differ by {difference:.1e}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--before", type=float, default=10, help="seconds until the first update")
    parser.add_argument("--patience", type=float, default=60, help="see distributed_example")
    parser.add_argument("--seconds", type=float, default=900, help="for a run without a kill")
    return parser.parse_args()


if __name__ == "__main__":
    main()
