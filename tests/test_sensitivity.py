import keras
import numpy as np
import pytest
import tensorflow as tf

import tfprune
from tests import models, surgeons
from tfprune import masks, pruning
from tfprune.graph import kernels as k
from tfprune.measurement.accuracy import evaluate
from tfprune.planning import Recipe
from tfprune.report import sensitivity_plot
from tfprune.sensitivity import SPARSITIES, Scan, scan


@pytest.fixture(scope="module")
def trained():
    model = models.cnn()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*models.images(), epochs=2, batch_size=16, verbose=0)
    return model


def test_each_row_is_the_model_with_one_kernel_cut_by_hand(trained):
    data = models.images(50)
    before = trained.get_weights()
    dense = evaluate(trained, data)
    table = scan(trained, data, sparsities=[0.25, 0.9])
    for a, b in zip(before, trained.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    kernels = k.find(trained)[0]
    assert list(table["layer"]) == [x.name for x in kernels for _ in range(2)]
    for row in table.to_dict("records"):
        kernel = next(x for x in kernels if x.name == row["layer"])
        value = kernel.variable.numpy()
        count = round(row["sparsity"] * value.size)
        lowest = np.argsort(np.abs(value), axis=None)[:count]
        cut = value.copy()
        cut.flat[lowest] = 0
        kernel.variable.assign(cut)
        expected = evaluate(trained, data)
        kernel.variable.assign(value)
        assert row["units"] == row["params_removed"] == count
        assert row["zeros"] == count / value.size
        for key in ("loss", "top1"):
            assert row[key] == pytest.approx(expected[key], rel=1e-5)
            change = expected[key] - dense[key]
            assert row[f"{key}_change"] == pytest.approx(change, abs=1e-6)


def test_a_channel_costs_what_the_smaller_model_saves(trained):
    """Against `shrink`: the same loss, parameters and MACs."""
    data = models.images(50)
    words = {"granularity": "channel", "criterion": "l2"}
    table = scan(trained, data, sparsities=[0.5], **words)
    assert list(table["layer"]) == ["conv", "pointwise"]
    dense = tfprune.measure(trained)
    for index, row in table.iterrows():
        copy = pruning.clone(trained)
        plan = Recipe.of(None, **words).bind(copy)
        scores = plan.scores().layers[index].scores
        gone = scores < np.median(scores)
        variables = k.named(copy)
        for name, mask in plan.without(index, gone).items():
            masks.zero(variables[name], mask)
        small = tfprune.measure(tfprune.shrink(copy), data=data)
        assert row["units"] == gone.sum() == len(gone) / 2
        assert row["params_removed"] == dense["params"] - small["params"]
        assert row["macs_removed"] == dense["macs"] - small["macs"]
        assert row["loss"] == pytest.approx(small["loss"], rel=1e-5)
        assert row["top1"] == pytest.approx(small["top1"], abs=1e-6)


def test_what_is_done_is_not_measured_again(trained):
    data = models.images(20)
    whole = list(Scan(trained, data, sparsities=[0.3, 0.6]).rows())
    marked = [row | {"loss": -1.0} for row in whole[:4]]
    again = list(Scan(trained, data, sparsities=[0.6, 0.3]).rows(marked))
    assert again == marked + whole[4:]


def test_the_model_is_whole_after_each_row_and_after_an_error(trained):
    """A model that can't be copied is pruned itself, and put back."""

    class Fixed(keras.Model):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def call(self, x, training=None):
            return self.inner(x, training=training)

        def get_config(self):
            raise NotImplementedError

    model = Fixed(trained)
    x, y = models.images(20)
    model(x[:1])
    before = model.get_weights()
    job = Scan(model, (x, y), sparsities=[0.9])
    assert job._model is model
    for row in job.rows():
        assert row["zeros"] > 0.8
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    job._evaluation = (np.full_like(x, np.nan), y)
    with pytest.raises(ValueError, match="NaN"):
        next(job.rows())
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_correction_is_of_the_layer_that_is_cut():
    """What is left of a linear model is fitted anew: against NumPy's least squares."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)).astype("f") @ rng.normal(size=(6, 6)).astype("f")
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, use_bias=False)])
    y = model(x).numpy()
    words = {"correction": "least_squares", "data": (x, y), "sparsities": [0.5]}
    table = scan(model, (x, y), **words)
    kept = np.argsort(abs(model.get_weights()[0][:, 0]))[3:]
    residual = np.linalg.lstsq(x[:, kept], y, rcond=None)[1]
    assert table["loss"][0] == pytest.approx(residual[0] / 200, rel=0.01)


def test_patterns_stop_where_they_have_to(trained):
    """Of 2:4 no more than half goes, whatever was asked for."""
    table = scan(trained, models.images(20), granularity="n_m(2, 4)", sparsities=[0.5, 0.9])
    assert set(table["zeros"]) == {0.5}
    assert table["loss"].nunique() <= table["layer"].nunique()


def test_targets_that_are_no_classes_have_a_loss_alone():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    rng = np.random.default_rng(0)
    data = rng.normal(size=(30, 4)).astype("f"), rng.normal(size=(30, 3)).astype("f")
    table = scan(model, data)
    assert "top1" not in table
    assert list(table["sparsity"]) == list(SPARSITIES)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"sparsities": [0.0, 0.5]}, "above 0"),
        ({"sparsities": []}, "above 0"),
        ({"criterion": "magnitud"}, "Did you mean magnitude"),
        ({"correction": "least_squares"}, "data="),
    ],
)
def test_wrong_words(trained, words, message):
    with pytest.raises(ValueError, match=message):
        scan(trained, models.images(10), **words)


def test_no_examples_or_no_labels(trained):
    x, _ = models.images(10)
    with pytest.raises(ValueError, match="labels"):
        scan(trained, x)
    with pytest.raises(ValueError, match="no examples"):
        scan(trained, tf.data.Dataset.from_tensor_slices(models.images(2)).batch(1).take(0))


@pytest.mark.parametrize("columns", [["top1", "top1_change"], []])
def test_the_picture_names_what_counts(trained, columns, tmp_path):
    table = scan(trained, models.images(30), sparsities=[0.5, 0.95])
    if columns:
        table = table.drop(columns=columns)
    for name in ("picture.svg", "picture.png"):
        sensitivity_plot.write(table, tmp_path / name)
    text = (tmp_path / "picture.svg").read_text()
    shown = {row.split("/", 1)[1].removesuffix("/kernel") for row in table["layer"]}
    assert all(name in text for name in shown)
    assert "95 %" in text
    assert (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"


def test_a_group_of_channels_takes_the_time_of_all_that_carry_it(monkeypatch):
    def made_up(model, kernels, *, threads):
        assert threads == 2
        return {x.name: 10.0**i for i, x in enumerate(k.find(model)[0])}

    monkeypatch.setattr("tfprune.tflite.layer_times.layer_times", made_up)
    model, data = models.cnn(), models.images(5)
    kernels = [x.name for x in k.find(model)[0]]
    alone = Scan(model, data).times(threads=2)
    assert alone == dict(zip(kernels, [1, 10, 100, 1000], strict=True))
    groups = Scan(model, data, granularity="channel").times(threads=2)
    assert groups == {"conv": 1 + 10 + 100, "pointwise": 100 + 1000}


def test_more_work_takes_longer():
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 8)),
            keras.layers.Conv2D(64, 5, padding="same"),
            keras.layers.Conv2D(2, 1),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    data = rng.normal(size=(2, 32, 32, 8)).astype("f"), np.zeros(2, int)
    times = list(Scan(model, data).times().values())
    assert times[0] > 3 * times[1]  # 13 million multiplications, 131 thousand
    assert len(model.layers[0]._inbound_nodes) == 1


def test_what_clusters_find_costs_nothing_when_it_is_merged():
    """Of eight channels two are duplicates of another; the third to go is not."""
    model = models.cnn()
    surgeons.randomise(model)
    surgeons.plant(model, copies=2)
    words = {"granularity": "channel", "criterion": "kmeans", "protect": ["pointwise"]}
    words |= {"sparsities": [0.25, 0.375]}
    merged = scan(model, models.images(50), correction="merge", **words)
    deleted = scan(model, models.images(50), **words)
    assert list(merged["units"]) == [2, 3]
    assert abs(merged["loss_change"][0]) < 1e-6
    assert abs(merged["loss_change"][1]) > 1e-4
    assert abs(deleted["loss_change"][0]) > 1e-4
