"""What the picture of a layer's filters is made of: against scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy.cluster import hierarchy
from sklearn import decomposition, neighbors

import tfprune
from tests import models
from tfprune.measurement import redundancy


@pytest.fixture(scope="module")
def pair():
    dense = models.cnn()
    words = {"granularity": "filter", "criterion": "l2", "protect": ["depthwise"]}
    return dense, tfprune.prune(dense, "sparsity:0.4", **words)


def test_the_layer_that_lost_most_is_shown(pair):
    dense, pruned = pair
    found = redundancy.filters(dense, pruned)
    rows = dense.get_layer(found["layer"]).kernel.numpy()
    rows = rows.reshape(-1, rows.shape[-1]).T
    kept = np.array(found["kept"])
    left = pruned.get_layer(found["layer"]).kernel.numpy()
    np.testing.assert_array_equal(kept, left.reshape(-1, left.shape[-1]).any(axis=0))
    pca = decomposition.PCA(2).fit(rows)
    expected = pca.transform(rows)
    np.testing.assert_allclose(np.abs(found["points"]), np.abs(expected), atol=1e-5)
    assert found["explained"] == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-5)
    near = neighbors.NearestNeighbors(n_neighbors=1).fit(rows[kept]).kneighbors(rows)[1][:, 0]
    np.testing.assert_array_equal(found["nearest"], np.flatnonzero(kept)[near])
    np.testing.assert_allclose(found["tree"], hierarchy.linkage(rows, "ward"), atol=1e-5)


def test_a_layer_of_choice(pair):
    assert redundancy.filters(*pair, layer="conv")["layer"] == "conv"
    with pytest.raises(ValueError, match="Did you mean conv"):
        redundancy.filters(*pair, layer="konv")


def test_nothing_to_show(pair):
    dense, _ = pair
    assert redundancy.filters(dense, dense) == {}
