"""Prune Keras 3 models and ship them as TFLite (LiteRT) files, knowing what was gained."""

import importlib

__version__ = "0.1.0"

# The public names and where they live. They are imported on first use: TensorFlow takes seconds.
_PUBLIC = {
    "Centripetal": "tfprune.callbacks.centripetal",
    "Checkpoint": "tfprune.callbacks.checkpoint",
    "Distillation": "tfprune.callbacks.distillation",
    "GroupSparsity": "tfprune.callbacks.group_sparsity",
    "HoldZeros": "tfprune.callbacks.hold_zeros",
    "MultiWorker": "tfprune.callbacks.workers",
    "Pruner": "tfprune.callbacks.pruner",
    "SoftPruner": "tfprune.callbacks.soft_pruner",
    "WeightSharing": "tfprune.callbacks.weight_sharing",
    "channel_rule": "tfprune.graph.rules",
    "cluster_weights": "tfprune.clustering",
    "data": "tfprune",
    "detach": "tfprune.masks",
    "explain": "tfprune.graph.explain",
    "explain_sparse_inference": "tfprune.tflite.sparse_inference",
    "export": "tfprune.tflite.export",
    "literature": "tfprune",
    "load_model": "tfprune.zoo.files",
    "measure": "tfprune.measurement.facts",
    "prepare_for_sparse_inference": "tfprune.tflite.prepare",
    "prune": "tfprune.pruning",
    "reestimate_batchnorm": "tfprune.batchnorm",
    "scan": "tfprune.sensitivity",
    "shrink": "tfprune.surgery",
    "zoo": "tfprune",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tfprune' has no attribute {name!r}")
    if _PUBLIC[name] == "tfprune":  # a package of its own
        return importlib.import_module(f"tfprune.{name}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
