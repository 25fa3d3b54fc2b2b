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
from small_jobs import WITHOUT_XLA

from gfn_utils import GFNAgent, HyperGrid
from gfn_utils.classroom.live_training import LiveTraining, Settings

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
def test_pauses_change_nothing(objective, request):
    if objective != SETTINGS.objective:
        request.getfixturevalue("without_xla")
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


def test_the_file_of_a_run_is_an_agent_that_can_be_loaded(tmp_path):
    path = tmp_path / "run.npz"
    live = LiveTraining(agent(), SETTINGS, path)
    live.on_chunk = lambda: live.done == 60 and live.pause()
    run_to_the_end(live)
    assert [*tmp_path.iterdir()] == [path]
    loaded = GFNAgent.load(path)
    assert loaded.iteration == 60
    for found, expected in zip(loaded._weights(), live.agent._weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_run_whose_gamma_is_annealed_is_found_again(tmp_path):
    path = tmp_path / "run.npz"

    def anneal(live):
        live.agent.gamma = 0.5 * (1 - live.done / 200)

    def run_until(done):
        live = LiveTraining(agent(), SETTINGS, path)
        live.on_chunk = lambda: (anneal(live), live.done == done and live.pause())
        run_to_the_end(live)
        return live

    whole = agent()
    whole_history = whole.train(
        iterations=200,
        decay="linear",
        chunk=20,
        callback=lambda progress: setattr(whole, "gamma", 0.5 * (1 - progress.done / 200)),
    )
    assert run_until(100).done == 100
    assert_same(run_until(200), whole, whole_history)


def test_a_cell_run_twice_goes_on_in_the_newer_training(tmp_path):
    path = tmp_path / "run.npz"
    older = LiveTraining(agent(), SETTINGS, path)
    older.start()
    newer = LiveTraining(agent(), SETTINGS, path)
    assert not older.running
    assert newer.done == older.done
    written = path.read_bytes() if newer.done else None
    ended = []
    older.on_end = lambda: ended.append(True)
    older.start()
    older.join(LONGEST)
    assert ended == [True]
    assert "newer LiveTraining" in str(older.error)
    older.reset()
    assert written == (path.read_bytes() if newer.done else None)
    run_to_the_end(newer)
    assert_same(newer, *undisturbed())


def test_a_timeout_is_a_number_of_seconds():
    for wrong in ("1", -1.0, np.inf, [1]):
        with pytest.raises((TypeError, ValueError), match="timeout must be"):
            LiveTraining(agent(), SETTINGS).join(wrong)


@WITHOUT_XLA
def test_settings_may_be_numbers_of_numpy(tmp_path):
    settings = Settings(np.int64(3), batch_size=np.array(4))
    run_to_the_end(LiveTraining(agent(), settings, tmp_path / "run.npz"))
    found = LiveTraining(agent(), Settings(3, batch_size=4), tmp_path / "run.npz")
    assert (found.done, found.settings) == (3, settings)


def test_a_running_training_is_not_disturbed_by_one_of_other_settings(tmp_path):
    path = tmp_path / "run.npz"
    live = LiveTraining(agent(), SETTINGS, path)
    go_on = threading.Event()
    live.on_chunk = lambda: go_on.wait(LONGEST)
    live.start()
    with pytest.raises(ValueError, match="another run, with seed 3 where this one has 4"):
        LiveTraining(agent(seed=4), SETTINGS, path)
    go_on.set()
    live.join(LONGEST)
    assert live.finished


def test_a_killed_process_loses_at_most_what_came_since_the_last_save(tmp_path):
    path = tmp_path / "run.npz"
    program = f"""
        import time
        from gfn_utils import GFNAgent, HyperGrid
        from gfn_utils.classroom import live_training
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
def test_a_run_with_other_settings_is_refused_and_stays(tmp_path, other):
    path = tmp_path / "run.npz"
    live = LiveTraining(agent(), SETTINGS, path)
    live.on_chunk = live.pause
    run_to_the_end(live)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"path must be free .*run\.npz', which holds another run"):
        LiveTraining(*other, path)
    assert path.read_bytes() == before
    assert LiveTraining(agent(), SETTINGS, path).done == 20


def test_a_run_for_another_reward_is_refused_and_stays(tmp_path):
    path = tmp_path / "run.npz"
    live = LiveTraining(agent(), SETTINGS, path)
    live.on_chunk = live.pause
    run_to_the_end(live)
    with pytest.raises(ValueError, match="the run of another agent"):
        LiveTraining(GFNAgent(HyperGrid(height=4, r1=0.6), seed=3), SETTINGS, path)
    assert LiveTraining(agent(), SETTINGS, path).done == 20


def by_hand(path):
    agent().save(path)


FOREIGN = {
    "an agent saved by hand": by_hand,
    "text": lambda path: path.write_text("my notes"),
    "nothing in it": lambda path: path.write_bytes(b""),
    "an archive": lambda path: np.savez(path.open("wb"), x=np.zeros(3)),
}


@pytest.mark.parametrize("write", FOREIGN.values(), ids=FOREIGN)
def test_a_file_that_is_not_a_run_is_refused_and_stays(tmp_path, write):
    path = tmp_path / "run.npz"
    write(path)
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=r"path must be free or hold this very run, got '.*run\.npz'"
    ):
        LiveTraining(agent(), SETTINGS, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("write", FOREIGN.values(), ids=FOREIGN)
def test_a_file_that_came_after_the_run_began_is_left_alone(tmp_path, write):
    path = tmp_path / "run.npz"
    live = LiveTraining(agent(), SETTINGS, path)
    live.on_chunk = live.pause
    run_to_the_end(live)
    path.unlink()
    write(path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"run\.npz' was written by something else"):
        live.reset()
    assert live.done == 20
    live.start()
    live.join(LONGEST)
    assert isinstance(live.error, FileExistsError)
    assert path.read_bytes() == before


def test_a_file_that_was_deleted_is_written_anew(tmp_path):
    path = tmp_path / "run.npz"
    live = LiveTraining(agent(), SETTINGS, path)
    live.on_chunk = live.pause
    run_to_the_end(live)
    path.unlink()
    run_to_the_end(live)
    assert LiveTraining(agent(), SETTINGS, path).done == 40


DAMAGE = {
    "run": ["", "{", "[]", "7", "null", '{"first_update": "x"}', "{}", np.zeros(3)],
    "seconds": [np.nan, -1.0, "x", np.zeros(3), np.inf],
    "history_loss": [np.zeros(3), np.zeros([40, 1]), np.array(["x"] * 40), 0.0],
    "history_log_z": [np.zeros(41), np.zeros(40, complex)],
    "history_evaluated_at": [np.zeros(9), "x"],
    "iteration": [np.array(41), np.array(10**6)],
}


@pytest.fixture(scope="module")
def arrays_of_a_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.npz"
    live = LiveTraining(agent(), SETTINGS, path)
    live.on_chunk = lambda: live.done == 40 and live.pause()
    run_to_the_end(live)
    with np.load(path) as archive:
        return dict(archive)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in DAMAGE.items() for value in values]
)
def test_a_damaged_run_is_refused_in_words(tmp_path, arrays_of_a_run, name, value):
    path = tmp_path / "run.npz"
    np.savez(path, **{**arrays_of_a_run, name: np.array(value)})
    with pytest.raises(
        ValueError, match=r"path must be free or hold this very run, got '.*run\.npz'"
    ):
        LiveTraining(agent(), SETTINGS, path)
    np.savez(path, **arrays_of_a_run)
    assert LiveTraining(agent(), SETTINGS, path).done == 40


def test_a_run_of_which_a_part_is_missing_is_refused_in_words(tmp_path, arrays_of_a_run):
    path = tmp_path / "run.npz"
    for name in ("seconds", "history_loss", "history_l1_error"):
        np.savez(path, **{key: array for key, array in arrays_of_a_run.items() if key != name})
        with pytest.raises(ValueError, match="which holds a damaged run"):
            LiveTraining(agent(), SETTINGS, path)


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
    for name in ("settings", "on_chunk", "on_end"):
        with pytest.raises(TypeError, match=f"{name} must be"):
            LiveTraining(agent(), **{name: {"iterations": 200}})
    wrong = {"iterations": 0, "batch_size": 0, "objective": "magic", "decay": "fast"}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=name):
            LiveTraining(agent(), Settings(**{name: value}))


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="path"):
        LiveTraining(agent(), SETTINGS, tmp_path / "missing" / "run.npz")
    for path in (tmp_path, os.devnull):
        with pytest.raises(ValueError, match="path must be a file"):
            LiveTraining(agent(), SETTINGS, path)
