"""Draw docs/trained_agent.png: the picture at the top of the README.

python tools/draw_readme_picture.py
"""

import pathlib

import matplotlib.pyplot as plt
import numpy as np

from gfn_utils import GFNAgent, HyperGrid, evaluation
from gfn_utils.classroom import plotting

PICTURE = pathlib.Path(__file__).resolve().parent.parent / "docs" / "trained_agent.png"


def draw():
    plotting.use_course_style()
    env = HyperGrid()
    agent = GFNAgent(env, seed=0)
    agent.train(agent.sample(5000, explore=True), epochs=200)
    learned = evaluation.terminating_distribution(agent)
    error = evaluation.l1_error(learned, env.target())
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8))
    plotting.reward(env, number_format=None, ax=left)
    left.set_title("the reward R(x)")
    plotting.grid_map(
        env, learned, "probability", f"what the agent builds (L1 error {error:.3f})", ax=middle
    )
    plotting.pipes(agent, np.exp(float(agent.log_z)), "how: its flow, as pipes", ax=right)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE)


if __name__ == "__main__":
    draw()
