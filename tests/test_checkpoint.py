"""Files of agents: whose environment is another, crafted by hand, written at once, cut off."""

import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from own_environments import Subsets
from same_agents import assert_same

from gfn_utils import GFNAgent, HyperGrid, LeftToRightSequences, checkpoint
from gfn_utils.checkpoint import replacing

GRID = HyperGrid(2, 4)
N_WORDS = 4**8
PLACE_VALUES = 4 ** np.arange(8)[::-1]


@pytest.fixture
def saved(tmp_path):
    """An agent and the file that holds it."""
    agent = GFNAgent(GRID, hidden=(8,))
    agent.save(tmp_path / "agent.npz")
    return agent, tmp_path / "agent.npz"


def refused(path, why=""):
    words = f"path must be a file that GFNAgent.save wrote, got {str(path)!r}"
    return pytest.raises(ValueError, match=re.escape(words) + f".*{why}")


# --- whose environment is another than it was -----------------------------------------------------


def agent_of_words(table):
    env = LeftToRightSequences(
        lambda letters: tf.gather(table, tf.reduce_sum(letters * PLACE_VALUES, axis=-1))
    )
    return GFNAgent(env, hidden=(8,))


def test_one_word_of_65536_with_another_reward_is_refused_and_named(tmp_path):
    path, number = tmp_path / "agent.npz", 12_345
    table = np.random.default_rng(0).normal(size=N_WORDS)
    agent = agent_of_words(table.copy())
    agent.save(path)
    assert_same(GFNAgent.load(path, agent_of_words(table).env), agent)
    table[number] += 1
    word = [number // 4**place % 4 + 1 for place in reversed(range(8))]
    words = f"but the log_reward of state {word} is {table[number]} where it was "
    with pytest.raises(ValueError, match=re.escape(words)):
        GFNAgent.load(path, agent_of_words(table).env)


def test_rewards_that_another_processor_rounds_are_the_same(tmp_path):
    path = tmp_path / "agent.npz"
    table = 20 * np.random.default_rng(0).normal(size=N_WORDS)
    agent_of_words(table).save(path)
    for seed in range(3):
        rounding = 1 + 1e-6 * np.random.default_rng(seed).normal(size=N_WORDS)
        GFNAgent.load(path, agent_of_words(table * rounding).env)


def test_an_own_environment_whose_code_was_edited_is_refused(tmp_path):
    path = tmp_path / "agent.npz"
    GFNAgent(Subsets(), hidden=(8,)).save(path)
    methods = {"forward_mask": lambda self, s: Subsets.forward_mask(self, s) & (s[:, :1] == 0)}
    edited = type("Subsets", (Subsets,), {**methods, "__module__": Subsets.__module__})
    with pytest.raises(ValueError, match=r"env must be as it was .*, but the masks of state"):
        GFNAgent.load(path, edited())


def write_as_before(path, agent, monkeypatch, **settings):
    """A file of format 1, which has no fingerprint."""
    agent.save(path)
    description, state = checkpoint.read(path)[:2]
    description["settings"] |= settings
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", "gfn_utils agent 1")
        checkpoint.write(path, description, state)


def test_files_of_the_format_before_are_loaded(tmp_path, monkeypatch):
    path, agent = tmp_path / "agent.npz", GFNAgent(GRID, hidden=(8,))
    write_as_before(path, agent, monkeypatch)
    assert_same(GFNAgent.load(path), agent)


def test_files_of_the_format_before_know_16_rewards_of_sequences(tmp_path, monkeypatch):
    path = tmp_path / "agent.npz"
    table = np.random.default_rng(0).normal(size=N_WORDS)
    agent = agent_of_words(table)
    some = np.random.default_rng(0).integers(4, size=[16, 8]) @ PLACE_VALUES
    rewards = [float(f"{reward:.6g}") for reward in table[some]]
    write_as_before(path, agent, monkeypatch, some_log_rewards=rewards)
    assert_same(GFNAgent.load(path, agent.env), agent)
    rewards[3] += 0.01
    write_as_before(path, agent, monkeypatch, some_log_rewards=rewards)
    with pytest.raises(ValueError, match="but log_reward_of"):
        GFNAgent.load(path, agent.env)


# --- crafted by hand ------------------------------------------------------------------------------


def arrays_of(path):
    with np.load(path) as archive:
        return dict(archive)


def rewrite(path, description=(), **changes):
    """Write the file with some of its arrays or a part of its description replaced."""
    arrays = arrays_of(path)
    told = json.loads(str(arrays["description"]))
    for names, value in dict(description).items():
        *outer, last = names.split(".")
        place = told
        for name in outer:
            place = place[name]
        place[last] = value
    np.savez(path, **{**arrays, "description": np.array(json.dumps(told)), **changes})


CRAFTED = {
    "arguments": [[], "x", {"hidden": [8], "colour": 1}, {}],
    "arguments.hidden": ["8", [8.0], [9], [8, 8], [-8], [10**9], None, 8],
    "arguments.learning_rate": ["0.1", -0.1, float("nan"), None, [0.1]],
    "arguments.adam_betas": ["ab", [0.5], [0.5, "x"], [0.5, float("nan")]],
    "arguments.gamma": ["0.5", 7, float("nan")],
    "arguments.seed": ["1", -1, 1.5, 10**30],
    "arguments.dtype": ["int8", 3, [], None],
    "arguments.state_flow": [True],
    "environment": [3, None, ["HyperGrid"], {}],
    "n_sampled": ["3", -1, 2.5, 10**30, True, None],
    "settings": [[], "x", None],
    "settings.height": ["4", -4, 4.5, 10**6, None],
    "settings.ndim": ["2", 0, 3, 10**5],
    "settings.r1": ["1", float("nan"), -1],
    "settings.colour": ["red"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in CRAFTED.items() for value in values]
)
def test_a_description_that_no_agent_wrote_is_refused_in_the_same_words(saved, name, value):
    _, path = saved
    rewrite(path, {name: value})
    with refused(path):
        GFNAgent.load(path)


def test_an_environment_that_answers_otherwise_than_the_file_says_is_refused(saved):
    _, path = saved
    rewrite(path, {"settings.r1": 0.6})
    with pytest.raises(ValueError, match=r"env must be as it was .*, but the log_reward of state"):
        GFNAgent.load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights_0", np.full([8, 8], np.nan)),
        ("weights_1", np.full([8], np.inf)),
        ("weights_1", np.full([8], "1")),
        ("weights_1", np.zeros([8], np.complex128)),
        ("first_moments_0", np.full([8, 8], -np.inf)),
        ("second_moments_1", np.full([8], -1.0)),
        ("iteration", np.array(-1)),
        ("iteration", np.array(2.5)),
        ("iteration", np.array("3")),
        ("iteration", np.array([1, 2])),
        ("fingerprint_states", np.zeros([16, 2])),
        ("fingerprint_masks", np.array("x")),
    ],
)
def test_arrays_that_no_training_leaves_are_refused(saved, name, value):
    _, path = saved
    rewrite(path, **{name: value})
    with refused(path):
        GFNAgent.load(path)


