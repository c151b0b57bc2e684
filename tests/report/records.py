"""Records as the pipeline writes them, made up but of realistic figures."""

import math

import numpy as np
from scipy.cluster.hierarchy import linkage

SPEC = ["name", "layer", "shape", "params", "nonzero_params", "sparsity", "macs", "nonzero_macs"]


def _layer(name, kind, shape, pixels, sparsity):
    params = math.prod(shape)
    alive = round(params * (1 - sparsity))
    values = (name, kind, list(shape), params, alive, 1 - alive / params)
    return dict(zip(SPEC, (*values, params * pixels, alive * pixels), strict=True))


def _file(model, variant, size, gzip, top1, agreement, latency, *, status="ok", reason=""):
    ok = status == "ok"
    row = {
        "model": model,
        "variant": variant,
        "status": status,
        "reason": reason,
        "file": f"{model}/{variant}.tflite",
        "bytes": size,
        "gzip_bytes": gzip,
        "entropy_bytes": ok and round(gzip * 0.8),
        "huffman_bytes": ok and round(gzip * 0.9),
        "top1": top1,
        "top5": top1 and 1 - (1 - top1) / 20,
        "top1_agreement": agreement,
        "max_abs_error": ok and (1 - agreement) * 9 + 3e-6,
        "mean_abs_error": ok and (1 - agreement) + 4e-7,
        "latency_ms_median": latency,
        "latency_ms_iqr": ok and latency / 40,
        "init_ms": ok and latency * 2.2,
        "runs": 50,
        "threads": 1,
        "peak_memory_bytes": ok and size * 2 + 1_234_567,
    }
    if not ok:
        row |= dict.fromkeys((*list(row)[5:],)) | {"file": None}
    return row


def filters(count=16, kept=9):
    """The filters of a layer, some of them nearly alike, and which of them were kept."""
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1, (kept, 12))[np.arange(count) % kept] + rng.normal(0, 0.3, (count, 12))
    distances = np.linalg.norm(rows[:, None] - rows[None, :kept], axis=-1)
    return {
        "layer": "stack2_block1_conv1",
        "kept": [i < kept for i in range(count)],
        "points": rows[:, :2].tolist(),
        "explained": 0.53,
        "nearest": distances.argmin(axis=1).tolist(),
        "tree": linkage(rows, "ward").tolist(),
    }


