"""Real data and networks that others trained, through the same command."""

import json

import pytest

import tfprune
from tests.pipelines.test_prune import run

MEANS = "mean_std((125.307, 122.95, 113.865), (62.9932, 62.0887, 66.7048))"


@pytest.mark.parametrize(
    ("file", "preprocess", "top1"),
    [
        ("mlperf_tiny/pretrainedResnet.h5", "raw", 0.8721),
        pytest.param("cifar10_resnet/resnet.h5", MEANS, 0.9232, marks=pytest.mark.slow),
    ],
)
def test_trained_networks_score_what_their_authors_got(shared, file, preprocess, top1):
    splits = tfprune.data.load(
        "cifar10", data_dir=shared / "data/tfds", preprocess=preprocess, download=False
    )
    facts = tfprune.measure(tfprune.load_model(shared / "models" / file), data=splits.test)
    assert facts["top1"] == pytest.approx(top1, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "model", "least"),
    [("fashion_mnist", "lenet_300_100", 0.84), ("cifar10", "resnet8", 0.4)],
)
def test_real_data_runs_through_the_command(shared, dataset, model, least, tmp_path):
    done = run(
        f"--output_dir={tmp_path}/run",
        f"--dataset={dataset}",
        f"--data_dir={shared}/data/tfds",
        f"--model={model}",
        "--batch_size=128",
        "--train_epochs=2",
        "--epochs=2",
        "--verify_samples=500",
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run/record.json").read_text())
    assert record["sparsity"] == pytest.approx(0.8, abs=1e-4)
    assert record["pruned_top1"] > least
    assert {row["status"] for row in record["tflite"]} == {"ok"}
