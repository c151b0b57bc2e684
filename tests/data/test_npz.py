"""Arrays in .npz files, sound and unsound."""

import numpy as np
import pytest

from tfprune import data

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (60, 6, 5, 3), dtype=np.uint8)
Y = np.arange(60) % 3


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.npz"


def all_of(dataset):
    return tuple(np.concatenate(p) for p in zip(*dataset.as_numpy_iterator(), strict=True))


def test_given_splits_are_kept(path):
    np.savez(path, x_train=X[:40], y_train=Y[:40], x_val=X[40:50], y_val=Y[40:50],
             x_test=X[50:], y_test=Y[50:])  # fmt: skip
    splits = data.load(path, preprocess="raw")
    for dataset, part in (
        (splits.train_plain, slice(40)),
        (splits.validation, slice(40, 50)),
        (splits.test, slice(50, 60)),
    ):
        x, y = all_of(dataset)
        np.testing.assert_array_equal(x, X[part])
        np.testing.assert_array_equal(y, Y[part])
    assert (splits.classes, splits.input_shape) == (3, (6, 5, 3))


def test_missing_splits_are_held_out_of_every_class(path):
    np.savez_compressed(path, x_train=X, y_train=Y[:, np.newaxis].astype("float32"))
    splits = data.load(path)
    assert splits.sizes == {"train": 42, "validation": 6, "test": 12}
    assert np.bincount(all_of(splits.test)[1]).tolist() == [4, 4, 4]


def test_uint8_has_the_range_of_bytes_and_floats_their_own(path):
    np.savez(path, x_train=X // 2, y_train=Y)
    assert data.load(path).preprocess.std == (255.0,) * 3
    floats = (X / 255 * 4 - 2).astype("float64")
    np.savez(path, x_train=floats, y_train=Y, x_test=floats, y_test=Y)
    x, _ = all_of(data.load(path, preprocess="symmetric", validation=0).train_plain)
    np.testing.assert_allclose((x.min(), x.max()), (-1, 1), atol=1e-6)


def test_grey_images_get_a_channel_and_vectors_stay(path):
    np.savez(path, x_train=X[..., 0], y_train=Y)
    assert data.load(path).input_shape == (6, 5, 1)
    vectors = X.reshape(60, -1).astype("float32")
    vectors[:, 0] = 7
    np.savez(path, x_train=vectors, y_train=Y)
    splits = data.load(path, preprocess="standardize")
    assert splits.input_shape == (90,)
    x, _ = all_of(splits.train_plain)
    assert not x[:, 0].any()
    np.testing.assert_allclose(x[:, 1:].std(axis=0), 1, atol=1e-4)
    for argument in ({"augment": "flip"}, {"image_size": 8}):
        with pytest.raises(ValueError, match="is for images"):
            data.load(path, **argument)


def bad(**changes):
    return {"x_train": X, "y_train": Y} | changes


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_test": X, "y_test": Y}, "no x_train, only x_test, y_test"),
        ({"x_train": X}, "one of x_train and y_train"),
        (bad(x_test=X), "one of x_test and y_test"),
        (bad(y_train=Y[:50]), "60 in x_train, but 50 in y_train"),
        (bad(x_train=np.where(X > 250, np.nan, X)), "x_train has NaN .* in example"),
        (bad(x_train=X.astype(object)), "Python objects"),
        (bad(x_train=X.astype(str)), "give numbers"),
        (bad(x_train=X[np.newaxis]), r"shape \(1, 60, 6, 5, 3\)"),
        (bad(x_train=X[:0], y_train=Y[:0]), r"shape \(0, 6, 5, 3\)"),
        (bad(y_train=Y - 1), "label -1: number the classes from 0"),
        (bad(y_train=Y + 0.5), "not whole numbers"),
        (bad(y_train=np.where(Y == 1, np.nan, Y)), "not whole numbers"),
        (bad(y_train=Y * 1000), "labels up to 2000, but 60 examples: number its 3 classes 0 to 2"),
        (bad(y_train=Y * 0), "one class only"),
        (bad(y_train=np.eye(3)[Y]), r"\.argmax"),
        (bad(x_test=X, y_test=Y + 1), "y_test has label 3, y_train none above 2"),
        (bad(x_test=X[:, :5], y_test=Y), r"x_test have shape \(5, 5, 3\), in x_train \(6, 5, 3\)"),
    ],
)
def test_what_can_not_be_learnt_from_is_explained(path, arrays, message):
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message) as raised:
        data.load(path)
    assert "data.npz" in str(raised.value)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_truncated_files(path, part):
    np.savez(path, x_train=X, y_train=Y)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"data\.npz is (damaged|no \.npz file)"):
        data.load(path)


def test_damaged_bytes(path):
    np.savez_compressed(path, x_train=X, y_train=Y)
    content = bytearray(path.read_bytes())
    content[200:220] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.npz is damaged"):
        data.load(path)


def test_other_files_by_that_name(path):
    path.write_bytes(b"not an archive")
    with pytest.raises(ValueError, match=r"data\.npz is no \.npz file"):
        data.load(path)
    with path.open("wb") as file:
        np.save(file, X)
    with pytest.raises(ValueError, match=r"data\.npz is no \.npz file"):
        data.load(path)
