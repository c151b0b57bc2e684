"""Records of trials as a benchmark writes them, made up: what a report has to cope with."""

import hashlib
import json
import math
import random

POINTS = {"compression": (1, 2, 4, 8, 16, 32), "macs": (1, 1.5, 2, 3, 4, 8)}
# How soon each loses accuracy, and by how much its layers differ.
METHODS = {
    "random/uniform": (0.30, 1.0),
    "magnitude/uniform": (0.12, 1.0),
    "magnitude/global": (0.08, 0.8),
    "snip/global": (0.10, 0.7),
    "tfmot": (0.12, 1.0),
}
CONTROLS = {
    "dense": None,
    "random/uniform": None,
    "magnitude/uniform": None,
    "random@snip/global": "snip/global",
    "magnitude@snip/global": "snip/global",
}


def trial(
    method="magnitude/global",
    *,
    dataset="cifar10",
    model="resnet8",
    axis="compression",
    point=8,
    seed=0,
    **changed,
):
    """Returns the record of one trial."""
    noise = random.Random(f"{method} {dataset} {model} {point} {seed}")
    loss, spread = METHODS.get(method, METHODS["snip/global"])
    if CONTROLS.get(method):
        loss *= 2
    best = {"cifar10": 0.87, "fashion_mnist": 0.91}.get(dataset, 0.9)
    top1 = 0.1 + (best - 0.1) * math.exp(-loss * (point - 1) / 6) + noise.gauss(0, 0.004)
    params, macs = 78_666, 12_501_632
    # What a point doesn't say: speedup of a compression, compression of a speedup.
    other = point**spread
    compression, speedup = (point, other) if axis == "compression" else (other, point)
    base, _, replayed = method.partition("@")
    criterion, _, allocation = base.partition("/")
    left = int(params / compression)
    layers = [
        {
            "name": f"conv2d_{i}/kernel",
            "layer": f"conv2d_{i}",
            "shape": [3, 3, 16, 16],
            "params": 2304 * (i + 1),
            "nonzero_params": int(2304 * (i + 1) / compression ** (spread + 0.1 * i)),
            "sparsity": 1 - compression ** -(spread + 0.1 * i),
            "macs": 589_824,
            "nonzero_macs": int(589_824 / speedup),
        }
        for i in range(7)
    ]
    bytes_ = 4 * (left if axis == "macs" else params) + 20_000
    share = 1 / speedup if axis == "macs" else 1.0
    record = {
        "schema": 1,
        "kind": "trial",
        "run_id": hashlib.sha256(
            repr((method, dataset, model, axis, point, seed)).encode()
        ).hexdigest()[:12],
        "status": "ok",
        "protocol": "structured" if axis == "macs" else "shrinkbench",
        "dataset": dataset,
        "model": model,
        "method": method,
        "criterion": criterion,
        "allocation": None if replayed else allocation or "global",
        "correction": "own",
        "granularity": "channel" if axis == "macs" else "weight",
        "control": method in CONTROLS,
        "replays": CONTROLS.get(method),
        "axis": axis,
        "point": point,
        "seed": seed,
        "starting_weights_sha256": "5d" * 32,
        "epochs": 2.0,
        "steps": 704,
        "batch_size": 128,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "augment": "flip_crop",
        "preprocess": {"name": "raw", "mean": [0.0], "std": [1.0]},
        "calibration_samples": 1024,
        "protected": ["dense"],
        "selection": "last",
        "base_top1": best,
        "base_top5": 0.99,
        "base_loss": 0.4,
        "base_params": params,
        "base_macs": macs,
        "untuned_top1": max(0.1, top1 - 0.3),
        "pruned_top1": top1,
        "pruned_top5": min(1.0, top1 + 0.1),
        "pruned_val_top1": top1 + 0.001,
        "pruned_loss": 2 - top1,
        "pruned_params": left if axis == "macs" else params,
        "pruned_nonzero_params": left,
        "pruned_macs": int(macs / speedup) if axis == "macs" else macs,
        "pruned_nonzero_macs": int(macs / speedup),
        "sparsity": 1 - 1 / compression,
        "compression_ratio": compression,
        "theoretical_speedup": speedup,
        "entropy_bytes": left * 4.4,
        "tflite": [
            {
                "variant": variant,
                "device": "local",
                "emulated": False,
                "status": "ok",
                "bytes": bytes_ // cut,
                "gzip_bytes": int((4.2 * left + 9_000) / cut),
                "top1": top1,
                "latency_ms_median": 0.9 * share / cut**0.5 + noise.gauss(0, 0.01),
                "latency_ms_iqr": 0.01,
                "latency_ratio": share / cut**0.5,
                "latency_ratio_iqr": 0.02,
            }
            for variant, cut in (("float32", 1), ("int8", 4))
        ],
        "layers": layers,
        "channels": [
            {"name": f"conv2d_{i}", "channels": 16, "kept": round(16 / speedup), "frozen": ""}
            for i in range(3)
        ]
        if axis == "macs"
        else [],
        "seconds_prune": 1.5,
        "seconds_finetune": 30.0,
        "seconds_total": 36.0,
        "env_python": "3.11.2",
        "env_platform": "Linux",
        "env_cpu": "A processor",
        "env_cores": 4,
        "env_tfprune": "0.1.0",
    }
    return record | changed


