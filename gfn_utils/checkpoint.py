"""An agent in one file: an npz archive of its arrays and a description in JSON. Never a pickle."""

import contextlib
import dataclasses
import glob
import json
import math
import os
import pathlib
import secrets
import threading
import time
import zipfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils import environments
from gfn_utils.environments import Environment
from gfn_utils.environments.fingerprint import TOLERANCE, Fingerprint, difference, fingerprint
from gfn_utils.networks import KerasNetwork
from gfn_utils.networks.dense import DTYPES
from gfn_utils.networks.model_checks import same_logits
from gfn_utils.networks.own_model import Form
from gfn_utils.networks.own_model import difference as difference_of_forms
from gfn_utils.training import TrainingState
from gfn_utils.validation import check_choice, check_flag, check_integer, shown

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

FORMAT = "gfn_utils agent 2"
FORMATS = {FORMAT, "gfn_utils agent 1"}
"""Files of format 1 hold no fingerprint of the environment."""
SECONDS_OF_A_SAVE = 3600
"""Where files cannot be locked, a temporary one of this age is no longer being written."""
DESCRIBED = {"environment", "settings", "n_sampled", "arguments"}
"""And the form of the `network`, if it is one of one's own."""
LOGITS = "network_logits"
"""The array of what a network of one's own said of some states."""
FINGERPRINT = {
    "states": np.int32,
    "log_reward": np.float64,
    "masks": np.bool_,
    "children": np.int32,
    "features": np.float64,
}


class Saved(NamedTuple):
    """What a file holds."""

    description: dict
    """Environment, settings, n_sampled and the agent's arguments."""
    state: TrainingState
    fingerprint: Fingerprint | None
    """The environment's answers when the agent was saved."""
    logits: np.ndarray | None
    """Those that a network of one's own gave then of some states (`KerasNetwork.said`)."""
    others: dict[str, np.ndarray]
    """Arrays that are not the agent's: a LiveTraining keeps its curves beside it."""


def describe_environment(env: Environment) -> dict:
    """The environment's name and its settings, which tell one environment from another.

    An environment of one's own is named with its module, so that it is not taken for another.
    """
    kind = type(env)
    name = kind.__name__
    if getattr(environments, name, None) is not kind:
        name = f"{kind.__module__}.{kind.__qualname__}"
    settings = env.settings()
    try:
        # As they will be read from the file: a tuple comes back as a list.
        return {"environment": name, "settings": json.loads(json.dumps(settings))}
    except TypeError as error:
        raise TypeError(f"env must have settings that JSON can hold, got {settings}") from error


def check_path(path) -> pathlib.Path:
    """The file that `path` names, links followed: a file can be written there.

    Raises TypeError if `path` is no path, FileNotFoundError if its folder does not exist,
    ValueError if it is a folder, a device or anything else but a file.
    """
    target = pathlib.Path(os.path.realpath(_as_path(path)))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"path must lie in a folder that exists, got {os.fspath(path)!r}")
    if os.path.lexists(target) and not target.is_file():
        raise ValueError(
            f"path must be a file, got {os.fspath(path)!r}, which is a folder, a device or the like"
        )
    return target


def _as_path(path) -> pathlib.Path:
    try:
        return pathlib.Path(path)
    except TypeError as error:
        raise TypeError(f"path must be a string or a path, got {shown(path)}") from error


