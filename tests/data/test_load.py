"""Splits, preprocessing and reproducibility against scikit-learn, NumPy and TFDS itself."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from tfprune import data
from tfprune.data import examples


def arrays(dataset):
    batches = [(x.numpy(), y.numpy()) for x, y in dataset]
    return tuple(np.concatenate(part) for part in zip(*batches, strict=True))


def rows(images):
    return sorted(map(bytes, np.ascontiguousarray(images.astype("float32"))))


@pytest.fixture(scope="module")
def cifar10(shared):
    return data.load(
        "cifar10", data_dir=shared / "data/tfds", download=False, preprocess="standardize"
    )


def test_import_needs_no_tensorflow():
    code = (
        "import sys, tfprune.data, tfprune.zoo\n"
        "assert not {'tensorflow', 'keras', 'sklearn', 'tensorflow_datasets'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_digits_are_scikit_learns_each_once():
    digits = data.load("digits", preprocess="raw")
    stored = load_digits()
    parts = [arrays(d) for d in (digits.train_plain, digits.validation, digits.test)]
    assert digits.sizes == {name: len(y) for name, (_, y) in zip(digits.sizes, parts, strict=True)}
    assert rows(np.concatenate([x for x, _ in parts])) == rows(stored.images[..., np.newaxis])
    assert (digits.classes, digits.input_shape) == (10, (8, 8, 1))
    assert digits.class_names == tuple("0123456789")
    for _, labels in parts[1:]:
        share = np.bincount(labels) / np.bincount(stored.target)
        np.testing.assert_allclose(share, share.mean(), atol=0.01)


def test_batches_are_what_splits_says():
    digits = data.load("digits", batch_size=50)
    x, y = next(iter(digits.train))
    assert (x.dtype.name, y.dtype.name) == ("float32", "int64")
    assert x.shape == (50, 8, 8, 1)
    for name in ("train", "train_plain"):
        dataset = getattr(digits, name)
        assert len(dataset) == len(list(dataset)) == -(-digits.sizes["train"] // 50)


def test_the_split_does_not_depend_on_the_seed():
    first, second = (data.load("digits", seed=seed) for seed in (0, 1))
    for name in ("train_plain", "validation", "test"):
        for a, b in zip(arrays(getattr(first, name)), arrays(getattr(second, name)), strict=True):
            np.testing.assert_array_equal(a, b)
    assert rows(arrays(first.train)[0]) == rows(arrays(second.train)[0])


def test_same_seed_same_batches_and_every_pass_another_order():
    def two_passes(seed, global_seed):
        keras.utils.set_random_seed(global_seed)
        train = data.load("digits", augment="flip_crop(pad=2)", seed=seed).train
        return [arrays(train) for _ in range(2)]

    first, again, other = two_passes(3, 0), two_passes(3, 99), two_passes(4, 0)
    for (x, y), (x_again, y_again) in zip(first, again, strict=True):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)
    assert not np.array_equal(first[0][1], first[1][1])
    assert not np.array_equal(first[0][1], other[0][1])
    np.testing.assert_array_equal(np.sort(first[0][1]), np.sort(first[1][1]))


def test_calibration_is_the_same_draw_of_training_examples_in_every_pass():
    digits = data.load("digits", batch_size=16)
    drawn = digits.calibration(40, 0)
    x, y = arrays(drawn)
    assert x.shape == (40, 8, 8, 1)
    assert [len(labels) for _, labels in drawn] == [16, 16, 8]
    np.testing.assert_array_equal(arrays(drawn)[0], x)
    assert set(rows(x)) <= set(rows(arrays(digits.train_plain)[0]))
    assert not np.array_equal(arrays(digits.calibration(40, 1))[1], y)
    assert len(arrays(digits.calibration(10**6, 0))[1]) == digits.sizes["train"]


def test_calibration_draws_from_a_stream_too():
    labels = tf.data.Dataset.range(50)
    stream = tf.data.Dataset.zip(labels.map(lambda n: tf.fill((2,), n)), labels)
    source = examples.drawn(examples.Examples(None, None, stream, 50), 20, seed=1)
    first, again = ([int(y) for _, y in source.stream] for _ in range(2))
    assert first == again
    assert len(set(first)) == source.size == 20
    assert first != sorted(first)


def test_no_validation_trains_on_everything():
    digits = data.load("digits", validation=0)
    assert digits.validation is None
    assert digits.sizes["train"] + digits.sizes["test"] == 1797


@pytest.mark.parametrize(
    ("spec", "low", "high"), [("raw", 0, 16), ("unit", 0, 1), ("symmetric", -1, 1)]
)
def test_ranges(spec, low, high):
    digits = data.load("digits", preprocess=spec)
    x, _ = arrays(digits.train_plain)
    assert (x.min(), x.max()) == (low, high)
    raw, _ = arrays(data.load("digits", preprocess="raw").train_plain)
    steps = digits.preprocess
    np.testing.assert_allclose(x, (raw - steps.mean) / steps.std, atol=1e-6)


def test_standardize_is_scikit_learns_scaler_on_the_training_images():
    digits = data.load("digits", preprocess="standardize")
    raw, _ = arrays(data.load("digits", preprocess="raw").train_plain)
    scaler = StandardScaler().fit(raw.reshape(-1, 1))
    np.testing.assert_allclose(digits.preprocess.mean, scaler.mean_, rtol=1e-9)
    np.testing.assert_allclose(digits.preprocess.std, scaler.scale_, rtol=1e-9)


def test_image_size_resizes():
    digits = data.load("digits", image_size=16, preprocess="raw")
    assert digits.input_shape == (16, 16, 1)
    x, _ = arrays(digits.test)
    assert x.shape[1:] == (16, 16, 1)
    assert 0 <= x.min() < x.max() <= 16


def test_official_splits_of_tfds(cifar10, shared):
    import tensorflow_datasets as tfds

    stored = tfds.load("cifar10", split="test[:256]", data_dir=shared / "data/tfds", download=False)
    raw = np.stack([e["image"] for e in tfds.as_numpy(stored)]).astype("float64")
    labels = [e["label"] for e in tfds.as_numpy(stored)]
    x, y = (np.concatenate(p) for p in zip(*cifar10.test.take(2).as_numpy_iterator(), strict=True))
    steps = cifar10.preprocess
    np.testing.assert_allclose(x, (raw - steps.mean) / steps.std, atol=1e-5)
    np.testing.assert_array_equal(y, labels)
    assert cifar10.sizes == {"train": 45_000, "validation": 5_000, "test": 10_000}
    assert np.bincount(arrays(cifar10.validation)[1]).tolist() == [500] * 10


def test_statistics_of_cifar10_are_the_known_ones(cifar10):
    # Of all 50,000 training images, as used by shared models; 45,000 of them differ little.
    np.testing.assert_allclose(cifar10.preprocess.mean, [125.307, 122.95, 113.865], atol=0.1)
    np.testing.assert_allclose(cifar10.preprocess.std, [62.9932, 62.0887, 66.7048], atol=0.1)


def test_what_exceeds_memory_is_streamed(shared, monkeypatch):
    import tensorflow_datasets as tfds

    from tfprune.data import examples

    monkeypatch.setattr(examples, "MEMORY_LIMIT", 1_000_000)
    folder = {"data_dir": shared / "data/tfds", "download": False}
    streamed = data.load("fashion_mnist", **folder, batch_size=100, augment="crop")
    assert streamed.class_names[9] == "Ankle boot"
    assert streamed.sizes == {"train": 54_000, "validation": 6_000, "test": 10_000}
    assert len(streamed.train) == 540
    stored = tfds.load("fashion_mnist", split="train[54000:54100]", **folder)
    x, y = next(streamed.validation.as_numpy_iterator())
    np.testing.assert_array_equal(y, [e["label"] for e in tfds.as_numpy(stored)])
    raw = np.stack([e["image"] for e in tfds.as_numpy(stored)])
    np.testing.assert_array_equal(x, raw.astype("float32") / 255)

    again = data.load("fashion_mnist", **folder, batch_size=100, augment="crop")
    passes = [[next(d.train.as_numpy_iterator()) for _ in range(2)] for d in (streamed, again)]
    np.testing.assert_array_equal(passes[0][0][0], passes[1][0][0])
    np.testing.assert_array_equal(passes[0][1][0], passes[1][1][0])
    assert not np.array_equal(passes[0][0][1], passes[0][1][1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "digit"}, "Did you mean digits"),
        ({"name": "cifr10"}, "Did you mean cifar10"),
        ({"name": "mnist", "download": False}, "mnist is not prepared in .*data_dir"),
        ({"name": "digits", "preprocess": "units"}, "Did you mean unit"),
        ({"name": "digits", "preprocess": "unit(3)"}, "takes no arguments"),
        ({"name": "digits", "preprocess": "mean_std((1, 2), (3, 4))"}, "2 channels, digits has 1"),
        ({"name": "digits", "preprocess": "mean_std(1)"}, "a mean and a positive deviation"),
        ({"name": "digits", "preprocess": "mean_std(1, 0)"}, "a mean and a positive deviation"),
        ({"name": "digits", "preprocess": "mean_std('a', 1)"}, "a mean and a positive deviation"),
        ({"name": "digits", "augment": "flips"}, "Did you mean flip"),
        ({"name": "digits", "augment": "crop(pad=0)"}, "pad must be"),
        ({"name": "digits", "augment": "flip(pad=2)"}, r'write "crop\(pad=2\)"'),
        ({"name": "digits", "validation": 1.0}, "validation must be a fraction"),
        ({"name": "digits", "batch_size": 0}, "batch_size must be"),
    ],
)
def test_wrong_words_are_explained(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        data.load(**arguments, data_dir=tmp_path)


def test_no_network_is_said_at_once(tmp_path, monkeypatch):
    from tfprune.data import tfds

    monkeypatch.setattr(tfds, "_offline", lambda: True)
    with pytest.raises(ValueError, match=r"mnist is not prepared.*no network.*tfds build mnist"):
        data.load("mnist", data_dir=tmp_path)


def test_absent_paths(tmp_path):
    for name in ("nowhere", "nowhere.npz"):
        with pytest.raises(FileNotFoundError, match=name):
            data.load(tmp_path / name)
