"""Shared weights: attached to a model's kernels, they keep each cluster of weights at one value.

Deep Compression (Han, Mao & Dally 2015, arXiv 1510.00149): all weights of a cluster are one
parameter. After every update of the optimizer each cluster takes the mean of its members,

  w_i <- mean of w_j over j in cluster(i),

so that its value moves by the mean of what the optimizer does to them; with SGD this is the
gradient averaged over the cluster. Like a mask it sits in `variable.constraint`, inside the
compiled train step, and the saved file is a plain Keras model.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
from keras import ops

from tfprune import codebooks, masks, registry
from tfprune.graph import kernels as k

log = logging.getLogger("tfprune")

Clusters = Mapping[str, np.ndarray]
_PER = ("tensor", "channel")


class SharedConstraint(masks.Layered):
    """Applies the user's own constraint first, then gives each cluster the mean of its members.

    Cluster 0 stays exactly zero. Where a mask lies above, what it prunes is no member.
    """

    def __init__(
        self, variable: keras.Variable, inner: Callable | None, clusters: np.ndarray
    ) -> None:
        super().__init__(inner)
        self.count = int(clusters.max()) + 1
        self.clusters = keras.Variable(clusters, trainable=False, dtype="int32", name="clusters")
        self._variable = variable

    def __call__(self, value: keras.KerasTensor) -> keras.KerasTensor:
        """Returns `value` with the weights of each cluster equal."""
        return self.shared(super().__call__(value))

    def shared(self, value: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the means alone, without the user's own constraint."""
        clusters = self.clusters.value
        if isinstance(mask := self._variable.constraint, masks.MaskConstraint):
            clusters = ops.where(mask.mask.value, clusters, ops.zeros_like(clusters))
        index = ops.reshape(clusters, (-1,))
        # In float64 the sum of equal float32 values is exact: means of what is equal already
        # change nothing, however often they are taken.
        flat = ops.cast(ops.reshape(value, (-1,)), "float64")
        total = ops.segment_sum(flat, index, self.count)
        members = ops.segment_sum(ops.ones_like(flat), index, self.count)
        mean = total[1:] / ops.maximum(members[1:], 1)
        mean = ops.concatenate([ops.zeros(1, "float64"), mean])
        return ops.reshape(ops.take(ops.cast(mean, value.dtype), index), value.shape)


def share(
    model: keras.Model,
    n_clusters: int = 16,
    *,
    initialisation: str = "linear",
    per: str = "tensor",
    preserve_zeros: bool = True,
    protect: Sequence[str] = (),
    seed: int = 0,
) -> None:
    """Clusters the weights of each kernel of a built model, and attaches what keeps them equal.

    A kernel that has at most `n_clusters` values already keeps exactly these, so that a shared
    model that was loaded from a file goes on, and a second call changes nothing. Where a mask was
    attached to shared weights, the zeros may be one value too many: the kernel is clustered anew.

    Args:
      model: its kernels are clustered in place. Biases and normalisations are left alone.
      n_clusters: as in `tfprune.cluster_weights`, and so are all others.
      initialisation: where k-means begins.
      per: what has a codebook of its own.
      preserve_zeros: whether what is zero stays zero.
      protect: layers to leave as they are.
      seed: of initialisations that draw.

    Raises:
      ValueError: for a wrong word, NaN weights, or where nothing is left to share. The model is
        then unchanged.
    """
    check(n_clusters, initialisation=initialisation, per=per)
    kernels, _ = k.find(model)
    held = masks.of(model)
    found, reasons = {}, []
    for kernel, protected in zip(kernels, k.protected(kernels, protect), strict=True):
        weights = kernel.read().astype(np.float64)
        together = (-1, weights.shape[-1]) if per == "channel" else (-1, 1)
        columns = weights.reshape(together)
        if protected or len(columns) < n_clusters:
            few = f"{len(columns)} weights a {per}, fewer than n_clusters={n_clusters}"
            reasons.append(f"{kernel.name}: {'protected' if protected else few}")
            log.info("weights are not shared in %s", reasons[-1])
            continue
        if preserve_zeros:
            zero = weights == 0
        else:  # what is masked can't be anything else
            zero = ~kernel.canonical(held.get(kernel.name, np.ones(kernel.variable.shape, bool)))
        clusters = np.empty_like(columns, np.int32)
        for i, (column, none) in enumerate(zip(columns.T, zero.reshape(together).T, strict=True)):
            one = codebooks.clusters(
                column, n_clusters, zero=none, initialisation=initialisation, seed=seed
            )
            clusters[:, i] = np.where(one == 0, 0, one + i * n_clusters)
        found[kernel.name] = kernel.restore(clusters.reshape(weights.shape))
    if not found:
        raise ValueError(
            f"model {model.name!r} has no kernel whose weights can be shared: "
            f"{'; '.join(reasons[:5]) or 'it has none'}"
        )
    attach(model, found)


def check(n_clusters: int, *, initialisation: str, per: str) -> None:
    """Checks the words of `share`.

    Raises:
      ValueError: for a wrong one.
    """
    codebooks.check(n_clusters, initialisation)
    if per not in _PER:
        raise registry.unknown("what has a codebook (per)", per, _PER)


def attach(model: keras.Model, clusters: Clusters) -> None:
    """Sets the clusters of some of a model's weights and takes their means at once.

    Args:
      model: the model that the weights belong to.
      clusters: {name as in `tfprune.graph.kernels.named`: int array of the variable's shape}, 0
        for what stays zero.
    """
    fresh = False
    variables = k.named(model)
    with model.distribute_strategy.scope():
        for name, new in clusters.items():
            variable = variables[name]
            present = _on(variable)
            if present is not None and new.max() < present.count:
                present.clusters.assign(new)
                continue
            fresh = True
            inner = present.inner if present else masks.below(variable)
            masks.put_below(variable, SharedConstraint(variable, inner, new))
    if fresh:
        masks.retrace(model)
    apply(model)


def apply(model: keras.Model) -> None:
    """Takes the means of all clusters of the model now."""
    for variable in model.weights:
        if (constraint := _on(variable)) is not None:
            value = ops.convert_to_numpy(variable)
            means = ops.convert_to_numpy(constraint.shared(ops.convert_to_tensor(value)))
            if not np.array_equal(means, value):
                variable.assign(means)


def of(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns {name: int clusters of the variable's shape} of those that are attached."""
    return {
        name: ops.convert_to_numpy(constraint.clusters)
        for name, variable in k.named(model).items()
        if (constraint := _on(variable)) is not None
    }


def _on(variable: keras.Variable) -> SharedConstraint | None:
    constraint = masks.below(variable)
    return constraint if isinstance(constraint, SharedConstraint) else None