@contextlib.contextmanager
def replacing(path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` once it is whole: never half of one.

    A link stays, and the file that it leads to is replaced. Any number of threads and processes may
    write to one path at a time: the last to finish remains. Raises what `check_path` raises.
    """
    target = check_path(path)
    _remove_leftovers(target)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        with _open_locked(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or a machine that loses its power may keep an empty file
            if target.exists():
                temporary.chmod(target.stat().st_mode & 0o7777)
            if fcntl is None:
                file.close()  # Windows moves no open file; elsewhere it stays locked until moved
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _open_locked(temporary: pathlib.Path) -> BinaryIO:
    """A new file, locked until it is closed, so that it is not taken for a leftover."""
    while True:
        file = temporary.open("wb")
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        if temporary.exists():  # it was not taken for one before it was locked
            return file
        file.close()


def _remove_leftovers(target: pathlib.Path) -> None:
    """Delete the temporary files of savers that were killed: those that nobody has locked."""
    pattern = f".{glob.escape(target.name)}.{'[0-9a-f]' * 16}.part"
    for leftover in target.parent.glob(pattern):
        with contextlib.suppress(OSError):  # somebody is writing it, or deleted it just now
            if fcntl is None:
                if time.time() - leftover.stat().st_mtime > SECONDS_OF_A_SAVE:
                    leftover.unlink()
                continue
            with leftover.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()


def write(
    path,
    description: dict,
    state: TrainingState,
    answers: Fingerprint | None = None,
    **others: np.ndarray,
) -> None:
    """Write an agent's file, with what its environment answers and with `others`, in one step.

    Raises what `check_path` raises, and ValueError if a weight is not finite: `read` refuses such.
    """
    if not all(np.isfinite(np.asarray(weight)).all() for weight in state.weights):
        raise ValueError("the agent's weights must be finite to be saved, and some are not")
    arrays = {"iteration": np.asarray(state.iteration), **others}
    for field in ("weights", "first_moments", "second_moments"):
        for number, value in enumerate(getattr(state, field)):
            arrays[f"{field}_{number}"] = np.asarray(value)
    if answers is not None:
        arrays |= {f"fingerprint_{name}": value for name, value in answers._asdict().items()}
    header = json.dumps({"format": FORMAT, **description})
    with replacing(path) as file:
        np.savez(file, description=np.array(header), **arrays)


@contextlib.contextmanager
def refusing_others(path) -> Iterator[None]:
    """Turn any error, as a foreign or damaged file can cause, into a ValueError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"path must be a file that GFNAgent.save wrote, got {os.fspath(path)!r}, "
            f"which is damaged or something else ({type(error).__name__}: {error})"
        ) from error


_ONE_READER = threading.Lock()
"""CPython 3.11 confuses the depths of threads that parse NumPy's headers at once (SystemError)."""


def read(path) -> Saved:
    """What the file holds; ValueError if it is not a whole agent's file."""
    path = _as_path(path)
    with refusing_others(path):
        with _ONE_READER:
            arrays = _read_arrays(path)
        description = json.loads(str(arrays.pop("description")))
        _check_description(description)
        parts = []
        for field in ("weights", "first_moments", "second_moments"):
            n = sum(name.startswith(f"{field}_") for name in arrays)
            parts.append(tuple(arrays.pop(f"{field}_{number}") for number in range(n)))
        _check_numbers(*parts)
        _check_layers(description, parts[0])
        iteration = check_integer("iteration", arrays.pop("iteration")[()], 0, 2**62)
        weights, first, second = (tuple(map(tf.constant, part)) for part in parts)
        state = TrainingState(weights, first, second, tf.constant(iteration, tf.int64))
        logits = arrays.pop(LOGITS) if "network" in description else None
        return Saved(description, state, _take_fingerprint(arrays), logits, arrays)


def _read_arrays(path) -> dict[str, np.ndarray]:
    """The arrays of an npz file; nothing is read that would take more room than the file has."""
    if path.exists() and not path.is_file():
        raise ValueError("it is not a file")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        size, unpacked = path.stat().st_size, sum(member.file_size for member in members)
        if unpacked > size:  # an agent is saved uncompressed
            raise ValueError(f"its {size:,} bytes would unpack to {unpacked:,}")
        return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}


def _array(archive, member) -> np.ndarray:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        headers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, fortran, dtype = headers[version](file)
        data = file.read()
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{member.filename} does not hold the {dtype} {shape} that it announces")
    return np.ndarray(shape, dtype, data, order="F" if fortran else "C")


def _check_description(description):
    if description.pop("format") not in FORMATS or set(description) - {"network"} != DESCRIBED:
        raise ValueError("it has another format")
    kinds = {"environment": str, "settings": dict, "arguments": dict}
    for name, kind in kinds.items():
        if not isinstance(description[name], kind):
            raise TypeError(f"{name} must be a {kind.__name__}, got {description[name]!r}")
    check_integer("n_sampled", description["n_sampled"], 0, 2**62)


def _check_numbers(weights, first_moments, second_moments):
    """Refuse what no training leaves."""
    for name, part in (
        ("weights", weights),
        ("first_moments", first_moments),
        ("second_moments", second_moments),
    ):
        if not all(np.isfinite(array).all() for array in part):
            raise ValueError(f"{name} must be finite")
    if any((array < 0).any() for array in second_moments):
        raise ValueError("second_moments must be at least 0")


def _check_layers(description, weights):
    """Refuse layers of other sizes than the file has weights for."""
    arguments, network = description["arguments"], description.get("network")
    if network is not None:
        *forms, log_z = [[list(weight.shape), str(weight.dtype)] for weight in weights]
        told = [weight[1:3] for weight in Form(**network).weights]
        if check_flag("state_flow", arguments["state_flow"]):
            told = [*told, *told, *forms[-2:]]  # the read-out is of another making
        if forms != told or log_z != [[], arguments["dtype"]]:
            raise ValueError("its weights are not those that it describes")
        return
    hidden = arguments["hidden"]
    biases = weights[1 : 2 * len(hidden) : 2]
    if [list(bias.shape) for bias in biases] != [[units] for units in hidden]:
        raise ValueError(f"hidden is {hidden}, which the weights do not fit")


def _take_fingerprint(arrays) -> Fingerprint | None:
    """The fingerprint among the arrays, which are taken out, or None."""
    if "fingerprint_states" not in arrays:
        return None
    found = Fingerprint(**{name: arrays.pop(f"fingerprint_{name}") for name in FINGERPRINT})
    for (name, dtype), array in zip(FINGERPRINT.items(), found, strict=True):
        if array.dtype != dtype:
            raise TypeError(f"the fingerprint's {name} must be {dtype.__name__}, got {array.dtype}")
    return found


def environment_of(path, saved: Saved, env: Environment | None) -> Environment:
    """The environment described in the file, or `env` if it is that one and answers as it did."""
    name, settings = saved.description["environment"], dict(saved.description["settings"])
    some_log_rewards = None
    if saved.fingerprint is None:  # in place of which sequences had these among their settings
        some_log_rewards = settings.pop("some_log_rewards", None)
    if env is None:
        env = _rebuilt(path, name, settings)
    elif not isinstance(env, Environment):
        raise TypeError(f"env must be an Environment, got {shown(env)}")
    else:
        found = describe_environment(env)
        if (found["environment"], found["settings"]) != (name, settings):
            raise ValueError(
                f"env must be the saved agent's, {name} with {settings} "
                f"(in {os.fspath(path)!r}), got {env!r}"
            )
    with refusing_others(path):
        if "network" not in saved.description:
            _check_features(env, saved.state)
        changed = None
        if some_log_rewards is not None:
            changed = _difference_of_some_rewards(some_log_rewards, env)
    if saved.fingerprint is not None:
        changed = difference(saved.fingerprint, fingerprint(env))
    if changed:
        raise ValueError(
            f"env must be as it was when the agent in {os.fspath(path)!r} was saved, but {changed}"
        )
    return env


def _rebuilt(path, name, settings):
    known = getattr(environments, name, None)
    if not (isinstance(known, type) and issubclass(known, Environment)):
        raise ValueError(
            f"env must be given: the agent in {os.fspath(path)!r} is one of {name}, "
            f"which is not an environment of gfn_utils"
        )
    if not {field.name for field in dataclasses.fields(known)} <= set(settings):
        raise ValueError(
            f"env must be given: the agent in {os.fspath(path)!r} is one of {name}, "
            "whose reward function a file cannot hold"
        )
    with refusing_others(path):
        return known(**settings)


def _check_features(env, state):
    """Before anything is built: a description can claim sizes that no machine has room for."""
    width = math.prod(env.encode(env.initial_states(1)).shape)
    if width != state.weights[0].shape[0]:
        raise ValueError(f"the weights are for {state.weights[0].shape[0]} features, not {width}")


def network_of(path, saved: Saved, env: Environment, build) -> KerasNetwork | None:
    """The network that `build` makes, if the file is of an agent with one and it is the same."""
    form = saved.description.get("network")
    if (form is None) != (build is None):
        must = "be given" if build is None else "be left out"
        has = "the default network" if form is None else "a network of its own"
        raise ValueError(f"network must {must}: the agent in {os.fspath(path)!r} has {has}")
    if form is None:
        return None
    with refusing_others(path):
        form = Form(**form)
        dtype = check_choice("dtype", saved.description["arguments"]["dtype"], DTYPES)
    network = KerasNetwork(build, env, dtype)
    with refusing_others(path):
        changed = difference_of_forms(form, network.form)
        if not changed and not same_logits(network.said(saved.state.weights), saved.logits, dtype):
            changed = "with the saved weights it gives other logits than it gave then"
    if changed:
        raise ValueError(
            f"network must build the model of the agent in {os.fspath(path)!r}, but {changed}"
        )
    return network


def _difference_of_some_rewards(log_rewards, env) -> str | None:
    """Compare with the log-rewards of 16 words, which files of format 1 hold for sequences."""
    some = np.random.default_rng(0).integers(env.n_letters, size=[16, env.length])
    found = np.asarray(env.log_reward_of(tf.constant(some, tf.int32)), np.float64)
    if np.allclose(found, log_rewards, rtol=TOLERANCE, atol=TOLERANCE):
        return None
    row = int(np.argmax(np.abs(found - log_rewards)))
    return f"log_reward_of {some[row].tolist()} is {found[row]:g} where it was {log_rewards[row]:g}"


def check_shapes(path, state: TrainingState, expected: TrainingState) -> None:
    """Raise ValueError unless every array has the shape and type that the description implies."""

    def form(state):
        return [(value.shape.as_list(), value.dtype) for value in tf.nest.flatten(state)]

    if form(state) != form(expected):
        raise ValueError(
            f"path must be a file that GFNAgent.save wrote, got {os.fspath(path)!r}, "
            "whose arrays do not have the shapes that it describes"
        )
