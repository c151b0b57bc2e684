"""WeightSharing: values are few when training ends, whatever happened meanwhile."""

import keras
import numpy as np
import pytest

import tfprune
from tests import models
from tfprune import sharing
from tfprune.graph import kernels as k


def values(model):
    return [len(np.unique(x.read())) for x in k.find(model)[0]]


def fit(model, *callbacks, optimizer="adam", epochs=2, **words):
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    x, y = models.images()
    words = {"batch_size": 16, "verbose": 0} | words
    return model.fit(x, y, epochs=epochs, callbacks=list(callbacks), **words)


def test_it_clusters_and_goes_on_after_training():
    model = models.tiny()
    fit(model, tfprune.WeightSharing(5))
    assert values(model) == [5, 5]
    fit(model)
    assert values(model) == [5, 5]
    tfprune.detach(model)
    fit(model)
    assert min(values(model)) > 5


def test_a_shared_model_keeps_its_clusters():
    model = tfprune.cluster_weights(models.tiny(), 5)
    clusters = sharing.of(model)
    fit(model, tfprune.WeightSharing(5, initialisation="random"))
    for name, now in sharing.of(model).items():
        np.testing.assert_array_equal(now, clusters[name])


@pytest.mark.parametrize("settings", [{}, {"ema_overwrite_frequency": 3}])
def test_averaged_weights_are_shared_too(settings):
    model = models.tiny()
    adam = keras.optimizers.Adam(0.01, use_ema=True, **settings)
    fit(model, tfprune.WeightSharing(5), optimizer=adam)
    assert values(model) == [5, 5]


def test_a_pruned_model_keeps_its_zeros():
    model = tfprune.prune(models.tiny(), "sparsity:0.6")
    tfprune.detach(model)  # as if it came from a file
    zeros = [x.read() == 0 for x in k.find(model)[0]]
    fit(model, tfprune.HoldZeros(), tfprune.WeightSharing(6))
    for before, kernel in zip(zeros, k.find(model)[0], strict=True):
        np.testing.assert_array_equal(kernel.read() == 0, before)
    assert max(values(model)) == 6


def test_pruned_while_shared():
    """Zeros that come later are a value more, for which two of the others become one."""
    model = models.tiny()
    callbacks = [tfprune.Pruner("sparsity:0.5", criterion="random"), tfprune.WeightSharing(6)]
    fit(model, *callbacks, epochs=4)
    assert max(values(model)) == 6
    assert tfprune.measure(model)["sparsity"] == pytest.approx(0.5, abs=2e-3)


@pytest.mark.parametrize("backup_first", [True, False])
def test_an_interrupted_training_goes_on_with_its_clusters(tmp_path, backup_first):
    """The backup's weights come back when training begins, before or after they are clustered."""

    def callbacks():
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
        both = [backup, tfprune.WeightSharing(6)]
        return both if backup_first else both[::-1]

    stopped = models.tiny()
    fit(stopped, *callbacks(), epochs=2)
    expected = [x.read() for x in k.find(stopped)[0]]
    keras.utils.set_random_seed(7)
    resumed = models.tiny()
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append([x.read() for x in k.find(resumed)[0]])
    )
    fit(resumed, *callbacks(), look, epochs=3)
    assert len(seen) == 4  # one epoch
    for before, restored in zip(expected, seen[0], strict=True):
        np.testing.assert_array_equal(restored, before)
    assert values(resumed) == [6, 6]
    for before, kernel in zip(expected, k.find(resumed)[0], strict=True):
        after = kernel.read()
        assert len(np.unique([before.ravel(), after.ravel()], axis=1).T) == 6  # the same clusters


def test_the_best_weights_that_are_restored_are_shared():
    model = models.tiny()
    best = keras.callbacks.EarlyStopping("loss", patience=99, restore_best_weights=True)
    fit(model, best, tfprune.WeightSharing(5), optimizer=keras.optimizers.SGD(10.0))
    assert values(model) == [5, 5]


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"n_clusters": 1}, "2 or more"),
        ({"initialisation": "desnity"}, "Did you mean density"),
        ({"per": "layer"}, "unknown what"),
    ],
)
def test_wrong_words_are_errors_before_training(words, match):
    with pytest.raises(ValueError, match=match):
        tfprune.WeightSharing(**words)


def test_nothing_to_share_is_said_when_training_begins():
    with pytest.raises(ValueError, match="fewer than n_clusters=300"):
        fit(models.tiny(), tfprune.WeightSharing(300))
