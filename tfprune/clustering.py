"""`cluster_weights`: a copy of a model whose kernels hold few different values."""

from collections.abc import Sequence

import keras

from tfprune import sharing
from tfprune.pruning import clone


def cluster_weights(
    model: keras.Model,
    n_clusters: int = 16,
    *,
    initialisation: str = "linear",
    per: str = "tensor",
    preserve_zeros: bool = True,
    protect: Sequence[str] = (),
    seed: int = 0,
    in_place: bool = False,
) -> keras.Model:
    """Returns a copy of `model` with at most `n_clusters` values in each kernel.

    Weight sharing of Deep Compression (Han, Mao & Dally 2015, arXiv 1510.00149), which TFMOT calls
    clustering: k-means puts the weights of a kernel into clusters, each weight becomes the mean of
    its own, and `fit` trains these means. The saved file is a plain Keras file; to go on training
    what was loaded from one, add `tfprune.WeightSharing()`.

    Example:
      >>> small = tfprune.cluster_weights(tfprune.prune(model, "sparsity:0.8"))
      >>> small.fit(train, epochs=3)       # zeros stay zero, the weights of a cluster stay equal

    Args:
      model: a built Keras model; untouched unless `in_place`. Its masks are kept. Biases and
        normalisations are left alone, and so are kernels of fewer weights than clusters.
      n_clusters: how many different values a kernel may have, zero included.
      initialisation: where k-means begins, as TFMOT's `CentroidInitialization`: `"linear"` (from
        the least to the greatest weight at equal distances, the paper's choice), `"density"` (equal
        shares of the weights), `"kmeans++"` or `"random"`.
      per: `"tensor"`, or `"channel"`: each output channel has a codebook of its own.
      preserve_zeros: whether what is zero stays exactly zero, as one of the `n_clusters` values. A
        kernel without zeros has all of them for its weights. What a mask prunes stays zero anyway.
      protect: names or glob patterns of layers to leave as they are.
      seed: of `"kmeans++"` and `"random"`.
      in_place: cluster `model` itself, for a model that can't be cloned.

    Returns:
      The clustered model, compiled as `model` is.

    Raises:
      ValueError: for a wrong word, NaN weights, a model that is not built or can't be cloned, or
        where nothing is left to share. The model is then unchanged.
    """
    clustered = model if in_place else clone(model)
    sharing.share(
        clustered,
        n_clusters,
        initialisation=initialisation,
        per=per,
        preserve_zeros=preserve_zeros,
        protect=protect,
        seed=seed,
    )
    return clustered
