"""The playground: paint a reward, choose how to train, and watch; two settings side by side."""

import os
from collections.abc import Callable

import ipywidgets
import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from gfn_utils import losses
from gfn_utils.agent import GFNAgent
from gfn_utils.classroom import plotting
from gfn_utils.classroom.dashboard import TrainingDashboard, picture_of_run
from gfn_utils.classroom.live_training import LiveTraining, Settings
from gfn_utils.classroom.widgets import display_control, labelled, row
from gfn_utils.environments import HyperGrid, PaintedGrid
from gfn_utils.policy import BACKWARD_POLICIES
from gfn_utils.validation import check_function, check_instance, check_integer, check_number

LEVELS = (1e-5, 0.01, 0.1, 0.5, 1.0, 2.0)
"""The rewards that a cell can be painted with."""
DESERT = 0.01
HEIGHTS = range(4, 13)
CELL_LAYOUT = {"width": "auto", "height": "2.2em", "margin": "0", "padding": "0"}
NARROW = {"width": "auto", "max_width": "100%"}
SLIDER = {"width": "17em", "max_width": "100%"}
TEXT = "The playground (run this cell to use it): paint a reward, train, watch."


def _corners(height):
    env = HyperGrid(height=height)
    return np.exp(env.log_reward(env.states())).reshape(height, height)


def _ring(height):
    offset = np.hypot(*(np.indices([height, height]) - (height - 1) / 2))
    return np.where(np.abs(offset - height / 3) < 0.6, 1.0, DESERT)


PRESETS: dict[str, Callable[[int], np.ndarray]] = {
    "four corners": _corners,
    "the far corner": lambda n: np.where(np.indices([n, n]).min(0) >= n - 2, LEVELS[-1], DESERT),
    "the diagonal": lambda n: np.where(np.eye(n, dtype=bool), 1.0, DESERT),
    "a ring": _ring,
    "the same everywhere": lambda n: np.ones([n, n]),
}


