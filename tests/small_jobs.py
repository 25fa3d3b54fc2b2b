"""Small agents and runs that several test modules share."""

import pytest

from gfn_utils import GFNAgent, HyperGrid, training

GRID = HyperGrid(2, 4)
# Small runs share these, so that few programs are compiled. 16 objects make batches of 6, 6 and 4.
CHUNK = 7
OFFLINE = {"data": GRID.states(), "epochs": 8, "batch_size": 6, "chunk": CHUNK}
ON_POLICY = {"iterations": 24, "batch_size": 6, "chunk": CHUNK, "decay": "constant"}
BOTH_WAYS = pytest.mark.parametrize("job", [OFFLINE, ON_POLICY], ids=["offline", "on policy"])
WITHOUT_XLA = pytest.mark.usefixtures("without_xla")  # see conftest.py


def small_agent(seed=0, hidden=(8,), **settings):
    return GFNAgent(GRID, hidden=hidden, seed=seed, **settings)


def job_of(agent, offline=False, batch_size=6):
    """The job of such a run."""
    n_given = batch_size if offline else 0
    return training.Job(agent.kind, "trajectory_balance", batch_size - n_given, n_given)
