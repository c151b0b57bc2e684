"""Clustering of weights: each against SciPy or scikit-learn, and what all of them must do."""

import warnings

import keras
import numpy as np
import pytest
from scipy.cluster import hierarchy
from scipy.spatial import distance
from sklearn import cluster, metrics

import tfprune
from tests import models, surgeons
from tfprune import criteria
from tfprune.criteria.clustering import kmeans
from tfprune.graph import kernels as k
from tfprune.planning import Recipe

L = keras.layers
SEED = int(np.random.default_rng(0).integers(2**31))  # what `score` draws for scikit-learn

# Whatever makes one order of representatives; fpgm asks each unit by itself.
ORDERS = (
    *("kmeans", "agglomerative", "cup", "spectral", "dbscan", "hdbscan"),
    *("coreset", "coreset('sensitivity')"),
)
# Those that say what is redundant.
DECIDED = (
    *("kmeans(clusters=0.5)", "kmeans('silhouette')", "spectral(clusters=0.5)", "hdbscan"),
    *("agglomerative(threshold=0.4)", "cup(threshold=2.0)", "dbscan(eps=2.0)"),
)
EVERY = ("fpgm", "fpgm('l1')", "fpgm('cosine')", *ORDERS, *DECIDED[:-4])


def score(spec, units, seed=0):
    """Returns the scores of the units, as if each had one value a two-dimensional kernel."""
    method = criteria.get(spec)
    given = {"units": units, "kernel_norms": np.abs(units), "rng": np.random.default_rng(seed)}
    return method("score", **{name: given[name] for name in criteria.needs(method)})


