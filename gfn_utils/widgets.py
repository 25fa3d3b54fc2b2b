"""Every interactive control of the course: sliders that redraw a figure of `plotting`.

Each function builds a control, shows it and returns its container. Beside each picture a line of
text says in numbers what the picture shows. Where no widgets run, on GitHub say, the first picture
and a fixed text are shown in place of the control.
"""

import base64
import html
import io
import threading
from collections.abc import Callable

import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure

from gfn_utils import evaluation, plotting
from gfn_utils.policy import PolicyTable, tabulate
from gfn_utils.sampling import mix_with_uniform

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

DRAWING = threading.RLock()
"""Hold this while drawing, `with DRAWING:`, since Matplotlib is not made for several threads."""


class Picture(ipywidgets.HTML):
    """A picture that can be shown anew, with a text in its place for who cannot see it.

    (`ipywidgets.Image` has no such text.) `png` holds the bytes that are shown now.
    """

    png: bytes = b""

    def show(self, figure: Figure, alt: str) -> None:
        """Show the figure in the place of the one before, and close it."""
        with DRAWING:
            png = io.BytesIO()
            figure.savefig(png, format="png")
            plt.close(figure)
        self.png = png.getvalue()
        encoded = base64.b64encode(self.png).decode()
        self.value = (
            f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{encoded}" '
            'style="max-width:100%">'
        )


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, for the functions of `plotting` to draw into.

    It is none of pyplot's, which would show it again below the cell that is running, and it has
    no constrained layout, which takes longer than all the rest of drawing it.
    """
    figure = Figure(figsize=(width, height), dpi=90, facecolor="white", layout="none")
    figure.subplots_adjust(
        left=0.55 / width, right=1 - 0.2 / width, bottom=0.55 / height, top=1 - 0.35 / height
    )
    return figure


def display_control(control: ipywidgets.Widget, picture: Picture, text: str) -> None:
    """Show a control; where no widgets run the picture as it is now, or else the text.

    They are one output in three forms. The text is saved and compared: no measured numbers in it.
    """
    view = {"version_major": 2, "version_minor": 0, "model_id": control.model_id}
    display({WIDGET_VIEW: view, "image/png": picture.png, "text/plain": text}, raw=True)


def exploration_slider(agent) -> ipywidgets.VBox:
    """γ against where trajectories end under (1−γ)·P_F + γ·uniform, exactly, beside the target.

    Takes an agent or a PolicyTable of a two-dimensional grid, as it is now.
    """
    env = agent.env
    table = tabulate(env, agent.log_policy)
    mask, target = env.forward_mask(env.states()), env.target()

    def ends_of(gamma):
        mixed = PolicyTable(env, mix_with_uniform(table.log_pf, mask, gamma), table.log_pb)
        return evaluation.terminating_distribution(mixed)

    slider = _slider("exploration γ", 0.0, 0.0, 1.0, 0.05)

    def draw():
        ends = ends_of(slider.value)
        behaviour = {f"ends with γ = {slider.value:.2f}": ends}
        # The target's scale for all γ, so that a colour keeps its meaning while the slider moves.
        figure = plotting.distributions(
            env, target.max(), new_figure(7.2, 3.3), target=target, **behaviour
        )
        error = evaluation.l1_error(ends, target)
        at_modes = ends[evaluation.is_mode(env)].sum()
        return figure, (
            f"With γ = {slider.value:.2f}: L1 distance to the target {error:.3f}, probability of "
            f"ending at a mode {at_modes:.3f}, at the origin {ends[0]:.3f}"
        )

    return _control(
        [slider], draw, "Control: exploration γ against where trajectories end, beside the target."
    )


def _slider(description, value, minimum, maximum, step) -> ipywidgets.FloatSlider:
    """A slider that redraws when it is let go: while it is dragged a redraw would come too late."""
    return ipywidgets.FloatSlider(
        value=value,
        min=minimum,
        max=maximum,
        step=step,
        description=description,
        continuous_update=False,
        style=_WHOLE_LABEL,
        layout=ipywidgets.Layout(width="26em", max_width="100%"),
    )


_WHOLE_LABEL = {"description_width": "initial"}


def _control(
    inputs: list[ipywidgets.Widget], draw: Callable[[], tuple[Figure, str]], text: str
) -> ipywidgets.VBox:
    """Show inputs above a picture and its numbers, which `draw` makes anew at every change."""
    picture, numbers = Picture(), ipywidgets.HTML()

    def redraw(_=None):
        with DRAWING:
            figure, said = draw()
            picture.show(figure, alt=said)
        numbers.value = f"<p>{html.escape(said)}</p>"

    redraw()
    for each in inputs:
        each.observe(redraw, "value")
    control = ipywidgets.VBox([*inputs, picture, numbers])
    display_control(control, picture, text)
    return control
