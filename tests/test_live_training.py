"""A live run ends where an undisturbed one ends, whatever happens to it on the way."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from gfn_utils import GFNAgent, HyperGrid
from gfn_utils.live_training import LiveTraining, Settings

ENV = HyperGrid(height=4)
SETTINGS = Settings(iterations=200)
LONGEST = 120.0


def agent(**settings):
    return GFNAgent(ENV, **{"seed": 3, **settings})


def undisturbed(objective="trajectory_balance"):
    whole = agent()
    return whole, whole.train(iterations=200, decay="linear", chunk=20, objective=objective)


def run_to_the_end(live):
    live.start()
    live.join(LONGEST)
    assert live.error is None


def assert_same(live, whole, history):
    for name, found, expected in zip(history._fields, live.history, history, strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=name)
    for found, expected in zip(live.agent._weights(), whole._weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("objective", ["trajectory_balance", "detailed_balance"])
def test_pauses_change_nothing(objective):
    live = LiveTraining(agent(), SETTINGS._replace(objective=objective))
    live.on_chunk = lambda: live.done in (60, 80) and live.pause()
    for done in (60, 80, 200):
        run_to_the_end(live)
        assert live.done == done
        assert live.finished == (done == 200)
        assert not live.running
    assert_same(live, *undisturbed(objective))


def test_it_runs_beside_its_caller_and_calls_back_from_its_own_thread():
    inside, go_on, threads = threading.Event(), threading.Event(), set()

    def on_chunk():
        threads.add(threading.current_thread())
        inside.set()
        assert go_on.wait(LONGEST)

    live = LiveTraining(agent(), SETTINGS, on_chunk=on_chunk)
    live.start()
    live.start()  # a second start does nothing
    assert inside.wait(LONGEST)
    assert live.running
    assert 0 < live.done < 200
    with pytest.raises(TimeoutError, match=r"0\.01 s"):
        live.join(0.01)
    go_on.set()
    live.join(LONGEST)
    assert live.done == 200
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_a_run_cut_off_is_found_again(tmp_path):
    path = tmp_path / "run.npz"
    first = LiveTraining(agent(), SETTINGS, path)
    first.on_chunk = lambda: first.done == 100 and first.pause()
    run_to_the_end(first)
    again = LiveTraining(agent(), SETTINGS, path)
    assert again.done == 100
    run_to_the_end(again)
    assert_same(again, *undisturbed())


def test_curves_that_are_ahead_of_the_agent_are_cut(tmp_path):
    # They are written first, so this is what a crash between the two files leaves.
    path = tmp_path / "run.npz"
    live = LiveTraining(agent(), SETTINGS, path)
    live.on_chunk = lambda: live.done in (60, 100) and live.pause()
    run_to_the_end(live)
    earlier = path.read_bytes()
    run_to_the_end(live)
    path.write_bytes(earlier)
    again = LiveTraining(agent(), SETTINGS, path)
    assert again.done == 60
    run_to_the_end(again)
    assert_same(again, *undisturbed())


def test_a_killed_process_loses_at_most_what_came_since_the_last_save(tmp_path):
    path = tmp_path / "run.npz"
    program = f"""
        import time
        from gfn_utils import GFNAgent, HyperGrid, live_training
        live_training.SECONDS_BETWEEN_CHECKPOINTS = 0.0
        live = live_training.LiveTraining(
            GFNAgent(HyperGrid(height=4), seed=3),
            live_training.Settings(iterations=200),
            {str(path)!r},
            on_chunk=lambda: time.sleep(0.2),
        )
        live.start()
        live.join()
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
    deadline = time.monotonic() + LONGEST
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = LiveTraining(agent(), SETTINGS, path)
    assert 20 <= again.done < 200
    run_to_the_end(again)
    assert_same(again, *undisturbed())


@pytest.mark.parametrize(
    "other",
    [
        (agent(seed=4), SETTINGS),
        (agent(gamma=0.1), SETTINGS),
        (agent(), SETTINGS._replace(iterations=400)),
        (agent(), SETTINGS._replace(objective="log_variance")),
    ],
    ids=["seed", "gamma", "iterations", "objective"],
)
def test_a_run_with_other_settings_is_not_taken_for_this_one(tmp_path, other):
    path = tmp_path / "run.npz"
    live = LiveTraining(agent(), SETTINGS, path)
    live.on_chunk = live.pause
    run_to_the_end(live)
    assert LiveTraining(*other, path).done == 0
    assert LiveTraining(agent(), SETTINGS, path).done == 20


def test_reset_forgets_what_was_learned_and_saved(tmp_path):
    path = tmp_path / "run.npz"
    live = LiveTraining(agent(), SETTINGS, path)
    run_to_the_end(live)
    live.reset()
    assert live.done == 0
    assert list(tmp_path.iterdir()) == []
    run_to_the_end(live)
    assert_same(live, *undisturbed())


def test_a_failure_is_kept_and_leaves_the_agent_whole(tmp_path):
    live = LiveTraining(agent(), SETTINGS)
    live.on_chunk = lambda: live.done == 60 and live.agent.log_z.assign(np.nan)
    live.start()
    live.join(LONGEST)
    assert isinstance(live.error, FloatingPointError)
    assert "iteration 60" in str(live.error)
    assert live.done == 60
    live.agent.log_z.assign(tf.zeros([], tf.float64))
    run_to_the_end(live)
    assert live.finished


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="agent"):
        LiveTraining(ENV)
    wrong = {"iterations": 0, "batch_size": 0, "objective": "magic", "decay": "fast"}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=name):
            LiveTraining(agent(), Settings(**{name: value}))


def test_a_path_that_cannot_be_written_or_is_another_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="path"):
        LiveTraining(agent(), SETTINGS, tmp_path / "missing" / "run.npz")
    path = tmp_path / "notes.npz"
    path.write_text("no agent")
    (tmp_path / "notes.npz.curves").write_text("no curves")
    with pytest.raises(ValueError, match="path"):
        LiveTraining(agent(), SETTINGS, path)
    assert path.read_text() == "no agent"
