"""The dashboard's buttons and the playground's page, pressed without a browser."""

import gc
import html
import re
import threading
import types
import weakref

import matplotlib.pyplot as plt
import numpy as np
import pytest
from small_jobs import WITHOUT_XLA

from gfn_utils import GFNAgent, HyperGrid, evaluation, losses
from gfn_utils.classroom import plotting
from gfn_utils.classroom.dashboard import TrainingDashboard, picture_of_run, training_dashboard
from gfn_utils.classroom.live_training import LiveTraining, Settings
from gfn_utils.classroom.playground import HEIGHTS, LEVELS, PRESETS, Playground, RewardEditor, Run
from gfn_utils.classroom.widgets import WIDGET_VIEW
from gfn_utils.environments import PaintedGrid

LONGEST = 120.0


@pytest.fixture
def dashboard():
    agent = GFNAgent(HyperGrid(height=4), seed=3)
    return TrainingDashboard(LiveTraining(agent, Settings(iterations=100)))


def alt(picture):
    """The text that a screen reader would read in its place."""
    return html.unescape(re.search('alt="([^"]*)"', picture.value)[1])


def finish(dashboard):
    dashboard.training.join(LONGEST)
    assert dashboard.training.error is None


def inputs_of(widget):
    """All controls below a container that a learner can change."""
    if hasattr(widget, "children"):
        return [each for child in widget.children for each in inputs_of(child)]
    return [widget] if hasattr(widget, "description") else []


def test_start_pause_continue_reset(dashboard):
    before = dashboard.curves.value
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
    assert dashboard.curves.value != before
    dashboard.reset_button.click()
    assert dashboard.start_button.description == "Start"
    assert not dashboard.start_button.disabled
    assert dashboard.curves.value == before


def test_reset_while_it_trains_starts_from_nothing(dashboard):
    before = dashboard.curves.value
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
    assert dashboard.curves.value == before


def test_the_text_of_the_picture_says_how_far_it_is(dashboard):
    dashboard.start_button.click()
    finish(dashboard)
    agent = dashboard.training.agent
    error = evaluation.l1_error(evaluation.terminating_distribution(agent), agent.env.target())
    assert f"exact L1 error {error:.3f} after 100 updates." in dashboard.maps.value
    assert f"100 of 100 updates, loss {dashboard.history.loss[-1]:.2g} nats²" in alt(
        dashboard.curves
    )


@pytest.mark.parametrize(("every", "pictures"), [(20, 5 + 1), (40, 3 + 1), (500, 1 + 1)])
def test_a_picture_every_so_many_updates_and_one_at_the_end(dashboard, every, pictures):
    seen = []
    dashboard.every.value = every
    dashboard.curves.observe(lambda change: seen.append(change["new"]), "value")
    show = dashboard.curves.show
    calls = []
    dashboard.curves.show = lambda *given: (calls.append(1), show(*given))
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


def test_a_file_that_is_not_the_runs_is_kept_and_the_status_says_so(tmp_path):
    path = tmp_path / "run.npz"
    agent = GFNAgent(HyperGrid(height=4), seed=3)
    dashboard = TrainingDashboard(LiveTraining(agent, Settings(iterations=40), path))
    dashboard.start_button.click()
    finish(dashboard)
    path.write_text("mine")
    dashboard.reset_button.click()
    assert path.read_text() == "mine"
    assert dashboard.status.value.startswith("stopped by an error: ")
    assert "run.npz" in dashboard.status.value


