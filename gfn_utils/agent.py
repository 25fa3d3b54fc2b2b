"""GFNAgent: an environment, a policy, log Z and the training that fits them to the reward."""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils import checkpoint, evaluation, losses, policy, sampling, training
from gfn_utils.environments import Environment
from gfn_utils.environments.base import check_states
from gfn_utils.environments.fingerprint import fingerprint
from gfn_utils.sampling import Trajectories
from gfn_utils.training import Batches, Kind, TrainingState
from gfn_utils.validation import check_choice, check_integer, check_number

DECAYS = ("linear", "constant")
LARGEST_TRACKED = 10_000
"""Environments with more states than this are not evaluated exactly between chunks of updates."""


class History(NamedTuple):
    """What a call of `train` saw."""

    loss: np.ndarray
    """Mean loss in nats²: one value an epoch (offline) or an update (on policy)."""
    log_z: np.ndarray
    """log Z after each of these, in nats."""
    evaluated_at: np.ndarray
    """The updates of this run after which the exact error was taken."""
    l1_error: np.ndarray
    """The exact L1 error Σ|P_T − R/Z| then."""


class Progress(NamedTuple):
    """What `train` tells its callback between chunks of updates; the agent is up to date then."""

    done: int
    """Updates of this run made so far."""
    total: int
    """Updates of this run in all."""
    history: History


