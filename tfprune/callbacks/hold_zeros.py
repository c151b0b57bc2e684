"""`HoldZeros`: goes on training a pruned model without reviving what is pruned."""

import keras

from tfprune import masks


class HoldZeros(keras.callbacks.Callback):
    """Keeps at zero what is zero in the kernels when training begins.

    For a pruned model that was loaded from a file (masks are not saved, zeros are), and for
    optimizers with `use_ema=True`, whose averages are written over the weights when training ends.

    Example:
      >>> model = keras.saving.load_model("pruned.keras")
      >>> model.fit(train, callbacks=[tfprune.HoldZeros()])
    """

    async_safe = True

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Attaches masks over the present zeros."""
        del logs
        masks.hold_zeros(self.model)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Applies the masks once more, after the averages were written."""
        del logs
        masks.apply(self.model)