def test_one_output_in_three_forms(capsys, monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr("gfn_utils.classroom.widgets.display", lambda data, raw: shown.append(data))
    agent = GFNAgent(HyperGrid(height=4))
    dashboard = training_dashboard(agent, iterations=20, path=tmp_path / "run.npz")
    (bundle,) = shown
    assert bundle[WIDGET_VIEW]["model_id"] == dashboard.control.model_id
    assert bundle["image/png"].startswith(b"\x89PNG")
    assert bundle["text/plain"].startswith("Control (run this cell to use it)")
    assert "The picture shows the run so far, 0 of 20 updates: maps" in bundle["text/plain"]


def test_a_press_is_answered_without_ending_the_running_cell(monkeypatch):
    monkeypatch.setattr("gfn_utils.classroom.widgets.display", lambda data, raw: None)
    dashboard = training_dashboard(GFNAgent(HyperGrid(height=4), seed=3), iterations=20)
    # IPython's events would have pyplot show what the cell is still drawing.
    shell = types.SimpleNamespace(events=types.SimpleNamespace(trigger=pytest.fail))
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    press = {"method": "custom", "content": {"event": "click"}}
    dashboard.start_button.comm.handle_msg({"content": {"data": press}, "buffers": []})
    finish(dashboard)
    assert dashboard.training.done == 20


def test_a_preview_shows_a_finished_run_and_leaves_the_agent_untrained(monkeypatch):
    shown, drawn = [], []
    monkeypatch.setattr("gfn_utils.classroom.widgets.display", lambda data, raw: shown.append(data))
    draw = plotting.training
    monkeypatch.setattr(plotting, "training", lambda *given: (drawn.append(given), draw(*given)))
    agent = GFNAgent(HyperGrid(height=4), seed=3)
    dashboard = training_dashboard(agent, iterations=60, preview=True)
    again = GFNAgent(HyperGrid(height=4), seed=3)
    expected = again.train(iterations=60, batch_size=16, decay="linear", chunk=20)
    _, learned, history, *_ = drawn[0]
    np.testing.assert_array_equal(history.loss, expected.loss)
    np.testing.assert_array_equal(learned, evaluation.terminating_distribution(again))
    text = shown[0]["text/plain"]
    assert "The picture shows a finished run, 60 of 60 updates: maps" in text
    log_z = f"log Z {expected.log_z[-1]:.3f} of {agent.env.log_partition():.3f} nats"
    numbers = f"loss {expected.loss[-1]:.2g} nats², {log_z}, exact L1 {expected.l1_error[-1]:.3f}"
    assert text.endswith(f"[measured here: {numbers}].")
    assert (agent.iteration, dashboard.training.done) == (0, 0)


@WITHOUT_XLA
@pytest.mark.parametrize("objective", losses.OBJECTIVES)
def test_log_z_is_shown_where_the_objective_learns_it(objective):
    agent = GFNAgent(HyperGrid(height=4), seed=3)
    dashboard = TrainingDashboard(LiveTraining(agent, Settings(20, objective)))
    before = float(agent.log_z)
    dashboard.start_button.click()
    finish(dashboard)
    learned = objective not in {"log_variance", "modified_detailed_balance"}
    assert (float(agent.log_z) != before) == learned
    assert ("log Z not learned by this objective" in dashboard.status.value) != learned
    assert ("nats, exact" in dashboard.status.value) == learned
    drawn = plotting.training_curves(agent.env, dashboard.history, 20, plt.figure(layout="none"))
    words = [each.get_text() for each in drawn.axes[1].texts]
    assert words == ([] if learned else ["not learned by this objective"])
    plt.close("all")


@WITHOUT_XLA
def test_a_grid_whose_error_is_not_tracked_is_trained_all_the_same():
    agent = GFNAgent(HyperGrid(2, 128), hidden=(8,))
    dashboard = TrainingDashboard(LiveTraining(agent, Settings(20, batch_size=2)))
    dashboard.start_button.click()
    finish(dashboard)
    assert re.fullmatch(
        r"finished: 20 of 20 updates, loss \S+ nats², log Z \S+ of 7\.968 nats",
        dashboard.status.value,
    )
    error = evaluation.l1_error(evaluation.terminating_distribution(agent), agent.env.target())
    assert f"exact L1 error {error:.3f} after 20 updates" in alt(dashboard.maps)


@pytest.mark.parametrize("env", [HyperGrid(3, 4), HyperGrid(2, 4000)], ids=repr)
def test_what_cannot_be_drawn_is_refused_before_anything_is_trained(env):
    with pytest.raises(ValueError, match="env must be"):
        training_dashboard(GFNAgent(env))


def test_every_control_says_what_it_is():
    page = Playground()
    for run in (page.first, page.second):
        run.dashboard.show_pipes.value = True
    for each in inputs_of(page.control):
        assert each.description or getattr(each, "value", ""), each
    for button in page.editor.cells.children:
        assert button.tooltip.startswith("cell (")
    assert 'alt="' in page.first.dashboard.curves.value


@pytest.mark.parametrize("height", HEIGHTS)
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_rewards_of_every_size(preset, height):
    rewards = PRESETS[preset](height)
    assert rewards.shape == (height, height)
    assert rewards.min() > 0
    if preset == "four corners":
        env = HyperGrid(height=height)
        np.testing.assert_allclose(rewards.ravel() / rewards.sum(), env.target())


def test_a_press_on_a_cell_paints_it():
    changes = []
    editor = RewardEditor(lambda: changes.append(1))
    editor.height.value = 4
    editor.preset.value = "the far corner"
    before = editor.rewards.copy()
    # The upper row comes first: the third button is the cell (2, 3).
    button = editor.cells.children[2]
    assert before[2, 3] == 2.0
    changes.clear()
    for number, level in enumerate(LEVELS, start=1):
        editor.brush.value = level
        button.click()
        assert editor.rewards[2, 3] == level
        assert button.tooltip == f"cell (2, 3): reward {level:.2g}"
        assert len(changes) == number
    before[2, 3] = LEVELS[-1]
    np.testing.assert_array_equal(editor.rewards, before)


def test_the_dry_desert_of_lesson_05_can_be_painted():
    editor = RewardEditor()
    editor.height.value = 4
    editor.brush.value = 1e-5
    editor.fill.click()
    for cell in [(1, 1), (1, 2), (2, 1), (2, 2)]:
        editor.paint(*cell, 1.0)
    expected = np.full([4, 4], 1e-5)
    expected[1:3, 1:3] = 1.0
    np.testing.assert_array_equal(editor.rewards, expected)
    assert {each.description for each in editor.cells.children} == {"1e-5", "1"}


@pytest.fixture(scope="module")
def editor():
    """One for all that is refused."""
    editor = RewardEditor()
    editor.height.value = 4
    return editor


@pytest.mark.parametrize(
    ("cell", "reward", "error", "message"),
    [
        ((4, 0), 1.0, ValueError, "x0 must be .* at most 3, got 4"),
        ((0, -1), 1.0, ValueError, "x1 must be an integer of at least 0, got -1"),
        ((0, 1.0), 1.0, TypeError, "x1 must be an integer"),
        ((0, 0), 0.0, ValueError, "reward must be finite and above 0"),
        ((0, 0), float("nan"), ValueError, "reward must be finite and above 0"),
        ((0, 0), "1", TypeError, "reward must be a number, got '1'"),
        ((0, 0), None, TypeError, "reward must be a number, got None"),
    ],
)
def test_what_cannot_be_painted_is_refused_and_changes_nothing(
    editor, cell, reward, error, message
):
    before = editor.rewards.copy()
    with pytest.raises(error, match=message):
        editor.paint(*cell, reward)
    np.testing.assert_array_equal(editor.rewards, before)


def test_the_parts_of_the_page_name_what_they_are_not_given():
    cases = [
        (lambda: RewardEditor(None), "on_change must be a function, got None"),
        (lambda: Run(3, np.eye), "name must be a string, got 3"),
        (lambda: Run("a run", None), "rewards_of must be a function, got None"),
        (lambda: Run("a run", np.eye, "0.5"), "gamma must be a number, got '0.5'"),
        (lambda: picture_of_run(None, True), "training must be a LiveTraining, got None"),
    ]
    for call, message in cases:
        with pytest.raises(TypeError, match=f"^{message}"):
            call()


@pytest.mark.parametrize(
    "rewards",
    [None, "12", [["1", "2"], ["3", "4"]], [[1, 2], [3]], [[1, None], [1, 1]], [[1j] * 2] * 2],
)
def test_a_painted_grid_takes_numbers_only(rewards):
    with pytest.raises((TypeError, ValueError), match="rewards must be"):
        PaintedGrid(rewards)


@WITHOUT_XLA
def test_the_page_trains_for_the_painted_reward_and_the_settings():
    page = Playground()
    page.editor.height.value = 4
    page.editor.paint(3, 0, 5.0)
    run = page.first
    run.updates.value, run.gamma.value, run.objective.value = 500, 0.25, "detailed_balance"
    run.backward_policy.value = "uniform"
    run.dashboard.every.value = 500
    assert run.dashboard.status.value == "ready: 500 updates"
    run.dashboard.start_button.click()
    finish(run.dashboard)
    training = run.dashboard.training
    assert training.settings.objective == "detailed_balance"
    assert training.agent.gamma == 0.25
    assert training.agent.describe()["arguments"]["backward_policy"] == "uniform"
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
    page.editor.height.value = 4
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


def test_nothing_of_the_old_run_stays_when_the_reward_changes():
    page = Playground()
    page.editor.height.value = 4
    page.compare.value = True
    dashboards = [page.first.dashboard, page.second.dashboard]
    for run in (page.first, page.second):
        run.updates.value = 500
        run.dashboard.every.value = 500
    page.start_both.click()
    for dashboard in dashboards:
        finish(dashboard)
        assert dashboard.progress.value == 500
    old = [each.maps.png for each in dashboards]
    page.editor.paint(3, 3, 0.5)
    target = PaintedGrid(page.editor.rewards).target()
    for dashboard, before in zip(dashboards, old, strict=True):
        assert (dashboard.progress.value, dashboard.start_button.description) == (0, "Start")
        assert dashboard.status.value == "ready: 500 updates"
        assert len(dashboard.history.loss) == len(dashboard.beside().loss) == 0
        np.testing.assert_allclose(dashboard.training.agent.env.target(), target)
        assert dashboard.maps.png != before
        assert "after 0 updates" in alt(dashboard.maps)


def test_both_runs_are_started_at_once_and_drawn_on_the_same_axes(monkeypatch):
    page = Playground()
    page.editor.height.value = 4
    assert page.start_both.layout.display == "none"
    page.compare.value = True
    assert page.start_both.layout.display == ""
    runs = [page.first, page.second]
    for run, updates in zip(runs, (500, 1000), strict=True):
        run.updates.value = updates
        run.dashboard.every.value = 500
    drawn = []
    draw = plotting.training_curves
    monkeypatch.setattr(
        plotting, "training_curves", lambda *given: drawn.append((given, draw(*given)))
    )
    page.start_both.click()
    for run in runs:
        finish(run.dashboard)
    last = {given[2]: (given[1], given[4], figure) for given, figure in drawn}
    histories = [run.dashboard.training.history for run in runs]
    for total, own, other in [(500, *histories), (1000, *reversed(histories))]:
        history, beside, figure = last[total]
        np.testing.assert_array_equal(history.loss, own.loss)
        np.testing.assert_array_equal(beside.loss, other.loss)
        low, high = figure.axes[0].get_ylim()
        assert low <= min(own.loss.min(), other.loss.min())
        assert high >= max(own.loss.max(), other.loss.max())
    limits = [[ax.get_ylim() for ax in last[total][2].axes] for total in (500, 1000)]
    assert limits[0] == limits[1]
    page.start_both.click()
    assert all(run.dashboard.training.done < run.updates.value for run in runs)
    for run in runs:
        run.dashboard.training.pause()
        finish(run.dashboard)


def test_a_replaced_run_is_let_go():
    page = Playground()
    page.editor.height.value = 4
    old = weakref.ref(page.first.dashboard.training.agent)
    page.editor.paint(0, 0, 2.0)
    gc.collect()
    assert old() is None