class RewardEditor:
    """A button for each cell of a grid, as bright as the cell's reward; a press paints it.

    Attributes: `rewards`, R of the cells, `[height, height]`; `control`, the container to show;
    `on_change`, called after every change.
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None):
        self.on_change = check_function("on_change", on_change)
        self.preset = _choice("reward", PRESETS)
        self.height = _choice("cells a side", HEIGHTS, value=8)
        levels = {"options": [(_short(level), level) for level in LEVELS], "value": LEVELS[-1]}
        self.brush = labelled(ipywidgets.ToggleButtons, "paint with", **levels)
        self.brush.style.button_width = "3.9em"
        self.fill = ipywidgets.Button(description="paint all cells", layout={"width": "9em"})
        self.cells = ipywidgets.GridBox(layout={"grid_gap": "2px", "width": "min(22em, 100%)"})
        chosen = row(self.preset, self.height)
        self.control = ipywidgets.VBox([chosen, self.brush, self.cells, self.fill])
        self.fill.on_click(self._paint_all)
        for each in (self.preset, self.height):
            each.observe(self._load_preset, "value")
        self._load_preset()

    def paint(self, x0: int, x1: int, reward: float) -> None:
        """Give one cell a reward. Raises if there is no such cell, or the reward is not above 0."""
        last = self.height.value - 1
        x0 = check_integer("x0", x0, minimum=0, maximum=last)
        x1 = check_integer("x1", x1, minimum=0, maximum=last)
        self.rewards[x0, x1] = check_number("reward", reward, above=0.0)
        self._show_rewards()

    def _paint_all(self, _):
        self.rewards[:] = self.brush.value
        self._show_rewards()

    def _load_preset(self, _=None):
        height = self.height.value
        self.rewards = PRESETS[self.preset.value](height)
        self._buttons = {}
        for x1 in reversed(range(height)):  # x₁ grows upwards, as in every picture
            for x0 in range(height):
                button = self._buttons[x0, x1] = ipywidgets.Button(layout=CELL_LAYOUT)
                button.on_click(lambda _, x0=x0, x1=x1: self.paint(x0, x1, self.brush.value))
        self.cells.children = tuple(self._buttons.values())
        self.cells.layout.grid_template_columns = f"repeat({height}, minmax(0, 1fr))"
        self._show_rewards()

    def _show_rewards(self):
        colour_of = matplotlib.colormaps[plotting.REWARD_MAP]
        for (x0, x1), button in self._buttons.items():
            reward = self.rewards[x0, x1]
            # The square root tells the small rewards apart.
            brightness = min(1.0, np.sqrt(reward / LEVELS[-1]))
            button.style.button_color = to_hex(colour_of(brightness))
            button.style.text_color = "white" if brightness < 0.6 else "black"
            button.description = _short(reward)
            button.tooltip = f"cell ({x0}, {x1}): reward {reward:.2g}"
        self.on_change()


def _short(reward) -> str:
    """A reward as it fits a cell: .01, 1e-5."""
    return f"{reward:.2g}".removeprefix("0").replace("e-0", "e-")


class Run:
    """The settings of one run, and its dashboard.

    Attributes: `gamma`, `objective`, `backward_policy`, `learning_rate`, `updates`, `seed`, the
    controls; `dashboard`; `control`, the container to show.
    """

    def __init__(self, name: str, rewards_of: Callable[[], np.ndarray], gamma: float = 0.5):
        check_instance("name", name, str, "a string")
        gamma = check_number("gamma", gamma, minimum=0.0, maximum=1.0)
        self._rewards_of = check_function("rewards_of", rewards_of)
        mixing = {"value": gamma, "max": 1.0, "step": 0.05}
        self.gamma = labelled(ipywidgets.FloatSlider, "exploration γ", SLIDER, **mixing)
        self.objective = _choice("objective", losses.OBJECTIVES)
        self.backward_policy = _choice("P_B", BACKWARD_POLICIES)
        rates = {"options": [0.001, 0.003, 0.01, 0.03], "value": 0.01}
        self.learning_rate = labelled(ipywidgets.SelectionSlider, "learning rate", SLIDER, **rates)
        self.updates = _choice("updates", [500, 1000, 2000, 5000, 10000], value=2000)
        self.seed = labelled(ipywidgets.BoundedIntText, "seed", NARROW, max=10**6)
        settings = [self.gamma, self.objective, self.backward_policy, self.learning_rate]
        settings += [self.updates, self.seed]
        for each in settings:
            each.observe(self.renew, "value")
        self.dashboard = TrainingDashboard(self._training())
        parts = [ipywidgets.HTML(f"<b>{name}</b>"), row(*settings), self.dashboard.control]
        layout = {"flex": "1 1 26em", "min_width": "min(20em, 100%)"}
        self.control = ipywidgets.VBox(parts, layout=layout)

    def renew(self, _=None) -> None:
        """Put an untrained run of the present settings in the place of the one before."""
        self.dashboard.show(self._training())

    def _training(self):
        names = ("gamma", "learning_rate", "backward_policy", "seed")
        chosen = {name: getattr(self, name).value for name in names}
        agent = GFNAgent(PaintedGrid(self._rewards_of()), **chosen)
        return LiveTraining(agent, Settings(self.updates.value, self.objective.value))


def _choice(description, values, **settings):
    options = [(str(value).replace("_", " "), value) for value in values]
    return labelled(ipywidgets.Dropdown, description, NARROW, options=options, **settings)


class Playground:
    """The whole page.

    Attributes: `editor`, `first` and `second` (runs), `compare`, `start_both`, `control`.
    """

    def __init__(self):
        self.editor = RewardEditor()
        self.first = Run("Training", lambda: self.editor.rewards)
        self.second = Run("Beside it", lambda: self.editor.rewards, gamma=0.0)
        what = "compare two settings side by side"
        self.compare = ipywidgets.Checkbox(description=what, indent=False)
        self.start_both = ipywidgets.Button(description="Start both", button_style="primary")
        self.compare.observe(self._show_second, "value")
        self.start_both.on_click(self._start_both)
        self.editor.on_change = self._renew
        self._on_the_same_axes(self.first.dashboard, self.second.dashboard)
        self._on_the_same_axes(self.second.dashboard, self.first.dashboard)
        runs = row(self.first.control, self.second.control, align=None)
        runs.layout.flex = "1 1 30em"
        reward = ipywidgets.VBox([self.editor.control, self.compare, self.start_both])
        self.control = row(reward, runs, align=None)
        self._show_second()

    def show(self) -> None:
        """Display the page. Where no widgets run, on GitHub say, it shows how a run ends."""
        # Voilà's visitors see the page itself, and would only wait for that picture.
        visited = "VOILA_SERVER_URL" in os.environ
        png, text = picture_of_run(self.first.dashboard.training, finished=not visited)
        display_control(self.control, png, f"{TEXT} {text}")

    def _on_the_same_axes(self, dashboard, other):
        """Draw the other run's curves in grey behind this one's, while both are shown."""
        dashboard.beside = lambda: other.history if self.compare.value else None
        dashboard.on_stop = lambda: self.compare.value and other.redraw_curves()

    def _show_second(self, _=None):
        for each in (self.second.control, self.start_both):
            each.layout.display = "" if self.compare.value else "none"
        self.second.renew()  # with what was painted meanwhile
        self.first.dashboard.redraw_curves()

    def _start_both(self, _):
        for run in (self.first, self.second):
            if run.dashboard.training.finished:
                run.renew()
            run.dashboard.start()

    def _renew(self):
        self.first.renew()
        if self.compare.value:
            self.second.renew()
