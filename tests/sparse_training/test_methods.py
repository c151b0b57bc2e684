"""What defines each method, against its equations written out in NumPy.

One dense layer, all examples in each step, plain gradient descent: few enough lines to read beside
the paper.
"""

import math

import keras
import numpy as np
import pytest

import tfprune
from tests import models
from tfprune import masks, sparse_training
from tfprune.graph import kernels as k

RATE, STEPS, COUNT = 0.2, 12, 24
DUE = (0, 3, 6, 9)


class At:
    """A schedule that is due at some steps, of one sparsity."""

    def __init__(self, sparsity=0.5, due=DUE, end=-1):
        self.sparsity, self.due, self.end_step = sparsity, due, end

    def __call__(self, step):
        return step in self.due, self.sparsity


def problem():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 6)), rng.normal(size=(32, 4))
    return x.astype("f4"), y.astype("f4"), rng.normal(size=(6, 4)).astype("f4")


def gradient(weight):
    """The gradient of the mean squared error."""
    x, y, _ = problem()
    return 2 / y.size * x.T @ (x @ weight - y)


def trained(method, schedule=None, optimizer=None, steps=STEPS, **words):
    """Returns the weight and the mask that `Pruner` leaves."""
    x, y, start = problem()
    dense = keras.layers.Dense(4, use_bias=False)
    model = keras.Sequential([keras.Input((6,)), dense])
    dense.kernel.assign(start)
    model.compile(optimizer or keras.optimizers.SGD(RATE), "mse")
    pruner = tfprune.Pruner("sparsity:0.5", method=method, schedule=schedule or At(), **words)
    model.fit(x, y, batch_size=32, epochs=steps, shuffle=False, verbose=0, callbacks=[pruner])
    return dense.kernel.numpy(), masks.of(model)[k.find(model)[0][0].name]


