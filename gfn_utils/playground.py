"""The playground: paint a reward, choose how to train, and watch; two settings side by side."""

from collections.abc import Callable

import ipywidgets
import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from gfn_utils import losses, plotting
from gfn_utils.agent import GFNAgent
from gfn_utils.dashboard import TrainingDashboard
from gfn_utils.environments import HyperGrid, PaintedGrid
from gfn_utils.live_training import LiveTraining, Settings
from gfn_utils.widgets import WHOLE_LABEL, WRAPPED_ROW, display_control

LEVELS = (0.01, 0.1, 0.5, 1.0, 2.0)
"""The rewards that a cell can be painted with."""
HEIGHTS = range(4, 13)
CELL_LAYOUT = {"width": "auto", "height": "2.2em", "margin": "0", "padding": "0"}


def _corners(height):
    env = HyperGrid(height=height)
    return np.exp(env.log_reward(env.states())).reshape(height, height)


def _far_corner(height):
    rewards = np.full([height, height], LEVELS[0])
    rewards[-2:, -2:] = LEVELS[-1]
    return rewards


def _diagonal(height):
    return np.where(np.eye(height, dtype=bool), 1.0, LEVELS[0])


def _ring(height):
    offset = np.hypot(*(np.indices([height, height]) - (height - 1) / 2))
    return np.where(np.abs(offset - height / 3) < 0.6, 1.0, LEVELS[0])


PRESETS: dict[str, Callable[[int], np.ndarray]] = {
    "four corners": _corners,
    "the far corner": _far_corner,
    "the diagonal": _diagonal,
    "a ring": _ring,
    "the same everywhere": lambda height: np.full([height, height], 1.0),
}