def test_weights_that_load_would_refuse_are_not_saved(saved):
    agent, path = saved
    state = checkpoint.read(path).state
    state = state._replace(weights=(*state.weights[:-1], np.float64("nan")))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="weights must be finite to be saved"):
        checkpoint.write(path, agent.describe(), state)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["states", "log_reward", "masks", "children", "features"])
def test_a_fingerprint_of_other_shapes_is_refused(saved, name):
    _, path = saved
    array = arrays_of(path)[f"fingerprint_{name}"]
    for wrong in (array[:3], array.ravel()[0], array[None]):
        rewrite(path, **{f"fingerprint_{name}": wrong})
        with pytest.raises(ValueError, match=re.escape(str(path))):
            GFNAgent.load(path)


def test_a_file_that_would_unpack_to_more_than_itself_is_refused_before(saved, monkeypatch):
    _, path = saved
    arrays = arrays_of(path)
    np.savez_compressed(path, **{**arrays, "more": np.zeros([2**20])})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was read"))
    with refused(path, "would unpack to"):
        GFNAgent.load(path)


def test_an_array_that_announces_more_than_it_holds_is_refused(saved):
    _, path = saved
    arrays = arrays_of(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array)
            content = member.getvalue()
            if name == "weights_1":
                content = content.replace(b"(8,), }" + b" " * 12, b"(8000000000000,), }")
                assert b"(8000000000000,), }" in content
            archive.writestr(f"{name}.npy", content)
    with refused(path, "announces"):
        GFNAgent.load(path)


