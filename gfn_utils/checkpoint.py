"""An agent in one file: an npz archive of its arrays and a description in JSON. Never a pickle."""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import tensorflow as tf

from gfn_utils import environments
from gfn_utils.environments import Environment
from gfn_utils.training import TrainingState

FORMAT = "gfn_utils agent 1"
DESCRIBED = {"environment", "settings", "n_sampled", "arguments"}


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
    """Return `path`; raise FileNotFoundError if its folder does not exist."""
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path must lie in a folder that exists, got {os.fspath(path)!r}")
    return path


@contextlib.contextmanager
def replacing(path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` once it is whole: never half of one.

    Raises FileNotFoundError if the folder does not exist.
    """
    path = check_path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write(path, description: dict, state: TrainingState) -> None:
    """Write an agent's file; FileNotFoundError if its folder does not exist."""
    arrays = {"iteration": np.asarray(state.iteration)}
    for field in ("weights", "first_moments", "second_moments"):
        for number, value in enumerate(getattr(state, field)):
            arrays[f"{field}_{number}"] = np.asarray(value)
    header = json.dumps({"format": FORMAT, **description})
    with replacing(path) as file:
        np.savez(file, description=np.array(header), **arrays)


def read(path) -> tuple[dict, TrainingState]:
    """The description and the state in the file; ValueError if it is not a whole agent's file."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        description = json.loads(str(arrays["description"]))
        if description.pop("format") != FORMAT or set(description) != DESCRIBED:
            raise KeyError("format")
        n_weights = sum(name.startswith("weights_") for name in arrays)
        state = TrainingState(
            *(
                tuple(tf.constant(arrays[f"{field}_{number}"]) for number in range(n_weights))
                for field in ("weights", "first_moments", "second_moments")
            ),
            tf.constant(arrays["iteration"], tf.int64),
        )
    except FileNotFoundError:
        raise
    except Exception as error:  # a foreign or damaged file can fail in any way
        raise ValueError(
            f"path must be a file that GFNAgent.save wrote, got {os.fspath(path)!r}, "
            f"which is damaged or something else ({type(error).__name__}: {error})"
        ) from error
    return description, state


def environment_of(path, description: dict, env: Environment | None) -> Environment:
    """The environment described in the file, or `env` if it is that one."""
    name, settings = description["environment"], description["settings"]
    if env is not None:
        found = describe_environment(env)
        if (found["environment"], found["settings"]) != (name, settings):
            raise ValueError(
                f"env must be the saved agent's, {name} with {settings} "
                f"(in {os.fspath(path)!r}), got {env!r}"
            )
        return env
    known = getattr(environments, name, None)
    if not (isinstance(known, type) and issubclass(known, Environment)):
        raise ValueError(
            f"env must be given: the agent in {os.fspath(path)!r} is one of {name}, "
            f"which is not an environment of gfn_utils"
        )
    if set(settings) != {field.name for field in dataclasses.fields(known)}:
        raise ValueError(
            f"env must be given: the agent in {os.fspath(path)!r} is one of {name}, "
            "whose reward function a file cannot hold"
        )
    return known(**settings)


def check_shapes(path, state: TrainingState, expected: TrainingState) -> None:
    """Raise ValueError unless every array has the shape and type that the description implies."""

    def form(state):
        return [(value.shape.as_list(), value.dtype) for value in tf.nest.flatten(state)]

    if form(state) != form(expected):
        raise ValueError(
            f"path must be a file that GFNAgent.save wrote, got {os.fspath(path)!r}, "
            "whose arrays do not have the shapes that it describes"
        )
