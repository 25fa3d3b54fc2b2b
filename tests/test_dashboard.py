"""The dashboard's buttons and the playground's page, pressed without a browser."""

import threading

import numpy as np
import pytest

from gfn_utils import GFNAgent, HyperGrid, evaluation
from gfn_utils.dashboard import TrainingDashboard, training_dashboard
from gfn_utils.live_training import LiveTraining, Settings
from gfn_utils.playground import HEIGHTS, LEVELS, PRESETS, Playground, RewardEditor
from gfn_utils.widgets import WIDGET_VIEW

LONGEST = 120.0


@pytest.fixture
def dashboard():
    agent = GFNAgent(HyperGrid(height=4), seed=3)
    return TrainingDashboard(LiveTraining(agent, Settings(iterations=100)))


def finish(dashboard):
    dashboard.training.join(LONGEST)
    assert dashboard.training.error is None


def inputs_of(widget):
    """All controls below a container that a learner can change."""
    if hasattr(widget, "children"):
        return [each for child in widget.children for each in inputs_of(child)]
    return [widget] if hasattr(widget, "description") else []


def test_start_pause_continue_reset(dashboard):
    before = dashboard.picture.value
    assert dashboard.start_button.description == "Start"
    dashboard.training.on_chunk = lambda: dashboard.training.done == 40 and press()

    def press():
        assert dashboard.training.running
        dashboard.start_button.click()

    dashboard.start_button.click()
    assert dashboard.start_button.description == "Pause"
    finish(dashboard)
    assert dashboard.training.done == 40
    assert dashboard.start_button.description == "Continue"
    assert dashboard.status.value.startswith("paused: 40 of 100 updates")
    assert dashboard.progress.value == 40
    dashboard.start_button.click()
    finish(dashboard)
    assert dashboard.status.value.startswith("finished: 100 of 100 updates")
    assert dashboard.start_button.disabled
    assert dashboard.picture.value != before
    dashboard.reset_button.click()
    assert dashboard.start_button.description == "Start"
    assert not dashboard.start_button.disabled
    assert dashboard.picture.value == before


def test_reset_while_it_trains_starts_from_nothing(dashboard):
    before = dashboard.picture.value
    reached, go_on = threading.Event(), threading.Event()
    after_chunk = dashboard.training.on_chunk

    def hold():
        after_chunk()
        reached.set()
        go_on.wait(LONGEST)

    dashboard.training.on_chunk = hold
    dashboard.start_button.click()
    assert reached.wait(LONGEST)
    threading.Timer(0.2, go_on.set).start()
    dashboard.reset_button.click()
    assert dashboard.training.done == 0
    assert dashboard.start_button.description == "Start"
    assert dashboard.picture.value == before


def test_the_text_of_the_picture_says_how_far_it_is(dashboard):
    dashboard.start_button.click()
    finish(dashboard)
    agent = dashboard.training.agent
    error = evaluation.l1_error(evaluation.terminating_distribution(agent), agent.env.target())
    assert f"After 100 updates the exact L1 error is {error:.3f}." in dashboard.picture.value


@pytest.mark.parametrize(("every", "pictures"), [(20, 5 + 1), (40, 3 + 1), (500, 1 + 1)])
def test_a_picture_every_so_many_updates_and_one_at_the_end(dashboard, every, pictures):
    seen = []
    dashboard.every.value = every
    dashboard.picture.observe(lambda change: seen.append(change["new"]), "value")
    show = dashboard.picture.show
    calls = []
    dashboard.picture.show = lambda *given: (calls.append(1), show(*given))
    dashboard.start_button.click()
    finish(dashboard)
    assert len(calls) == pictures
    assert len(set(seen)) >= min(2, pictures - 1)