@pytest.mark.parametrize("path", [None, 7, 2.5, ["agent.npz"]])
def test_what_is_no_path_is_named(saved, path):
    for use in (GFNAgent.load, saved[0].save):
        with pytest.raises(TypeError, match="path must be a string or a path"):
            use(path)


@pytest.mark.parametrize("env", [3, "HyperGrid", HyperGrid])
def test_what_is_no_environment_is_named(saved, env):
    with pytest.raises(TypeError, match="env must be an Environment"):
        GFNAgent.load(saved[1], env)


# --- written at once, cut off, and through links --------------------------------------------------


def test_threads_may_save_to_one_path_while_others_load(saved):
    agent, path = saved
    failures, n_saves = [], 40

    def repeat(action):
        try:
            for _ in range(n_saves):
                action()
        except Exception as error:
            failures.append(error)

    actions = [lambda: agent.save(path)] * 4 + [lambda: checkpoint.read(path)] * 2
    threads = [threading.Thread(target=repeat, args=[action]) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(path.parent) == [path.name]
    assert_same(GFNAgent.load(path), agent)


KILLED = """
    import sys, time
    from gfn_utils.checkpoint import replacing
    with replacing(sys.argv[1]) as file:
        file.write(b"half of")
        file.flush()
        print("writing", flush=True)
        time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals and locks of POSIX")
def test_the_next_save_removes_what_a_killed_one_left_and_nothing_else(tmp_path):
    path = tmp_path / "a[1].npz"
    others = [tmp_path / name for name in (".a[1].npz.notes.part", "a[1].npz.bak", ".b.npz.1234")]
    for other in others:
        other.write_text("mine")
    program = [sys.executable, "-c", textwrap.dedent(KILLED), path]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with replacing(path) as file:
            file.write(b"whole")
        assert len(os.listdir(tmp_path)) == 5  # the other process is still writing its own
        os.kill(process.pid, signal.SIGKILL)
    with replacing(path) as file:
        file.write(b"whole again")
    assert path.read_bytes() == b"whole again"
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_a_link_stays_and_its_file_is_replaced(saved, tmp_path):
    agent, path = saved
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "latest"
    link.symlink_to("../agent.npz")
    path.unlink()  # leading nowhere yet, too
    for _ in range(2):
        agent.save(link)
        assert link.is_symlink()
        assert not path.is_symlink()
        assert_same(GFNAgent.load(path), agent)
    assert os.listdir(tmp_path / "links") == ["latest"]


@pytest.mark.skipif(os.name != "posix", reason="devices and pipes of POSIX")
def test_only_a_file_is_replaced(saved, tmp_path):
    agent, _ = saved
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "round").symlink_to("round")
    device = tmp_path / "device"
    device.symlink_to(os.devnull)
    for path in (tmp_path / "pipe", tmp_path / "folder", tmp_path / "round", device, os.devnull):
        with pytest.raises(ValueError, match="path must be a file"):
            agent.save(path)
        began = time.monotonic()
        with refused(path):
            GFNAgent.load(path)
        assert time.monotonic() - began < 60
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_permissions_of_a_file_stay(saved):
    agent, path = saved
    for mode in (0o640, 0o600, 0o664):
        path.chmod(mode)
        agent.save(path)
        assert stat.S_IMODE(path.stat().st_mode) == mode
