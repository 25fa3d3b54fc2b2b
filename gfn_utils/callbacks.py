"""What `GFNAgent.train(callback=...)` can take: TensorBoard, callbacks of Keras, several at once.

A callback is any function of a Progress; it returns True to stop the run. Those made here log one
point for each call, that is for each chunk of updates: make a new one for each call of `train`.
"""

import os
from collections.abc import Callable

import keras
import tensorflow as tf

from gfn_utils.runs import Progress
from gfn_utils.validation import check_function, check_instance, check_stop

Callback = Callable[[Progress], bool | None]


def several(*callbacks: Callback) -> Callback:
    """One callback that calls all of these in their order, and stops if any of them says so.

    Each is called, also after one that wants to stop. Raises TypeError if one is no function.
    """
    for number, each in enumerate(callbacks):
        check_function(f"callbacks[{number}]", each)

    def call_all(progress):
        stops = [check_stop("callback", each(progress)) for each in callbacks]
        return any(stops)

    return call_all


def tensorboard(log_dir) -> Callback:
    """A callback that writes a run to the folder `log_dir` for TensorBoard.

    It writes three curves against the number of updates: `loss` (nats², the mean of the updates, or
    offline of the epochs, since the last point), `log_z` (nats) and, where it was taken,
    `l1_error`. They are written at once, so a run can be watched while it goes on, and a run that
    is killed leaves what it has seen.

    Give each run a folder of its own. With several machines, let only the first of them log.

    Raises TypeError if `log_dir` is no path, ModuleNotFoundError without the package tensorboard.
    """
    check_instance("log_dir", log_dir, str | os.PathLike, "a string or a path")
    if not hasattr(tf.summary, "scalar"):
        raise ModuleNotFoundError("tensorboard(log_dir) needs: pip install tensorboard")
    writer = tf.summary.create_file_writer(os.fspath(log_dir))
    numbers_of = _numbers_since_last_time()

    def log(progress):
        with writer.as_default(step=progress.done):
            for name, value in numbers_of(progress).items():
                tf.summary.scalar(name, value)
        writer.flush()

    return log


def keras_callback(callback: keras.callbacks.Callback) -> Callback:
    """A callback of `train` made from one of Keras.

    A chunk of updates stands for Keras's epoch. Before the first one is reported `on_train_begin()`
    is called, then after each chunk `on_epoch_end(updates made so far, logs)` with the same numbers
    as in `tensorboard`, `{"loss": ..., "log_z": ..., "l1_error": ...}`, and `on_train_end()` after
    the last. The run stops when the callback sets `model.stop_training`.

    So what looks at logs fits: CSVLogger, EarlyStopping (monitor="loss" or "l1_error", but without
    restore_best_weights), RemoteMonitor, and LambdaCallback with these three methods.
    Batches are not reported, because a chunk is one compiled call: TerminateOnNaN does nothing, and
    it need not, because `train` raises FloatingPointError by itself. What reaches into a model
    that `fit` trains does not fit (ModelCheckpoint, BackupAndRestore, LearningRateScheduler,
    ReduceLROnPlateau, keras's TensorBoard): it raises an AttributeError that says so.

    Raises TypeError if `callback` is none of Keras.
    """
    check_instance("callback", callback, keras.callbacks.Callback, "a keras.callbacks.Callback")
    run = _Run()
    numbers_of = _numbers_since_last_time()

    def call(progress):
        if callback.model is not run:
            callback.set_model(run)
            callback.on_train_begin({})
        numbers = numbers_of(progress)
        callback.on_epoch_end(progress.done, numbers)
        if run.stop_training or progress.done == progress.total:
            callback.on_train_end(numbers)
        return run.stop_training

    return call


class _Run:
    """What a callback of Keras sees as its model: a run that it can stop, and nothing else."""

    stop_training = False

    def __getattr__(self, name):
        raise AttributeError(
            f"this callback of Keras asks for model.{name}, but GFNAgent.train is not Keras's fit: "
            "there is only model.stop_training. Write a function of a Progress, which can use the "
            "agent itself (agent.save, agent.learning_rate)"
        )


def _numbers_since_last_time() -> Callable[[Progress], dict[str, float]]:
    """A function that gives what has come since its last call: mean loss, log Z, exact error."""
    n_seen = 0

    def numbers_of(progress):
        nonlocal n_seen
        history = progress.history
        new = history.loss[min(n_seen, len(history.loss) - 1) :]  # an epoch can take many chunks
        n_seen = len(history.loss)
        numbers = {"loss": float(new.mean()), "log_z": float(history.log_z[-1])}
        if progress.done in history.evaluated_at[-1:]:
            numbers["l1_error"] = float(history.l1_error[-1])
        return numbers

    return numbers_of
