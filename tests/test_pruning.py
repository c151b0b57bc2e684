import subprocess
import sys

import keras
import numpy as np
import pytest

import tfprune
from tests import models
from tfprune import granularity as granularities
from tfprune import masks
from tfprune.graph import kernels as k


def zeros(model):
    return {x.name: x.read() == 0 for x in k.find(model)[0]}


def sparsity(model):
    found = zeros(model).values()
    return sum(z.sum() for z in found) / sum(z.size for z in found)


@pytest.mark.parametrize("make", [models.cnn, models.nested, models.subclassed])
def test_the_callers_model_is_untouched(make):
    model = make()
    before = model.get_weights()
    pruned = tfprune.prune(model, "sparsity:0.7")
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not masks.of(model)
    assert sparsity(pruned) == pytest.approx(0.7, abs=0.002)
    x, _ = models.images()
    assert np.isfinite(pruned(x).numpy()).all()


def test_the_clone_computes_the_same_before_it_is_pruned():
    for make in (models.cnn, models.nested, models.subclassed):
        model = make()
        x, _ = models.images()
        np.testing.assert_array_equal(tfprune.prune(model, "sparsity:0")(x), model(x))


def test_global_magnitude_keeps_the_largest_weights_of_all():
    model = models.cnn()
    values = np.concatenate([x.read().ravel() for x in k.find(model)[0]])
    keep = round(0.25 * values.size)
    threshold = np.sort(np.abs(values))[-keep]
    pruned = tfprune.prune(model, "sparsity:0.75")
    left = np.concatenate([x.read().ravel() for x in k.find(pruned)[0]])
    np.testing.assert_array_equal(left != 0, np.abs(values) >= threshold)
    np.testing.assert_array_equal(left[left != 0], values[left != 0])


def test_min_keep_keeps_every_layer_alive():
    model = models.cnn()
    pruned = tfprune.prune(model, "sparsity:0.98", min_keep=3)
    assert min((~z).sum() for z in zeros(pruned).values()) >= 3


@pytest.mark.parametrize("granularity", ["weight", "block(4, 1)", "n_m(1, 4)", "filter"])
def test_max_sparsity_leaves_every_kernel_its_share_of_units(granularity):
    view = granularities.get(granularity)

    def most_lost(**words):
        pruned = tfprune.prune(models.cnn(), "sparsity:0.5", granularity=granularity, **words)
        units = [view("unroll", x.read()).any(axis=1) for x in k.find(pruned)[0]]
        return max(1 - kept.mean() for kept in units)

    assert most_lost(max_sparsity=0.6) <= 0.6 < most_lost()
    words = {"granularity": granularity, "max_sparsity": 0.6}
    with pytest.raises(ValueError, match=r"can't be met.*max_sparsity=0\.6"):
        tfprune.prune(models.cnn(), "sparsity:0.7", **words)


def test_the_compilation_comes_along():
    model = models.cnn()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    pruned = tfprune.prune(model, "sparsity:0.5")
    x, y = models.images()
    pruned.fit(x, y, epochs=1, verbose=0)
    assert sparsity(pruned) == sparsity(tfprune.prune(model, "sparsity:0.5"))


def test_masks_of_an_earlier_pruning_come_along():
    model = tfprune.prune(models.cnn(), "sparsity:0.5")
    again = tfprune.prune(model, "sparsity:0.6", protect=["head"])
    again.compile("adam", "sparse_categorical_crossentropy")
    again.fit(*models.images(), epochs=1, verbose=0)
    before = zeros(model)
    assert all(np.all(after[before[name]]) for name, after in [*zeros(again).items()])


def test_a_subclassed_model_that_cant_be_cloned_names_the_ways_out():
    class Odd(keras.Model):
        def __init__(self, something):
            super().__init__()
            self.dense = keras.layers.Dense(4, name="odd")

        def call(self, x):
            return self.dense(x)

    model = Odd(object())
    model(np.zeros((1, 4)))
    with pytest.raises(ValueError, match=r"in_place=True(.|\n)*Pruner"):
        tfprune.prune(model, "sparsity:0.5")
    assert tfprune.prune(model, "sparsity:0.5", in_place=True) is model
    assert sparsity(model) == 0.5


def test_nan_weights_name_the_layer_and_nothing_changes():
    model = models.cnn()
    bad = model.get_layer("pointwise").kernel
    bad.assign(np.full(bad.shape, np.nan))
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"'pointwise'.*NaN"):
        tfprune.prune(model, "sparsity:0.5", in_place=True)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not masks.of(model)


def test_the_saved_file_is_plain_keras(tmp_path):
    """It loads in a process that never imports tfprune, with the same outputs and zeros."""
    pruned = tfprune.prune(models.cnn(), "sparsity:0.8")
    x, _ = models.images()
    pruned.save(tmp_path / "pruned.keras")
    np.savez(tmp_path / "x.npz", x=x, expected=pruned(x).numpy())
    code = (
        "import sys, keras, numpy as np\n"
        "d = np.load(sys.argv[2])\n"
        "m = keras.saving.load_model(sys.argv[1])\n"
        "np.testing.assert_allclose(m(d['x']).numpy(), d['expected'], rtol=1e-6, atol=1e-7)\n"
        "assert not 'tfprune' in sys.modules\n"
    )
    files = [str(tmp_path / "pruned.keras"), str(tmp_path / "x.npz")]
    subprocess.run([sys.executable, "-c", code, *files], check=True, cwd=tmp_path)
    assert sparsity(keras.saving.load_model(files[0])) == sparsity(pruned)


def test_batch_norm_statistics_are_estimated_again():
    model = models.cnn()
    x, y = models.images(256)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=2, verbose=0)
    pruned = tfprune.prune(model, "sparsity:0.8", data=(x, y))
    conv = keras.Model(pruned.inputs, pruned.get_layer("conv").output)
    seen = conv(x).numpy().reshape(-1, 8).astype(np.float64)
    norm = pruned.get_layer("norm")
    np.testing.assert_allclose(norm.moving_mean, seen.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, seen.var(0), rtol=1e-3)


def test_estimating_changes_nothing_but_the_statistics():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dropout(0.5),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Dense(2),
        ]
    )
    x = np.random.default_rng(0).normal(3.0, 2.0, (512, 4)).astype("float32")
    others = [w.numpy() for w in model.trainable_weights]
    assert tfprune.reestimate_batchnorm(model, x) == 2
    norm = model.layers[1]
    # dropout would have left the mean and doubled the second moment
    np.testing.assert_allclose(norm.moving_mean, x.mean(0), rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, x.var(0), rtol=1e-3)
    assert (norm.momentum, model.layers[0].rate) == (0.9, 0.5)
    for a, b in zip(others, model.trainable_weights, strict=True):
        np.testing.assert_array_equal(a, b)
    before = norm.moving_mean.numpy()
    with pytest.raises(ValueError, match="data is empty"):
        tfprune.reestimate_batchnorm(model, x[:0])
    np.testing.assert_array_equal(norm.moving_mean, before)
