"""Criteria that measure the loss without a unit: the oracle, and bandits that estimate it."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from scipy.stats import spearmanr

import tfprune
from tests import models
from tfprune import planning
from tfprune.criteria.sensitivity import bandit
from tfprune.statistics import sample

POLICIES = ["ucb1", "epsilon_greedy", "softmax", "thompson"]


def scores(model, data, criterion, granularity="filter", seed=0, **more):
    recipe = planning.Recipe.of(None, criterion=criterion, granularity=granularity, seed=seed)
    layers = recipe.bind(model, data=data, **more).scores().layers
    return {layer.kernel.layer.name: layer.scores for layer in layers}


@pytest.fixture(scope="module")
def planted():
    """A classifier whose hidden units matter from not at all (0) to most (11), and its data."""
    model = keras.Sequential(
        [
            keras.Input((12,)),
            keras.layers.Dense(12, activation="relu", name="hidden"),
            keras.layers.Dense(2, activation="softmax", name="head"),
        ]
    )
    strength = 0.2 * np.arange(12)[:, None] * [1, -1]
    model.set_weights([np.eye(12), np.zeros(12), strength, -strength.sum(axis=0) / 2])
    rng = np.random.default_rng(0)
    x = rng.random((256, 12)).astype("float32")
    chance = model(x).numpy()[:, 1]
    return model, (x, (rng.random(256) < chance).astype(int))


def test_oracle_by_hand():
    """loss = log(1 + exp(-margin)) for two classes, margin = w . x times the label's sign."""
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, activation="softmax", name="head")]
    )
    w = np.array([1.0, -2.0, 0.5])
    model.set_weights([np.stack([w, 0 * w], axis=1), np.zeros(2)])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(70, 3)).astype("float32"), rng.integers(0, 2, 70)

    def loss(weights):
        return np.log1p(np.exp(-(x @ weights) * (1 - 2 * y))).mean()

    found = scores(model, (x, y), "oracle", "weight")["head"].reshape(3, 2)
    expected = [loss(np.where(np.arange(3) == i, 0, w)) - loss(w) for i in range(3)]
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)
    np.testing.assert_array_equal(found[:, 1], 0)  # weights that are zero already


def test_oracle_finds_the_planted_order(planted):
    found = scores(*planted, "oracle")["hidden"]
    assert found[0] == 0
    assert spearmanr(found, np.arange(12))[0] > 0.95
    assert np.argmax(found) == 11


def test_oracle_of_a_coupled_channel_is_that_of_its_weights_together():
    model = models.cnn()
    x, y = models.images(16)
    found = scores(model, (x, y), "oracle", 'channel(normalise="none")')

    def loss():
        return float(keras.losses.sparse_categorical_crossentropy(y, model(x)).numpy().mean())

    usual, kernel = loss(), model.get_weights()
    head = model.get_layer("head").kernel
    value = head.numpy()
    value[3] = 0
    head.assign(value)
    np.testing.assert_allclose(found["pointwise"][3], loss() - usual, atol=1e-6)
    model.set_weights(kernel)


@pytest.mark.parametrize("policy", POLICIES)
def test_bandits_find_the_planted_order(planted, policy):
    found = scores(*planted, f"bandit({policy!r}, pulls=4)")["hidden"]
    truth = scores(*planted, "oracle")["hidden"]
    assert found[0] == 0
    assert spearmanr(found, truth)[0] > 0.8
    assert abs(found - truth)[:6].max() < 0.2 * truth.max()  # those that might go


