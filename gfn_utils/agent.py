"""GFNAgent: an environment, a policy, log Z and the training that fits them to the reward."""

import functools
import itertools
import json
import math
import weakref
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gfn_utils import (
    checkpoint,
    distributed,
    evaluation,
    losses,
    policy,
    runs,
    sampling,
    training,
)
from gfn_utils.environments import Conditional, Environment
from gfn_utils.environments.base import check_any_states, check_states
from gfn_utils.environments.contract import check_attributes
from gfn_utils.environments.fingerprint import fingerprint
from gfn_utils.environments.graph import blocks
from gfn_utils.environments.log_rewards import log_rewards_of
from gfn_utils.environments.snapshot import Snapshot
from gfn_utils.given_agent import GivenAgent, given_agent
from gfn_utils.interrupts import interrupts_held_back, interrupts_let_through
from gfn_utils.networks import DenseNetwork, KerasNetwork
from gfn_utils.networks.dense import DTYPES, FIRST_WEIGHTS, HIDDEN
from gfn_utils.networks.log_z import build_log_z_network
from gfn_utils.replay import ReplayBuffer
from gfn_utils.runs import History, Progress
from gfn_utils.sampling import Trajectories
from gfn_utils.training import LARGEST_WEIGHT, Kind, TrainingState
from gfn_utils.validation import (
    check_callback,
    check_choice,
    check_flag,
    check_integer,
    check_number,
    check_stop,
    shown,
)
from gfn_utils.workers import Workers, check_same

LARGEST_TRACKED = 10_000
"""Environments with more states than this are not evaluated exactly between chunks of updates."""


class _Held(NamedTuple):
    """All of an agent that training, sampling and `reset` change: replaced as a whole, so that an
    interrupt leaves the one or the other and never something between."""

    state: TrainingState
    kind: Kind
    state_flow: keras.Layer | None
    seed: int
    n_sampled: int
    replay: ReplayBuffer | None = None


class _Turn:
    """Held by the thread that changes an agent."""

    over = False


