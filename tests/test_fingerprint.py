"""A fingerprint tells an environment from one that is changed, and not from one that rounds."""

import dataclasses
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from own_environments import Graph, Subsets, Words

from gfn_utils import AnyPositionSequences, EitherEndSequences, HyperGrid, LeftToRightSequences
from gfn_utils.environments.fingerprint import Fingerprint, difference, fingerprint

N_WORDS = 4**8


def words_by_table(kind, table):
    """Sequences of eight letters whose log-rewards stand in `table`, in alphabetical order."""
    place_values = 4 ** np.arange(8)[::-1]
    return kind(lambda letters: tf.gather(table, tf.reduce_sum(letters * place_values, axis=-1)))


@pytest.mark.parametrize(
    "make",
    [HyperGrid, Subsets, Words, lambda: Graph([[1, 2], [2, None], [None, None]], [True] * 3, 3)],
    ids=["grid", "subsets", "unlisted", "graph"],
)
def test_an_environment_is_the_same_as_itself_made_anew(make):
    found = fingerprint(make())
    assert difference(found, fingerprint(make())) is None
    assert found.states.dtype == np.int32
    assert found.log_reward.dtype == np.float64


def test_a_grid_is_asked_about_all_its_cells():
    env = HyperGrid()
    found = fingerprint(env)
    assert {tuple(state) for state in found.states.tolist()} == {
        (row, column) for row in range(8) for column in range(8)
    }
    for state, log_reward, mask in zip(*found[:3], strict=True):
        x = np.abs(state / 7 - 0.5)
        reward = 0.01 + 0.5 * (x > 0.25).all() + ((x > 0.3) & (x <= 0.4)).all()
        assert log_reward == pytest.approx(np.log(reward), abs=1e-12)
        assert mask.tolist() == [*(state < 7), True, *(state > 0)]


def test_where_stop_is_not_allowed_no_reward_is_asked():
    env = Subsets()
    found = fingerprint(env)
    sizes = found.states.sum(axis=1)
    assert (found.log_reward[sizes < 2] == 0).all()
    expected = found.states @ env.value + 1.5 * found.states[:, 1] * found.states[:, 3]
    np.testing.assert_allclose(found.log_reward[sizes >= 2], expected[sizes >= 2])


@pytest.mark.parametrize("kind", [LeftToRightSequences, EitherEndSequences, AnyPositionSequences])
def test_one_word_of_65536_is_noticed_and_named(kind):
    table = np.random.default_rng(0).normal(size=N_WORDS)
    saved = fingerprint(words_by_table(kind, table.copy()))
    number = 54_321
    table[number] += 0.01
    message = difference(saved, fingerprint(words_by_table(kind, table)))
    word = [number // 4**place % 4 + 1 for place in reversed(range(8))]
    assert f"the log_reward of state {word} is {table[number]}" in message


def test_rounding_of_float32_is_no_difference():
    table = 20 * np.random.default_rng(0).normal(size=N_WORDS)
    saved = fingerprint(words_by_table(LeftToRightSequences, table))
    other = table * (1 + 1e-6 * np.random.default_rng(1).normal(size=N_WORDS))
    assert difference(saved, fingerprint(words_by_table(LeftToRightSequences, other))) is None


def test_a_tiny_reward_elsewhere_does_not_hide_a_difference():
    table = np.zeros(N_WORDS)
    table[0] = -1e9
    saved = fingerprint(words_by_table(LeftToRightSequences, table.copy()))
    table[1] = 0.01
    found = fingerprint(words_by_table(LeftToRightSequences, table))
    assert "state [1, 1, 1, 1, 1, 1, 1, 2] is 0.01 where it was 0.0" in difference(saved, found)


CHANGES = {
    "forward_mask": lambda self, s: Subsets.forward_mask(self, s) & (s[:, :1] == 0),
    "backward_mask": lambda self, s: Subsets.backward_mask(self, s) & (s[:, :1] == 0),
    "step": lambda self, s, a: Subsets.step(self, s, (a + 1) % 5),
    "encode": lambda self, s: 1 - Subsets.encode(self, s),
    "log_reward": lambda self, s: Subsets.log_reward(self, s) + tf.cast(s[:, 2], tf.float64) / 9,
}


@pytest.mark.parametrize("method", CHANGES)
def test_code_that_was_edited_is_noticed(method):
    edited = type("Subsets", (Subsets,), {method: CHANGES[method]})
    words = {"step": "child", "encode": "encoding"}.get(method, method.split("_")[-1])
    assert words in difference(fingerprint(Subsets()), fingerprint(edited()))


def test_walks_notice_code_that_was_edited_where_no_state_is_listed():
    methods = {"log_reward": lambda self, states: 1.01 * Words.log_reward(self, states)}
    edited = type("Words", (Words,), methods)
    assert "log_reward" in difference(fingerprint(Words()), fingerprint(edited()))


def test_environments_of_other_forms_are_told_apart():
    grids = HyperGrid(2, 8), HyperGrid(3, 8), HyperGrid(2, 9)
    two_axes, three_axes, longer = map(fingerprint, grids)
    assert "shape" in difference(two_axes, three_axes)
    assert difference(two_axes, longer) is not None


def test_too_many_states_to_list_are_walked():
    env = HyperGrid(7, 12)
    began = time.perf_counter()
    found = fingerprint(env)
    assert time.perf_counter() - began < 30
    assert 1000 < len(found.states) <= 1 + 256 * env.max_trajectory_length
    assert difference(found, fingerprint(dataclasses.replace(env, r1=0.6))) is not None


def test_wide_environments_have_no_larger_fingerprints():
    letters = "ABCDEFGHIJKLMNOPQRST"
    env = AnyPositionSequences(lambda w: tf.zeros(tf.shape(w)[0]), 50, letters, block=2)
    found = fingerprint(env)
    assert found.features.shape[1] == 25 * 21**2
    assert sum(array.nbytes for array in found) < 20e6
    assert (found.states > 0).all(axis=1).sum() > 200  # the ends of the walks


NETWORK = """
import gfn_utils, sys, numpy as np, keras, tensorflow as tf
from gfn_utils.environments.fingerprint import fingerprint
keras.utils.set_random_seed(0)
net = keras.Sequential([keras.Input((32,)), keras.layers.Dense(256, "relu"),
    keras.layers.Dense(256, "relu"), keras.layers.Dense(1)])
env = gfn_utils.LeftToRightSequences(
    lambda letters: 30 * net(tf.reshape(tf.one_hot(letters, 4), [-1, 32]))[:, 0])
np.savez(sys.argv[1], *fingerprint(env))
"""


def test_a_network_rounds_alike_enough_with_other_kernels(tmp_path, monkeypatch):
    paths = here, there = tmp_path / "here.npz", tmp_path / "there.npz"
    other = "1" if os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0" else "0"
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": other}
    subprocess.run([sys.executable, "-c", NETWORK, there], check=True, env=environment)
    monkeypatch.setattr(sys, "argv", ["", here])
    exec(NETWORK, {})
    found = [Fingerprint(*np.load(path).values()) for path in paths]
    assert difference(*found) is None