@pytest.mark.parametrize("policy", POLICIES)
def test_equal_seeds_give_equal_scores(planted, policy):
    spec = f"bandit({policy!r}, batch=4)"
    first, again, other = (scores(*planted, spec, seed=s)["hidden"] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def fake(changes):
    """A trial that knows all changes, (units, examples), and notes what was tried."""
    tried = []

    def on(x, y):
        assert len(x) == len(y) == changes.shape[1]

        def look(arms, rows):
            tried.append((np.array(arms), rows))
            return changes[arms][:, rows]

        return look

    return SimpleNamespace(count=len(changes), on=on, tried=tried)


def test_a_score_is_the_mean_of_what_was_pulled():
    rng = np.random.default_rng(0)
    changes, weight = rng.random((7, 12)), rng.random(12)
    given = sample.Sample(np.zeros(12), np.zeros(12), weight)
    trial = fake(changes)
    found = bandit.score(trial, rng, given, pulls=2, batch=4)
    assert [len(arms) for arms, _ in trial.tried] == [7, 4, 4]  # all, then half in each round
    assert [rows for _, rows in trial.tried] == [slice(0, 4), slice(4, 8), slice(8, 12)]
    for unit in range(7):
        rows = np.concatenate([np.arange(12)[r] for arms, r in trial.tried if unit in arms])
        np.testing.assert_allclose(found[unit], (changes[unit] * weight)[rows].mean())


@pytest.mark.parametrize("policy", POLICIES)
def test_the_least_harmful_are_pulled_most(policy):
    rng = np.random.default_rng(0)
    changes = np.arange(20)[:, None] + rng.normal(0, 0.1, (20, 45))
    trial = fake(changes)
    given = sample.Sample(np.zeros(45), np.zeros(45), np.ones(45))
    bandit.score(trial, rng, given, policy=policy, pulls=8, batch=3)
    pulls = np.bincount(np.concatenate([arms for arms, _ in trial.tried]), minlength=20)
    assert pulls.min() >= 1
    assert pulls.sum() == 20 + 14 * 10
    assert pulls[:5].mean() > pulls[-5:].mean()


ARMS = bandit.Arms(np.array([1.0, 0.5, 0.0]), np.array([0.1, 0.2, 0.0]), np.array([4, 2, 1]))


def test_ucb1_by_hand():
    found = bandit.ucb1(ARMS, 2, np.random.default_rng(0))
    log = np.log(7)
    np.testing.assert_allclose(found, [1 + np.sqrt(log / 2), 0.5 + np.sqrt(log), np.sqrt(2 * log)])


def test_epsilon_greedy_by_hand():
    rng = np.random.default_rng(0)
    found = np.stack([bandit.epsilon_greedy(ARMS, 2, rng) for _ in range(5000)])
    explored = np.isinf(found)
    assert np.all(found[~explored.any(axis=1)] == ARMS.reward)
    # Of two places each is explored with probability 0.1, and any of three arms is as likely.
    shares = np.bincount(explored.sum(axis=1), minlength=3) / 5000
    np.testing.assert_allclose(shares, [0.81, 0.18, 0.01], atol=0.02)
    np.testing.assert_allclose(explored.mean(axis=0), 0.2 / 3, atol=0.015)


def test_softmax_by_hand():
    """The highest index falls on each arm with the probability of Boltzmann's distribution."""
    rng = np.random.default_rng(0)
    arms = bandit.Arms(np.array([0.2, 0.1, 0.0]), np.zeros(3), np.ones(3))
    best = [np.argmax(bandit.softmax(arms, 1, rng)) for _ in range(5000)]
    expected = np.exp([2, 1, 0]) / np.exp([2, 1, 0]).sum()
    np.testing.assert_allclose(np.bincount(best) / 5000, expected, atol=0.02)


def test_thompson_by_hand():
    rng = np.random.default_rng(0)
    draws = np.stack([bandit.thompson(ARMS, 2, rng) for _ in range(5000)])
    np.testing.assert_allclose(draws.mean(axis=0), ARMS.reward, atol=0.01)
    np.testing.assert_allclose(draws.std(axis=0), ARMS.error, atol=0.01)


def test_rewards_fill_the_unit_interval_and_errors_are_of_the_same_scale():
    """Changes 1, 3 (mean 2, deviation 1) and 10, 10 of two arms, pulled twice, one example each."""
    found = bandit._known(np.array([4.0, 20.0]), np.array([10.0, 200.0]), np.array([2, 2]), 1)
    np.testing.assert_allclose(found.reward, [1, 0])
    np.testing.assert_allclose(found.error, [np.sqrt(1 / 2) / 8, 0])
    np.testing.assert_array_equal(found.pulls, [2, 2])


def test_draws_are_in_proportion_and_weights_undo_it():
    rng = np.random.default_rng(0)
    loss = rng.exponential(size=50) ** 3
    value = rng.normal(1, 1, 50)
    means, seen = [], np.zeros(50)
    for seed in range(3000):
        rows, weight = sample.draw(loss, 3, 4, np.random.default_rng(seed))
        assert rows.shape == weight.shape == (12,)
        means.append((value[rows] * weight).mean())
        seen += np.bincount(rows, minlength=50)
    share = np.sqrt(loss - loss.min()) + 0.03 * np.sqrt((loss - loss.min()).mean())
    share /= share.sum()
    np.testing.assert_allclose(seen / seen.sum(), share, atol=0.002)
    np.testing.assert_allclose(np.mean(means), value.mean(), atol=4 * np.std(means) / 3000**0.5)


def test_each_mini_batch_has_easy_and_hard_examples():
    rows, _ = sample.draw(np.arange(100.0) ** 2, 4, 8, np.random.default_rng(0))
    for batch in rows.reshape(4, 8):
        assert batch.min() < 40
        assert batch.max() > 85


def test_equal_losses_draw_each_example_once():
    rows, weight = sample.draw(np.full(10, 0.3), 2, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(rows), np.arange(10))
    np.testing.assert_allclose(weight, 1)


@pytest.mark.parametrize("granularity", ["filter", "channel", "n_m(1, 4)"])
@pytest.mark.parametrize("criterion", ["oracle", "bandit(pulls=1, batch=2)"])
def test_models_are_pruned_by_them(criterion, granularity):
    model = models.cnn()
    words = {"criterion": criterion, "granularity": granularity, "data": models.images(8)}
    pruned = tfprune.prune(model, "sparsity:0.25", **words)
    before = [np.count_nonzero(w) for w in model.get_weights()]
    after = [np.count_nonzero(w) for w in pruned.get_weights()]
    assert sum(after) < sum(before)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bandit('ucb')", "unknown policy 'ucb'.*Did you mean ucb1"),
        ("bandit(pulls=0)", "pulls=0"),
        ("bandit(batch=0)", "batch=0"),
        ("bandit(epsilon=1)", "its options are policy, pulls, batch"),
    ],
)
def test_wrong_options(planted, spec, message):
    with pytest.raises(ValueError, match=message):
        scores(*planted, spec)


def test_a_loss_that_is_infinite_is_named(planted):
    model, data = planted

    def loss(y, outputs):
        return keras.ops.where(keras.ops.cast(y, "float32") > 0, np.inf, outputs[:, 0])

    first = int(np.argmax(data[1]))
    with pytest.raises(ValueError, match=f"example {first} is NaN or infinite"):
        scores(model, data, "bandit", loss=loss)
    with pytest.raises(ValueError, match="NaN or infinite, with nothing masked"):
        scores(model, data, "oracle", loss=loss)


@pytest.mark.parametrize("criterion", ["oracle", "bandit"])
def test_they_need_data(planted, criterion):
    with pytest.raises(ValueError, match="computed from data"):
        scores(planted[0], None, criterion)
