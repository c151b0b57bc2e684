"""Clustered copies: independent, plain when saved, and sharing on when copied or shrunk."""

import zipfile

import keras
import numpy as np
import pytest

import tfprune
from tests import models
from tfprune import masks, sharing
from tfprune.graph import kernels as k


def most(model):
    return max(len(np.unique(x.read())) for x in k.find(model)[0])


def fit(model):
    x, y = models.images()
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(x, y, verbose=0)
    return model


def test_the_original_is_untouched():
    model = models.tiny()
    before = model.get_weights()
    clustered = tfprune.cluster_weights(model, 8)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not sharing.of(model)
    assert most(clustered) == most(fit(clustered)) == 8
    assert tfprune.cluster_weights(model, 8, in_place=True) is model
    assert most(model) == 8


@pytest.mark.parametrize("prune_first", [True, False])
def test_pruned_and_clustered_it_stays_both(prune_first):
    def prune(model):
        return tfprune.prune(model, "sparsity:0.6", allocation="uniform")

    def cluster(model):
        return tfprune.cluster_weights(model, 8)

    model = models.tiny()
    model = cluster(prune(model)) if prune_first else prune(cluster(model))
    zeros = {x.name: x.read() == 0 for x in k.find(model)[0]}
    assert most(fit(model)) <= 8 + (not prune_first)
    for kernel in k.find(model)[0]:
        np.testing.assert_array_equal(kernel.read() == 0, zeros[kernel.name])
    assert tfprune.measure(model)["sparsity"] == pytest.approx(0.6, abs=0.01)


def test_a_smaller_model_goes_on_sharing():
    model = tfprune.prune(models.cnn(), "params:0.6", granularity="channel")
    clustered = tfprune.cluster_weights(model, 6, per="channel")
    x, _ = models.images(4)
    small = tfprune.shrink(clustered)
    name = "cnn/conv/kernel"
    assert sharing.of(small)[name].shape != sharing.of(clustered)[name].shape
    np.testing.assert_allclose(small(x), clustered(x), rtol=1e-4, atol=1e-6)
    fit(small)
    for kernel in k.find(small)[0]:
        columns = kernel.read().reshape(-1, kernel.shape[-1])
        assert max(len(np.unique(column)) for column in columns.T) <= 6


def test_the_saved_file_is_plain_keras_and_goes_on(tmp_path):
    pruned = tfprune.prune(models.tiny(), "sparsity:0.5")
    clustered = fit(tfprune.cluster_weights(pruned, 8))
    clustered.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as file:
        assert b"tfprune" not in file.read("config.json")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert not masks.of(loaded)
    assert not sharing.of(loaded)
    again = tfprune.cluster_weights(loaded, 8)  # what it has, exactly
    for a, b in zip(clustered.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert most(fit(again)) <= 8
    assert tfprune.measure(again)["sparsity"] == tfprune.measure(clustered)["sparsity"]
