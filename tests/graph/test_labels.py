"""Labels against the plainest union-find there is."""

import numpy as np
import pytest

from tfprune.graph.labels import Labels


def find(parents, label):
    while parents[label] != label:
        label = parents[label]
    return label


@pytest.mark.parametrize("seed", range(8))
def test_as_a_naive_union_find(seed):
    rng = np.random.default_rng(seed)
    labels, parents = Labels(), []
    for _ in range(30):
        made = labels.fresh(count := int(rng.integers(1, 20)))
        assert made.tolist() == list(range(len(parents), len(parents) + count))
        parents += made.tolist()
        a, b = rng.integers(0, len(parents), (2, rng.integers(1, 12)))
        labels.unite(a, b)
        for x, y in zip(a.tolist(), b.tolist(), strict=True):
            roots = find(parents, x), find(parents, y)
            parents[max(roots)] = min(roots)
    expected = [find(parents, label) for label in range(len(parents))]
    assert len(labels) == len(parents)
    assert labels.roots(np.arange(len(labels))).tolist() == expected


def test_broadcast():
    labels = Labels()
    rows = labels.fresh(12).reshape(3, 4)
    labels.unite(rows, rows[:, :1])
    assert labels.roots(rows).tolist() == [[0] * 4, [4] * 4, [8] * 4]


def test_long_chain():
    labels = Labels()
    chain = labels.fresh(5000)
    labels.unite(chain[1:], chain[:-1])
    assert not labels.roots(chain).any()
