"""`WeightSharing`: trains a model whose weights are shared."""

from collections.abc import Sequence

import keras

from tfprune import sharing


class WeightSharing(keras.callbacks.Callback):
    """Clusters the weights of each kernel when training begins, and keeps clusters at one value.

    The values are trained with what the optimizer does to the weights, averaged over each cluster:
    trained quantisation of Deep Compression (Han, Mao & Dally 2015, arXiv 1510.00149). A model that
    `tfprune.cluster_weights` made, or that was loaded from a file with shared weights, goes on with
    the clusters it has. Needed besides for optimizers with `use_ema=True`, whose averages are
    written over the weights when training ends. The sharing stays attached after training: see
    `tfprune.detach`.

    It goes after `tfprune.HoldZeros` or `tfprune.Pruner`, and after a callback that sets weights
    when training ends (EarlyStopping with restore_best_weights). Where weights are pruned while
    they are shared, two values of a kernel may have to become one when training ends: better
    prune first.

    Example:
      >>> model.fit(train, epochs=3, callbacks=[tfprune.HoldZeros(), tfprune.WeightSharing(16)])

    Args:
      n_clusters, initialisation, per, preserve_zeros, protect, seed: as in
        `tfprune.cluster_weights`.

    Raises:
      ValueError: for a wrong word; when training begins, for NaN weights, or where nothing is left
        to share.
    """

    async_safe = True

    def __init__(
        self,
        n_clusters: int = 16,
        *,
        initialisation: str = "linear",
        per: str = "tensor",
        preserve_zeros: bool = True,
        protect: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        sharing.check(n_clusters, initialisation=initialisation, per=per)
        self._words = {
            "n_clusters": n_clusters,
            "initialisation": initialisation,
            "per": per,
            "preserve_zeros": preserve_zeros,
            "protect": protect,
            "seed": seed,
        }
        self._begun = False

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Clusters the weights."""
        del logs
        self._begun = False
        sharing.share(self.model, **self._words)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Finds the clusters of weights that an interrupted training has restored meanwhile."""
        del epoch, logs
        if not self._begun:
            self._begun = True
            sharing.share(self.model, **self._words)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Takes the means once more, after the averages were written."""
        del logs
        sharing.apply(self.model)
        sharing.share(self.model, **self._words)  # merges a value too many, if zeros were added
