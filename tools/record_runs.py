"""Record training runs for the site's page on which a reader watches them (`make recorded-runs`).

    python tools/record_runs.py

Writes site/_static/recorded_runs.js: what each agent builds after so many updates, its exact error
and log Z. The file is a script and not JSON, so that the page works when it is opened as a file.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from gfn_utils import GFNAgent, HyperGrid, evaluation
from gfn_utils.classroom import plotting
from gfn_utils.classroom.playground import PRESETS
from gfn_utils.environments import Grid, PaintedGrid

RECORDED = Path(__file__).resolve().parent.parent / "site" / "_static" / "recorded_runs.js"
UPDATES = [0, 10, 20, 30, 40, 50, 60, 80, 100, 130, 160, 200, 250, 300, 400, 500, 700, 1000]
UPDATES += [1300, 1600, 2000]
N_COLOURS = 64


class Run(NamedTuple):
    """What is recorded: a name for the reader, the reward, and the share γ of random moves."""

    name: str
    env: Grid
    gamma: float


DESERT = HyperGrid(r0=0.0001)  # so dry that a walk without exploration seldom crosses it
RUNS = [
    Run("Four corners, with exploration", DESERT, 0.5),
    Run("Four corners, without exploration", DESERT, 0.0),
    Run("A ring, with exploration", PaintedGrid(PRESETS["a ring"](8)), 0.5),
]


def main(path: Path = RECORDED) -> None:
    """Train all, and write what was seen."""
    colours = matplotlib.colormaps[plotting.PROBABILITY_MAP](np.linspace(0, 1, N_COLOURS))
    recorded = {"updates": UPDATES, "colours": [*map(to_hex, colours)]}
    recorded["runs"] = [record(run, UPDATES) for run in RUNS]
    temporary = path.with_suffix(".tmp")
    temporary.write_text(f"const RECORDED = {json.dumps(recorded)};\n", encoding="utf-8")
    os.replace(temporary, path)
    print(f"{path}: {path.stat().st_size // 1000} KB")


def record(run: Run, updates: list[int]) -> dict:
    """Train on policy; what the agent builds after each of these numbers of updates.

    The run is one of UPDATES[-1] updates, and stops early if `updates` end before that.
    """
    agent = GFNAgent(run.env, gamma=run.gamma, seed=0)
    frames = [frame(agent)]

    def look(progress):
        if progress.done in updates:
            frames.append(frame(agent))
        return progress.done >= updates[-1]

    agent.train(iterations=UPDATES[-1], chunk=10, callback=look)
    target = run.env.target()
    log_z = float(np.logaddexp.reduce(run.env.log_reward(run.env.states())))
    known = {"name": run.name, "height": run.env.height, "log_z": round(log_z, 3)}
    return known | {"target": shortened(target), "frames": frames}


def frame(agent: GFNAgent) -> dict:
    """The exact distribution of the agent as it is now, its L1 error, and its log Z in nats."""
    learned = evaluation.terminating_distribution(agent)
    error = evaluation.l1_error(learned, agent.env.target())
    log_z = round(float(agent.log_z), 3)
    return {"learned": shortened(learned), "error": round(error, 4), "log_z": log_z}


def shortened(probabilities: np.ndarray) -> list[float]:
    return [round(float(p), 5) for p in probabilities]


if __name__ == "__main__":
    main()
