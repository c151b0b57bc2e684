"""A training that is stopped anywhere ends as one that is not, bit for bit."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfprune
from tests import models
from tfprune import masks, sparse_training

L = keras.layers
EPOCHS = 4
PER_EPOCH = -(-len(models.images()[0]) // 8)


def test_killed_at_twenty_points(tmp_path):
    """SIGKILL before steps, inside the writing of checkpoints, and damage to the newest."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.callbacks.killed", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        timeout=540,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    kills = int(done.stdout.split("killed ")[-1].split()[0])
    assert kills >= 20
    assert "it is passed over" in done.stderr
    with np.load(tmp_path / "whole/end.npz") as whole, np.load(tmp_path / "killed/end.npz") as end:
        assert whole.files == end.files
        for name in whole.files:
            np.testing.assert_array_equal(whole[name], end[name])
    assert not (tmp_path / "killed" / "checkpoints").exists()


class Stop(keras.callbacks.Callback):
    """Breaks off a training, as a crash would, after so many steps of its own."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_begin(self, batch, logs=None):
        if not self.step:
            raise InterruptedError
        self.step -= 1


def compiled(optimizer=None, width=8):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            L.Conv2D(width, 3, strides=2, activation="relu"),
            L.Dropout(0.3, seed=2),
            L.GlobalAveragePooling2D(),
            L.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer or keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model


def fit(model, *callbacks, epochs=EPOCHS):
    x, y = models.images()
    model.fit(
        *(x, y), batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=[*callbacks]
    )
    return model


def everything(model):
    variables = (*model.variables, *model.optimizer.variables)
    return [v.numpy() for v in variables] + [*masks.of(model).values()]


def pruner(method="gradual"):
    whole = not method.startswith("rewind")
    words = {"frequency": 2, "begin": 1, "end": "3ep"} if whole else {}
    return tfprune.Pruner("sparsity:0.75", method=method, **words)


@pytest.mark.parametrize(
    "method",
    [
        *sparse_training.names(),
        "greg(kind=2)",
        "movement(kind='soft')",
        "rewind(to=3, what='rate')",
    ],
)
def test_every_method_goes_on_with_backup_and_restore(tmp_path, method):
    """Keras's own callback, before or after the pruner, carries what pruning needs."""
    whole = everything(fit(compiled(), pruner(method)))
    order = slice(None, None, -1 if len(method) % 2 else 1)
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(InterruptedError):
        fit(compiled(), *[pruner(method), backup][order], Stop(2 * PER_EPOCH + 1))
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    resumed = everything(fit(compiled(), *[pruner(method), backup][order]))
    for expected, found in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(expected, found)


@pytest.mark.parametrize("stopped", [0, 2])
def test_scores_that_add_up_go_on(tmp_path, stopped):
    words = {"criterion": "movement", "data": models.images(), "frequency": 2, "end": "3ep"}

    def fitted(*callbacks):
        return fit(compiled(), tfprune.Pruner("sparsity:0.75", **words), *callbacks)

    whole = everything(fitted())
    with pytest.raises(InterruptedError):
        fitted(tfprune.Checkpoint(tmp_path), Stop(stopped * PER_EPOCH + 1))
    resumed = everything(fitted(tfprune.Checkpoint(tmp_path)))
    for expected, found in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(expected, found)


def interrupted(folder, epoch=2):
    with pytest.raises(InterruptedError):
        fit(compiled(), pruner(), tfprune.Checkpoint(folder), Stop(epoch * PER_EPOCH + 1))
    return tfprune.Checkpoint(folder)


def test_the_next_fit_begins_at_its_own_first_epoch(tmp_path):
    assert interrupted(tmp_path).epoch == 2
    model = fit(compiled(), pruner(), tfprune.Checkpoint(tmp_path))
    assert int(model.optimizer.iterations) == PER_EPOCH * EPOCHS
    assert tfprune.Checkpoint(tmp_path).epoch == 0
    fit(model, epochs=1)
    assert int(model.optimizer.iterations) == PER_EPOCH * (EPOCHS + 1)


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    fit(compiled(), tfprune.Checkpoint(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_learning_rate_that_was_set_goes_on(tmp_path):
    def halve(epoch, rate):
        return rate / 2

    def fitted(*callbacks):
        halving = keras.callbacks.LearningRateScheduler(halve)
        return fit(compiled(keras.optimizers.SGD(0.4)), halving, *callbacks)

    with pytest.raises(InterruptedError):
        fitted(tfprune.Checkpoint(tmp_path), Stop(2 * PER_EPOCH + 1))
    model = fitted(tfprune.Checkpoint(tmp_path))
    assert float(model.optimizer.learning_rate) == pytest.approx(0.4 / 2**EPOCHS)


def test_a_saved_model_is_plain(tmp_path):
    model = fit(compiled(), pruner(), tfprune.Checkpoint(tmp_path / "c"))
    before = fit(compiled())
    for name, net in (("pruned", model), ("plain", before)):
        net.save_weights(tmp_path / f"{name}.weights.h5")
    sizes = [(tmp_path / f"{name}.weights.h5").stat().st_size for name in ("pruned", "plain")]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("other", ["width", "optimizer"])
def test_another_model(tmp_path, other):
    interrupted(tmp_path)
    model = compiled(width=9) if other == "width" else compiled(keras.optimizers.SGD(0.1))
    before = [w.copy() for w in model.get_weights()]
    with pytest.raises(ValueError, match="of another model or optimizer: give another directory"):
        fit(model, pruner(), tfprune.Checkpoint(tmp_path))
    for was, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
    assert tfprune.Checkpoint(tmp_path).epoch == 2  # nothing is lost


def test_other_words_of_pruning(tmp_path):
    interrupted(tmp_path)
    with pytest.raises(ValueError, match="pruned in other words"):
        fit(compiled(), pruner("rigl"), tfprune.Checkpoint(tmp_path))


def test_another_version(tmp_path):
    interrupted(tmp_path)
    for path in tmp_path.glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(ValueError, match=r"format 99.*or use the version that"):
        fit(compiled(), pruner(), tfprune.Checkpoint(tmp_path))


def test_damaged_ones_are_passed_over(tmp_path, caplog):
    checkpoint = interrupted(tmp_path)
    newest = tmp_path / "epoch-000002.weights.h5"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert checkpoint.epoch == 1
    assert "epoch-000002.weights.h5 is damaged" in caplog.text
    (tmp_path / "epoch-000001.json").write_text("{")
    assert checkpoint.epoch == 0
    fit(compiled(), pruner(), checkpoint)


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_learning_rate_that_makes_nan_stops_at_the_last_good_one(tmp_path, epoch):
    def rate(now, old):
        return 1e38 if now >= epoch else 0.01

    good = fit(compiled(keras.optimizers.SGD(0.01)), epochs=epoch) if epoch else None
    model = compiled(keras.optimizers.SGD(0.01))
    checkpoint = tfprune.Checkpoint(tmp_path)
    fit(model, keras.callbacks.LearningRateScheduler(rate), checkpoint)
    assert f"epoch {epoch + 1}: lower the learning rate" in checkpoint.failure
    if epoch:
        assert str(tmp_path / "epoch-000002.weights.h5") in checkpoint.failure
        for expected, found in zip(good.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(expected, found)
        assert checkpoint.epoch == 2
    else:
        assert "no checkpoint yet" in checkpoint.failure


def test_bad_words(tmp_path):
    with pytest.raises(ValueError, match="keep=0"):
        tfprune.Checkpoint(tmp_path, keep=0)
