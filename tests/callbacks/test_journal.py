"""What `Pruner` notes: tables, TensorBoard's files, and both after a stop."""

import collections

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

import tfprune
from tests import models
from tfprune import masks
from tfprune.graph import kernels as k

EPOCHS, PER_EPOCH = 4, 4


class Watch(keras.callbacks.Callback):
    """Copies what is to be noted, by other means, and may stop."""

    def __init__(self, stop=None):
        super().__init__()
        self.stop, self.masks, self.weights = stop, [], []

    def on_epoch_end(self, epoch, logs=None):
        self.masks.append(masks.of(self.model))
        self.weights.append({x.name: x.variable.numpy() for x in k.find(self.model)[0]})
        if epoch == self.stop:
            raise InterruptedError


def fitted(pruner, *callbacks, **words):
    keras.utils.set_random_seed(0)
    x, y = models.images(32)
    model = models.tiny()
    sgd = keras.optimizers.SGD(0.1)
    model.compile(sgd, "sparse_categorical_crossentropy", jit_compile=False)
    callbacks = [pruner, *callbacks]
    words = {"epochs": EPOCHS, "batch_size": 32 // PER_EPOCH, "shuffle": False} | words
    model.fit(x, y, verbose=0, callbacks=callbacks, **words)
    return model


def points(folder):
    """Returns {tag: [(step, value)]} of TensorBoard's files."""
    events = event_accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    result = collections.defaultdict(list)
    for tag in events.Tags()["tensors"]:
        for event in events.Tensors(tag):
            result[tag].append((event.step, float(tf.make_ndarray(event.tensor_proto))))
    return result


def test_before_a_training_there_is_nothing_to_tell():
    pruner = tfprune.Pruner("sparsity:0.5")
    for ask in (pruner.summary, lambda: pruner.history, lambda: pruner.by_epoch):
        with pytest.raises(ValueError, match=r"give this Pruner to model\.fit"):
            ask()


@pytest.mark.parametrize("method", ["gradual", "rigl", "movement(kind='soft')"])
def test_masks_are_compared_from_epoch_to_epoch(method):
    watch = Watch()
    pruner = tfprune.Pruner("sparsity:0.6", method=method, frequency=2, end=14)
    fitted(pruner, watch)
    table = pruner.by_epoch
    regrown = 0
    for name, rows in table.groupby("name"):
        before = np.ones_like(watch.masks[0][name])
        for (_, row), now in zip(rows.iterrows(), watch.masks, strict=True):
            assert row["sparsity"] == pytest.approx(1 - now[name].mean())
            assert row["pruned"] == pytest.approx((before & ~now[name]).mean())
            assert row["regrown"] == pytest.approx((~before & now[name]).mean())
            regrown += row["regrown"]
            before = now[name]
    assert (regrown > 0) == (method != "gradual")
    assert list(table["epoch"].unique()) == [0, 1, 2, 3]


def test_updates_are_scheduled_and_reached():
    schedule = tfprune.schedules.build(
        "polynomial", final_sparsity=0.6, begin_step=2, end_step=10, frequency=4
    )
    pruner = tfprune.Pruner("sparsity:0.6", begin=2, end=10, frequency=4)
    model = fitted(pruner)
    assert list(pruner.history["step"]) == [2, 6, 10]
    wanted = [float(schedule(step)[1]) for step in (2, 6, 10)]
    np.testing.assert_allclose(pruner.history["scheduled"], wanted, rtol=1e-6)
    units = sum(x.size for x in k.find(model)[0])
    np.testing.assert_allclose(pruner.history["reached"], wanted, atol=0.51 / units)


def test_what_is_pruned_when_training_ends_is_an_update_too():
    pruner = tfprune.Pruner("sparsity:0.6", end=100, frequency=50)
    fitted(pruner)
    assert list(pruner.history["step"]) == [0, EPOCHS * PER_EPOCH]
    assert pruner.history["reached"].iloc[-1] == pytest.approx(0.6, abs=1e-3)


def test_the_threshold_separates_what_is_kept():
    watch = Watch()
    at_once = {"schedule": "one_shot", "begin": EPOCHS * PER_EPOCH - 1}
    x, y = models.images(32)
    model = models.tiny()
    sgd = keras.optimizers.SGD(0.0)
    model.compile(sgd, "sparse_categorical_crossentropy", jit_compile=False)
    size = np.sort(np.abs(np.concatenate([x.read().ravel() for x in k.find(model)[0]])))
    pruner = tfprune.Pruner("sparsity:0.5", **at_once)
    model.fit(x, y, batch_size=8, epochs=EPOCHS, verbose=0, callbacks=[pruner, watch])
    table = pruner.by_epoch
    assert not table[table["epoch"] < EPOCHS - 1]["threshold"].any()
    thresholds = table[table["epoch"] == EPOCHS - 1]["threshold"]
    assert thresholds.min() == np.float32(size[len(size) // 2])  # of all kernels, the next to go
    for name, threshold in zip(
        pruner.summary()["name"], pruner.summary()["threshold"], strict=True
    ):
        weight = np.abs(watch.weights[-1][name])
        assert threshold == weight[weight > 0].min()


def test_of_learned_thresholds_the_learned_ones_are_told():
    pruner = tfprune.Pruner("sparsity:0.5", method="str")
    model = fitted(pruner)
    learned = [pruner._training.taps[x.name].memory["threshold"].numpy() for x in k.find(model)[0]]
    np.testing.assert_allclose(pruner.summary()["threshold"], learned)
    assert len(set(learned)) > 1


def test_the_summary_has_a_row_for_all():
    pruner = tfprune.Pruner("sparsity:0.5", protect=["head"])
    model = fitted(pruner)
    table = pruner.summary().set_index("name")
    for kernel in k.find(model)[0]:
        row = table.loc[kernel.name]
        assert row["shape"] == tuple(kernel.variable.shape)
        assert row["weights"] == kernel.size
        if kernel.layer.name == "head":
            assert row["skipped"] == "protected"
            assert pd.isna(row["kept"])
        else:
            assert row["kept"] == np.count_nonzero(kernel.read())
            assert row["sparsity"] == 1 - row["kept"] / row["weights"]
    tfprune.detach(model)
    assert pruner.summary().set_index("name").equals(table)  # as it was when training ended
    assert "protected" in str(pruner.summary())


def test_the_summary_is_there_while_training_goes_on():
    seen = []

    class Ask(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            table = pruner.summary()
            sparsity = 1 - table["kept"].sum() / table["weights"].sum()
            seen.append((sparsity, pruner.sparsity, len(pruner.history)))

    pruner = tfprune.Pruner("sparsity:0.6", frequency=1)
    fitted(pruner, Ask())
    assert len(seen) == EPOCHS * PER_EPOCH
    for sparsity, wanted, _ in seen:
        assert sparsity == pytest.approx(wanted)
    assert seen[0][2] == 1 < seen[-1][2]


def test_tensorboard_gets_the_same_figures(tmp_path):
    pruner = tfprune.Pruner("sparsity:0.6", method="set", frequency=3, log_dir=tmp_path)
    fitted(pruner)
    found, table = points(tmp_path / "pruning"), pruner.by_epoch
    assert len(found) == 3 * table["name"].nunique()
    table["churn"] = table["pruned"] + table["regrown"]
    for name, rows in table.groupby("name"):
        for tag in ("sparsity", "threshold", "churn"):
            epochs, values = zip(*found[f"{tag}/{name}"], strict=True)
            assert epochs == tuple(rows["epoch"])
            np.testing.assert_allclose(values, rows[tag], rtol=1e-6)


def test_a_resumed_training_has_the_whole_of_it_and_no_point_twice(tmp_path):
    def pruner(folder):
        return tfprune.Pruner("sparsity:0.6", method="str", frequency=3, log_dir=tmp_path / folder)

    def backup(folder):
        return keras.callbacks.BackupAndRestore(tmp_path / folder / "backup")

    whole = pruner("whole")
    fitted(whole, backup("whole"))
    with pytest.raises(InterruptedError):  # the epoch's points are written, its backup is not
        fitted(pruner("stopped"), Watch(stop=2), backup("stopped"))
    resumed = pruner("stopped")
    fitted(resumed, backup("stopped"))
    for name in ("history", "by_epoch"):
        pd.testing.assert_frame_equal(getattr(whole, name), getattr(resumed, name))
    pd.testing.assert_frame_equal(whole.summary(), resumed.summary())
    assert points(tmp_path / "whole/pruning") == points(tmp_path / "stopped/pruning")


def test_points_of_another_training_are_replaced_but_not_those_of_earlier_epochs(tmp_path):
    words = {"frequency": 2, "end": 8, "log_dir": tmp_path}
    for _ in range(2):
        fitted(tfprune.Pruner("sparsity:0.6", **words), epochs=2)
    fitted(tfprune.Pruner("sparsity:0.6", **words), initial_epoch=2)
    for tag, found in points(tmp_path / "pruning").items():
        assert [epoch for epoch, _ in found] == [0, 1, 2, 3], tag
