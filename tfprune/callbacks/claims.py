"""One callback of a training decides what is pruned."""

import keras


def alone(callback: keras.callbacks.Callback) -> None:
    """Claims this `fit` for a callback.

    Raises:
      ValueError: if another one did before.
    """
    # Keras gives all callbacks of one fit the same dictionary, and each fit a new one.
    first = callback.params.setdefault("pruned_by", callback)
    if first is not callback:
        raise ValueError(
            f"{type(first).__name__} and {type(callback).__name__} contradict each other: both "
            "decide what is pruned; leave one out, or fit once with each, one after the other"
        )