def failed(**changed):
    """Returns the record of a trial that failed."""
    kept = ("schema", "kind", "protocol", "dataset", "model", "method", "criterion", "allocation")
    kept += ("granularity", "control", "replays", "axis", "point", "seed", "run_id")
    record = {key: value for key, value in trial(**changed).items() if key in kept}
    error = "MemoryError: out of memory"
    return record | {"status": "failed", "error": error, "traceback": f"Traceback\n{error}"}


def grid(
    *, axis="compression", seeds=3, pairs=(("cifar10", "resnet8"), ("fashion_mnist", "lenet5"))
):
    """Returns the records of a whole benchmark, dense controls among them."""
    records = []
    for dataset, model in pairs:
        for seed in range(seeds):
            common = {"dataset": dataset, "model": model, "axis": axis, "seed": seed}
            records.append(trial("dense", point=1, **common))
            for point in POINTS[axis][1:]:
                for method in dict.fromkeys([*METHODS, *CONTROLS]):
                    if method != "dense":
                        records.append(trial(method, point=point, **common))
    return records


def write(folder, records):
    """Writes records as a benchmark does."""
    for record in records:
        path = folder / "runs" / record["run_id"] / "record.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))


SCRIPT = "</script><script>document.title='owned'</script>"
TROUBLE = (
    f"{SCRIPT}<img src=x onerror=alert(1)>'\"&{{{{ 7 * 7 }}}}$x_1^2$ \\input{{x}} %#~|\u202e\x07"
)


def hostile():
    """Returns the records of a benchmark in which all text is made to do harm."""
    common = {"dataset": f"data{TROUBLE}", "model": f"net{TROUBLE}", "env_cpu": f"cpu{TROUBLE}"}
    common |= {"protected": [TROUBLE], TROUBLE: TROUBLE, "optimizer": TROUBLE}
    records = []
    for method in ("dense", f"mine{TROUBLE}", f"random{TROUBLE}"):
        for point in (1,) if method == "dense" else (2, 4):
            record = trial(point=point, **common) | {"run_id": f"{method}{point}", "method": method}
            record["control"] = not method.startswith("mine")
            for layer in record["layers"]:
                layer["name"] += TROUBLE
            record["tflite"][0]["variant"] += TROUBLE
            records.append(record)
    error = f"ValueError: {TROUBLE}"
    broken = failed(method=f"mine{TROUBLE}", point=4, seed=1) | common
    return [*records, broken | {"run_id": "broken", "error": error, "traceback": f"1\n  {error}"}]
