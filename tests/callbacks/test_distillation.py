"""Distillation, against the loss written out in NumPy."""

import keras
import numpy as np
import pytest

import tfprune

L = keras.layers


def network(last="softmax", seed=0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((6,)), L.Dense(5, kernel_regularizer="l2"), L.Dense(3, activation=last)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=last != "softmax")
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


def examples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(16, 6)).astype("f4"), rng.integers(0, 3, 16)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def logits(model, x, last):
    out = model(x).numpy().astype(np.float64)
    return np.log(out) if last == "softmax" else out


@pytest.mark.parametrize("last", ["softmax", "linear"])
def test_the_loss_is_that_of_the_paper(last):
    model, teacher, (x, y) = network(last), network(last, seed=1), examples()
    weight, temperature = 0.3, 2.0
    given, wanted = (logits(m, x, last) for m in (model, teacher))
    labels = -np.log(softmax(given)[np.arange(16), y]).mean()
    q, p = softmax(wanted / temperature), softmax(given / temperature)
    taught = temperature**2 * (q * np.log(q / p)).sum(-1).mean()
    penalty = 0.01 * np.square(model.layers[0].kernel.numpy()).sum()
    expected = (1 - weight) * labels + weight * taught + penalty
    teach = tfprune.Distillation(teacher, weight=weight, temperature=temperature)
    log = model.fit(x, y, batch_size=16, verbose=0, callbacks=[teach], validation_data=(x, y))
    assert log.history["loss"][0] == pytest.approx(expected, rel=1e-5)
    plain = model.evaluate(x, y, verbose=0)  # of the labels alone
    assert log.history["val_loss"][0] == pytest.approx(plain, rel=1e-6)


def test_its_own_teacher_is_the_model_before_anything_is_pruned():
    model, (x, y) = network(), examples()
    dense = [w.copy() for w in model.get_weights()]
    teach = tfprune.Distillation(weight=1.0)
    pruner = tfprune.Pruner("sparsity:0.5", schedule="one_shot")
    model.fit(x, y, epochs=30, verbose=0, callbacks=[pruner, teach])
    for kept, was in zip(teach._teacher.get_weights(), dense, strict=True):
        np.testing.assert_array_equal(kept, was)
    far = network()
    far.fit(x, y, epochs=30, verbose=0, callbacks=[tfprune.Pruner("sparsity:0.5", end=0)])
    dense_says, taught, untaught = (m.predict(x, verbose=0) for m in (teach._teacher, model, far))
    assert np.abs(taught - dense_says).mean() < np.abs(untaught - dense_says).mean()


def test_nothing_of_it_stays(tmp_path):
    model, (x, y) = network(), examples()
    model.fit(x, y, verbose=0, callbacks=[tfprune.Distillation()])
    assert "compute_loss" not in vars(model)
    log = model.fit(x, y, batch_size=16, verbose=0)
    model.save(tmp_path / "plain.keras")
    assert np.isfinite(log.history["loss"][0])
    keras.saving.load_model(tmp_path / "plain.keras")


def test_a_teacher_from_a_file(tmp_path):
    network(seed=1).save(tmp_path / "teacher.keras")
    teach = tfprune.Distillation(tmp_path / "teacher.keras")
    model, (x, y) = network(), examples()
    model.fit(x, y, verbose=0, callbacks=[teach])


def test_bad_input():
    with pytest.raises(ValueError, match="weight=2"):
        tfprune.Distillation(weight=2)
    with pytest.raises(ValueError, match="temperature=0"):
        tfprune.Distillation(temperature=0)
    x, y = examples()
    wide = keras.Sequential([keras.Input((6,)), L.Dense(4, activation="softmax")])
    with pytest.raises(ValueError, match="same classes"):
        network().fit(x, y, verbose=0, callbacks=[tfprune.Distillation(wide)])
    with pytest.raises(ValueError, match="needs a softmax"):
        network("sigmoid").fit(x, y, verbose=0, callbacks=[tfprune.Distillation()])
