import keras
import pytest

import tfprune
from tests import models

L = keras.layers


def test_a_residual_block_by_hand():
    x = keras.Input((8, 8, 3))
    a = L.Conv2D(6, 3, padding="same", name="a")(x)
    b = L.BatchNormalization(name="n")(L.Conv2D(6, 3, padding="same", use_bias=False, name="b")(a))
    y = L.GlobalAveragePooling2D()(L.Add()([a, b]))
    table = tfprune.explain(keras.Model(x, L.Dense(4, name="head")(y)))
    assert table["group"].tolist() == ["a", "head"]
    row = table.iloc[0]
    assert row["channels"] == 6
    assert row["makes"] == "a, b, n"
    assert row["reads"] == "b, head"
    kernels = 3 * 9 * 6, 6 * 9 * 6, 6 * 4
    assert row["params"] == sum(kernels) + 6 + 2 * 6  # bias, scale and shift
    assert row["macs"] == 64 * (kernels[0] + kernels[1]) + kernels[2]
    assert table["frozen"].tolist() == ["", "they are the model's output"]


def test_a_recurrent_kernel_counts_once():
    x = keras.Input((5, 4))
    table = tfprune.explain(keras.Model(x, L.Dense(2)(L.LSTM(3)(x))))
    assert table["params"].tolist()[0] == 4 * 12 + 3 * 12 + 12 + 3 * 2
    assert table["macs"].tolist()[0] == 5 * (4 * 12 + 3 * 12) + 3 * 2


def test_a_subclassed_model_can_not_be_followed():
    with pytest.raises(ValueError, match="subclassed"):
        tfprune.explain(models.subclassed())
