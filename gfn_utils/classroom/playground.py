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
from gfn_utils.classroom.widgets import WHOLE_LABEL, WRAPPED_ROW, display_control
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


def _far_corner(height):
    rewards = np.full([height, height], DESERT)
    rewards[-2:, -2:] = LEVELS[-1]
    return rewards


def _diagonal(height):
    return np.where(np.eye(height, dtype=bool), 1.0, DESERT)


def _ring(height):
    offset = np.hypot(*(np.indices([height, height]) - (height - 1) / 2))
    return np.where(np.abs(offset - height / 3) < 0.6, 1.0, DESERT)


PRESETS: dict[str, Callable[[int], np.ndarray]] = {
    "four corners": _corners,
    "the far corner": _far_corner,
    "the diagonal": _diagonal,
    "a ring": _ring,
    "the same everywhere": lambda height: np.full([height, height], 1.0),
}


class RewardEditor:
    """A button for each cell of a grid, as bright as the cell's reward; a press paints it.

    Attributes: `rewards`, R of the cells, `[height, height]`; `control`, the container to show;
    `on_change`, called after every change.
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None):
        self.on_change = check_function("on_change", on_change)
        self.preset = ipywidgets.Dropdown(
            options=list(PRESETS), description="reward", style=WHOLE_LABEL, layout=NARROW
        )
        self.height = ipywidgets.Dropdown(
            options=HEIGHTS, value=8, description="cells a side", style=WHOLE_LABEL, layout=NARROW
        )
        self.brush = ipywidgets.ToggleButtons(
            options=[(_short(level), level) for level in LEVELS],
            value=LEVELS[-1],
            description="paint with",
            style={**WHOLE_LABEL, "button_width": "3.9em"},
        )
        self.fill = ipywidgets.Button(description="paint all cells", layout={"width": "9em"})
        self.cells = ipywidgets.GridBox()
        chosen = ipywidgets.HBox([self.preset, self.height], layout=WRAPPED_ROW)
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
        self._colour(x0, x1)
        self.on_change()

    def _paint_all(self, _):
        self.rewards[:] = self.brush.value
        for cell in self._buttons:
            self._colour(*cell)
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
            button.on_click(lambda _, cell=cell: self.paint(*cell, self.brush.value))
        self.cells.children = tuple(self._buttons.values())
        self.cells.layout = ipywidgets.Layout(
            grid_template_columns=f"repeat({height}, minmax(0, 1fr))",
            grid_gap="2px",
            width="min(22em, 100%)",
        )
        self.on_change()

    def _colour(self, x0, x1):
        reward, button = self.rewards[x0, x1], self._buttons[x0, x1]
        # The square root tells the small rewards apart.
        brightness = min(1.0, np.sqrt(reward / LEVELS[-1]))
        button.style.button_color = to_hex(matplotlib.colormaps[plotting.REWARD_MAP](brightness))
        button.style.text_color = "white" if brightness < 0.6 else "black"
        button.description = _short(reward)
        button.tooltip = f"cell ({x0}, {x1}): reward {reward:.2g}"


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
        self.gamma = ipywidgets.FloatSlider(
            value=gamma,
            min=0.0,
            max=1.0,
            step=0.05,
            description="exploration γ",
            continuous_update=False,
            style=WHOLE_LABEL,
            layout=SLIDER,
        )
        self.objective = _choice("objective", losses.OBJECTIVES)
        self.backward_policy = _choice("P_B", BACKWARD_POLICIES)
        self.learning_rate = ipywidgets.SelectionSlider(
            options=[0.001, 0.003, 0.01, 0.03],
            value=0.01,
            description="learning rate",
            continuous_update=False,
            style=WHOLE_LABEL,
            layout=SLIDER,
        )
        self.updates = ipywidgets.Dropdown(
            options=[500, 1000, 2000, 5000, 10000],
            value=2000,
            description="updates",
            style=WHOLE_LABEL,
            layout=NARROW,
        )
        self.seed = ipywidgets.BoundedIntText(
            value=0, min=0, max=10**6, description="seed", style=WHOLE_LABEL, layout=NARROW
        )
        settings = [
            self.gamma,
            self.objective,
            self.backward_policy,
            self.learning_rate,
            self.updates,
            self.seed,
        ]
        for each in settings:
            each.observe(self.renew, "value")
        self.dashboard = TrainingDashboard(self._training())
        self.control = ipywidgets.VBox(
            [
                ipywidgets.HTML(f"<b>{name}</b>"),
                ipywidgets.HBox(settings, layout=WRAPPED_ROW),
                self.dashboard.control,
            ],
            layout={"flex": "1 1 26em", "min_width": "min(20em, 100%)"},
        )

    def renew(self, _=None) -> None:
        """Put an untrained run of the present settings in the place of the one before."""
        self.dashboard.show(self._training())

    def _training(self):
        agent = GFNAgent(
            PaintedGrid(self._rewards_of()),
            gamma=self.gamma.value,
            learning_rate=self.learning_rate.value,
            backward_policy=self.backward_policy.value,
            seed=self.seed.value,
        )
        return LiveTraining(agent, Settings(self.updates.value, self.objective.value))


def _choice(description, names):
    return ipywidgets.Dropdown(
        options=[(name.replace("_", " "), name) for name in names],
        description=description,
        style=WHOLE_LABEL,
        layout=NARROW,
    )


class Playground:
    """The whole page.

    Attributes: `editor`, `first` and `second` (runs), `compare`, `start_both`, `control`.
    """

    def __init__(self):
        self.editor = RewardEditor()
        self.first = Run("Training", lambda: self.editor.rewards)
        self.second = Run("Beside it", lambda: self.editor.rewards, gamma=0.0)
        self.compare = ipywidgets.Checkbox(
            description="compare two settings side by side", indent=False
        )
        self.start_both = ipywidgets.Button(description="Start both", button_style="primary")
        self.compare.observe(self._show_second, "value")
        self.start_both.on_click(self._start_both)
        self.editor.on_change = self._renew
        self._on_the_same_axes(self.first.dashboard, self.second.dashboard)
        self._on_the_same_axes(self.second.dashboard, self.first.dashboard)
        runs = ipywidgets.HBox(
            [self.first.control, self.second.control],
            layout={"flex_flow": "row wrap", "flex": "1 1 30em"},
        )
        reward = ipywidgets.VBox([self.editor.control, self.compare, self.start_both])
        self.control = ipywidgets.HBox([reward, runs], layout={"flex_flow": "row wrap"})
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
