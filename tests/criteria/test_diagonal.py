"""Second-order criteria with a diagonal, by hand and against what removal does to the loss."""

import keras
import numpy as np
import pytest

from tests.criteria.test_first_order import WEIGHT, score
from tfprune.planning import Recipe

L = keras.layers

CURVATURE = np.array([[2.0, 4.0], [-1.0, 0.5]])


def test_obd():
    np.testing.assert_allclose(score("obd", hessian_diag=CURVATURE), [9, 2, 8, 1])
    np.testing.assert_allclose(score("obd", "filter", hessian_diag=CURVATURE), [8.5, 1.5])


def test_fisher():
    np.testing.assert_allclose(score("fisher", grad_sq=np.abs(CURVATURE)), [9, 2, 8, 1])
    assert score("fisher", grad_sq=np.abs(CURVATURE)).shape == (WEIGHT.size,)


def test_obd_ranks_by_what_removal_costs_at_a_minimum():
    """For a linear model and squared errors the second order is all there is: h = 2 E[x^2]."""
    rng = np.random.default_rng(0)
    # Whitened inputs of different scales: the Hessian is its diagonal, Hutchinson has no error.
    basis, _ = np.linalg.qr(rng.normal(size=(64, 6)))
    scales = np.array([0.1, 3.0, 1.0, 0.3, 2.0, 0.5])
    x = (basis * scales * 8).astype("float32")
    w = rng.normal(size=(6, 1))
    y = x @ w
    model = keras.Sequential([keras.Input((6,)), L.Dense(1, use_bias=False)])
    model.compile(loss="mse")
    kernel = model.layers[0].kernel
    kernel.assign(w)
    plan = Recipe.of("sparsity:0.5", criterion="obd").bind(model, data=(x, y))
    (layer,) = plan.scores().layers
    costs = []
    for i in range(6):
        without = w.copy()
        without[i] = 0
        costs.append(np.square(x @ without - y).mean())
    np.testing.assert_allclose(layer.scores, costs, rtol=1e-3)


def test_probes_are_an_option_of_obd():
    Recipe.of("sparsity:0.5", criterion="obd(probes=2)")
    with pytest.raises(ValueError, match="its options are probes"):
        Recipe.of("sparsity:0.5", criterion="obd(prob=2)")