def test_an_error_is_shown_and_training_can_go_on(dashboard):
    after_chunk = dashboard.training.on_chunk

    def spoil():
        after_chunk()
        if dashboard.training.done == 40:
            dashboard.training.agent.log_z.assign(np.nan)

    dashboard.training.on_chunk = spoil
    dashboard.start_button.click()
    dashboard.training.join(LONGEST)
    assert "stopped by an error: the loss is not finite at iteration 40" in dashboard.status.value
    assert dashboard.start_button.description == "Continue"


def test_one_output_in_three_forms(capsys, monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr("gfn_utils.widgets.display", lambda data, raw: shown.append(data))
    agent = GFNAgent(HyperGrid(height=4))
    dashboard = training_dashboard(agent, iterations=20, path=tmp_path / "run.npz")
    (bundle,) = shown
    assert bundle[WIDGET_VIEW]["model_id"] == dashboard.control.model_id
    assert bundle["image/png"].startswith(b"\x89PNG")
    assert bundle["text/plain"].startswith("Control (run this cell to use it)")


def test_every_control_says_what_it_is():
    page = Playground()
    for each in inputs_of(page.control):
        assert each.description or getattr(each, "value", ""), each
    for button in page.editor.cells.children:
        assert button.tooltip.startswith("cell (")
    assert 'alt="' in page.first.dashboard.picture.value


@pytest.mark.parametrize("height", HEIGHTS)
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_rewards_of_every_size(preset, height):
    rewards = PRESETS[preset](height)
    assert rewards.shape == (height, height)
    assert rewards.min() > 0
    if preset == "four corners":
        env = HyperGrid(height=height)
        np.testing.assert_allclose(rewards.ravel() / rewards.sum(), env.target())


def test_a_press_on_a_cell_raises_or_lowers_its_reward():
    changes = []
    editor = RewardEditor(lambda: changes.append(1))
    editor.height.value = 4
    editor.preset.value = "the far corner"
    # The upper row comes first: the third button is the cell (2, 3).
    button = editor.cells.children[2]
    assert editor.rewards[2, 3] == LEVELS[-1]
    button.click()
    assert editor.rewards[2, 3] == LEVELS[-1]
    editor.brush.value = -1
    changes.clear()
    button.click()
    assert editor.rewards[2, 3] == LEVELS[-2]
    assert button.tooltip == "cell (2, 3): reward 1"
    assert changes == [1]
    for _ in LEVELS:
        button.click()
    assert editor.rewards[2, 3] == LEVELS[0]


def test_the_page_trains_for_the_painted_reward_and_the_settings():
    page = Playground()
    page.editor.height.value = 4
    page.editor.paint(3, 0, 5.0)
    run = page.first
    run.updates.value, run.gamma.value, run.objective.value = 500, 0.25, "detailed_balance"
    run.dashboard.every.value = 500
    assert run.dashboard.status.value.startswith("changed")
    run.dashboard.start_button.click()
    finish(run.dashboard)
    training = run.dashboard.training
    assert training.settings.objective == "detailed_balance"
    assert training.agent.gamma == 0.25
    learned = evaluation.terminating_distribution(training.agent)
    np.testing.assert_allclose(
        training.agent.env.target().reshape(4, 4), page.editor.rewards / page.editor.rewards.sum()
    )
    assert evaluation.l1_error(learned, training.agent.env.target()) < 0.2
    # The other run has not moved; it is hidden until asked for.
    assert page.second.dashboard.training.done == 0
    assert page.second.control.layout.display == "none"
    page.compare.value = True
    assert page.second.control.layout.display != "none"


def test_a_change_while_it_trains_pauses_that_run_and_starts_another():
    page = Playground()
    run = page.first
    run.dashboard.every.value = 500
    old = run.dashboard.training
    old.on_chunk = lambda: old.done == 40 and run.renew()
    run.dashboard.start_button.click()
    old.join(LONGEST)
    assert old.done == 40
    run.updates.value = 500
    run.dashboard.start_button.click()
    finish(run.dashboard)
    assert run.dashboard.training is not old
    assert run.dashboard.training.done == 500
