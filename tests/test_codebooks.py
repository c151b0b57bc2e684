"""k-means over weights, compared with scikit-learn's and TFMOT's first centroids."""

import numpy as np
import pytest
from sklearn.cluster import KMeans, kmeans_plusplus

from tfprune import codebooks, schedules

RNG = np.random.default_rng(0)
WEIGHTS = RNG.standard_t(4, 3000).astype("float32") * 0.1
PRUNED = np.where(abs(WEIGHTS) < 0.1, 0, WEIGHTS)


def theirs(values, n, kind, *, preserve=False):
    """Returns TFMOT's first centroids."""
    schedules.tfmot_schedules()
    from tensorflow_model_optimization.python.core.clustering.keras import (
        cluster_config,
        clustering_centroids,
    )

    make = clustering_centroids.CentroidsInitializerFactory.get_centroid_initializer(
        getattr(cluster_config.CentroidInitialization, kind)
    )
    return make(values, n, preserve_sparsity=preserve).get_cluster_centroids().numpy()


def ours(values, n, kind, *, signed=False):
    return codebooks.initial(values, n, initialisation=kind, signed=signed, seed=0)


def squared_error(values, clusters):
    members = [values[clusters == c].astype(float) for c in set(clusters)]
    return sum(np.sum((x - x.mean()) ** 2) for x in members)


@pytest.mark.parametrize("n", [2, 5, 16, 33])
def test_linear_is_tfmots(n):
    np.testing.assert_allclose(ours(WEIGHTS, n, "linear"), theirs(WEIGHTS, n, "LINEAR"), atol=1e-6)


@pytest.mark.parametrize("n", [3, 8, 16])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_beside_zeros_both_signs_get_their_share_as_in_tfmot(n, shift):
    values = np.where(PRUNED, PRUNED + np.float32(shift), 0)
    nonzero = values[values != 0]
    expected = theirs(values, n, "LINEAR", preserve=True)
    found = ours(nonzero, n - 1, "linear", signed=True)
    np.testing.assert_allclose(np.sort([*found, 0]), expected, atol=1e-6)
    for kind, name in (("density", "DENSITY_BASED"), ("kmeans++", "KMEANS_PLUS_PLUS")):
        expected = theirs(values, n, name, preserve=True)
        found = ours(nonzero, n - 1, kind, signed=True)
        assert len(found) + 1 == len(expected)
        assert (found > 0).sum() == (expected > 0).sum()


@pytest.mark.parametrize("n", [4, 16])
def test_density_is_what_tfmot_reads_off_its_grid(n):
    """TFMOT takes the next of 30 grid points above the quantile."""
    cell = (np.ptp(WEIGHTS) + 0.02) / 29
    gap = theirs(WEIGHTS, n, "DENSITY_BASED") - ours(WEIGHTS, n, "density")
    assert (gap > -1e-6).all()
    assert (gap < cell + 1e-6).all()


def test_those_that_draw_do_it_by_their_seed():
    expected, _ = kmeans_plusplus(WEIGHTS[:, None], 16, random_state=0)
    np.testing.assert_array_equal(ours(WEIGHTS, 16, "kmeans++"), expected[:, 0])
    drawn = [codebooks.random(WEIGHTS, 200, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.isin(drawn[0], drawn[2]).any()
    assert WEIGHTS.min() <= drawn[0].min() < drawn[0].max() <= WEIGHTS.max()


@pytest.mark.parametrize("kind", codebooks.INITIALISATIONS)
def test_clusters_are_scikit_learns(kind):
    none = np.zeros(WEIGHTS.shape, bool)
    found = codebooks.clusters(WEIGHTS, 16, zero=none, initialisation=kind, seed=0)
    start = ours(WEIGHTS, 16, kind)[:, None]
    direct = KMeans(16, init=start, n_init=1, tol=1e-6).fit(WEIGHTS[:, None].astype(float))
    assert squared_error(WEIGHTS, found) == pytest.approx(squared_error(WEIGHTS, direct.labels_))
    assert set(found) == set(range(1, 17))


def test_many_weights_are_clustered_as_well_from_their_histogram():
    values = RNG.normal(size=150_000).astype("float32")
    none = np.zeros(values.shape, bool)
    found = codebooks.clusters(values, 8, zero=none, initialisation="linear", seed=0)
    start = np.linspace(values.min(), values.max(), 8)[:, None]
    direct = KMeans(8, init=start, n_init=1, tol=1e-6).fit(values[:, None])
    assert squared_error(values, found) == pytest.approx(direct.inertia_, rel=1e-4)


def test_zeros_are_a_cluster_of_their_own():
    found = codebooks.clusters(PRUNED, 4, zero=PRUNED == 0, initialisation="linear", seed=0)
    np.testing.assert_array_equal(found == 0, PRUNED == 0)
    assert set(found) == {0, 1, 2, 3}


def test_planted_values_are_found():
    planted = RNG.choice([-3.0, -1.0, 0.5, 2.0], 500)
    noisy = planted + RNG.normal(size=500) * 0.01
    none = np.zeros(500, bool)
    found = codebooks.clusters(noisy, 4, zero=none, initialisation="linear", seed=0)
    np.testing.assert_array_equal(found - 1, np.searchsorted([-3.0, -1.0, 0.5, 2.0], planted))


@pytest.mark.parametrize("n", [5, 9])
def test_as_many_values_as_may_be_are_kept_whatever_lies_between(n):
    """k-means from linear centroids would put the near ones into one cluster."""
    values = RNG.permutation(np.repeat([-0.001, 0.0, 0.001, 0.002, 7.0], 50))
    found = codebooks.clusters(values, n, zero=values == 0, initialisation="linear", seed=0)
    assert len(set(found)) == 5
    assert squared_error(values, found) == 0
    np.testing.assert_array_equal(found == 0, values == 0)
