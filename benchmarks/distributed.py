"""Weak scaling, what it sends, and when a second machine pays: `python distributed.py [--quick]`.

Every worker is a process pinned to one core, on which TensorFlow computes with one thread, so that
two workers have twice what one has. They talk over loopback. Prints tables in markdown, and puts
them into README.md and results.json unless it is a trial (`--quick`). Linux only: it pins, and
reads /proc/net/dev.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
import report
import scenarios

REWARD_SECONDS = 0.002
"""What the slow reward takes for a trajectory, of the processor's time."""
WIDTHS = (32, 256, 1024)
SUM_SIZES = (1, 10_000, 100_000, 1_000_000)
"""Numbers in the vectors whose sums are timed, in float32."""


class Link(NamedTuple):
    name: str
    latency: float
    """Seconds for a message from one machine to the next."""
    bandwidth: float
    """Bytes a second."""


LINKS = (
    Link("loopback", 0.0, float("inf")),
    Link("1 Gbit/s, 100 µs", 100e-6, 1e9 / 8),
    Link("10 Gbit/s, 50 µs", 50e-6, 10e9 / 8),
    Link("100 Gbit/s, 5 µs", 5e-6, 100e9 / 8),
)


class Plan(NamedTuple):
    warmup: int
    """Updates before the first that counts, of scenario d; with the slow reward `updates`."""
    updates: int
    """In a repeat: a chunk of as many as `train` makes by default."""
    repeats: int


FULL, QUICK = Plan(500, 100, 8), Plan(4, 2, 2)


class Model(NamedTuple):
    """The time of an update, from what was measured on one worker and of sums of two.

    n workers add up S bytes in a ring: 2·(n−1) messages one after another, in which each worker
    sends 2·(n−1)/n·S bytes.
    """

    message: float
    """Seconds that TensorFlow takes for a message, beside the link."""
    byte: float
    """Seconds that it takes for a byte that is sent, beside the link."""
    random_number: float
    """Seconds for one of the random numbers of the whole batch, which each worker draws."""

    def sum_seconds(self, n: int, size: float, link: Link = LINKS[0]) -> float:
        """Seconds to add up `size` bytes of each of `n` workers."""
        sent = 2 * (n - 1) / n * size
        messages = 2 * (n - 1)
        return messages * (self.message + link.latency) + sent * (self.byte + 1 / link.bandwidth)

    def update_seconds(self, n: int, alone: float, size: float, numbers: int, link=LINKS[0]):
        """Seconds for an update of `n` workers, each with a batch that takes one `alone`.

        `numbers` are the random numbers of one worker's batch.
        """
        others = (n - 1) * numbers * self.random_number
        return alone + others + self.sum_seconds(n, size, link)


# --- What a worker does


def work(args) -> dict:
    """Measure in a process that is pinned; returns what the first worker prints."""
    os.sched_setaffinity(0, {args.core})
    import gfn_utils  # noqa: F401  # isort: skip  it chooses TensorFlow's settings
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    # One more, since the one that waits for the other worker would keep signs of life from it.
    tf.config.threading.set_inter_op_parallelism_threads(2)
    strategy = None
    if "TF_CONFIG" in os.environ:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    elif args.one_replica:
        strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    if args.work == "sums":
        return seconds_of_sums(strategy, args.updates)
    if args.work == "random":
        return seconds_of_random_numbers()
    return time_updates(strategy, args)


def time_updates(strategy, args) -> dict:
    """Milliseconds for an update after the first ones, and the bytes that loopback carried."""
    agent = (slow_agent if args.work == "reward" else agent_of_scenario)(args.hidden)
    times, sent = [], []

    def callback(progress):
        times.append(time.perf_counter())
        sent.append(bytes_on_loopback())

    agent.train(
        iterations=args.warmup + args.repeats * args.updates,
        batch_size=args.batch,
        chunk=args.updates,
        decay="constant",
        track_error=False,
        callback=callback,
        strategy=strategy,
    )
    times, sent = times[-args.repeats - 1 :], sent[-args.repeats - 1 :]
    weights = sum(np.size(weight) for weight in agent._weights())
    return {
        "ms": [(later - t) / args.updates * 1e3 for t, later in itertools.pairwise(times)],
        "loopback_bytes": (sent[-1] - sent[0]) / (args.repeats * args.updates),
        "gradient_bytes": 4 * weights,
        "random_numbers": args.batch * agent.env.max_trajectory_length,
    }


def agent_of_scenario(hidden):
    """That of scenario d, or of another width."""
    import time_gfn_utils

    scenario = scenarios.SCENARIOS["d"]._replace(hidden=hidden)
    return time_gfn_utils.Trainer(scenario, 0, 1).agent


