import keras
import numpy as np
import pytest

import tfprune
from tfprune.evaluation import replay
from tfprune.measurement import facts


def network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Conv2D(12, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10),
        ]
    )


@pytest.mark.parametrize("target", ["compression:3", "macs:0.3"])
@pytest.mark.parametrize("criterion", ["random", "magnitude"])
def test_every_layer_keeps_as_many_weights(target, criterion):
    model = network()
    model.layers[1].kernel.assign(3 * model.layers[1].kernel)  # so that layers differ
    first = tfprune.prune(model, target)
    record = {"granularity": "weight", "layers": facts.layers(first)}
    again = tfprune.prune(model, target, criterion=criterion, allocation=replay.of(record), seed=1)
    counts = [[row["nonzero_params"] for row in facts.layers(x)] for x in (first, again)]
    assert counts[0] == counts[1]
    same = [
        np.array_equal(a.kernel != 0, b.kernel != 0)
        for a, b in zip(first.layers, again.layers, strict=True)
        if hasattr(a, "kernel")
    ]
    assert all(same) == (criterion == "magnitude")


def test_every_group_keeps_as_many_channels():
    model = network()
    model.layers[1].kernel.assign(3 * model.layers[1].kernel)
    words = {"granularity": "channel", "protect": ["dense*"]}
    first = tfprune.shrink(tfprune.prune(model, "macs:0.4", criterion="l2", **words))
    record = {"granularity": "channel", "channels": facts.channels(model, first)}
    again = tfprune.prune(
        model, "macs:0.4", criterion="random", allocation=replay.of(record), **words
    )
    again = facts.channels(model, tfprune.shrink(again))
    assert [row["kept"] for row in again] == [row["kept"] for row in record["channels"]]
    assert len({row["kept"] / row["channels"] for row in again}) > 1


def test_groups_of_one_name_are_told_apart():
    rows = [{"name": "a", "channels": 4, "kept": kept} for kept in (4, 1)]
    shares = replay.of({"granularity": "channel", "channels": rows}).keywords["shares"]
    assert shares == {"a": 1.0, "a#2": 0.25}
