"""First-order criteria and synaptic flow, by hand and by what happens to a network."""

import keras
import numpy as np
import pytest

import tfprune
from tests import models
from tfprune import criteria, granularity, statistics
from tfprune.calibration import Calibration
from tfprune.graph import kernels as k
from tfprune.planning import Recipe

L = keras.layers

WEIGHT = np.array([[3.0, -1.0], [-4.0, 2.0]])  # two inputs, two outputs
SLOPE = np.array([[0.5, 2.0], [1.0, 0.25]])  # w * slope: [[1.5, -2], [-4, 0.5]]


def score(criterion, spec="weight", **given):
    units = granularity.get(spec)
    method = criteria.get(criterion)
    everything = {"weight": WEIGHT, "unroll": lambda a: units("unroll", a), **given}
    inputs = {name: everything[name] for name in criteria.needs(method)}
    return criteria.score(method, units, inputs, WEIGHT.shape, "layer")


def test_grad():
    np.testing.assert_allclose(score("grad", grad=SLOPE), [1.5, 2, 4, 0.5])
    np.testing.assert_allclose(score("grad", "filter", grad=SLOPE), [2.75, 1.25])


def test_snip_is_of_the_gate_on_a_whole_unit():
    np.testing.assert_allclose(score("snip", grad=SLOPE), [1.5, 2, 4, 0.5])
    np.testing.assert_allclose(score("snip", "filter", grad=SLOPE), [2.5, 1.5])
    # a block that the edge cuts has no more than its weights
    np.testing.assert_allclose(score("snip", "block(4, 1)", grad=SLOPE), [2.5, 1.5])


def test_grasp_keeps_what_the_gradient_flow_needs():
    np.testing.assert_allclose(score("grasp", hessian_grad=SLOPE), [1.5, -2, -4, 0.5])
    np.testing.assert_allclose(score("grasp", "filter", hessian_grad=SLOPE), [-1.25, -0.75])


def test_movement_is_high_where_descent_leads_away_from_zero():
    np.testing.assert_allclose(score("movement", grad=SLOPE), [-1.5, 2, 4, -0.5])


def test_taylor_squares_what_whole_units_contribute_in_a_batch():
    batches = np.stack([SLOPE, -2 * SLOPE]) / np.sqrt(2)
    np.testing.assert_allclose(
        score("taylor", grad_batches=batches), np.square([1.5, 2, 4, 0.5]) * 2.5
    )
    np.testing.assert_allclose(
        score("taylor", "filter", grad_batches=batches), np.square([2.5, 1.5]) * 2.5
    )


def test_taylor_activation_is_normalised_in_each_layer():
    found = score("taylor_activation", "filter", output_taylor=np.array([3.0, 4.0]))
    np.testing.assert_allclose(found, [0.6, 0.8])
    found = score("taylor_activation", "filter", output_taylor=np.zeros(2))
    np.testing.assert_allclose(found, [0, 0])
    with pytest.raises(ValueError, match=r"no meaning for.*it has for filter and channel"):
        Recipe.of("sparsity:0.5", criterion="taylor_activation")


