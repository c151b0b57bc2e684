"""Keras files to models: today's .keras, and Keras 2's .h5."""

import inspect
import json
import os
import pathlib
import re
import zipfile
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import keras

# Keras 2 wrote arguments of the base class into the configs of these; Keras 3 refuses them.
_OVERFULL = (
    "Conv1DTranspose",
    "Conv2DTranspose",
    "Conv3DTranspose",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "GRU",
    "LSTM",
    "RNN",
    "SeparableConv1D",
    "SeparableConv2D",
    "SimpleRNN",
)
_SURPLUS = (
    "groups",
    "kernel_constraint",
    "kernel_initializer",
    "kernel_regularizer",
    "time_major",
)


def load_model(
    path: str | os.PathLike[str], custom_objects: dict[str, object] | None = None
) -> "keras.Model":
    """Returns the model of a .keras file or of a Keras 2 .h5 or .hdf5 file.

    The model is compiled as it was saved where Keras 3 still knows how, and uncompiled else.
    It is built of Keras's own layers: saved as .keras it loads anywhere.

    Args:
      path: the file.
      custom_objects: {name: class or function} for what is not Keras's own.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is no readable model, if it needs `custom_objects`, or if it holds a
        Lambda layer, which is code that would run on loading.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model file {path}")
    if path.suffix.lower() not in (".keras", ".h5", ".hdf5"):
        raise ValueError(f"can't tell what {path} is: model files end in .keras, .h5 or .hdf5")
    try:
        return _load(path, custom_objects, compile=True)
    except Exception:  # an optimizer or loss of Keras 2 is no reason to refuse the weights
        try:
            return _load(path, custom_objects, compile=False)
        except Exception as error:
            _explain(path, error)


def _load(
    path: pathlib.Path,
    custom_objects: dict[str, object] | None,
    *,
    compile: bool,
) -> "keras.Model":
    """Returns the model in `path`, or raises whatever Keras raises."""
    import keras

    known = dict(custom_objects or {})
    if path.suffix.lower() != ".keras":
        known = _keras_2_objects() | known
    model = keras.saving.load_model(
        str(path), custom_objects=known, compile=compile, safe_mode=True
    )
    if not isinstance(model, keras.Model):
        raise ValueError(f"it holds a {type(model).__name__}, not a model")
    return _without_lists(model)


def _without_lists(model: "keras.Model") -> "keras.Model":
    """Returns `model` with a tensor for input and output, where it has lists of one.

    Keras 3 reads the models of Keras 2 so, and then warns at every call with a tensor.
    """
    import keras

    if type(model) is not keras.Model and type(model).__name__ != "Functional":
        return model
    if not any(isinstance(x, list) and len(x) == 1 for x in (model.input, model.output)):
        return model
    plain = keras.Model(
        *(x[0] if isinstance(x, list) and len(x) == 1 else x for x in (model.input, model.output)),
        name=model.name,
    )
    if model.compiled:
        config = model.get_compile_config()
        plain.compile_from_config(config | {"metrics": _by_name(config.get("metrics"))})
    return plain


def _by_name(metrics: object) -> object:
    """Returns serialised metrics, those that wrap a function of Keras by their names.

    Keras 3 writes the name of such a function down, and does not read it as one again.
    """
    if isinstance(metrics, list):
        return [_by_name(metric) for metric in metrics]
    if isinstance(metrics, dict) and metrics.get("class_name") == "MeanMetricWrapper":
        return metrics["config"]["name"]
    return metrics


def _keras_2_objects() -> dict[str, object]:
    """Returns stand-ins by whose `from_config` Keras 3 reads configs of Keras 2."""
    import keras

    def reader(layer: type[keras.layers.Layer]) -> type:
        accepted = inspect.signature(layer).parameters

        class Reader:
            @classmethod
            def from_config(cls, config: dict[str, object]) -> keras.layers.Layer:
                if config.get("time_major"):
                    raise ValueError(f"{layer.__name__} with time_major is not known to Keras 3")
                surplus = {key for key in _SURPLUS if key not in accepted}
                return layer.from_config({k: v for k, v in config.items() if k not in surplus})

        return Reader

    class NoLambda:
        @classmethod
        def from_config(cls, config: dict[str, object]) -> NoReturn:
            raise ValueError(f"Lambda layer {config.get('name')!r}")

    readers = {name: reader(getattr(keras.layers, name)) for name in _OVERFULL}
    # Not every Keras 3 minds safe_mode in .h5 files.
    return readers | {"Lambda": NoLambda}


def _explain(path: pathlib.Path, error: Exception) -> NoReturn:
    """Raises the ValueError that says what is wrong with `path` and what to do."""
    text = str(error)
    if "Lambda" in text or "lambda" in text:
        remedy = (
            "it holds a Lambda layer, which is Python code run on loading. Replace it by a layer "
            "or a keras.ops call; or, if you trust the file, load it with "
            "keras.saving.load_model(..., safe_mode=False) and save it without the Lambda"
        )
    elif _is_keras_2(path):
        remedy = "Keras 2 wrote it: save it as .h5 there (tf_keras), that can be read here"
    elif match := re.search(r"(?:Could not locate \w+|Unknown \w+:) '?(\w+)", text):
        name = match.group(1)
        remedy = f"it needs {name} of its author: pass custom_objects={{{name!r}: {name}}}"
    elif "No model config" in text:
        remedy = "it holds weights only: build the model and call its load_weights"
    else:
        remedy = f"it is damaged or no Keras model: save or copy it again ({_first_line(text)})"
    raise ValueError(f"can't load {path}: {remedy}") from error


def _is_keras_2(path: pathlib.Path) -> bool:
    """Returns whether `path` is a .keras file by Keras 2."""
    try:
        with zipfile.ZipFile(path) as archive:
            version = json.loads(archive.read("metadata.json"))["keras_version"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return False
    return version.startswith("2.")


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:200]