def slow_agent(hidden):
    """On a small grid whose reward is Python, and keeps the processor busy."""
    from gfn_utils import GFNAgent, HyperGrid

    class SlowGrid(HyperGrid):
        python_reward = True

        def log_reward(self, states):
            end = time.thread_time() + REWARD_SECONDS * len(states)
            while time.thread_time() < end:
                pass
            return np.asarray(super().log_reward(states))

    return GFNAgent(SlowGrid(2, 8), (hidden, hidden), dtype="float32", seed=0, log_z=0.0)


def seconds_of_sums(strategy, repeats) -> dict:
    """Seconds for a sum over two workers of vectors of each size, one after another."""
    import tensorflow as tf

    def sum_once(vector):
        return tf.distribute.get_replica_context().all_reduce("SUM", tf.identity(vector)) / 2

    @tf.function(autograph=False)
    def sums(vector):
        return tf.while_loop(
            lambda i, _: i < repeats,
            lambda i, vector: (i + 1, strategy.run(sum_once, args=(vector,))),
            (0, vector),
        )[1]

    seconds = {}
    for size in SUM_SIZES:
        vector = tf.ones([size])
        sums(vector)
        start = time.perf_counter()
        np.asarray(sums(vector))
        seconds[4 * size] = (time.perf_counter() - start) / repeats
    return {"seconds": seconds}


def seconds_of_random_numbers() -> dict:
    """Seconds for one of a large batch's random numbers."""
    import tensorflow as tf

    from gfn_utils import training
    from gfn_utils.random_numbers import stateless_uniform

    @training.xla
    def draw(seed):
        return tf.reduce_sum(stateless_uniform([61, 100_000], seed, tf.float32)[:, :10])

    draw(tf.constant([0, 0], tf.int64))
    start = time.perf_counter()
    for number in range(5):
        np.asarray(draw(tf.constant([0, number], tf.int64)))
    return {"seconds": (time.perf_counter() - start) / 5 / 6_100_000}


def bytes_on_loopback() -> int:
    with open("/proc/net/dev") as file:
        return next(int(line.split()[9]) for line in file if line.strip().startswith("lo:"))


# --- What asks the workers


