"""What callbacks remember, kept in the file that Keras writes the weights to.

Keras saves all that hangs on a model, its optimizer included, and so does whatever is hung on
that optimizer: `keras.callbacks.BackupAndRestore`, `ModelCheckpoint` and `tfprune.Checkpoint` then
carry masks and the place in the schedule in the same file as the weights, whole or not at all, and
with them the states of random layers such as Dropout, which Keras leaves out. A file that was
written without it loads as well, and so does a file with it in a plain Keras.
"""

import keras
import numpy as np

_NAME, _RANDOM = "tfprune_state", "random"

Values = dict[str, np.ndarray]


class State(keras.layers.Layer):
    """Saves and loads for callbacks with `state() -> {name: array}`."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__(name=_NAME)
        self._random = lambda: _random_states(model)
        self._owners: dict[str, object] = {}
        self._loaded: dict[str, Values] = {}

    def save_own_variables(self, store: dict) -> None:
        """Writes what the callbacks remember now."""
        for kind, owner in self._owners.items():
            for name, value in owner.state().items():
                store[f"{kind}:{name}".replace("/", "|")] = value
        for number, variable in enumerate(self._random()):
            store[f"{_RANDOM}:{number}"] = keras.ops.convert_to_numpy(variable)

    def load_own_variables(self, store: dict) -> None:
        """Reads what they remembered; each takes it when its training goes on."""
        self._loaded = {}
        for key in store.keys():  # noqa: SIM118, PLC0206 (a store is no dict)
            kind, _, name = key.partition(":")
            self._loaded.setdefault(kind, {})[name.replace("|", "/")] = np.array(store[key])
        random = self._loaded.pop(_RANDOM, {})
        for number, variable in enumerate(self._random() if random else []):
            variable.assign(random[str(number)])


def join(callback: keras.callbacks.Callback, model: keras.Model) -> None:
    """Has the model's files carry the callback's state from now on."""
    state = getattr(model.optimizer, _NAME, None)
    if state is None:
        state = State(model)
        setattr(model.optimizer, _NAME, state)
    state._owners[type(callback).__name__] = callback


def leave(model: keras.Model) -> None:
    """Makes the model's files plain again."""
    if hasattr(model.optimizer, _NAME):
        delattr(model.optimizer, _NAME)


def restored(callback: keras.callbacks.Callback, model: keras.Model) -> Values | None:
    """Returns what the callback remembered in a file that was loaded since, once."""
    state = getattr(model.optimizer, _NAME, None)
    return state._loaded.pop(type(callback).__name__, None) if state else None


def _random_states(model: keras.Model) -> list[keras.Variable]:
    """Returns the variables that are neither weights nor metrics: the states of seed generators."""
    known = {id(v) for v in (*model.weights, *model.metrics_variables)}
    return [v for v in model.variables if id(v) not in known]