def network():
    """Returns a network that is smooth in its weights, and data."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((5,)), L.Dense(6, activation="tanh"), L.Dense(3, activation="softmax")]
    )
    rng = np.random.default_rng(3)
    return model, (rng.normal(size=(40, 5)).astype("float32"), rng.integers(0, 3, 40))


def moved(kernel, index, share, value):
    """Returns what `value()` is when a weight has lost this share of itself."""
    before = kernel.variable.numpy()
    array = before.copy()
    array[index] *= 1 - share
    kernel.variable.assign(array)
    result = value()
    kernel.variable.assign(before)
    return result


def scores(model, data, criterion, kernel):
    plan = Recipe.of("sparsity:0.5", criterion=criterion).bind(model, data=data)
    found = {layer.kernel.name: layer.scores for layer in plan.scores().layers}
    return found[kernel.name].reshape(kernel.shape)


def test_grasp_against_the_flow_without_a_weight():
    """Its score is half of what the flow loses for each share of a weight that goes."""
    model, data = network()
    kernels, _ = k.find(model)
    kernel = kernels[0]

    def flow():
        found = statistics.collect(["grad"], Calibration(model, data), kernels, {})["grad"]
        return sum(np.square(g.astype(float)).sum() for g in found.values())

    found = scores(model, data, "grasp", kernel)
    for index in [(0, 0), (1, 3), (4, 5)]:
        lost = (moved(kernel, index, -0.02, flow) - moved(kernel, index, 0.02, flow)) / 0.04
        np.testing.assert_allclose(found[index], lost / 2, rtol=0.02, atol=2e-5)


def test_snip_against_the_loss_with_a_gate():
    model, (x, y) = network()
    kernel = k.find(model)[0][0]

    def loss():
        p = model(x).numpy().astype(float)
        return -np.log(p[np.arange(len(y)), y]).mean()

    found = scores(model, (x, y), "snip", kernel)
    for index in [(0, 0), (2, 2), (4, 5)]:
        slope = (moved(kernel, index, 0.02, loss) - moved(kernel, index, -0.02, loss)) / 0.04
        np.testing.assert_allclose(found[index], abs(slope), rtol=0.02, atol=1e-5)


def test_movement_adds_up_over_the_updates_of_a_training():
    model, data = network()
    plan = Recipe.of("sparsity:0.5", criterion="movement").bind(model, data=data)

    def now():
        found = statistics.collect(["grad"], Calibration(model, data), plan.kernels, {})["grad"]
        return [(-x.read() * found[x.name]).ravel() for x in plan.kernels]

    first = now()
    for layer, expected in zip(plan.scores().layers, first, strict=True):
        np.testing.assert_allclose(layer.scores, expected, rtol=1e-5, atol=1e-8)
    for kernel in plan.kernels:
        kernel.variable.assign(kernel.variable * 0.5)
    second = now()
    for layer, a, b in zip(plan.scores().layers, first, second, strict=True):
        np.testing.assert_allclose(layer.scores, a + b, rtol=1e-4, atol=1e-7)


def test_movement_under_pruner_counts_every_update():
    model, (x, y) = network()
    model.compile("sgd", "sparse_categorical_crossentropy")
    kernel = k.find(model)[0][0]
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            found = statistics.collect(["grad"], Calibration(model, (x, y)), [kernel], {})
            seen.append(-kernel.read() * found["grad"][kernel.name])

    pruner = tfprune.Pruner(
        "sparsity:0.5", criterion="movement", data=(x, y), schedule="constant", end=2, frequency=1
    )
    model.fit(x, y, batch_size=10, epochs=1, verbose=0, callbacks=[Watch(), pruner])
    total = next(v for (name, *_), v in pruner._training.plan.memory.items() if name == kernel.name)
    # The masks are updated before each step until the third, where the schedule ends.
    np.testing.assert_allclose(total.reshape(kernel.shape), sum(seen[:3]), rtol=1e-4, atol=1e-7)


def thin():
    """Returns a network with one layer much wider than the others, where a cut is uneven."""
    keras.utils.set_random_seed(0)
    sizes = [32, 128, 128, 8, 8]
    layers = [L.Dense(n, use_bias=False) for n in sizes]
    return keras.Sequential([keras.Input((16,)), *layers, L.Dense(10, activation="softmax")])


def kept(model, **words):
    pruned = tfprune.prune(model, "sparsity:0.99", criterion="synflow", min_keep=0, **words)
    return [np.count_nonzero(kernel.read()) for kernel in k.find(pruned)[0]]


def test_synflow_collapses_no_layer_in_a_hundred_rounds():
    model = thin()
    assert min(kept(model, rounds=1)) == 0
    assert min(kept(model)) > 5


def test_synflow_needs_no_data():
    assert not statistics.needs_data(criteria.needs(criteria.get("synflow")))
    assert statistics.needs_data(criteria.needs(criteria.get("grad")))
    with pytest.raises(ValueError, match="'grad' is computed from data"):
        tfprune.prune(models.cnn(), "sparsity:0.5", criterion="grad")


def test_synflow_leaves_recurrent_kernels_dense():
    model, _ = models.kind("lstm")
    pruned = tfprune.prune(model, "sparsity:0.5", criterion="synflow", rounds=2)
    dense = {x.name: bool(x.read().all()) for x in k.find(pruned)[0]}
    assert list(dense.values()) == [True, True, False]