def ask(work: str, n: int = 1, **options) -> dict:
    """What the first of `n` workers prints, each on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))[:n]
    if len(cores) < n:
        raise SystemExit(f"{n} workers need {n} cores, and this machine has {len(cores)}")
    command = [sys.executable, __file__, "--work", work]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    print("…", *command[2:], f"on {n}", file=sys.stderr, flush=True)
    workers = []
    try:
        for index, environment in enumerate(environments(n)):
            call = [*command, f"--core={cores[index]}"]
            workers.append(subprocess.Popen(call, stdout=subprocess.PIPE, env=environment))
        outputs = [worker.communicate()[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    if any(worker.returncode for worker in workers):
        raise SystemExit(f"{' '.join(command)} failed")
    return json.loads(outputs[0].splitlines()[-1])


def environments(n: int):
    """The environment variables of each of `n` workers; one alone has no cluster."""
    if n == 1:
        return [os.environ]
    from gfn_utils.distributed_example import free_ports

    addresses = [f"127.0.0.1:{port}" for port in free_ports(n)]
    configs = [
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        for index in range(n)
    ]
    return [os.environ | {"TF_CONFIG": json.dumps(config)} for config in configs]


def fit_model(plan: Plan) -> Model:
    """From sums of two workers by size (a line through them), and from random numbers."""
    found = ask("sums", 2, updates=100 * plan.repeats)["seconds"]
    sizes, seconds = np.array([(int(size), value) for size, value in found.items()]).T
    # Of two workers each sends `size` bytes in two messages. Relative errors count alike.
    slope, start = np.polyfit(sizes, seconds, 1, w=1 / seconds)
    return Model(max(start, 0) / 2, max(slope, 0), ask("random")["seconds"])


def measure(plan: Plan) -> dict:
    """All that the tables tell."""
    d = {"warmup": plan.warmup, "updates": plan.updates, "repeats": plan.repeats}
    slow = d | {"warmup": plan.updates, "hidden": 32}
    cases = {
        "d: 16×16×16×16, hidden 256, 128 trajectories a worker": ("d", 128, d | {"hidden": 256}),
        "a reward in Python, 2 ms a trajectory, 16 a worker": ("reward", 16, slow),
    }
    scaling = {
        name: {
            "one": ask(work, batch=batch, **options),
            "one replica": ask(work, batch=batch, one_replica=1, **options),
            "two": ask(work, 2, batch=2 * batch, **options),
        }
        for name, (work, batch, options) in cases.items()
    }
    few = d | {"updates": -(-plan.updates // 4)}
    widths = {
        width: [ask("d", batch=batch, **few | {"hidden": width}) for batch in (64, 128)]
        for width in WIDTHS
    }
    return {"model": fit_model(plan)._asdict(), "scaling": scaling, "widths": widths}


# --- Tables


def scaling_table(results) -> str:
    model, rows = Model(**results["model"]), []
    for name, case in results["scaling"].items():
        one, replica, two = (statistics.median(case[key]["ms"]) for key in case)
        size = case["two"]["gradient_bytes"]
        numbers = case["one"]["random_numbers"]
        predicted = model.update_seconds(2, replica / 1e3, size, numbers) * 1e3
        rows.append(
            [
                name,
                *(report.with_spread(report.median_and_range(case[key]["ms"])) for key in case),
                f"{replica / two:.2f}",
                f"{one / two:.2f}",
                f"{predicted:.3g}",
                f"{size:,}",
                f"{case['two']['loopback_bytes'] / 2:,.0f}",
            ]
        )
    header = ["work", "no strategy, ms", "one worker, ms", "two workers, ms"]
    header += ["efficiency", "beside no strategy", "predicted for two, ms"]
    header += ["bytes of a gradient", "bytes sent by a worker, measured"]
    return report.markdown_table(header, rows)


def least_batch_table(results) -> str:
    """From which batch on two machines are faster than one, by width and link."""
    model, rows = Model(**results["model"]), []
    for width, pair in results["widths"].items():
        half, whole = (statistics.median(each["ms"]) / 1e3 for each in pair)
        of_trajectory = max(whole - half, 1e-9) / 64
        size = pair[0]["gradient_bytes"]
        least = [2 * model.sum_seconds(2, size, link) / of_trajectory for link in LINKS]
        row = [str(width), f"{size / 1e6:.3g}", f"{of_trajectory * 1e6:.3g}"]
        rows.append([*row, *(f"{batch:,.0f}" for batch in least)])
    header = ["units of two layers", "MB an update", "µs a trajectory"]
    return report.markdown_table([*header, *(link.name for link in LINKS)], rows)


def many_workers_table(results) -> str:
    """The efficiency of n workers with scenario d's batch each, as the model has it."""
    model, case = Model(**results["model"]), next(iter(results["scaling"].values()))
    alone = statistics.median(case["one replica"]["ms"]) / 1e3
    size, numbers = case["two"]["gradient_bytes"], case["one"]["random_numbers"]
    rows = [
        [link.name]
        + [
            f"{alone / model.update_seconds(n, alone, size, numbers, link):.2f}"
            for n in (2, 10, 100, 1000)
        ]
        for link in LINKS[1:]
    ]
    return report.markdown_table(["link", "2", "10", "100", "1,000 workers"], rows)


def tables(results) -> str:
    model = Model(**results["model"])
    return "\n\n".join(
        [
            report.describe(results["machine"]),
            "Each worker is pinned to one core. Efficiency is the time of one worker over that of "
            "two which share twice the batch. One worker has nobody to wait for, but it runs the "
            "same programs; `train` without a strategy needs fewer, so the next column compares "
            "two workers with that.",
            scaling_table(results),
            f"The prediction: a sum costs {model.message * 1e6:.0f} µs a message and "
            f"{model.byte * 1e9:.2f} ns a byte on top of the link, as sums of other sizes told.",
            "The least batch with which two machines make an update of scenario d faster than one:",
            least_batch_table(results),
            "Efficiency of n workers with 128 trajectories each, as the model predicts it:",
            many_workers_table(results),
        ]
    )


def main():
    args = parse_arguments()
    if args.work:
        print(json.dumps(work(args)), flush=True)
        os._exit(0)  # no worker waits for another to end
    report.warn_if_busy()
    machine = report.machine()
    results = measure(QUICK if args.quick else FULL) | {"machine": machine, "trial": args.quick}
    text = tables(results)
    print(text)
    if not args.quick:
        report.write(report.HERE, "distributed", results, text)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a trial, which changes no file")
    for_workers = parser.add_argument_group("what this script passes to the workers it starts")
    for_workers.add_argument("--work", choices=("d", "reward", "sums", "random"))
    for name in ("core", "hidden", "batch", "warmup", "updates", "repeats", "one-replica"):
        for_workers.add_argument(f"--{name}", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