class GFNAgent:
    """A GFlowNet: builds objects x of `env` and learns to build them in proportion to R(x).

    Attributes: `env`; `policy`, a keras.Model from `env.encode(states)` to the unmasked logits
    of P_F `[B, n_actions]` and P_B `[B, n_actions − 1]`; `log_z`, a variable in nats, and
    `log_z_network`, what a condition adds to it (None without conditions);
    `state_flow`, None or a keras layer, on the policy's last hidden one or, with a `network` of
    your own, on encoded states; `seed`; `iteration`, the number of updates made so far. Weights
    and log Z may be given other values (`policy.set_weights(...)`, `log_z.assign(...)`), but not
    replaced by other objects. `gamma`, `learning_rate`, `log_z_learning_rate`, `adam_betas`,
    `clip_norm` and `weight_decay` can be set.

    Args:
        env: what to build (see `Environment`).
        hidden: units of the dense layers that both heads share.
        gamma: exploration, in [0, 1]: (1−γ)·P_F + γ·uniform.
        seed: decides the first weights, every sample and every batch.
        learning_rate, log_z_learning_rate: Adam's, for the policy and for log Z. log Z is one
            number that every trajectory tells of, so it bears a higher rate than the policy: 0.1
            unless given. With conditions it is a network, and 0.01.
        adam_betas: β₁ and β₂, Adam's running averages. They span fewer updates than the usual
            (0.9, 0.999), because runs here are short: 399 of 400 seeds of the default job end
            below an exact L1 error of 0.02, with the usual ones 84 of 100. For long runs at a
            constant rate take the usual ones.
        dtype: "float64", in which results agree between processors, or "float32".
        backward_policy: "learned", "uniform" (1 / number of parents), or "maximum_entropy", by
            which all histories of an object are equally likely. The last needs a list of states
            (see `policy.maximum_entropy_log_pb`).
        state_flow: whether to learn log F(s) too. `train` adds it when an objective needs it.
        first_weights: "small_heads", by which an untrained policy is near uniform, or "fan_in",
            as the layers of PyTorch and Equinox start (see `networks.DenseNetwork`). On the default
            job they do equally well. On a grid of 16⁴ with 256 units, on policy at a rate of 0.001,
            an exact L1 error of 0.256 is left after 700 updates with the former, 0.225 with the
            latter (medians of 12 seeds).
        log_z: the first log Z in nats. By default it is 0 until the first call of `train`, which
            starts it, and with it all state flows, at the mean of log R + Σ log P_B − Σ log P_F
            over the first batch, where the trajectory-balance loss of that batch is least. So a
            factor in R changes log Z and nothing else.
        clip_norm: the greatest global norm of a gradient: a longer one, of all weights and log Z
            together, is shortened to it. None: no clipping.
        weight_decay: λ of decoupled weight decay (AdamW, arXiv 1711.05101): in every update the
            kernels, which are the weights of two axes or more, shrink by the factor 1 − rate·λ.
            Biases and log Z do not: log Z is a sum over all rewards, and 0 is no better a guess of
            it than another number.
        network: in place of `hidden` and `first_weights` a network of your own: a function
            build(env) that makes any keras.Model from `env.encode(states)`, `[B, ...]`, to unmasked
            logits, one tensor `[B, 2·n_actions − 1]` (P_F first) or the pair. Its layers are of
            `dtype`, and `seed` decides their first weights. It is called each time a model is
            needed, and each time must make the same anew. A model that a call changes
            (BatchNormalization, Dropout) cannot be a policy. State flows are a second such model.

    The optimiser is Adam, with these two, and no Keras optimizer can take its place: under
    TensorFlow those keep their state in variables of their own (Keras refuses `stateless_apply`
    there). A compiled chunk would have to write and read these in every update, so agents that
    share its program could not train at once, and log Z would need a second optimizer for its rate.

    Raises ValueError or TypeError, naming the argument, if one is out of bounds.
    """

    def __init__(
        self,
        env: Environment,
        hidden: tuple[int, ...] = HIDDEN,
        gamma: float = 0.5,
        seed: int = 0,
        learning_rate: float = 0.01,
        log_z_learning_rate: float | None = None,
        adam_betas: tuple[float, float] = (0.7, 0.95),
        dtype: str = "float64",
        backward_policy: str = "learned",
        state_flow: bool = False,
        first_weights: str = FIRST_WEIGHTS[0],
        log_z: float | None = None,
        clip_norm: float | None = None,
        weight_decay: float = 0.0,
        network: Callable[[Environment], keras.Model] | None = None,
    ):
        check_attributes(env)
        check_choice("dtype", dtype, DTYPES)
        check_choice("backward_policy", backward_policy, policy.BACKWARD_POLICIES)
        if backward_policy == "maximum_entropy":
            policy.maximum_entropy_log_pb(env)  # which raises where it cannot be
        check_flag("state_flow", state_flow)
        bounds = -LARGEST_WEIGHT, LARGEST_WEIGHT
        self._first_log_z = None if log_z is None else check_number("log_z", log_z, *bounds)
        self.gamma = gamma
        self.learning_rate = learning_rate
        if log_z_learning_rate is None:
            log_z_learning_rate = 0.01 if env.n_condition_features else 0.1
        self.log_z_learning_rate = log_z_learning_rate
        self.adam_betas = adam_betas
        self.clip_norm = clip_norm
        self.weight_decay = weight_decay
        self._turns = []
        self._settled = None
        if network is None:
            network = DenseNetwork(hidden, first_weights)
        elif hidden is not HIDDEN or first_weights != FIRST_WEIGHTS[0]:
            raise ValueError("network takes the place of hidden and first_weights: give it alone")
        elif not isinstance(network, KerasNetwork):  # of which `load` has made one
            network = KerasNetwork(network, env, dtype)
        self._policy = network.build(env, dtype)
        self._log_z = tf.Variable(0.0, dtype=dtype, name="log_z")
        self._log_z_network = build_log_z_network(env, dtype, 0)
        kind = Kind(env, network, dtype, backward_policy)
        self._hold(self._untrained(kind, None, check_integer("seed", seed, minimum=0)))
        if state_flow:
            self._add_state_flow()

    @property
    def env(self) -> Environment:
        """What the agent builds."""
        return self._held.kind.env

    @property
    def kind(self) -> Kind:
        """What the agent's compiled programs depend on."""
        return self._held.kind

    @property
    def seed(self) -> int:
        """What decides the first weights, every sample and every batch; `reset` changes it."""
        return self._held.seed

    @property
    def policy(self) -> keras.Model:
        """The network, from encoded states to the unmasked logits of P_F and P_B."""
        self._settle()
        return self._policy

    @property
    def log_z(self) -> tf.Variable:
        """log Z in nats, `[]`."""
        self._settle()
        return self._log_z

    @property
    def log_z_network(self) -> keras.Model | None:
        """From `env.encode_condition(states)` to what log Z is more than `log_z`, `[B, 1]`."""
        self._settle()
        return self._log_z_network

    @property
    def network(self) -> Callable[[Environment], keras.Model] | None:
        """The function that builds a network of one's own, or None for the default network."""
        return getattr(self.kind.network, "function", None)

    @property
    def state_flow(self) -> keras.Layer | None:
        """What gives log F(s) in nats, if there is such."""
        self._settle()
        return self._held.state_flow

    @property
    def gamma(self) -> float:
        """The weight of uniform exploration, in [0, 1]."""
        return self._gamma

    @gamma.setter
    def gamma(self, value):
        self._gamma = check_number("gamma", value, minimum=0.0, maximum=1.0)

    @property
    def learning_rate(self) -> float:
        """Adam's rate for the policy, and for state flows."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        self._learning_rate = check_number("learning_rate", value, above=0.0)

    @property
    def log_z_learning_rate(self) -> float:
        """Adam's rate for log Z."""
        return self._log_z_learning_rate

    @log_z_learning_rate.setter
    def log_z_learning_rate(self, value):
        self._log_z_learning_rate = check_number("log_z_learning_rate", value, above=0.0)

    @property
    def adam_betas(self) -> tuple[float, float]:
        """β₁ and β₂, Adam's running averages."""
        return self._adam_betas

    @adam_betas.setter
    def adam_betas(self, value):
        self._adam_betas = _check_betas(value)

    @property
    def clip_norm(self) -> float | None:
        """The greatest global norm of a gradient; None: as it comes."""
        return self._clip_norm

    @clip_norm.setter
    def clip_norm(self, value):
        self._clip_norm = None if value is None else check_number("clip_norm", value, above=0.0)

    @property
    def weight_decay(self) -> float:
        """λ of decoupled weight decay."""
        return self._weight_decay

    @weight_decay.setter
    def weight_decay(self, value):
        self._weight_decay = check_number("weight_decay", value, minimum=0.0)

    @property
    def first_weights(self) -> str | None:
        """How the first weights of the default network are drawn; None for one's own."""
        return getattr(self.kind.network, "first_weights", None)

    @property
    def iteration(self) -> int:
        """How many updates were made since the start or the last `reset`."""
        return int(self._held.state.iteration)

    @property
    def replay(self) -> ReplayBuffer | None:
        """The buffer that `train` was last given, if any; `save` and `load` take it along."""
        return self._held.replay

    def __repr__(self):
        return (
            f"GFNAgent({self.env!r}, {self.kind.network!r}, gamma={self.gamma:g}, "
            f"seed={self.seed}, iteration={self.iteration})"
        )

    def reset(self, seed: int | None = None) -> None:
        """Start again, untrained, from `seed` (by default the present one). Compiles nothing.

        Raises RuntimeError while the agent is being trained.
        """
        seed = check_integer("seed", self.seed if seed is None else seed, minimum=0)
        turn = self._take_turn("reset")
        try:
            with interrupts_held_back():
                self._hold(self._untrained(self.kind, self.state_flow, seed))
        finally:
            turn.over = True

    def _untrained(self, kind, state_flow, seed):
        """What a fresh agent of this kind and seed holds."""
        fresh = kind.network.build(kind.env, kind.dtype, seed)
        weights = [tf.convert_to_tensor(weight) for weight in fresh.weights]
        if state_flow is not None:
            head = kind.network.build_state_flow(fresh, seed, self._first_log_z or 0.0)
            weights += [tf.convert_to_tensor(weight) for weight in head.weights]
        if (of_condition := build_log_z_network(kind.env, kind.dtype, seed)) is not None:
            weights += [tf.convert_to_tensor(weight) for weight in of_condition.weights]
        log_z = tf.constant(self._first_log_z or 0.0, kind.dtype)
        return _Held(training.initial_state([*weights, log_z]), kind, state_flow, seed, 0)

    def log_policy(self, states: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """log P_F `[B, n_actions]` and log P_B `[B, n_actions − 1]` in nats; −inf: not allowed."""
        states = check_any_states(self.env, states, "states")
        return policy.network_log_policy(
            self.env, self.kind.network, self.policy.weights, self.kind.backward_policy
        )(states)

    def log_flow(self, states: tf.Tensor) -> tf.Tensor:
        """The learned log F of the states, `[B]`, in nats; log Z at the origin.

        Of an agent trained by "forward_looking" it is log F(s) − log R(s) everywhere else.
        Raises ValueError if no objective has needed it yet.
        """
        if self.state_flow is None:
            raise ValueError("this agent has no state flow: see GFNAgent(state_flow=True)")
        states = check_any_states(self.env, states, "states")
        return training.log_policy_of_weights(self.kind)(self._weights())(states)[2]

    def given(self, condition) -> GivenAgent:
        """The agent of one condition `[D]`, which need not be one that it was trained for.

        It has the ordinary environment `env.given(condition)`, `log_policy`, `log_z` and `sample`,
        and the weights of this agent as they are now. Raises ValueError if `env` is not
        Conditional.
        """
        self._conditional("given")
        return given_agent(self.kind, self._weights(), condition, self.seed)

    def sample(self, n: int, explore: bool = False, conditions=None) -> Trajectories:
        """Draw `n` trajectories from the origin: by P_F, or by its mixture with γ·uniform.

        Of a Conditional environment the origins are drawn from its table, or from other
        `conditions` `[K, D]`: the last entry of a state is then a row of these.

        Each call continues the agent's stream of random numbers; the same seed and the same calls
        give the same trajectories. Raises ValueError if n < 1, or if the states would fill 4 GB,
        or for conditions without a Conditional environment.
        """
        n = check_integer("n", n, minimum=1, maximum=sampling.most_trajectories(self.env))
        explore = check_flag("explore", explore)
        gamma = tf.constant(self.gamma if explore else 0.0, self.kind.dtype)
        env = self.env
        if conditions is not None:
            env = self._conditional("conditions").with_conditions(conditions)
        sample_forward, _ = _samplers(self._kind_now(env))
        return self._sample(env, sample_forward, tf.constant(n), gamma)

    def sample_backward(self, terminal) -> Trajectories:
        """Draw one trajectory for each terminal state `[B, ...]` by P_B; returned origin first.

        Raises ValueError if a state is not one of the environment's in which stop is allowed.
        """
        terminal = check_states(self.env, terminal, "terminal")
        _, sample_backward = _samplers(self._kind_now(self.env))
        return self._sample(self.env, sample_backward, terminal)

    def _conditional(self, what):
        """The environment, which must be Conditional to ask for `what`."""
        if not isinstance(self.env, Conditional):
            raise ValueError(
                f"{what} needs an agent of a Conditional environment, got {self.env!r}"
            )
        return self.env

    def _sample(self, env, sampler, *arguments):
        """Trajectories by the next seed of the agent's stream."""
        with interrupts_held_back():
            trajectories = self._draw(env, sampler, *arguments, self._next_sampling_seed())
            self._held = self._held._replace(n_sampled=self._held.n_sampled + 1)
        return trajectories

    def _draw(self, env, sampler, *arguments):
        """Trajectories of a sampler in `env`. R is asked as it is now."""
        trajectories = sampler(self._weights(), *arguments)
        with interrupts_let_through():
            log_reward = log_rewards_of(env, trajectories.terminal)
        return trajectories._replace(log_reward=log_reward)

    def _next_sampling_seed(self):
        return tf.constant([2 * self.seed + 1, self._held.n_sampled + 1], tf.int64)

    def _kind_now(self, env):
        return self.kind._replace(env=Snapshot(env, asks=False))

    def train(
        self,
        data=None,
        log_rewards=None,
        *,
        objective: str = "trajectory_balance",
        sub_trajectory_lambda: float = 0.9,
        epochs: int | None = None,
        iterations: int | None = None,
        batch_size: int | None = None,
        decay: str = "linear",
        resume_from: int = 0,
        chunk: int = 100,
        neighbours_within: int = 2,
        replay: ReplayBuffer | None = None,
        replay_share: float = 0.5,
        track_error: bool | None = None,
        keep_trajectories: bool = False,
        callback: Callable[[Progress], bool | None] | None = None,
        strategy: tf.distribute.Strategy | None = None,
    ) -> History:
        """Fit the policies and log Z, by trajectory balance unless another objective is named.

        - Offline, `train(trajectories, epochs=200)` or `train(objects, epochs=200)`: every epoch
          draws a fresh backward trajectory for each object of the data set, and asks its reward.
          Of Trajectories the data set is not only the objects in which they ended, but each object
          that they passed or came within two actions of (`neighbours_within`).
        - Measured pairs, `train(objects, log_rewards, epochs=200)`: the same with the rewards that
          are given; `env.log_reward` is never called. `sample` and `save` do call it: where nobody
          knows a reward let it give NaN.
        - On policy, `train(iterations=2000)`: every update samples trajectories with exploration γ.
        - Mixed, `train(iterations=2000, replay=ReplayBuffer(10_000))`: a share of every batch goes
          backward from objects of the buffer, with the rewards that they were seen to pay; the
          others are sampled on policy, and put in.

        Args:
            data: Trajectories, or objects `[N, ...]`; each object counts once an epoch.
            log_rewards: their measured log R in nats, `[N]`, finite. Measurements of one object are
                averaged in log R: losses are squares of differences in log R, so this is what they
                would settle on between them.
            objective: a name in `losses.OBJECTIVES`: "trajectory_balance", "detailed_balance",
                "sub_trajectory_balance", "flow_matching", "log_variance",
                "modified_detailed_balance" (these two leave log Z as it is) or "forward_looking".
                The last two ask for the reward of every state that is passed, and not for one a
                trajectory: every state must be able to stop, and rewards can neither be measured
                pairs nor Python.
            sub_trajectory_lambda: λ of sub-trajectory balance, from 1e-30 to 1e30.
            epochs: how often to go over the data set.
            iterations: the number of on-policy updates.
            batch_size: trajectories an update; 10 offline and 16 on policy unless given.
            decay: "linear" (the learning rates fall to 0 over the run) or "constant" (by which
                two runs of n updates equal one of 2n, and the noise of the last updates stays).
            resume_from: updates of this same run made before it was stopped.
            chunk: updates in one compiled call; between chunks come error, callback, interrupts.
            neighbours_within: of Trajectories, how many actions away from where they passed an
                object may lie to be in the data set; 0: only where they passed. Each of these
                objects is asked its reward (see `sampling.objects_seen`).
            replay: the buffer to draw from and to fill; it is part of the agent from then on, and
                saved with it (`agent.replay`). An empty one is filled from one sampled batch first.
                It is looked at once in `replay.refresh` updates, so a chunk is rounded up to a
                multiple of that; the size of chunks changes no result.
            replay_share: the part of a batch that is drawn from the buffer, rounded to whole
                trajectories: at least one of them, and not all.
            track_error: take the exact L1 error between chunks; by default where there are at
                most 10,000 states and no measured pairs, since it asks all rewards.
            keep_trajectories: hand the callback the trajectories that were sampled on policy,
                `Progress.trajectories`: all of a chunk. To gather them, pass
                `callback=lambda progress: kept.append(progress.trajectories)`.
            callback: called with a Progress between chunks; the run stops if it returns True.
            strategy: a `tf.distribute` strategy whose replicas share the work: a MirroredStrategy
                has the GPUs of this machine, a MultiWorkerMirroredStrategy many machines, on each
                of which the same call is made. Each replica makes its rows of every batch, and each
                worker asks Python for the rewards of its own rows alone. `batch_size` is that of
                the whole batch. No result depends on the number of replicas, up to rounding. All
                workers return the same History, each calls its own `callback`, and when one stops
                all stop. Every call compiles its programs anew. Without a strategy TensorFlow takes
                a GPU where there is one; `tf.distribute.OneDeviceStrategy("CPU:0")` keeps a run on
                the CPU, where small networks should be faster. That is not measured: no GPU was at
                hand, and benchmarks/on_gpu.py tells it of yours.

        Returns a History, and warns if log Z was still on its way when a run of 200 updates or more
        ended (see `History.log_z_travel`). An interrupt waits until a compiled call is done.

        Raises ValueError or TypeError for arguments out of bounds, RuntimeError if the agent is
        being trained already, and FloatingPointError naming the iteration if the loss is no longer
        finite; agent and buffer are then left as they were after the last good compiled call. With
        a `strategy` also ValueError if workers differ in what they train on, RuntimeError if the
        run was ended on another worker, and WorkerLostError (a ConnectionError) naming a worker
        that is gone.
        """
        check_choice("objective", objective, losses.OBJECTIVES)
        self._check_conditions(objective, iterations is not None)
        power = check_number(
            "sub_trajectory_lambda", sub_trajectory_lambda, minimum=1e-30, maximum=1e30
        )
        track_error = self._check_tracking(track_error, log_rewards is not None)
        check_callback("callback", callback)
        plan = runs.plan_run(
            self.env,
            self.iteration,
            data,
            log_rewards,
            epochs=epochs,
            iterations=iterations,
            batch_size=batch_size,
            decay=decay,
            resume_from=resume_from,
            chunk=chunk,
            neighbours_within=neighbours_within,
            replay=replay,
            replay_share=replay_share,
            keep_trajectories=keep_trajectories,
        )
        if plan.keep_trajectories and callback is None:
            raise ValueError("keep_trajectories needs a callback, which they are handed to")
        if losses.asks_on_the_way(objective):
            self._check_rewards_on_the_way(objective, plan)
        workers = None if strategy is None else self._check_strategy(strategy, plan, objective)
        turn = self._take_turn("train")
        try:
            return self._train(plan, objective, power, track_error, callback, workers)
        finally:
            turn.over = True
            self._settle()

    def save(self, path) -> None:
        """Write the whole agent to one file; `load` continues as if it had never stopped.

        Raises FileNotFoundError if the folder does not exist, ValueError if `path` is a folder or
        a device.
        """
        self._write(path)

    def _write(self, path, **others):
        """Save, and put the arrays `others` into the same file."""
        with interrupts_held_back():
            answers, state = fingerprint(self.env), self._state_now()
            if self.replay is not None:
                held = self.replay.to_arrays()
                others |= {f"replay_{name}": array for name, array in held.items()}
            if self.network is not None:
                others[checkpoint.LOGITS] = self.kind.network.said(state.weights)
            checkpoint.write(path, self.describe(), state, answers, **others)

    @classmethod
    def load(
        cls,
        path,
        env: Environment | None = None,
        network: Callable[[Environment], keras.Model] | None = None,
    ) -> "GFNAgent":
        """Read an agent that `save` wrote.

        An environment of this package is made anew; one of your own must be given as `env`, and
        a network of your own as `network`, the function that the agent was made with.
        Raises FileNotFoundError if there is no such file, ValueError if it is damaged, not an
        agent's, or an agent's of another environment or network, which it then says in what they
        differ.
        """
        return cls._of_saved(path, checkpoint.read(path), env, network)

    @classmethod
    def _of_saved(cls, path, saved: checkpoint.Saved, env, network=None):
        env = checkpoint.environment_of(path, saved, env)
        network = checkpoint.network_of(path, saved, env, network)
        with checkpoint.refusing_others(path):
            agent = cls(env, network=network, **saved.description["arguments"])
        checkpoint.check_shapes(path, saved.state, agent._held.state)
        held = agent._held._replace(
            state=saved.state,
            n_sampled=saved.description["n_sampled"],
            replay=_saved_buffer(path, env, saved.others),
        )
        agent._hold(held)
        return agent

    def describe(self) -> dict:
        """What a saved file says of the agent, beside its arrays: environment and arguments."""
        network, dtype, backward_policy, state_flow = self.kind[1:]
        if self.network is None:
            form, chosen = {}, {"hidden": network.hidden, "first_weights": network.first_weights}
        else:
            form, chosen = {"network": network.form._asdict()}, {}
        return {
            **checkpoint.describe_environment(self.env),
            **form,
            "n_sampled": self._held.n_sampled,
            "arguments": {
                **chosen,
                "gamma": self.gamma,
                "seed": self.seed,
                "learning_rate": self.learning_rate,
                "log_z_learning_rate": self.log_z_learning_rate,
                "adam_betas": self.adam_betas,
                "dtype": dtype,
                "backward_policy": backward_policy,
                "state_flow": state_flow,
                "log_z": self._first_log_z,
                "clip_norm": self.clip_norm,
                "weight_decay": self.weight_decay,
            },
        }

    def _take_turn(self, what):
        """The right to change the agent; RuntimeError while another has it.

        It ends when it is `over`, or when it is forgotten: an interrupt can come just before a
        lock would be released.
        """
        turn = _Turn()
        ours = weakref.ref(turn)
        self._turns.append(ours)  # of two threads one comes first
        others = [reference() for reference in self._turns[: self._turns.index(ours)]]
        if any(other is not None and not other.over for other in others):
            turn.over = True
            raise RuntimeError(f"{what} must wait: this agent is being trained already")
        del self._turns[: self._turns.index(ours)]
        return turn

    def _hold(self, held):
        """Make this the agent's, all at once."""
        self._held = held
        self._settle()

    def _settle(self):
        """Give the variables the weights that were last held, unless they have had them.

        From then on the variables are the truth, since their values may be set by hand. An
        interrupt on the way leaves what is missing to the next call.
        """
        state = self._held.state
        if self._settled is state:
            return
        for variable, value in zip(self._variables(), state.weights, strict=True):
            variable.assign(value)
        self._settled = state

    def _variables(self):
        parts = self._policy, self._held.state_flow, self._log_z_network
        networks = [part.weights for part in parts if part is not None]
        return [*itertools.chain.from_iterable(networks), self._log_z]

    def _weights(self):
        if self._settled is not self._held.state:  # the variables have not had them yet
            return self._held.state.weights
        return tuple(tf.convert_to_tensor(variable) for variable in self._variables())

    def _state_now(self):
        return self._held.state._replace(weights=self._weights())

    def _add_state_flow(self, is_relative=False):
        """Give the network its third head, as untrained as in a fresh agent of this seed.

        It begins at the present log Z, or at 0 if it is relative to a state's own reward, so that a
        factor in R makes no difference.
        """
        weights, first, second, iteration = self._state_now()
        level = 0.0 if is_relative else float(weights[-1])
        layer = self.kind.network.build_state_flow(self._policy, self.seed, level)
        head = [tf.convert_to_tensor(weight) for weight in layer.weights]
        zeros = [tf.zeros_like(weight) for weight in head]
        parts = ((weights, head), (first, zeros), (second, zeros))
        n = self.kind.n_log_z
        grown = [(*whole[:-n], *part, *whole[-n:]) for whole, part in parts]
        kind = self.kind._replace(state_flow=True)
        state = TrainingState(*grown, iteration)
        self._hold(self._held._replace(state=state, kind=kind, state_flow=layer))

    def _check_conditions(self, objective, on_policy):
        """Raise if trajectories are to be compared that share no condition."""
        each = getattr(self.env, "trajectories_per_condition", 2)
        if objective == "log_variance" and on_policy and each < 2:
            raise ValueError(
                "objective must not be 'log_variance' with trajectories_per_condition=1: it "
                "compares trajectories that share a condition (see Conditional)"
            )

    def _check_rewards_on_the_way(self, objective, plan):
        """Raise unless each state passed has a reward that a program can ask for.

        Where states cannot be listed, 64 trajectories that explore are looked at.
        """
        env, needs = self.env, f"objective {objective!r} asks for the reward of every state passed"
        if plan.is_measured:
            raise ValueError(f"{needs}, which log_rewards does not hold")
        if env.python_reward:
            raise ValueError(f"{needs}, so it needs a reward in TensorFlow, got {env!r}")
        if env.n_states is not None:
            states = np.asarray(env.states())
        else:
            forward, _ = _samplers(self._kind_now(env))
            one = tf.constant(1.0, self.kind.dtype)
            seed = tf.constant([2 * self.seed + 1, 0], tf.int64)
            passed = forward(self._weights(), tf.constant(64), one, seed)
            states = np.asarray(passed.states[:, :-1])[np.asarray(passed.actions) >= 0]
        for block in blocks(len(states), env):
            allowed = np.asarray(env.forward_mask(tf.constant(states[block])))[:, env.stop_action]
            if not allowed.all():
                state = states[block][np.argmin(allowed)].tolist()
                raise ValueError(f"{needs}, but in {env!r} the state {state} cannot stop")

    def _check_tracking(self, track_error, is_measured):
        """Whether to take the exact error between chunks."""
        listed = self.env.n_states is not None
        if track_error is None:
            costly = self.env.python_reward or is_measured
            return listed and self.env.n_states <= LARGEST_TRACKED and not costly
        if check_flag("track_error", track_error) and is_measured:
            raise ValueError(
                "track_error must be False or None with log_rewards: it would ask the environment"
            )
        if track_error and not listed:
            raise ValueError(
                f"track_error must be False or None where states cannot be listed, as in {self.env}"
            )
        return track_error

    def _train(self, plan, objective, power, track_error, callback, workers) -> History:
        """Make the plan's updates a chunk at a time; the agent holds each chunk's result."""
        if workers is not None:
            check_same(workers, self._what_decides(plan, objective, power))
        if "log_flow" in losses.scores_for(objective) and self._held.state_flow is None:
            with interrupts_held_back():
                self._add_state_flow(losses.flow_is_relative(objective))
        n_made = self.iteration - plan.resume_from  # before this run
        job = self._job(plan, objective)
        if workers is None:
            make_chunk = training.CheckedChunk(job)
        else:
            gathers = plan.replay is not None or plan.keep_trajectories
            make_chunk = distributed.DistributedChunk(workers, job, gathers)
        if plan.replay is not None:
            self._take_up(plan.replay, plan.batch_size, workers)
        record = runs.Record(plan)

        def make_updates(first):
            """Those that are planned together; returns whether the run is to stop."""
            n = min(plan.n_together, plan.total - first)
            ends_chunk = plan.ends_chunk(first + n)
            with interrupts_held_back():
                batches = runs.given_objects(plan, self.kind.dtype, self.seed, n_made, first, n)
                rates, settings = self._settings(plan, first, power)
                state = self._state_to_train(job, settings, batches, workers)
                result = make_chunk(state, rates, tf.constant(n), settings, batches)
                self._take(result, n)
                record.add(result, n)
                if ends_chunk:
                    self._settle()
                    if track_error:
                        record.add_error(first + n, self._l1_error())
            if callback is None or not ends_chunk:
                return False
            seen = record.history(), record.take_trajectories()
            return check_stop("callback", callback(Progress(first + n, plan.total, *seen)))

        for first in range(plan.resume_from, plan.total, plan.n_together):
            if workers is None:
                stops = make_updates(first)
            else:  # all go on or none
                stops = workers.summed(lambda first=first: [make_updates(first)], 1).any()
            if stops:
                return record.history()
        history = record.history()
        runs.warn_if_log_z_travels(plan, history)
        return history

    def _job(self, plan, objective):
        return training.Job(
            self.kind,
            objective,
            plan.n_sampled,
            plan.n_given,
            plan.keep_trajectories,
            plan.is_measured,
        )

    def _check_strategy(self, strategy, plan, objective) -> Workers:
        """The workers of a strategy by which the plan can be carried out."""
        workers = Workers(strategy)
        distributed.share_of(self._job(plan, objective), 0, 1, workers.n_replicas)
        return workers

    def _what_decides(self, plan, objective, power):
        """All that a run depends on, by names that say what it is."""
        # A reward in Python is not asked: it may be slow, and say another number each time.
        answers = {} if self.env.python_reward else fingerprint(self.env)._asdict()
        described = self.describe()
        data = plan.data or ((), None)
        held = plan.replay.to_arrays() if plan.replay is not None else {}
        # How often each worker looks at its own progress is its own affair.
        lengths = plan._replace(data=None, replay=None, chunk=0)._asdict()
        arguments = described["arguments"] | lengths
        arguments |= {"objective": objective, "sub_trajectory_lambda": power}
        return {
            "env": json.dumps([described["environment"], described["settings"]]),
            **{f"what env answers ({part})": array for part, array in answers.items()},
            **{name: json.dumps(value) for name, value in arguments.items()},
            "the number of updates made": self.iteration,
            "the network": np.concatenate([np.ravel(each) for each in self._weights()]),
            "data": data[0],
            "log_rewards": () if data[1] is None else data[1],
            **{f"replay ({part})": array for part, array in held.items()},
        }

    def _take_up(self, replay, n, workers):
        """Make the buffer the agent's; one that is empty gets the objects of `n` trajectories."""
        if len(replay) == 0:
            forward, _ = _samplers(self._kind_now(self.env))
            # A stream apart from those of sampling and training, at a place for each update.
            seed = tf.constant([2 * self.seed + 1, -1 - self.iteration], tf.int64)
            gamma = tf.constant(self.gamma, self.kind.dtype)
            with interrupts_held_back():
                terminal = forward(self._weights(), tf.constant(n), gamma, seed).terminal
                log_reward = distributed.log_rewards_of(workers, self.env, terminal)
                replay.add(terminal, log_reward)
        self._held = self._held._replace(replay=replay)

    def _l1_error(self):
        """The exact error; not `evaluation.l1_error`, which refuses the NaN of absurd weights."""
        return np.abs(evaluation.terminating_distribution(self) - self.env.target()).sum()

    @property
    def _log_z_is_open(self):
        """Whether nobody has said yet where log Z is to start."""
        return self._first_log_z is None and self.iteration == 0 and float(self.log_z) == 0

    def _state_to_train(self, job, settings, batches, workers):
        """The state, with log Z and all state flows where the first batch puts them."""
        state = self._state_now()
        if not (self._log_z_is_open and losses.learns_log_z(job.objective)):
            return state
        level = distributed.first_log_z(workers, job, state, settings, batches)
        is_relative = losses.flow_is_relative(job.objective)
        return training.started_at(self.kind, state, level, is_relative)

    def _settings(self, plan, first, power):
        """What a chunk takes beside its state: the rates of its updates, and its Settings.

        γ and the rates are asked anew for each chunk, so that a callback may anneal them.
        """
        dtype = self.kind.dtype
        factors = training.learning_rates(first, plan.n_together, plan.total, plan.decay)
        rates = np.outer(factors, [self.learning_rate, self.log_z_learning_rate])
        clip_norm = math.inf if self.clip_norm is None else self.clip_norm
        numbers = self.adam_betas, self.gamma, power, clip_norm, self.weight_decay
        numbers = (tf.constant(number, dtype) for number in numbers)
        seed = tf.constant(2 * self.seed, tf.int64)
        return tf.constant(rates, dtype), training.Settings(*numbers, seed)

    def _take(self, result, n):
        """Hold the state after `n` updates, if all of them are sound. The variables get it later:
        that takes as long as a dozen updates of a small network.
        """
        loss, log_z = np.asarray(result.loss)[:n], np.asarray(result.log_z)[:n]
        bad = ~(np.isfinite(loss) & np.isfinite(log_z))
        bad[-1] |= training.has_diverged(result.state.weights)
        if bad.any():
            raise FloatingPointError(
                f"the loss is not finite at iteration {self.iteration + int(np.argmax(bad))}; "
                f"the agent is as it was after iteration {self.iteration}. A lower "
                f"learning_rate (now {self.learning_rate:g}) or log_z_learning_rate (now "
                f"{self.log_z_learning_rate:g}) may help; rewards must be positive"
            )
        self._held = self._held._replace(state=result.state)


def _saved_buffer(path, env, arrays) -> ReplayBuffer | None:
    """The replay buffer among the arrays of a file; ValueError if it holds what is no state."""
    prefix = "replay_"
    found = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    if not found:
        return None
    with checkpoint.refusing_others(path):
        buffer = ReplayBuffer.from_arrays(found)
        if len(buffer):
            check_states(env, buffer.objects, "replay.objects")
        return buffer


def _check_betas(betas) -> tuple[float, float]:
    allowed = "adam_betas must be a pair of numbers in [0, 1)"
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise TypeError(f"{allowed}, got {shown(betas)}")
    betas = tuple(check_number("adam_betas", beta) for beta in betas)
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"{allowed}, got {shown(betas)}")
    return betas


@functools.lru_cache(maxsize=64)
def _samplers(kind: Kind):
    """The two samplers for agents of a kind, as graphs that take any number of trajectories.

    The kind's `env` is a Snapshot.
    """
    kind = kind._replace(env=kind.env.env)
    log_policy_of = training.log_policy_of_weights(kind)

    def forward(weights, n, gamma, seed):
        log_policy = log_policy_of(weights)
        return sampling.draw_forward(
            kind.env, lambda states: (log_policy(states), []), n, seed, gamma
        )[0]

    def backward(weights, terminal, seed):
        return sampling.draw_backward(kind.env, log_policy_of(weights), terminal, seed)

    return (
        tf.function(forward, autograph=False),
        tf.function(backward, autograph=False, reduce_retracing=True),
    )
