"""`measure`: what a model costs and how well it does, as one flat record."""

import keras
import numpy as np

from tfprune.graph import kernels as k
from tfprune.graph import macs
from tfprune.graph.channels import Channels
from tfprune.measurement import entropy


def measure(model: keras.Model, *, data: object = None) -> dict[str, float | int]:
    """Returns the facts of a built model.

    Args:
      model: a Keras model.
      data: a tf.data.Dataset of (x, y) batches, or a tuple of arrays, to judge it on.

    Returns:
      params: all parameters, batch-norm statistics not counted.
      nonzero_params: those left when the zeros in kernels are not counted.
      sparsity: fraction of zeros in the kernels.
      compression_ratio: params / nonzero_params.
      macs: multiply-accumulates for one example, as if dense.
      nonzero_macs: those with a weight that is not zero.
      theoretical_speedup: macs / nonzero_macs.
      entropy_bytes: of all parameters, kernels coded as `measurement.entropy` says: codebooks and
        the entropy of what points into them.
      huffman_bytes: the same with Huffman's code.
      top1, top5 (more than five classes), loss: as fractions, if there is `data`.

    Raises:
      ValueError: if the model is not built, leaves its input size open, or labels don't fit.
    """
    rows = layers(model)
    params, total = k.parameters(model), macs.total(model)
    zeros = sum(row["params"] - row["nonzero_params"] for row in rows)
    nonzero_macs = total - sum(row["macs"] - row["nonzero_macs"] for row in rows)
    facts = {
        "params": params,
        "nonzero_params": params - zeros,
        "sparsity": zeros / max(sum(row["params"] for row in rows), 1),
        "compression_ratio": params / max(params - zeros, 1),
        "macs": total,
        "nonzero_macs": nonzero_macs,
        "theoretical_speedup": total / max(nonzero_macs, 1),
        **_coded(model, params),
    }
    if data is not None:
        from tfprune.measurement.accuracy import evaluate

        facts |= {key: value for key, value in evaluate(model, data).items() if key != "examples"}
    return facts


def _coded(model: keras.Model, params: int) -> dict[str, int]:
    """Returns the bytes of all parameters, those of kernels coded, the rest in float32."""
    kernels, _ = k.find(model)
    sizes = [entropy.coded(kernel.read().astype(np.float32)) for kernel in kernels]
    rest = 4 * (params - sum(kernel.size for kernel in kernels))
    return {
        "entropy_bytes": rest + sum(size.entropy_bytes for size in sizes),
        "huffman_bytes": rest + sum(size.huffman_bytes for size in sizes),
    }


def layers(model: keras.Model) -> list[dict[str, object]]:
    """Returns one row a kernel, in the order of the model's weights.

    Each has its `name`, `layer`, `shape`, `params`, `nonzero_params`, `sparsity`, `macs` and
    `nonzero_macs`.
    """
    kernels, _ = k.find(model)
    uses = macs.positions(model, kernels)
    rows = []
    for kernel in kernels:
        nonzero = int(np.count_nonzero(kernel.read()))
        rows.append(
            {
                "name": kernel.name,
                "layer": kernel.layer.name,
                "shape": list(kernel.variable.shape),
                "params": kernel.size,
                "nonzero_params": nonzero,
                "sparsity": 1 - nonzero / kernel.size,
                "macs": kernel.size * uses[kernel.name],
                "nonzero_macs": nonzero * uses[kernel.name],
            }
        )
    return rows


def channels(dense: keras.Model, small: keras.Model) -> list[dict[str, object]]:
    """Returns one row a group of coupled channels: what `dense` has of them and `small` kept.

    Each has its `name` (the layer that makes them first), `layers` (all that make or change them),
    `channels`, `kept`, and `frozen`: why none could be removed, or an empty string.
    """
    pairs = zip(Channels(dense).groups(), Channels(small).groups(), strict=True)
    return [
        {
            "name": before.name,
            "layers": ", ".join(layer.name for layer in before.layers),
            "channels": len(before),
            "kept": len(after),
            "frozen": before.frozen,
        }
        for before, after in pairs
    ]