def resnet(depth=20, sparsity=0.9):
    """A ResNet of CIFAR-10 with most of its weights pruned: the ordinary case."""
    layers = [_layer("conv2d", "Conv2D", (3, 3, 3, 16), 1024, 0.21)]
    for stage, (width, pixels) in enumerate(((16, 1024), (32, 256), (64, 64))):
        for i in range((depth - 2) // 3):
            fan_in = width // 2 if stage and not i else width
            zeros = min(0.985, sparsity - 0.22 + 0.14 * stage + 0.03 * math.sin(3.1 * i))
            name = f"stack{stage + 1}_block{i // 2 + 1}_conv{i % 2 + 1}"
            layers.append(_layer(name, "Conv2D", (3, 3, fan_in, width), pixels, zeros))
    layers.append(_layer("dense", "Dense", (64, 10), 1, 0.34))
    params = sum(e["params"] for e in layers) + 1_386
    alive = sum(e["nonzero_params"] for e in layers) + 1_386
    macs, alive_macs = (sum(e[k] for e in layers) for k in ("macs", "nonzero_macs"))
    scale = params / 269_722

    def file(model, variant, size, gzip, *rest):
        return _file(model, variant, round(size * scale), round(gzip * scale), *rest)

    return {
        "schema": 1,
        "run_id": "7f3c9a1e52d0",
        "created": "2026-11-22T09:41:07+00:00",
        "command": "tfprune-prune --model resnet20 --dataset cifar10 --target sparsity:0.9 "
        "--criterion magnitude --allocation global --schedule polynomial --epochs 40 --seed 3",
        "flag_model": "resnet20",
        "flag_dataset": "cifar10",
        "flag_target": f"sparsity:{sparsity}",
        "flag_criterion": "magnitude",
        "flag_granularity": "weight",
        "flag_allocation": "global",
        "flag_schedule": "polynomial",
        "flag_epochs": 40,
        "flag_learning_rate": 0.001,
        "flag_protect": ["dense", "stem*"],
        "flag_augment": True,
        "flag_weights": None,
        "flag_seed": 3,
        "env_python": "3.11.7",
        "env_tensorflow": "2.21.0",
        "env_keras": "3.12.0",
        "env_litert": "2.3.0",
        "env_platform": "Linux-6.1-x86_64",
        "env_cpu": "Example CPU @ 2.60GHz",
        "env_cores": 4,
        "starting_weights_sha256": "9d5ed678fe57bcca610140957afab571"
        "0e59d9ad3b4d2ac3a9a1f0b1f1cf9e1a",
        "dataset": "cifar10",
        "model": f"resnet{depth}",
        "classes": 10,
        "train_examples": 45_000,
        "validation_examples": 5_000,
        "test_examples": 10_000,
        "seconds_total": 751.2,
        "base_top1": 0.9192,
        "base_top5": 0.9971,
        "base_loss": 0.3121,
        "base_params": params,
        "base_nonzero_params": params,
        "base_macs": macs,
        "base_nonzero_macs": macs,
        "pruned_top1": 0.9157,
        "pruned_top5": 0.9969,
        "pruned_val_top1": 0.9166,
        "pruned_loss": 0.2987,
        "pruned_params": params,
        "pruned_nonzero_params": alive,
        "pruned_macs": macs,
        "pruned_nonzero_macs": alive_macs,
        "sparsity": 1 - (alive - 1386) / (params - 1386),
        "compression_ratio": params / alive,
        "theoretical_speedup": macs / alive_macs,
        "layers": layers,
        "skipped": [
            {"name": "batch_normalization", "reason": "no pruning rule for a BatchNormalization"},
            {"name": "stem_conv", "reason": "protected by 'stem*'"},
        ],
        "tflite": [
            file("baseline", "float32", 1_096_212, 1_006_114, 0.9192, 1.0, 1.93),
            file("baseline", "int8", 312_640, 246_802, 0.9183, 0.9871, 1.02),
            file("pruned", "float32", 1_096_212, 177_331, 0.9157, 1.0, 1.94),
            file("pruned", "float16", 558_004, 113_205, 0.9157, 0.9999, 1.92),
            file("pruned", "dynamic_int8", 305_488, 69_912, 0.9149, 0.9921, 1.31),
            file("pruned", "int8", 312_640, 71_480, 0.9151, 0.9893, 1.01),
            file("pruned", "float32_sparse", 196_870, 171_002, 0.9157, 1.0, 1.95),
            file("pruned", "float16_sparse", 138_442, 117_930, 0.9157, 0.9999, 1.93),
        ],
        "recommended": {
            "file": "pruned/int8.tflite",
            "variant": "int8",
            "reason": "the least latency x gzip size of the files whose top-1 is within 1 %-points "
            "of float32's",
        },
        "history": [
            {
                "epoch": e,
                "loss": 0.30 + 0.25 * math.exp(-e / 6) + 0.01 * math.sin(2.1 * e),
                "top1": 0.952 - 0.09 * math.exp(-((e - 9) ** 2) / 60) + 0.004 * math.sin(1.7 * e),
                "val_top1": 0.917 - 0.06 * math.exp(-((e - 9) ** 2) / 60) + 0.006 * math.sin(5 * e),
                "sparsity": sparsity * (1 - (1 - min(1.0, e / 24)) ** 3),
            }
            for e in range(1, 41)
        ],
        "pruning_history": _updates(sparsity),
        "mask_churn": [
            {"epoch": e, "pruned": 0.2 * math.exp(-e / 8), "regrown": 0.02 * math.exp(-e / 5)}
            for e in range(40)
        ],
    }


def _updates(sparsity):
    levels = {step: sparsity * (1 - (1 - step / 8400) ** 3) for step in range(0, 8401, 420)}
    return [
        {"step": step, "scheduled": level, "reached": round(level, 4)}
        for step, level in levels.items()
    ]


def keywords():
    """Three layers, no top-5, one epoch: the smallest sensible run."""
    record = resnet(8)
    record |= {"model": "dense3", "dataset": "keywords", "classes": 4}
    del record["pruning_history"], record["mask_churn"]  # as before there were any
    record["layers"] = record["layers"][:2] + record["layers"][-1:]
    record["history"] = record["history"][:1]
    record["skipped"] = []
    for key in ("base_top5", "pruned_top5"):
        del record[key]
    for row in record["tflite"]:
        del row["top5"]
    return record


def failures():
    """Some variants failed, one latency is NaN, and nothing could be recommended."""
    record = resnet()
    for i, reason in (
        (4, "the process was ended by SIGSEGV while loading the file"),
        (6, "the file returns NaN or infinite values where Keras' are finite"),
        (7, "failed to load:\n  RuntimeError: XNNPack delegate failed to reshape runtime; " * 3),
    ):
        row = record["tflite"][i]
        names = (None,) * 5
        failed = _file(row["model"], row["variant"], *names, status="failed", reason=reason)
        record["tflite"][i] = failed
    record["tflite"][3]["latency_ms_median"] = math.nan
    record["recommended"] = None
    return record


def unfinished():
    """Pruned and evaluated, nothing exported, nothing trained, most keys absent."""
    return {
        "schema": 1,
        "model": "mystery",
        "pruned_top1": 0.5,
        "base_top1": math.nan,
        "layers": [{"name": "a"}, {"name": "b", "sparsity": None, "params": 7}],
        "skipped": None,
        "tflite": [],
        "recommended": None,
    }


SCRIPT = "<script>document.title='owned'</script>"


def hostile():
    """Every text is an attack on HTML, SVG, CSS, TeX or the console."""
    record = resnet(14)
    nasty = [
        SCRIPT,
        '"><img src=x onerror="document.title=1">',
        "--><svg onload=alert(1)>]]></style></svg>",
        "$\\frac{1}{0}$ 100% _^{}",
        "{{ 7 * 7 }}{% raw %}",
        "a\x00b\x1b[31mred\u202egnp.exe\ud800",
        "层/卷积_1🙂",
        "x" * 300,
        "",
    ]
    for i, layer in enumerate(record["layers"]):
        layer["name"] = nasty[i % len(nasty)]
        layer["layer"] = nasty[0]
    record |= {key: SCRIPT for key in ("model", "dataset", "run_id", "created", "command")}
    record |= {"flag_" + text: text for text in nasty} | {"env_cpu": nasty[1], "env_x": {"a": [1]}}
    record["skipped"] = [{"name": text, "reason": text} for text in nasty]
    record["flag_target"] = nasty[1]
    record["pruning_history"].append({"step": SCRIPT, "scheduled": nasty[1], "reached": 1})
    for row in record["tflite"][2:]:
        row["variant"] += "'\"<b>"
        row["note"] = nasty[2]
    record["tflite"].append(_file("pruned", *(None,) * 6, status="failed", reason=nasty[1]))
    record["recommended"] = {"file": nasty[0], "variant": "int8", "reason": nasty[2]}
    return record


def devices():
    """Files that were tried on a phone, where one was lost, and on an emulated processor."""
    record = resnet(14)
    here = {"device": "local", "emulated": False, "samples": 10_000}
    here = [row | here for row in record["tflite"]]
    rows = []
    for row in here:
        slower = {"latency_ms_median": 3 * row["latency_ms_median"], "sparse_kernels": 0}
        ratio = {"latency_ratio": 0.5, "latency_ratio_iqr": 0.06, "samples": 16}
        there = {"device": "adb:R58 M42", "emulated": False, "top1": 0.5}
        emulated = {"device": "arm64", "emulated": True, "peak_memory_bytes": None}
        rows += [row, row | slower | ratio | there, row | slower | ratio | emulated]
    rows[-1] |= {"latency_ms_median": 700.0, "sparse_kernels": 19}
    rows[-2] = {key: rows[-2][key] for key in ("model", "variant", "device", "emulated")}
    rows[-2] |= {"status": "away", "reason": "device 'adb:R58 M42' is offline: plug it in"}
    record["recommended"] |= {"device": "adb:R58 M42", "pareto": ["int8", "float16_sparse"]}
    layer = {"tensor": "stack1/conv2d", "kind": "CONV_2D", "bytes": 9216, "sparse": False}
    return record | {
        "tflite": rows,
        "storage": [
            layer | {"variant": "int8_sparse", "sparsity": 0.6, "reason": "60 % zeros: too few"},
            layer | {"variant": "float32", "sparsity": 0.9, "reason": "was not asked for"},
        ],
        "ops": [
            {"variant": name, "device": "arm64", "op": 0, "name": name, "ms": 2.5, "share": 1.0}
            for name in ("int8", "float16")
        ],
        "sparse_inference": [
            {"variant": f"{name}_sparse", "target": target, "engaged": on, "reason": reason}
            for target, on, reason in (("arm64", True, "19 operators"), ("x86", False, "AVX"))
            for name in ("float32", "float16")
        ],
    }


def exported():
    """A model that was only exported, of which no file keeps the limits."""
    record = resnet(14)
    kept = ("env_", "base_", "flag_", "model", "dataset", "schema", "command", "run_id")
    rows = [row for row in record["tflite"] if row.pop("model") == "pruned"]
    record = {key: value for key, value in record.items() if key.startswith(kept)}
    reason = "no file has at most 10 bytes: the nearest is int8 with 99"
    return record | {"tflite": rows, "recommended": {"file": None, "reason": reason}}


def shrunk():
    """A run that removed channels: no zeros, but fewer of everything."""
    record = resnet()
    widths = ((16, 8), (32, 21), (64, 64))
    record["channels"] = [
        {
            "name": f"stack{stage}_block{block}_conv1",
            "layers": f"stack{stage}_block{block}_conv1, stack{stage}_block{block}_bn1",
            "channels": width,
            "kept": kept,
            "frozen": "",
        }
        for stage, (width, kept) in enumerate(widths, 1)
        for block in (1, 2, 3)
    ]
    for row in record["layers"]:
        row |= {"sparsity": 0.0, "nonzero_params": row["params"], "nonzero_macs": row["macs"]}
    for row in record["history"]:
        row.pop("sparsity", None)
    del record["pruning_history"], record["mask_churn"]
    return record | {"sparsity": 0.0, "filters": filters()}


ALL = {
    "devices": devices,
    "exported": exported,
    "shrunk": shrunk,
    "resnet20": resnet,
    "resnet110": lambda: resnet(110, 0.8),
    "keywords": keywords,
    "failures": failures,
    "unfinished": unfinished,
    "hostile": hostile,
    "empty": dict,
}