class GFNAgent:
    """A GFlowNet: builds objects x of `env` and learns to build them in proportion to R(x).

    Attributes: `env`; `policy`, a keras.Model from `env.encode(states)` to the unmasked logits
    of P_F `[B, n_actions]` and P_B `[B, n_actions − 1]`; `log_z`, a variable in nats; `state_flow`,
    a keras layer on the policy's last hidden one or None; `gamma`, the weight of uniform
    exploration; `seed`; `iteration`, the number of updates made so far.

    Args:
        env: what to build (see `Environment`).
        hidden: units of the dense layers that both heads share.
        gamma: exploration, in [0, 1]: (1−γ)·P_F + γ·uniform.
        seed: decides the first weights, every sample and every batch.
        learning_rate, log_z_learning_rate: Adam's, for the policy and for log Z.
        adam_betas: β₁ and β₂, Adam's running averages. They span fewer updates than the usual
            (0.9, 0.999), because runs here are short: 398 of 400 seeds of the default job end
            below an exact L1 error of 0.02, where with the usual ones it was 38 of 40 at best. For
            long runs at a constant rate take the usual ones.
        dtype: "float64", in which results agree between processors, or "float32".
        backward_policy: "learned" or "uniform" (1 / number of parents).
        state_flow: whether to learn log F(s) too. `train` adds it when an objective needs it.
        first_weights: "small_heads", by which an untrained policy is near uniform, or "fan_in",
            as the layers of PyTorch and Equinox start (see `policy.build_policy`). On the default
            job they do equally well. On a grid of 16⁴ with 256 units, on policy at a rate of 0.001,
            an exact L1 error of 0.256 is left after 700 updates with the former, 0.225 with the
            latter (medians of 12 seeds).

    Raises ValueError or TypeError, naming the argument, if one is out of bounds.
    """

    def __init__(
        self,
        env: Environment,
        hidden: tuple[int, ...] = (32, 32),
        gamma: float = 0.5,
        seed: int = 0,
        learning_rate: float = 0.01,
        log_z_learning_rate: float = 0.01,
        adam_betas: tuple[float, float] = (0.7, 0.95),
        dtype: str = "float64",
        backward_policy: str = "learned",
        state_flow: bool = False,
        first_weights: str = "small_heads",
    ):
        if not isinstance(env, Environment):
            raise TypeError(f"env must be an Environment, got {env!r}")
        hidden = policy.check_hidden(hidden)
        check_choice("dtype", dtype, ("float64", "float32"))
        check_choice("backward_policy", backward_policy, policy.BACKWARD_POLICIES)
        check_choice("first_weights", first_weights, policy.FIRST_WEIGHTS)
        self.env = env
        self.kind = Kind(env, hidden, dtype, backward_policy)
        self.gamma = gamma
        self.learning_rate = check_number("learning_rate", learning_rate, above=0.0)
        self.log_z_learning_rate = check_number(
            "log_z_learning_rate", log_z_learning_rate, above=0.0
        )
        self.adam_betas = _check_betas(adam_betas)
        self.first_weights = first_weights
        self.policy = policy.build_policy(env, hidden, dtype)
        self.state_flow = None
        self.log_z = tf.Variable(0.0, dtype=dtype, name="log_z")
        self.reset(seed)
        if state_flow:
            self._add_state_flow()

    @property
    def gamma(self) -> float:
        """The weight of uniform exploration, in [0, 1]."""
        return self._gamma

    @gamma.setter
    def gamma(self, value):
        self._gamma = check_number("gamma", value, minimum=0.0, maximum=1.0)

    @property
    def iteration(self) -> int:
        """How many updates were made since the start or the last `reset`."""
        return int(self._state.iteration)

    def __repr__(self):
        return (
            f"GFNAgent({self.env!r}, hidden={self.kind.hidden}, gamma={self.gamma:g}, "
            f"seed={self.seed}, iteration={self.iteration})"
        )

    def reset(self, seed: int | None = None) -> None:
        """Start again, untrained, from `seed` (by default the present one). Compiles nothing."""
        self.seed = check_integer("seed", self.seed if seed is None else seed, minimum=0)
        hidden, dtype = self.kind.hidden, self.kind.dtype
        fresh = policy.build_policy(self.env, hidden, dtype, self.seed, self.first_weights)
        weights = [tf.convert_to_tensor(weight) for weight in fresh.weights]
        if self.state_flow is not None:
            weights += [
                weight.value for weight in policy.build_state_flow(fresh, self.seed).weights
            ]
        self._n_sampled = 0
        self._restore(training.initial_state([*weights, tf.zeros([], dtype)]))

    def log_policy(self, states: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """log P_F `[B, n_actions]` and log P_B `[B, n_actions − 1]` in nats; −inf: not allowed."""
        weights, backward_policy = self.policy.weights, self.kind.backward_policy
        return policy.network_log_policy(self.env, weights, backward_policy)(states)

    def log_flow(self, states: tf.Tensor) -> tf.Tensor:
        """The learned log F of the states, `[B]`, in nats; log Z at the origin.

        Raises ValueError if no objective has needed it yet.
        """
        if self.state_flow is None:
            raise ValueError("this agent has no state flow: see GFNAgent(state_flow=True)")
        return training.log_policy_of_weights(self.kind)(self._weights())(states)[2]

    def sample(self, n: int, explore: bool = False) -> Trajectories:
        """Draw `n` trajectories from the origin: by P_F, or by its mixture with γ·uniform.

        Each call continues the agent's stream of random numbers; the same seed and the same calls
        give the same trajectories. Raises ValueError if n < 1.
        """
        n = check_integer("n", n, minimum=1)
        gamma = tf.constant(self.gamma if explore else 0.0, self.kind.dtype)
        sample_forward, _ = _samplers(self.kind)
        return sample_forward(self._weights(), tf.constant(n), gamma, self._next_sampling_seed())

    def sample_backward(self, terminal) -> Trajectories:
        """Draw one trajectory for each terminal state `[B, ...]` by P_B; returned origin first.

        Raises ValueError if a state is not one of the environment's in which stop is allowed.
        """
        terminal = check_states(self.env, terminal, "terminal")
        _, sample_backward = _samplers(self.kind)
        return sample_backward(self._weights(), terminal, self._next_sampling_seed())

    def train(
        self,
        data: Trajectories | None = None,
        *,
        objective: str = "trajectory_balance",
        sub_trajectory_lambda: float = 0.9,
        epochs: int | None = None,
        iterations: int | None = None,
        batch_size: int | None = None,
        decay: str | None = None,
        resume_from: int = 0,
        chunk: int = 100,
        track_error: bool | None = None,
        callback: Callable[[Progress], bool | None] | None = None,
    ) -> History:
        """Fit the policies and log Z, by trajectory balance unless another objective is named.

        Offline, `train(data, epochs=200)`: the objects that `data` ended in, each counted once, are
        the data set; every epoch draws a fresh backward trajectory for each. On policy,
        `train(iterations=2000)`: every update samples trajectories with exploration γ.

        Args:
            objective: a name in `losses.OBJECTIVES`: "trajectory_balance", "detailed_balance",
                "sub_trajectory_balance", "flow_matching" or "log_variance" (which leaves log Z as
                it is).
            sub_trajectory_lambda: λ of sub-trajectory balance, above 0.
            data, epochs: the trajectories to learn from, and how often to go over their objects.
            iterations: the number of on-policy updates.
            batch_size: trajectories an update; 10 offline and 16 on policy unless given.
            decay: "linear" (the learning rate falls to 0 over the run; offline's default) or
                "constant" (on policy's, so that two runs of n updates equal one of 2n).
            resume_from: updates of this same run made before it was stopped.
            chunk: updates in one compiled call; between chunks come error, callback, interrupts.
            track_error: take the exact L1 error between chunks; by default where there are at
                most 10,000 states.
            callback: called with a Progress between chunks; the run stops if it returns True.

        Returns a History. Raises ValueError or TypeError for arguments out of bounds, and
        FloatingPointError naming the iteration if the loss is no longer finite; the agent is then
        left as it was after the last good chunk.
        """
        check_choice("objective", objective, losses.OBJECTIVES)
        check_number("sub_trajectory_lambda", sub_trajectory_lambda, above=0.0)
        run = self._plan(data, epochs, iterations, batch_size, decay, resume_from, chunk)
        if "log_flow" in losses.scores_for(objective) and self.state_flow is None:
            self._add_state_flow()
        if track_error is None:
            track_error = self.env.n_states is not None and self.env.n_states <= LARGEST_TRACKED
        loss_of_updates, log_zs, evaluated_at, errors = [], [], [], []
        done = run.resume_from
        for result in self._run_chunks(run, objective, sub_trajectory_lambda):
            loss_of_updates.extend(result.loss)
            log_zs.extend(result.log_z)
            done += len(result.loss)
            if track_error:
                evaluated_at.append(done)
                learned = evaluation.terminating_distribution(self)
                errors.append(evaluation.l1_error(learned, self.env.target()))
            history = _summarise(run, loss_of_updates, log_zs, evaluated_at, errors)
            if callback is not None and callback(Progress(done, run.total, history)):
                break
        return history

    def save(self, path) -> None:
        """Write the whole agent to one file; `load` continues as if it had never stopped.

        Raises FileNotFoundError if the folder does not exist, ValueError if `path` is a folder or
        a device.
        """
        self._write(path)

    def _write(self, path, **others):
        """Save, and put the arrays `others` into the same file."""
        answers = fingerprint(self.env)
        checkpoint.write(path, self.describe(), self._state, answers, **others)

    @classmethod
    def load(cls, path, env: Environment | None = None) -> "GFNAgent":
        """Read an agent that `save` wrote.

        An environment of this package is made anew; one of your own must be given as `env`.
        Raises FileNotFoundError if there is no such file, ValueError if it is damaged, not an
        agent's, or an agent's of another environment, which it then says in what it differs.
        """
        return cls._of_saved(path, checkpoint.read(path), env)

    @classmethod
    def _of_saved(cls, path, saved: checkpoint.Saved, env):
        env = checkpoint.environment_of(path, saved, env)
        with checkpoint.refusing_others(path):
            agent = cls(env, **saved.description["arguments"])
        checkpoint.check_shapes(path, saved.state, agent._state)
        agent._n_sampled = saved.description["n_sampled"]
        agent._restore(saved.state)
        return agent

    def describe(self) -> dict:
        """What a saved file says of the agent, beside its arrays: environment and arguments."""
        hidden, dtype, backward_policy, state_flow = self.kind[1:]
        return {
            **checkpoint.describe_environment(self.env),
            "n_sampled": self._n_sampled,
            "arguments": {
                "hidden": hidden,
                "gamma": self.gamma,
                "seed": self.seed,
                "learning_rate": self.learning_rate,
                "log_z_learning_rate": self.log_z_learning_rate,
                "adam_betas": self.adam_betas,
                "dtype": dtype,
                "backward_policy": backward_policy,
                "state_flow": state_flow,
                "first_weights": self.first_weights,
            },
        }

    def _add_state_flow(self):
        """Give the network its third head, as untrained as in a fresh agent of this seed."""
        self.state_flow = policy.build_state_flow(self.policy, self.seed)
        self.kind = self.kind._replace(state_flow=True)
        head = [weight.value for weight in self.state_flow.weights]
        zeros = [tf.zeros_like(weight) for weight in head]
        weights, first, second, iteration = self._state
        parts = ((weights, head), (first, zeros), (second, zeros))
        grown = [(*whole[:-1], *part, whole[-1]) for whole, part in parts]
        self._restore(TrainingState(*grown, iteration))

    def _variables(self):
        head = [] if self.state_flow is None else self.state_flow.weights
        return [*self.policy.weights, *head, self.log_z]

    def _weights(self):
        return tuple(tf.convert_to_tensor(variable) for variable in self._variables())

    def _restore(self, state: TrainingState):
        """Make `state` the agent's. The variables are the truth for the weights."""
        self._state = state
        try:
            self._assign(state.weights)
        except KeyboardInterrupt:
            self._assign(state.weights)
            raise

    def _assign(self, weights):
        for variable, value in zip(self._variables(), weights, strict=True):
            variable.assign(value)

    def _next_sampling_seed(self):
        self._n_sampled += 1
        return tf.constant([2 * self.seed + 1, self._n_sampled], tf.int64)

    def _plan(self, data, epochs, iterations, batch_size, decay, resume_from, chunk):
        """Check the arguments of `train` and lay out the run, before anything is changed."""
        offline = data is not None
        if offline and (epochs is None or iterations is not None):
            raise ValueError("train(data, ...) takes epochs, and not iterations")
        if not offline and (iterations is None or epochs is not None):
            raise ValueError("train() without data takes iterations, and not epochs")
        batch_size = check_integer(
            "batch_size", (10 if offline else 16) if batch_size is None else batch_size, minimum=1
        )
        decay = check_choice(
            "decay", ("linear" if offline else "constant") if decay is None else decay, DECAYS
        )
        chunk = check_integer("chunk", chunk, minimum=1)
        objects = None
        if offline:
            objects = self._objects(data)
            per_epoch = -(-len(objects) // batch_size)
            total = check_integer("epochs", epochs, minimum=1) * per_epoch
        else:
            per_epoch = 1
            total = check_integer("iterations", iterations, minimum=1)
        resume_from = check_integer("resume_from", resume_from, minimum=0)
        if resume_from >= total:
            raise ValueError(f"resume_from must be below {total}, got {resume_from}")
        if resume_from > self.iteration:
            raise ValueError(
                f"resume_from must be at most {self.iteration}, the updates that this agent has "
                f"made, got {resume_from}"
            )
        return _Run(objects, batch_size, per_epoch, total, resume_from, decay, chunk)

    def _objects(self, data):
        """The data set of an offline run, each object once, `[N, ...]`."""
        if not isinstance(data, Trajectories):
            return np.unique(check_states(self.env, data, "data"), axis=0)
        check_states(self.env, data.terminal, "data.terminal")
        return sampling.objects_seen(self.env, data)

    def _run_chunks(self, run, objective, sub_trajectory_lambda) -> Iterator[training.ChunkResult]:
        """Make the run's updates a chunk at a time; the agent holds each chunk's result."""
        offline = run.objects is not None
        make_chunk = training.compile_chunk(self.kind, run.batch_size, offline, objective)
        number = self.iteration - run.resume_from
        seed = tf.constant(2 * self.seed, tf.int64)
        betas = tf.constant(self.adam_betas, self.kind.dtype)
        power = tf.constant(sub_trajectory_lambda, self.kind.dtype)
        base_rates = [self.learning_rate, self.log_z_learning_rate]
        for first in range(run.resume_from, run.total, run.chunk):
            n = min(run.chunk, run.total - first)
            factors = training.learning_rates(first, run.chunk, run.total, run.decay)
            rates = tf.constant(np.outer(factors, base_rates), self.kind.dtype)
            state = self._state._replace(weights=self._weights())
            # Asked anew for every chunk, so that a callback may anneal it.
            gamma = tf.constant(self.gamma, self.kind.dtype)
            batches = (self._batches(run, number, first, n),) if offline else ()
            result = make_chunk(state, rates, tf.constant(n), betas, gamma, power, seed, *batches)
            loss, log_z = np.asarray(result.loss)[:n], np.asarray(result.log_z)[:n]
            bad = ~(np.isfinite(loss) & np.isfinite(log_z))
            bad[-1] |= not all(np.isfinite(weight).all() for weight in result.state.weights)
            if bad.any():
                raise FloatingPointError(
                    f"the loss is not finite at iteration {self.iteration + int(np.argmax(bad))}; "
                    f"the agent is as it was after iteration {self.iteration}. A lower "
                    f"learning_rate (now {self.learning_rate:g}) may help; rewards must be positive"
                )
            self._restore(result.state)
            yield training.ChunkResult(result.state, loss, log_z)

    def _batches(self, run, number, first, n) -> Batches:
        """The objects of updates first, …, first + n − 1, padded to whole batches and chunks."""
        shape = [run.chunk, run.batch_size]
        terminal = np.tile(run.objects[0], [*shape, *[1] * len(self.env.state_shape)])
        weight = np.zeros(shape)
        for i in range(n):
            epoch, batch = divmod(first + i, run.batches_per_epoch)
            if i == 0 or batch == 0:
                order = training.epoch_order(self.seed, number, epoch, len(run.objects))
            chosen = order[batch * run.batch_size : (batch + 1) * run.batch_size]
            terminal[i, : len(chosen)] = run.objects[chosen]
            weight[i, : len(chosen)] = 1
        return Batches(tf.constant(terminal), tf.constant(weight, self.kind.dtype))


class _Run(NamedTuple):
    objects: np.ndarray | None
    batch_size: int
    batches_per_epoch: int
    total: int
    resume_from: int
    decay: str
    chunk: int


def _check_betas(betas) -> tuple[float, float]:
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise TypeError(f"adam_betas must be a pair of numbers in [0, 1), got {betas!r}")
    if not all(0 <= check_number("adam_betas", beta) < 1 for beta in betas):
        raise ValueError(f"adam_betas must be a pair of numbers in [0, 1), got {betas!r}")
    return tuple(float(beta) for beta in betas)


def _summarise(run, losses, log_zs, evaluated_at, errors) -> History:
    """Group the updates' losses by epoch (an on-policy epoch is one update)."""
    epoch = (run.resume_from + np.arange(len(losses))) // run.batches_per_epoch
    starts = np.flatnonzero(np.diff(epoch, prepend=-1))
    ends = np.append(starts[1:], len(losses))
    loss = np.add.reduceat(losses, starts) / (ends - starts)
    return History(loss, np.asarray(log_zs)[ends - 1], np.array(evaluated_at), np.array(errors))


@functools.lru_cache(maxsize=64)
def _samplers(kind: Kind):
    """The two samplers for agents of a kind, as graphs that take any number of trajectories."""
    log_policy_of = training.log_policy_of_weights(kind)

    def forward(weights, n, gamma, seed):
        return sampling.sample_forward(kind.env, log_policy_of(weights), n, seed, gamma)

    def backward(weights, terminal, seed):
        return sampling.sample_backward(kind.env, log_policy_of(weights), terminal, seed)

    return (
        tf.function(forward, autograph=False),
        tf.function(backward, autograph=False, reduce_retracing=True),
    )
