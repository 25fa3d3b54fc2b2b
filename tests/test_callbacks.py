"""What callbacks write is what the run's History says; those of Keras are the real ones."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gfn_utils import GFNAgent, HyperGrid, callbacks
from gfn_utils.runs import History, Progress

CHUNK = 20


def trained(callback, iterations=50, track_error=None):
    agent = GFNAgent(HyperGrid(height=4), seed=0)
    return agent.train(
        iterations=iterations, chunk=CHUNK, callback=callback, track_error=track_error
    )


def curves(folder):
    """`{name: [(step, value), ...]}` of all event files of a folder."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        name: [
            (event.step, tf.make_ndarray(event.tensor_proto).item())
            for event in events.Tensors(name)
        ]
        for name in events.Tags()["tensors"]
    }


def test_tensorboard_has_what_the_history_says(tmp_path):
    history = trained(callbacks.tensorboard(tmp_path / "logs"))
    found = curves(tmp_path / "logs")
    expected = {
        "loss": [part.mean() for part in np.split(history.loss, [20, 40])],
        "log_z": history.log_z[[19, 39, 49]],
        "l1_error": history.l1_error,
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        steps, written = zip(*found[name], strict=True)
        assert steps == (20, 40, 50)
        np.testing.assert_allclose(written, values, rtol=1e-6)  # TensorBoard keeps float32


def test_an_epoch_that_takes_many_chunks_is_written_after_each(tmp_path):
    log = callbacks.tensorboard(tmp_path)
    none = np.array([])
    for done, losses in [(3, [8.0]), (6, [7.0, 4.0]), (9, [7.0, 3.0]), (18, [7.0, 2.0, 1.0, 0.5])]:
        log(Progress(done, 18, History(np.array(losses), np.array(losses), none, none)))
    # The last epoch is not over when it is first seen, so its mean may still change.
    expected = [(3, 8.0), (6, 4.0), (9, 3.0), (18, 0.75)]
    assert curves(tmp_path) == {
        "loss": expected,
        "log_z": [(3, 8.0), (6, 4.0), (9, 3.0), (18, 0.5)],
    }


def test_what_was_written_can_be_read_while_the_run_goes_on(tmp_path):
    read = []
    log = callbacks.several(
        callbacks.tensorboard(tmp_path), lambda _: read.append(len(curves(tmp_path)["loss"]))
    )
    trained(log)
    assert read == [1, 2, 3]


def test_tensorboard_says_what_is_missing(monkeypatch, tmp_path):
    with pytest.raises(TypeError, match="log_dir must be a string or a path, got 3"):
        callbacks.tensorboard(3)
    monkeypatch.delattr(tf.summary, "scalar")
    with pytest.raises(ModuleNotFoundError, match="pip install tensorboard"):
        callbacks.tensorboard(tmp_path)


def test_several_are_all_called_in_order_and_any_of_them_can_stop():
    calls = []

    def note(name, answer):
        return lambda progress: calls.append((name, progress.done)) or answer

    history = trained(
        callbacks.several(note("a", None), note("b", True), note("c", np.bool_(False)))
    )
    assert calls == [("a", 20), ("b", 20), ("c", 20)]
    assert len(history.loss) == 20
    with pytest.raises(TypeError, match=r"callbacks\[1\] must be a function, got 'b'"):
        callbacks.several(print, "b")
    with pytest.raises(TypeError, match="callback must return True"):
        trained(callbacks.several(lambda progress: "stop"))


def test_csv_logger_writes_a_line_a_chunk(tmp_path):
    path = tmp_path / "run.csv"
    history = trained(callbacks.keras_callback(keras.callbacks.CSVLogger(path)))
    rows = list(csv.DictReader(path.open()))
    assert [int(row["epoch"]) for row in rows] == [20, 40, 50]
    np.testing.assert_allclose([float(row["log_z"]) for row in rows], history.log_z[[19, 39, 49]])
    np.testing.assert_allclose([float(row["l1_error"]) for row in rows], history.l1_error)
    np.testing.assert_allclose(float(rows[-1]["loss"]), history.loss[40:].mean())


def test_early_stopping_stops_where_its_rule_says():
    stopping = keras.callbacks.EarlyStopping(monitor="log_z", mode="max", min_delta=99, patience=2)
    ended = []
    last = keras.callbacks.LambdaCallback(on_train_end=lambda logs: ended.append(True))
    history = trained(
        callbacks.several(callbacks.keras_callback(stopping), callbacks.keras_callback(last)), 500
    )
    assert len(history.loss) == 3 * CHUNK  # the first value, and two that are not 99 better
    assert stopping.stopped_epoch == 3 * CHUNK
    assert not ended  # this one did not stop the run, so it is not told


def test_lambda_callback_gets_begin_every_chunk_and_end():
    calls = []
    callback = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: calls.append("begin"),
        on_epoch_end=lambda epoch, logs: calls.append((epoch, sorted(logs))),
        on_train_end=lambda logs: calls.append("end"),
    )
    trained(callbacks.keras_callback(callback), track_error=False)
    chunks = [(done, ["log_z", "loss"]) for done in (20, 40, 50)]
    assert calls == ["begin", *chunks, "end"]


def test_terminate_on_nan_is_harmless_and_nan_is_an_error_all_the_same():
    assert len(trained(callbacks.keras_callback(keras.callbacks.TerminateOnNaN())).loss) == 50
    agent = GFNAgent(HyperGrid(height=4), learning_rate=1e30, seed=0)
    with pytest.raises(FloatingPointError):
        agent.train(
            iterations=20,
            chunk=CHUNK,
            callback=callbacks.keras_callback(keras.callbacks.TerminateOnNaN()),
        )


@pytest.mark.parametrize(
    "callback",
    [
        keras.callbacks.EarlyStopping("loss", restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("loss"),
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
        keras.callbacks.ModelCheckpoint("unused.keras", monitor="loss"),
        keras.callbacks.BackupAndRestore("unused"),
        keras.callbacks.TensorBoard("unused"),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_callbacks_that_reach_into_a_model_say_so(callback, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AttributeError, match=r"asks for model\.\w+, but GFNAgent\.train is not"):
        trained(callbacks.keras_callback(callback))


def test_only_callbacks_of_keras_are_taken():
    with pytest.raises(TypeError, match=r"callback must be a keras\.callbacks\.Callback, got"):
        callbacks.keras_callback(print)
