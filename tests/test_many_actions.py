"""Thousands of actions: what is impossible is never drawn, and updates compile and run."""

import numpy as np
import pytest
import tensorflow as tf

from gfn_utils import AnyPositionSequences, Environment, GFNAgent, check_environment
from gfn_utils.networks import DenseNetwork
from gfn_utils.policy import masked_log_softmax
from gfn_utils.random_numbers import stateless_uniform
from gfn_utils.sampling import draw


class Choose(Environment):
    """Sets of up to two of `n_items` items, put together one item at a time; entry i: is i in?"""

    max_trajectory_length = 3

    def __init__(self, n_items):
        self.n_items = n_items
        self.state_shape = (n_items,)
        self.n_actions = n_items + 1

    def initial_states(self, batch_size):
        return tf.zeros([batch_size, self.n_items], tf.int32)

    def forward_mask(self, states):
        room = tf.reduce_sum(states, axis=1, keepdims=True) < 2
        return tf.concat([(states == 0) & room, tf.ones_like(room)], axis=1)

    def backward_mask(self, states):
        return tf.convert_to_tensor(states) == 1

    def step(self, states, actions):
        return states + tf.one_hot(actions, self.n_items, dtype=tf.int32)

    def back_step(self, states, actions):
        return states - tf.one_hot(actions, self.n_items, dtype=tf.int32)

    def encode(self, states):
        return tf.cast(states, tf.float32)

    def log_reward(self, states):
        return tf.reduce_sum(tf.cast(states, tf.float64), axis=1)


@pytest.mark.parametrize(
    ("n_actions", "dtype"),
    [(65, "float64"), (1001, "float64"), (1001, "float32"), (4096, "float32")],
)
def test_what_is_impossible_is_never_drawn_however_small_the_others(n_actions, dtype):
    rng = np.random.default_rng(n_actions)
    n_draws = 20_000
    # Half of the actions are masked, and what is left reaches down to where exp gives 0.
    logits = rng.uniform(-120, 0, n_actions) * rng.choice([0.01, 1, 10], n_actions)
    mask = rng.random(n_actions) < 0.5
    mask[[0, -1]] = False
    log_p = masked_log_softmax(tf.constant(logits[None], dtype), tf.constant(mask[None]))
    uniform = stateless_uniform([n_draws], tf.constant([n_actions, 1]), log_p.dtype)
    tiny = np.finfo(dtype).tiny
    uniform = tf.concat([uniform, tf.constant([tiny, 0.5, 1 - np.finfo(dtype).epsneg], dtype)], 0)
    compiled = tf.function(draw, jit_compile=True, autograph=False)
    drawn = compiled(tf.repeat(log_p, len(uniform), axis=0), uniform).numpy()
    p = np.exp(log_p.numpy()[0].astype(float))
    assert (p[drawn] > 0).all()
    assert mask[drawn].all()
    # Frequencies of 20 parts of equal probability: χ² of 19 degrees exceeds 50 with p < 2e-4.
    part = np.minimum(20 * (np.cumsum(p) - p / 2) / p.sum(), 19).astype(int)
    expected = np.bincount(part, p, minlength=20) * n_draws
    found = np.bincount(part[drawn[:n_draws]], minlength=20)
    kept = expected > 5
    assert ((found - expected)[kept] ** 2 / expected[kept]).sum() < 50
    assert found[~kept].sum() < 20


def test_the_gradient_of_hot_features_is_that_of_the_product_it_stands_for(monkeypatch):
    env = AnyPositionSequences(
        lambda letters: tf.zeros([tf.shape(letters)[0]], tf.float64), length=12, alphabet="ABC"
    )
    rng = np.random.default_rng(0)
    states = tf.constant(rng.integers(0, 4, [30, 12]), tf.int32)
    policy = DenseNetwork(hidden=(5,)).build(env)
    weights = [tf.constant(rng.normal(size=weight.shape)) for weight in policy.weights]

    def gradients():
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits, _ = DenseNetwork(hidden=(5,)).logits(env, weights).evaluate(states)
            total = tf.reduce_sum(tf.tanh(logits))
        return tape.gradient(total, weights)

    quick = gradients()
    monkeypatch.setattr(AnyPositionSequences, "hot_features", lambda *_: None)
    for one, other in zip(quick, gradients(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("offline", [False, True], ids=["on policy", "offline"])
def test_an_agent_trains_with_4096_actions(offline):
    env = Choose(4095)
    agent = GFNAgent(env, hidden=(8,), seed=0)
    if offline:
        pairs = np.zeros([6, 4095], np.int32)
        pairs[np.arange(6), [0, 1, 2, 2000, 4000, 4094]] = 1
        history = agent.train(tf.constant(pairs), epochs=4, batch_size=6, chunk=4)
    else:
        history = agent.train(iterations=4, batch_size=6, chunk=4)
    assert np.isfinite(history.loss).all()
    sampled = agent.sample(50)
    assert (tf.reduce_sum(sampled.terminal, axis=1).numpy() <= 2).all()


def test_an_environment_of_many_actions_is_checked():
    check_environment(Choose(100))