def highest(score, count=COUNT // 2):
    """Returns where the highest are."""
    mask = np.zeros(score.size, bool)
    mask[np.argsort(-score, axis=None, kind="stable")[:count]] = True
    return mask.reshape(score.shape)


def check(found, weight, mask):
    np.testing.assert_array_equal(found[1], mask)
    np.testing.assert_allclose(found[0], weight, atol=2e-6)


def test_gradual_prunes_the_lowest_and_what_is_pruned_stays():
    weight, mask = problem()[2], np.ones((6, 4), bool)
    for step in range(STEPS):
        if step in DUE:
            mask = highest(np.where(mask, np.abs(weight), -1))
        weight = (weight * mask - RATE * gradient(weight * mask)) * mask
    check(trained("gradual"), weight, mask)


def test_dns_trains_what_is_pruned_and_splices_it_in_again():
    latent, mask, revived = problem()[2], np.ones((6, 4), bool), 0
    for step in range(STEPS):
        if step in DUE:
            before = mask
            mask = highest(np.abs(latent) / np.where(mask, 0.9, 1.1))
            revived += (mask & ~before).sum()
        latent = latent - RATE * gradient(latent * mask)
    assert revived
    check(trained("dns"), latent * mask, mask)


def test_movement_keeps_what_moves_away_from_zero():
    latent, mask, score = problem()[2], np.ones((6, 4), bool), np.zeros((6, 4))
    for step in range(STEPS):
        if step in DUE[1:]:
            mask = highest(score)
        grad = gradient(latent * mask)
        score = score - grad * latent  # straight through the mask
        latent = latent - RATE * grad * mask
    check(trained("movement", At(due=DUE[1:])), latent * mask, mask)


def test_soft_movement_decides_at_every_step():
    latent, mask, score = problem()[2], np.ones((6, 4), bool), np.zeros((6, 4))
    threshold, between = -np.inf, 0
    for step in range(8):
        if step == 3:
            mask = highest(score)
            threshold = score[~mask].max()
        grad = gradient(latent * mask)
        score = score - grad * latent
        latent = latent - RATE * grad * mask
        between += (mask != (score > threshold)).sum()
        mask = score > threshold
    assert between
    mask = highest(score) if mask.sum() != COUNT // 2 else mask
    weight, found = trained("movement(kind='soft')", At(due=(3,)), steps=8)
    assert found.sum() == COUNT // 2  # whatever was decided in between, it ends at the target
    agree = found & mask
    np.testing.assert_allclose(weight[agree], latent[agree], atol=2e-6)


def test_rigl_drops_by_magnitude_and_grows_by_gradient():
    weight, grown = problem()[2], 0
    mask = highest(np.abs(weight))
    weight, grad = weight * mask, None
    for step in range(STEPS):
        if step in DUE[1:]:
            count = int(0.3 / 2 * (1 + math.cos(math.pi * step / 9)) * mask.sum())
            keeps = highest(np.where(mask, np.abs(weight), -1), int(mask.sum()) - count)
            new = keeps | highest(np.where(keeps, -1, np.abs(grad)), count)
            grown += (new & ~mask).sum()
            mask = new
            weight = weight * mask
        grad = gradient(weight)
        weight = (weight - RATE * grad) * mask
    assert grown
    check(trained("rigl", At(end=9)), weight, mask)


def test_regrown_weights_begin_without_momentum():
    weight, mask = problem()[2], highest(np.abs(problem()[2]))
    weight, speed, grad = weight * mask, np.zeros((6, 4)), None
    for step in range(STEPS):
        if step == 6:
            keeps = highest(np.where(mask, np.abs(weight), -1), 12 - int(0.3 * 12))
            mask = keeps | highest(np.where(keeps, -1, np.abs(grad)), int(0.3 * 12))
            weight = weight * mask
        grad = gradient(weight)
        speed = 0.9 * speed - 0.05 * grad * mask
        weight = (weight + speed) * mask
    sgd = keras.optimizers.SGD(0.05, momentum=0.9)
    check(trained("rigl", At(due=(0, 6)), sgd), weight, mask)


def test_set_drops_by_magnitude_and_grows_anywhere():
    grown = set()
    for seed in range(8):
        first = highest(np.abs(problem()[2]))
        _, mask = trained("set(drop=0.5)", At(due=(0, 1)), steps=2, seed=seed)
        assert mask.sum() == 12
        size = np.abs(problem()[2])
        weight = problem()[2] * first
        weight = (weight - RATE * gradient(weight)) * first
        size = np.where(first, np.abs(weight), -1)
        assert mask[highest(size, 6)].all()  # the larger half stays
        grown |= set(np.flatnonzero(mask & ~highest(size, 6)))
    assert len(grown) > 12  # the others come anywhere


def test_acdc_lets_all_weights_train_between_compressed_phases():
    schedule = "alternating(phases=3)"
    weight, mask, chosen = problem()[2], np.ones((6, 4), bool), []
    for step in range(48):
        phase = min(step * 3 // 45, 2)
        if step in (0, 30):
            mask = highest(np.abs(weight))
            chosen.append(mask)
        elif phase == 1:
            mask = np.ones((6, 4), bool)
        weight = (weight * mask - RATE * gradient(weight * mask)) * mask
    assert (chosen[0] != chosen[1]).any()
    check(trained("acdc", schedule, end=45, steps=48), weight, mask)


@pytest.mark.parametrize("kind", [1, 2])
def test_greg_drives_out_what_it_will_prune(kind):
    weight, doomed = problem()[2], None
    for step in range(STEPS):
        if step in DUE:
            progress = step / 9
            if kind == 2 and progress < 0.5:
                doomed = np.ones((6, 4), bool)
            elif doomed is None or doomed.all():
                doomed = ~highest(np.abs(weight))
            strength = 0.5 * progress * (0.01 if doomed.all() else 1)
        if step < 9:
            weight = weight - RATE * (gradient(weight) + strength * doomed * weight)
        else:
            weight = (weight * ~doomed - RATE * gradient(weight * ~doomed)) * ~doomed
    found = trained(f"greg(kind={kind}, strength=0.5)", At(end=9))
    check(found, weight, ~doomed)


def test_str_shrinks_and_learns_the_thresholds():
    latent, mask, alpha = problem()[2], np.ones((6, 4), bool), 1e-6

    def seen():
        return np.sign(latent) * np.maximum(np.abs(latent) - alpha, 0) * mask

    for step in range(STEPS):
        if step in DUE:
            mask = highest(np.abs(latent))
            alpha *= (np.abs(latent) / alpha)[~mask].max()
        there = gradient(seen()) * mask
        before = seen()
        alpha *= np.exp(RATE * alpha * np.sum(there * np.sign(before)))
        # The weight that the optimizer changes is the one seen; the latent one moves as far.
        after = before - RATE * there
        latent = latent + (after - seen()) * mask
    weight, found = trained("str", At())
    np.testing.assert_array_equal(found, mask)
    np.testing.assert_allclose(weight[mask], seen()[mask], atol=1e-4)


@pytest.mark.parametrize("what", ["weights", "rate"])
def test_rewinding(what):
    """Two cycles of 7 steps from step 2 on, the second with what was set back."""
    schedule = keras.optimizers.schedules.PolynomialDecay(RATE, 7, 0.0)
    rates = [RATE * (1 - step / 7) for step in range(7)]
    weight, mask = problem()[2], np.ones((6, 4), bool)
    kept = weight
    for step in range(7):
        if step == 2:
            kept = weight
        weight = weight - rates[step] * gradient(weight)
    mask = highest(np.abs(weight))
    weight = (kept if what == "weights" else weight) * mask
    for step in range(2, 7):
        weight = (weight - rates[step] * gradient(weight)) * mask
    method = f"rewind(to=2, what={what!r})"
    found = trained(method, "one_shot", keras.optimizers.SGD(schedule))
    check(found, weight, mask)
    assert tfprune.Pruner("sparsity:0.5", method=method).cycle(12, 1) == 7


def test_rounds_of_rewinding_share_the_training():
    pruner = tfprune.Pruner(
        "sparsity:0.5", method="rewind(to='1ep')", schedule="iterative(3, 'geometric')"
    )
    assert pruner.cycle(13, 10) == 40  # 40 steps, and three times 30
    model = models.tiny()
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = models.images()
    log = model.fit(x, y, batch_size=len(x) // 2, epochs=14, verbose=0, callbacks=[pruner])
    levels = sorted(set(np.round(log.history["sparsity"], 2)))
    np.testing.assert_allclose(levels, [0, 0.21, 0.37, 0.5], atol=0.011)


def test_every_name_is_tested_here_and_works_with_defaults():
    known = {"acdc", "dns", "gradual", "greg", "movement", "rewind", "rigl", "set", "str"}
    assert set(sparse_training.names()) == known


FITTED = {
    "weight": sparse_training.names(),
    "block(2, 2)": ["dns", "movement", "rigl"],
    "filter": ["acdc", "set"],
    "n_m(2, 4)": ["rewind"],
    "channel": ["greg"],
}


@pytest.mark.parametrize("name", sparse_training.names())
@pytest.mark.parametrize("granularity", FITTED)
def test_granularities_are_met_or_refused(name, granularity):
    words = {"method": name, "granularity": granularity}
    try:
        pruner = tfprune.Pruner("sparsity:0.5", **words)
    except ValueError as error:
        assert "contradicts" in str(error) or "needs" in str(error)
        assert name not in ("gradual", "greg", *FITTED[granularity])
        return
    if name not in FITTED[granularity]:
        return
    model = models.tiny()
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = models.images()
    model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[pruner])
    kernels, held = pruner.plan(model).kernels, masks.of(model)
    pruned = sum((~held[x.name]).sum() for x in kernels) / sum(x.size for x in kernels)
    assert pruned == pytest.approx(0.5, abs=0.08)
    assert not any(x.variable.numpy()[~held[x.name]].any() for x in kernels)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"method": "rig"}, "Did you mean rigl"),
        ({"method": "rigl(fraction=1)"}, "its options are drop"),
        ({"method": "str", "allocation": "uniform"}, "learns how layers share"),
        ({"method": "movement(kind='firm')"}, "kind of movement"),
        ({"method": "movement(kind='soft')", "allocation": "erk"}, "one threshold"),
        ({"method": "greg(kind=3)"}, "growing regularisation"),
        ({"method": "greg(strength=0)"}, "above 0"),
        ({"method": "rewind(what='all')"}, "thing to rewind"),
        ({"method": "rewind(to='soon')"}, "no moment"),
        ({"method": "rigl", "granularity": "channel"}, "contradicts"),
    ],
)
def test_wrong_words(words, text):
    with pytest.raises(ValueError, match=text):
        tfprune.Pruner("sparsity:0.5", **words)


def test_a_schedule_that_contradicts_rewinding():
    with pytest.raises(ValueError, match="contradicts"):
        trained("rewind", "polynomial")
    with pytest.raises(ValueError, match="not before the end of a cycle"):
        trained("rewind(to=20)", "one_shot")