def groups(count=4, members=4, size=30, seed=0):
    """Returns tight groups of units, far from each other, (count * members, size)."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(5 * rng.normal(size=(count, size)), members, axis=0)
    return centres + rng.normal(size=centres.shape)


def test_fpgm():
    units = groups()
    for name, metric in (("l2", "euclidean"), ("l1", "cityblock"), ("cosine", "cosine")):
        expected = distance.cdist(units, units, metric).sum(axis=1)
        np.testing.assert_allclose(score(f"fpgm({name!r})", units), expected)


def test_the_distances_of_fpgm_differ():
    units = np.array([[0.0, 3], [0, -2], [-1, 2], [3, -2]])
    np.testing.assert_allclose(score("fpgm('l1')", units), [15, 13, 15, 19])
    first = [score(f"fpgm({name!r})", units).argmin() for name in ("l1", "l2", "cosine")]
    assert first == [1, 2, 0]


def test_kmeans_keeps_what_scikit_learn_finds_nearest_to_each_centroid():
    for units in (groups(), np.random.default_rng(1).normal(size=(20, 6))):
        found = cluster.KMeans(5, random_state=SEED).fit(units)
        nearest = metrics.pairwise_distances_argmin(found.cluster_centers_, units)
        for spec in ("kmeans(clusters=5)", f"kmeans({5 / len(units)})"):
            np.testing.assert_array_equal(np.flatnonzero(score(spec, units) >= 0), sorted(nearest))


def test_many_units_are_clustered_by_mini_batches(monkeypatch):
    monkeypatch.setattr(kmeans, "_MANY", 10)
    units = groups()
    labels = (
        cluster.MiniBatchKMeans(6, init="random", n_init=1, random_state=SEED).fit(units).labels_
    )
    kept = score("kmeans(clusters=6)", units) >= 0
    assert sorted(labels[kept]) == sorted(set(labels))


def test_the_first_rung_merges_the_nearest_pair():
    """Seven clusters of eight units: one goes, and its score is the distance to the other."""
    units = np.random.default_rng(2).normal(size=(8, 5))
    labels = cluster.KMeans(7, random_state=SEED).fit(units).labels_
    (pair,) = [np.flatnonzero(labels == label) for label in range(7) if sum(labels == label) > 1]
    scores = score("kmeans", units)
    assert scores.argmin() in pair
    np.testing.assert_allclose(scores.min(), np.linalg.norm(np.subtract(*units[pair])))


def test_silhouette_finds_the_planted_number_of_clusters():
    units = groups(count=4)
    rungs = (14, 12, 10, 8, 6, 4, 2)
    for name, partition in (
        ("kmeans", lambda n: cluster.KMeans(n, random_state=SEED).fit(units)),
        ("spectral", lambda n: spectral(units, n)),
    ):
        means = [metrics.silhouette_score(units, partition(n).labels_) for n in rungs]
        scores = score(f"{name}(clusters='silhouette')", units)
        assert rungs[np.argmax(means)] == (scores >= 0).sum()
        assert (scores >= 0).sum() == 4
        assert sorted(np.flatnonzero(scores >= 0) // 4) == [0, 1, 2, 3]


def spectral(units, count, gamma=None):
    gamma = gamma or 1 / metrics.pairwise_distances(units, metric="sqeuclidean").mean()
    method = cluster.SpectralClustering(count, gamma=gamma, n_init=1, random_state=SEED)
    return method.fit(units)


def test_spectral():
    units = groups()
    for spec, gamma in (("spectral(clusters=7)", None), ("spectral(clusters=7, gamma=0.01)", 0.01)):
        labels = spectral(units, 7, gamma).labels_
        means = np.stack([units[labels == label].mean(axis=0) for label in range(7)])
        nearest = [
            min(np.flatnonzero(labels == i), key=lambda u, i=i: np.linalg.norm(units[u] - means[i]))
            for i in range(7)
        ]
        np.testing.assert_array_equal(np.flatnonzero(score(spec, units) >= 0), sorted(nearest))


@pytest.mark.parametrize("linkage", ["average", "complete", "single", "weighted"])
def test_agglomerative_keeps_the_largest_of_each_flat_cluster(linkage):
    units = groups(count=6, members=3)
    norms = np.linalg.norm(units, axis=1)
    tree = hierarchy.linkage(units, linkage, metric="cosine")
    for threshold in np.quantile(tree[:, 2], [0.0, 0.3, 0.7, 0.9]):
        labels = hierarchy.fcluster(tree, threshold * (1 + 1e-9), "distance")
        spec = f"agglomerative({threshold * (1 + 1e-9)}, {linkage!r})"
        kept = np.flatnonzero(score(spec, units) >= 0)
        largest = [max(np.flatnonzero(labels == i), key=norms.__getitem__) for i in set(labels)]
        np.testing.assert_array_equal(kept, sorted(largest))
        by_height = score(f"agglomerative(linkage={linkage!r})", units) > threshold * (1 + 1e-9)
        np.testing.assert_array_equal(np.flatnonzero(by_height), kept)


def two_layers():
    return keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            L.Conv2D(8, 3, use_bias=False, name="first"),
            L.Conv2D(12, 3, use_bias=False, name="second"),
            L.GlobalAveragePooling2D(),
            L.Dense(4, name="head"),
        ]
    )


@pytest.mark.parametrize("granularity", ["channel", "filter"])
def test_cup_by_the_norms_of_what_comes_in_and_goes_out(granularity):
    model = two_layers()
    first, second, head = (kernel.read() for kernel in k.find(model)[0])
    first, second = (np.linalg.norm(kernel, axis=(0, 1)) for kernel in (first, second))
    features = [first.T, second.T]
    if granularity == "channel":
        features = [np.hstack([first.T, second]), np.hstack([second.T, np.abs(head)])]
    plan = Recipe.of(None, criterion="cup", granularity=granularity).bind(model)
    for layer, points in zip(plan.scores().layers, features, strict=False):
        norms, tree = np.linalg.norm(points, axis=1), hierarchy.linkage(points, "ward")
        for threshold in tree[::3, 2] * (1 + 1e-6):
            labels = hierarchy.fcluster(tree, threshold, "distance")
            largest = [max(np.flatnonzero(labels == i), key=norms.__getitem__) for i in {*labels}]
            np.testing.assert_array_equal(np.flatnonzero(layer.scores > threshold), sorted(largest))


def test_cup_prunes_a_layer_of_similar_filters_more():
    model = two_layers()
    surgeons.randomise(model)
    for name, axis in (("second", 3), ("head", 0)):
        kernel = model.get_layer(name).kernel
        value = kernel.numpy()
        kernel.assign(value.take([0], axis) + 0.01 * value)
    small = tfprune.shrink(
        tfprune.prune(model, "sparsity:0.5", criterion="cup", granularity="channel")
    )
    assert small.get_layer("second").filters < 6
    assert small.get_layer("first").filters > 4


@pytest.mark.parametrize("min_samples", [1, 2, 3, 5])
def test_dbscan_at_every_eps(min_samples):
    """Of the core points of each cluster one stays, and all points that are none."""
    rng = np.random.default_rng(3)
    units = np.vstack([groups(count=3, members=5, size=8), 9 * rng.normal(size=(5, 8))])
    order = score(f"dbscan(min_samples={min_samples})", units)
    for eps in np.quantile(metrics.pairwise_distances(units), [0.1, 0.15, 0.2, 0.3]):
        found = cluster.DBSCAN(eps=eps, min_samples=min_samples).fit(units)
        core = np.isin(np.arange(len(units)), found.core_sample_indices_)
        kept = score(f"dbscan({eps}, {min_samples})", units) >= 0
        assert sorted(found.labels_[kept & core]) == sorted(set(found.labels_[core]))
        assert kept[~core].all()
        np.testing.assert_array_equal(kept, order > eps)
    assert not kept.all()


@pytest.mark.parametrize("options", [{}, {"min_cluster_size": 4}, {"min_samples": 3}])
def test_hdbscan_keeps_medoids_and_noise(options):
    units = np.vstack(
        [groups(count=3, members=5), 20 * np.random.default_rng(4).normal(size=(4, 30))]
    )
    found = cluster.HDBSCAN(**options, store_centers="medoid", copy=True).fit(units)
    words = ", ".join(f"{name}={value}" for name, value in options.items())
    scores = score(f"hdbscan({words})" if words else "hdbscan", units)
    medoids = [np.flatnonzero((units == m).all(axis=1))[0] for m in found.medoids_]
    expected = sorted({*medoids, *np.flatnonzero(found.labels_ < 0)})
    assert medoids
    np.testing.assert_array_equal(np.flatnonzero(scores >= 0), expected)
    nearest = metrics.pairwise_distances(units, found.medoids_).min(axis=1)
    gone = np.setdiff1d(np.arange(len(units)), expected)
    np.testing.assert_array_equal(gone[np.argsort(scores[gone])], gone[np.argsort(nearest[gone])])


def shares(spec, units, draws=600):
    """Returns how often each unit is drawn in each place, (places, units)."""
    orders = np.stack([np.argsort(-score(spec, units, seed)) for seed in range(draws)])
    return np.stack([np.bincount(place, minlength=len(units)) for place in orders.T]) / draws


def test_the_coreset_is_drawn_as_k_means_plus_plus_seeds():
    """On a line: the first from all alike, the second by the squared distance to the first."""
    line = np.array([[1.0], [2.0], [4.0]])
    drawn = shares("coreset", line)
    np.testing.assert_allclose(drawn[0], 1 / 3, atol=0.06)
    second = np.mean([[0, 1 / 10, 9 / 10], [1 / 5, 0, 4 / 5], [9 / 13, 4 / 13, 0]], axis=0)
    np.testing.assert_allclose(drawn[1], second, atol=0.06)


def test_the_coreset_is_drawn_by_sensitivity():
    line = np.array([[1.0], [2.0], [6.0]])  # squared distances to the mean: 4, 1, 9
    expected = 1 / 6 + np.array([4, 1, 9]) / 28
    np.testing.assert_allclose(shares("coreset('sensitivity')", line)[0], expected, atol=0.06)


@pytest.mark.parametrize("kind", ["kmeans", "sensitivity"])
def test_a_coreset_scores_by_the_distance_to_what_was_drawn_before(kind):
    units = np.random.default_rng(5).normal(size=(12, 4))
    scores = score(f"coreset({kind!r})", units)
    order = np.argsort(-scores)
    heights = [
        distance.cdist(units[order[i : i + 1]], units[order[:i]]).min() for i in range(1, 12)
    ]
    heights = np.array([np.linalg.norm(units[order[0]]), *heights])
    np.testing.assert_allclose(scores[order], np.maximum.accumulate(heights[::-1])[::-1], rtol=1e-6)


@pytest.mark.parametrize("spec", ORDERS)
def test_planted_copies_go_first(spec):
    """Of each set of equal units one stays until all other copies are gone."""
    units = np.random.default_rng(6).normal(size=(10, 15))
    units = units[[0, 1, 2, 3, 3, 4, 5, 6, 6, 6, 7, 8, 9]]
    first = set(np.argsort(score(spec, units))[:3].tolist())
    assert len(first & {3, 4}) == 1
    assert len(first & {7, 8, 9}) == 2


@pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])
def test_fpgm_takes_copies_for_the_middle_of_equally_distant_units(distance):
    units = np.eye(8)[[0, 1, 2, 3, 3, 4, 5, 6, 7]]
    scores = score(f"fpgm({distance!r})", units)
    assert set(np.flatnonzero(scores == scores.min())) == {3, 4}


def added():
    """Two convolutions added: channel 5 is 4 in both; 2 is 0 in the first and 1 in the second."""
    x = keras.Input((6, 6, 3))
    a = L.Conv2D(8, 3, use_bias=False, name="a")(x)
    b = L.Conv2D(8, 3, use_bias=False, name="b")(x)
    y = L.Dense(4, name="head")(L.GlobalAveragePooling2D()(L.Add()([a, b])))
    model = keras.Model(x, y)
    surgeons.randomise(model)
    for name, rows in (("a", (0, 1, 0, 3, 4, 4, 6, 7)), ("b", (0, 1, 1, 3, 4, 4, 6, 7))):
        kernel = model.get_layer(name).kernel
        kernel.assign(kernel.numpy()[..., rows])
    head = model.get_layer("head").kernel
    head.assign(head.numpy()[[0, 1, 2, 3, 4, 4, 6, 7]])
    return model


@pytest.mark.parametrize("spec", ORDERS)
def test_a_channel_is_a_copy_only_if_it_is_one_in_all_coupled_layers(spec):
    recipe = Recipe.of(None, criterion=spec, granularity="channel")
    (layer,) = recipe.bind(added()).scores().layers
    first, second = np.argsort(layer.scores)[:2]
    assert first in (4, 5)
    assert layer.scores[second] - layer.scores[first] > 1e-3


@pytest.mark.parametrize("spec", ["fpgm", *ORDERS])
def test_masks_are_nested(spec):
    plan = Recipe.of(None, criterion=spec, granularity="filter").bind(models.cnn())
    scores = plan.scores()
    milder, harder = plan.masks(0.3, scores), plan.masks(0.6, scores)
    for name, mask in harder.items():
        assert not (mask & ~milder[name]).any()


@pytest.mark.parametrize("spec", ["kmeans", "spectral", "coreset", "coreset('sensitivity')"])
def test_what_goes_is_near_to_what_stays(spec):
    """A score is no less than the distance to the nearest unit that goes later."""
    units = groups()
    scores = score(spec, units)
    order = np.argsort(scores)
    for place, unit in enumerate(order[:-1]):
        near = distance.cdist(units[unit : unit + 1], units[order[place + 1 :]]).min()
        assert scores[unit] >= near * (1 - 1e-6)


def test_a_given_number_of_clusters_is_what_target_redundant_leaves():
    pruned = tfprune.prune(
        two_layers(), "redundant", criterion="kmeans(clusters=0.5)", granularity="channel"
    )
    small = tfprune.shrink(pruned)
    assert [small.get_layer(name).filters for name in ("first", "second")] == [4, 6]


@pytest.mark.parametrize("spec", [*ORDERS, *DECIDED[:4]])
def test_the_seed_decides(spec):
    units = np.random.default_rng(7).normal(size=(24, 10))
    np.testing.assert_array_equal(score(spec, units, 3), score(spec, units, 3))
    if "coreset" in spec:
        assert np.any(score(spec, units, 3) != score(spec, units, 4))


RNG = np.random.default_rng(8)
ODD = {
    "one": RNG.normal(size=(1, 9)),
    "two": RNG.normal(size=(2, 9)),
    "equal": np.ones((6, 9), "float32"),
    "zero": np.zeros((6, 9)),
    "nearly equal": 1 + 1e-9 * RNG.normal(size=(9, 4)),
    "equal but for rounding": 1 + 1e-13 * RNG.normal(size=(9, 4)),
    "one value": RNG.normal(size=(6, 1)),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("spec", EVERY)
def test_odd_layers_simply_work(spec, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score(spec, ODD[kind])
    assert scores.shape == (len(ODD[kind]),)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("kind", ["equal", "zero"])
@pytest.mark.parametrize("spec", DECIDED)
def test_of_equal_units_all_but_one_are_redundant(spec, kind):
    assert (score(spec, ODD[kind]) < 0).sum() == 5
    assert (score(spec, ODD["one"]) >= 0).all()


@pytest.mark.parametrize("spec", [*ORDERS, "fpgm('cosine')"])
def test_zero_units_go_first(spec):
    units = groups()
    units[[2, 9]] = 0
    assert set(np.argsort(score(spec, units))[:2]) == {2, 9}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fpgm('euclidean')", "unknown distance 'euclidean'.*Known: cosine, l1, l2"),
        ("fpgm('cosin')", "Did you mean cosine"),
        ("kmeans(clusters=17)", "clusters=17 are more than its 16 units.*clusters=0.5"),
        ("spectral(17)", "clusters=17 are more than its 16 units"),
        ("kmeans(clusters=0)", "clusters=0: a number of 1 or more"),
        ("kmeans(clusters=1.5)", "clusters=1.5: a number of 1 or more"),
        ("kmeans(clusters=True)", "clusters=True: a number of 1 or more"),
        ("kmeans('silhouete')", "Did you mean silhouette"),
        ("spectral(gamma=0)", "gamma=0: a number above 0"),
        ("agglomerative(linkage='averge')", "unknown linkage 'averge'. Did you mean average"),
        ("agglomerative(0)", "threshold=0: a number above 0"),
        ("agglomerative('much')", "threshold='much': a number above 0"),
        ("cup(-1)", "threshold=-1: a number above 0"),
        ("dbscan(min_samples=0)", "min_samples=0: a number of units, 1 or more"),
        ("dbscan(min_samples=1.5)", "min_samples=1.5: a number of units"),
        ("hdbscan(1)", "min_cluster_size=1: a number of units, 2 or more"),
        ("hdbscan(min_samples=0)", "min_samples=0: a number of units, 1 or more"),
        ("coreset('kmean')", "unknown kind 'kmean'. Did you mean kmeans"),
    ],
)
def test_bad_words(spec, message):
    with pytest.raises(ValueError, match=message):
        score(spec, groups())


@pytest.mark.parametrize("spec", ["agglomerative(1.99)", "cup(1e9)", "dbscan(eps=1e9)"])
def test_a_threshold_that_keeps_nothing(spec):
    """Of one layer a unit stays; where that is so in every layer, it can't be meant."""
    assert (score(spec, groups()) >= 0).sum() == 1
    words = {"criterion": spec, "granularity": "channel"}
    with pytest.raises(ValueError, match="keeps one unit of every layer and nothing else: lower"):
        tfprune.prune(two_layers(), "redundant", **words)


def test_errors_name_criterion_and_layer():
    words = {"criterion": "kmeans(clusters=9)", "granularity": "channel"}
    with pytest.raises(ValueError, match=r"'kmeans\(clusters=9\)' on layer 'first': clusters=9"):
        tfprune.prune(two_layers(), "sparsity:0.5", **words)


@pytest.mark.parametrize("spec", ["fpgm", *ORDERS])
def test_weights_that_are_nan_are_an_error(spec):
    model = two_layers()
    model.get_layer("first").kernel.assign(np.full((3, 3, 3, 8), np.nan))
    with pytest.raises(ValueError, match=r"(?i)nan.*first|first.*nan"):
        tfprune.prune(model, "sparsity:0.5", criterion=spec, granularity="channel")
