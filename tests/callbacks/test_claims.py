"""Two callbacks that prune contradict each other, in one fit and not in two."""

import itertools

import pytest

import tfprune
from tests import models

PRUNING = {
    "Pruner": lambda: tfprune.Pruner("sparsity:0.5"),
    "SoftPruner": lambda: tfprune.SoftPruner("sparsity:0.5", granularity="filter"),
    "Centripetal": lambda: tfprune.Centripetal("params:0.5"),
}


@pytest.mark.parametrize("pair", [*itertools.combinations_with_replacement(PRUNING, 2)])
def test_two_that_prune(pair):
    model = models.tiny()
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = models.images()
    first, second = (PRUNING[name]() for name in pair)
    with pytest.raises(ValueError, match=f"{pair[0]} and {pair[1]} contradict each other"):
        model.fit(x, y, verbose=0, callbacks=[first, second])
    model.fit(x, y, verbose=0, callbacks=[PRUNING[pair[0]]()])