class RewardEditor:
    """A button for each cell of a grid, as bright as the cell's reward; a press changes it.

    Attributes: `rewards`, R of the cells, `[height, height]`; `control`, the container to show;
    `on_change`, called after every change.
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None):
        self.on_change = on_change
        self.preset = ipywidgets.Dropdown(
            options=list(PRESETS), description="reward", style=WHOLE_LABEL
        )
        self.height = ipywidgets.Dropdown(
            options=HEIGHTS, value=8, description="cells a side", style=WHOLE_LABEL
        )
        self.brush = ipywidgets.ToggleButtons(
            options=[("raise", 1), ("lower", -1)],
            description="a press on a cell will",
            style={**WHOLE_LABEL, "button_width": "5em"},
        )
        self.cells = ipywidgets.GridBox()
        self.control = ipywidgets.VBox([self.preset, self.height, self.brush, self.cells])
        for each in (self.preset, self.height):
            each.observe(self._load_preset, "value")
        self._load_preset()

    def paint(self, x0: int, x1: int, reward: float) -> None:
        """Give one cell a reward."""
        self.rewards[x0, x1] = reward
        self._colour(x0, x1)
        self.on_change()

    def _load_preset(self, _=None):
        height = self.height.value
        self.rewards = PRESETS[self.preset.value](height)
        self._buttons = {
            (x0, x1): ipywidgets.Button(layout=CELL_LAYOUT)
            for x1 in reversed(range(height))  # x₁ grows upwards, as in every picture
            for x0 in range(height)
        }
        for cell, button in self._buttons.items():
            self._colour(*cell)
            button.on_click(lambda _, cell=cell: self._press(*cell))
        self.cells.children = tuple(self._buttons.values())
        self.cells.layout = ipywidgets.Layout(
            grid_template_columns=f"repeat({height}, minmax(0, 1fr))",
            grid_gap="2px",
            width="min(24em, 100%)",
        )
        self.on_change()

    def _press(self, x0, x1):
        present = self.rewards[x0, x1]
        if self.brush.value > 0:
            self.paint(x0, x1, min([r for r in LEVELS if r > present], default=present))
        else:
            self.paint(x0, x1, max([r for r in LEVELS if r < present], default=present))

    def _colour(self, x0, x1):
        reward, button = self.rewards[x0, x1], self._buttons[x0, x1]
        # The square root tells the small rewards apart.
        brightness = min(1.0, np.sqrt(reward / LEVELS[-1]))
        button.style.button_color = to_hex(matplotlib.colormaps[plotting.REWARD_MAP](brightness))
        button.style.text_color = "white" if brightness < 0.6 else "black"
        button.description = f"{reward:.2g}".removeprefix("0")
        button.tooltip = f"cell ({x0}, {x1}): reward {reward:.2g}"


class Run:
    """The settings of one run, and its dashboard.

    Attributes: `gamma`, `objective`, `learning_rate`, `updates`, `seed`, the controls; `dashboard`;
    `control`, the container to show.
    """

    def __init__(self, name: str, rewards_of: Callable[[], np.ndarray], gamma: float = 0.5):
        self._rewards_of = rewards_of
        self.gamma = ipywidgets.FloatSlider(
            value=gamma,
            min=0.0,
            max=1.0,
            step=0.05,
            description="exploration γ",
            continuous_update=False,
            style=WHOLE_LABEL,
        )
        self.objective = ipywidgets.Dropdown(
            options=[(name.replace("_", " "), name) for name in losses.OBJECTIVES],
            description="objective",
            style=WHOLE_LABEL,
        )
        self.learning_rate = ipywidgets.SelectionSlider(
            options=[0.001, 0.003, 0.01, 0.03],
            value=0.01,
            description="learning rate",
            continuous_update=False,
            style=WHOLE_LABEL,
        )
        self.updates = ipywidgets.Dropdown(
            options=[500, 1000, 2000, 5000, 10000],
            value=2000,
            description="updates",
            style=WHOLE_LABEL,
        )
        self.seed = ipywidgets.BoundedIntText(
            value=0, min=0, max=10**6, description="seed", style=WHOLE_LABEL
        )
        settings = [self.gamma, self.objective, self.learning_rate, self.updates, self.seed]
        for each in settings:
            each.observe(self.renew, "value")
        self.dashboard = TrainingDashboard(self._training())
        self.control = ipywidgets.VBox(
            [
                ipywidgets.HTML(f"<h3>{name}</h3>"),
                ipywidgets.HBox(settings, layout=WRAPPED_ROW),
                self.dashboard.control,
            ],
            layout={"flex": "1 1 28em", "min_width": "min(20em, 100%)"},
        )

    def renew(self, _=None) -> None:
        """The next start is one of a new run."""
        self.dashboard.plan(self._training)

    def _training(self):
        agent = GFNAgent(
            PaintedGrid(self._rewards_of()),
            gamma=self.gamma.value,
            learning_rate=self.learning_rate.value,
            log_z_learning_rate=self.learning_rate.value,
            seed=self.seed.value,
        )
        return LiveTraining(agent, Settings(self.updates.value, self.objective.value))


class Playground:
    """The whole page. Attributes: `editor`, `first` and `second` (runs), `compare`, `control`."""

    def __init__(self):
        self.editor = RewardEditor()
        self.first = Run("Training", lambda: self.editor.rewards)
        self.second = Run("Beside it", lambda: self.editor.rewards, gamma=0.0)
        self.compare = ipywidgets.Checkbox(
            description="compare two settings side by side", indent=False
        )
        self.second.control.layout.display = "none"
        self.compare.observe(self._show_second, "value")
        self.editor.on_change = self._renew
        runs = ipywidgets.HBox(
            [self.first.control, self.second.control],
            layout={"flex_flow": "row wrap", "flex": "1 1 30em"},
        )
        reward = ipywidgets.VBox([self.editor.control, self.compare])
        self.control = ipywidgets.HBox([reward, runs], layout={"flex_flow": "row wrap"})

    def show(self) -> None:
        """Display the page."""
        text = "The playground (run this cell to use it): paint a reward, train, watch."
        display_control(self.control, self.first.dashboard.picture, text)

    def _show_second(self, change):
        self.second.control.layout.display = "" if change["new"] else "none"

    def _renew(self):
        self.first.renew()
        self.second.renew()
