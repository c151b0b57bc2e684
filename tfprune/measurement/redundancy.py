"""How alike the filters of a layer are, and which of them pruning kept: what a picture shows."""

import keras
import numpy as np

from tfprune import registry
from tfprune.graph import kernels as k


def find(model: keras.Model, layer: str) -> int:
    """Returns which of the model's kernels, in their order, is the (last) one of this layer.

    Raises:
      ValueError: if there is none, with the near names.
    """
    names = [kernel.layer.name for kernel in k.find(model)[0]]
    if layer not in names:
        raise registry.unknown("layer with a kernel", layer, names)
    return len(names) - 1 - names[::-1].index(layer)


def filters(
    dense: keras.Model, pruned: keras.Model, *, layer: str | None = None
) -> dict[str, object]:
    """Returns a layer's filters in a plane, their tree, and what became of them.

    Args:
      dense: the model before pruning.
      pruned: the same with zeros, not yet smaller.
      layer: its name; if None, the layer that lost most filters but not all.

    Returns:
      layer: its name.
      kept: for each filter, whether it has weights that are not zero.
      points: (x, y) of each, the two principal components of the dense layer's filters.
      explained: the share of their variance in this plane.
      nearest: for each, which of those that are kept it is nearest to.
      tree: rows (one, other, distance, filters), as `scipy.cluster.hierarchy.linkage` by Ward.
      Nothing, if no layer lost any of its filters but kept some.

    Raises:
      ValueError: for a layer that is not there.
    """
    from scipy.cluster import hierarchy
    from sklearn.metrics import pairwise_distances_argmin

    before, after = k.find(dense)[0], k.find(pruned)[0]
    alive = [x.read().reshape(-1, x.shape[-1]).any(axis=0) for x in after]
    lost = [int((~kept).sum()) if kept.any() else 0 for kept in alive]
    number = int(np.argmax(lost)) if layer is None else find(dense, layer)
    if not lost[number]:
        return {}
    kernel, kept = before[number], alive[number]
    rows = kernel.read().reshape(-1, kernel.shape[-1]).T.astype(np.float64)
    centred = rows - rows.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(rows), 2))
    points[:, : min(2, len(s))] = (u * s)[:, :2]
    whole = np.square(s).sum()
    return {
        "layer": kernel.layer.name,
        "kept": kept.tolist(),
        "points": points.round(6).tolist(),
        "explained": float(np.square(s[:2]).sum() / whole) if whole > 0 else 1.0,
        "nearest": np.flatnonzero(kept)[pairwise_distances_argmin(rows, rows[kept])].tolist(),
        "tree": hierarchy.linkage(rows, "ward").round(6).tolist() if len(rows) > 1 else [],
    }
