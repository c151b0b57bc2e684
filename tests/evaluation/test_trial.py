"""Trials of a small network: what they promise each other and what their records say."""

import keras
import numpy as np
import pytest

import tfprune
from tfprune.evaluation import grid, records, trial

QUICK = {"epochs": 0.5, "learning_rate": 2e-3, "variants": [], "calibration_samples": 64}
PAIR = {"model": "digits_cnn", "dataset": "digits", "train_epochs": 3}
MEASURED_ANEW = ("seconds_", "created", "env_")


def found(**settings):
    """Returns {method: its trial at the highest point}."""
    said = QUICK | {"pairs": [PAIR], "seeds": [0]} | settings
    return {x.method.name: x for x in grid.trials(grid.build(said))}


def lasting(record):
    lasts = {key: x for key, x in record.items() if not key.startswith(MEASURED_ANEW)}
    return lasts | {"tflite": [(file["bytes"], file["top1"]) for file in record["tflite"]]}


@pytest.fixture(scope="module")
def baseline():
    return trial.train(found()["dense"].pair)


@pytest.fixture(scope="module")
def weights(baseline):
    """Records of trials that remove weights."""
    trials = found(points=[8], methods=["magnitude/global"], variants=["float32_sparse"])
    wanted = ("dense", "magnitude/global", "random/uniform")
    made = {name: trial.run(trials[name], baseline) for name in wanted}
    name = "random@magnitude/global"
    return made | {name: trial.run(trials[name], baseline, made["magnitude/global"])}


def test_records_are_whole(weights, tmp_path):
    for record in weights.values():
        path = tmp_path / "record.json"
        records.write(record, path)
        assert records.read(path) == record
    pruned = weights["magnitude/global"]
    assert pruned["compression_ratio"] == pytest.approx(8, abs=0.01)
    assert pruned["theoretical_speedup"] > 1
    assert pruned["pruned_top1"] > 0.2
    assert 0 <= pruned["untuned_top1"] <= 1
    assert pruned["tflite"][0]["status"] == "ok"
    assert pruned["tflite"][0]["bytes"] < pruned["tflite"][0]["latency_ms_median"] * 1e9


def test_all_start_alike_and_have_the_same_budget(weights):
    same = ("starting_weights_sha256", "epochs", "steps", "learning_rate", "optimizer")
    same += ("batch_size", "augment", "base_top1", "seed", "selection", "preprocess")
    for key in same:
        assert len({str(record[key]) for record in weights.values()}) == 1, key
    assert weights["dense"]["steps"] > 0
    assert weights["dense"]["compression_ratio"] == 1
    assert weights["dense"]["pruned_loss"] != weights["dense"]["base_loss"]  # it was trained too


def test_the_classifier_is_left_dense(weights):
    for record in weights.values():
        (head,) = (row for row in record["layers"] if row["layer"] == "head")
        assert head["sparsity"] == 0
        assert record["protected"] == ["head"]


def test_a_replay_has_the_same_layers(weights):
    first, replay = weights["magnitude/global"], weights["random@magnitude/global"]
    kept = [[row["nonzero_params"] for row in x["layers"]] for x in (first, replay)]
    assert kept[0] == kept[1]
    assert first["pruned_loss"] != replay["pruned_loss"]
    assert replay["replays"] == "magnitude/global"


def test_a_seed_decides_everything(weights, baseline):
    one = {"points": [8], "methods": ["magnitude/global"], "variants": ["float32_sparse"]}
    again, other = (
        trial.run(found(**one, seeds=[seed])["random/uniform"], baseline) for seed in (0, 1)
    )
    first = weights["random/uniform"]
    assert lasting(first) == lasting(again)
    assert other["pruned_loss"] != first["pruned_loss"]
    # Not only their order of examples: their weights are others before that.
    assert other["untuned_top1"] != first["untuned_top1"]


def test_channels_are_removed_and_the_small_network_is_trained_from_scratch(baseline):
    trials = found(protocol="structured", points=[2], methods=["fpgm"], scratch_epochs=1.0)
    small, scratch = (trial.run(trials[name], baseline) for name in ("fpgm/uniform", "scratch"))
    for record in (small, scratch):
        assert record["theoretical_speedup"] == pytest.approx(2, rel=0.1)
        assert record["pruned_params"] < record["base_params"] / 1.3
        assert sum(row["kept"] for row in record["channels"]) < sum(
            row["channels"] for row in record["channels"]
        )
    assert "untuned_top1" not in scratch
    assert (scratch["epochs"], small["epochs"]) == (1, 0.5)
    assert scratch["steps"] == 2 * small["steps"] + 1  # 21 steps are an epoch


def test_a_point_that_cannot_be_met_says_the_nearest(baseline):
    with pytest.raises(ValueError, match=r"can't be met .* nearest that can is"):
        trial.check(found(points=[1000])["magnitude/global"], baseline)
    assert trial.check(found(points=[8])["magnitude/global"], baseline) is None


def test_a_loss_that_explodes_is_an_error(baseline):
    with pytest.raises(ValueError, match=r"loss is .* lower the learning rate"):
        trial.run(found(points=[4], learning_rate=1e30)["magnitude/global"], baseline)


def test_the_dense_network_is_the_same_for_all(baseline):
    model = baseline.model()
    assert isinstance(model, keras.Model)
    judged = trial.about(found()["dense"], baseline)
    assert judged["base_top1"] > 0.8
    assert (
        trial.train(found()["dense"].pair).record["starting_weights_sha256"]
        == (judged["starting_weights_sha256"])
    )
    assert np.isfinite(judged["base_loss"])


def test_a_worker_without_the_data_says_so(tmp_path):
    pair = found()["dense"].pair
    assert trial.ready([pair], tfprune.__version__) == ""
    assert "where 0.0 is needed" in trial.ready([pair], "0.0")
    missing = found(pairs=[PAIR | {"dataset": str(tmp_path / "none.npz")}])["dense"].pair
    assert "none.npz" in trial.ready([missing], tfprune.__version__)
