"""Layers with trainable=False under callbacks that prune."""

import logging

import numpy as np
import pytest

import tfprune
from tests import models
from tfprune import masks
from tfprune.graph import kernels as k


def fit(model, **words):
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = models.images(32)
    pruner = tfprune.Pruner("sparsity:0.75", **words)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[pruner])


def test_a_frozen_model_is_an_error_and_stays_as_it_is():
    model = models.cnn()
    model.trainable = False
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"'cnn' is frozen.*set trainable = True") as error:
        fit(model)
    assert "tfprune.prune" in str(error.value)
    assert not masks.of(model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("words", [{}, {"protect": "head"}, {"granularity": "filter"}])
def test_frozen_layers_stay_dense_and_the_others_meet_the_target(caplog, words):
    model = models.cnn()
    model.get_layer("conv").trainable = False
    with caplog.at_level(logging.INFO, "tfprune"):
        fit(model, **words)
    assert "left dense: cnn/conv/kernel" in caplog.text
    dense = {"conv", words.get("protect")}
    for kernel in k.find(model)[0]:
        if kernel.layer.name in dense:
            assert np.all(kernel.read() != 0)
    pruned = [m for n, m in masks.of(model).items() if n.split("/")[-2] not in dense]
    unit = 16 if "granularity" in words else 1
    zeros = sum((~m).sum() for m in pruned)
    assert abs(zeros - 0.75 * sum(m.size for m in pruned)) <= unit


def test_one_that_trains_again_is_pruned():
    model = models.cnn()
    model.trainable = False
    model.trainable = True
    fit(model)
    assert "cnn/conv/kernel" in masks.of(model)
