"""Standard models by name, and whatever else a user may mean by "the model"."""

import contextlib
import importlib
import inspect
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tfprune import registry
from tfprune.zoo.files import load_model

if TYPE_CHECKING:
    import keras

__all__ = ["FILE_ENDINGS", "build", "load_model", "names", "resolve"]

# The families are modules that import Keras; this table keeps `import tfprune.zoo` free of it.
_FAMILY = {
    "digits_cnn": "digits",
    "ds_cnn": "ds_cnn",
    "lenet5": "lenet",
    "lenet_300_100": "lenet",
    "mobilenet_v1": "mobilenet",
    "mobilenet_v2": "mobilenet",
    "resnet8": "resnet",
    "resnet20": "resnet",
    "resnet32": "resnet",
    "resnet44": "resnet",
    "resnet56": "resnet",
    "resnet110": "resnet",
    "vgg16_bn": "vgg",
}
FILE_ENDINGS = (".keras", ".h5", ".hdf5")


def names() -> tuple[str, ...]:
    """Returns the names that `build` knows, sorted."""
    return tuple(sorted(_FAMILY))


def build(
    name: str,
    input_shape: tuple[int, ...] | None = None,
    classes: int = 10,
    *,
    seed: int | None = None,
    **kwargs: object,
) -> "keras.Model":
    """Returns a standard model with random weights, ending in softmax probabilities.

    Args:
      name: one of `names()`, or a call-string such as `"mobilenet_v1(width=0.5)"`.
      input_shape: (height, width, channels) without the batch; None takes the paper's.
      classes: number of outputs.
      seed: makes the weights reproducible; the global random state is left as it was.
      **kwargs: the architecture's own arguments, such as `width` or `weight_decay`.

    Raises:
      ValueError: for an unknown name or argument, with the known ones.

    Example:
      >>> tfprune.zoo.build("resnet20").count_params()
      272474
    """
    name, positional, arguments = registry.parse(name)
    if name not in _FAMILY:
        raise registry.unknown("model", name, _FAMILY)
    make = getattr(importlib.import_module(f"tfprune.zoo.{_FAMILY[name]}"), name)
    arguments |= kwargs | {"classes": classes}
    if input_shape is not None:
        arguments["input_shape"] = tuple(input_shape)
    return _call(make, name, positional, arguments, seed=seed)


def resolve(
    spec: str,
    input_shape: tuple[int, ...] | None = None,
    classes: int | None = None,
    *,
    seed: int | None = None,
) -> "keras.Model":
    """Returns the model that a user names.

    Args:
      spec: a name of `names()`; a name of keras.applications, built without weights; either
        with arguments, as in `"MobileNetV2(alpha=0.35)"`; a .keras, .h5 or .hdf5 file; or
        `package.module:function`, a function that returns a keras.Model and is given
        `input_shape` and `classes` where it has such parameters.
      input_shape: shape of one example. None leaves it to the model.
      classes: number of outputs. None leaves it to the model.
      seed: makes random weights reproducible.

    Raises:
      ValueError: if `spec` is none of these, if an argument does not fit, or if the model takes
        other examples or has another number of outputs than asked for.
      FileNotFoundError: for a file that is not there.
    """
    if spec.lower().endswith(FILE_ENDINGS):
        model = load_model(spec)
    else:
        wanted = {"input_shape": input_shape and tuple(input_shape), "classes": classes}
        wanted = {k: v for k, v in wanted.items() if v is not None}
        name, positional, arguments = registry.parse(spec)
        if ":" in name:
            make = _imported(name)
            accepted = inspect.signature(make).parameters
            if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
                wanted = {k: v for k, v in wanted.items() if k in accepted}
            model = _call(make, spec, positional, arguments | wanted, seed=seed)
        elif name in _FAMILY:
            model = build(spec, seed=seed, **wanted)
        else:
            wanted["weights"] = None
            model = _call(_application(name), spec, positional, arguments | wanted, seed=seed)
    _check_fits(model, spec, input_shape=input_shape, classes=classes)
    return model


def _call(
    make: Callable[..., "keras.Model"],
    name: str,
    args: tuple[object, ...],
    kwargs: dict[str, object],
    *,
    seed: int | None,
) -> "keras.Model":
    """Returns `make(*args, **kwargs)`, a model, with its random weights from `seed`."""
    import keras

    signature = inspect.signature(make)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ValueError(f"{name}: {error}; it is called as {name}{signature}") from None
    with _seeded(seed):
        model = make(*args, **kwargs)
    if not isinstance(model, keras.Model):
        raise ValueError(f"{name} returned a {type(model).__name__}: return a keras.Model")
    return model


@contextlib.contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Makes Keras's initializers reproducible inside, without a trace outside."""
    # An initializer without a seed of its own draws one from Python's random module.
    state = random.getstate()
    try:
        if seed is not None:
            random.seed(seed)
        yield
    finally:
        if seed is not None:
            random.setstate(state)


def _application(name: str) -> Callable[..., "keras.Model"]:
    """Returns the function of keras.applications called `name`."""
    import keras

    known = [n for n, f in vars(keras.applications).items() if inspect.isfunction(f)]
    if name in known:
        return getattr(keras.applications, name)
    for other in (*known, *_FAMILY):
        if name.lower() == other.lower():
            raise ValueError(f"unknown model {name!r}. Did you mean {other}?")
    raise registry.unknown("model", name, (*known, *_FAMILY))


def _imported(name: str) -> Callable[..., "keras.Model"]:
    """Returns the function that `package.module:function` names."""
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise ValueError(
            f"can't import {module!r} of model {name!r} ({error}): "
            "write package.module:function, with its folder on PYTHONPATH"
        ) from error
    except AttributeError:
        public = [n for n in vars(importlib.import_module(module)) if not n.startswith("_")]
        raise registry.unknown(f"function of {module}", function, public) from None
    if not callable(found):
        raise ValueError(
            f"{name} is a {type(found).__name__}: name a function that returns a model"
        )
    return found


def _check_fits(
    model: "keras.Model",
    spec: str,
    *,
    input_shape: tuple[int, ...] | None,
    classes: int | None,
) -> None:
    """Raises a ValueError if `model` can't take such examples or has not `classes` outputs."""
    if len(getattr(model, "inputs", None) or ()) != 1 or len(model.outputs) != 1:
        return
    takes, gives = tuple(model.inputs[0].shape[1:]), model.outputs[0].shape[-1]
    if input_shape is not None:
        same_rank = len(takes) == len(input_shape)
        if not same_rank or any(
            a not in (None, b) for a, b in zip(takes, input_shape, strict=True)
        ):
            raise ValueError(
                f"model {spec} takes examples of shape {takes}, the data has {tuple(input_shape)}: "
                "choose the image size or the model accordingly"
            )
    # One sigmoid output tells two classes apart.
    if classes is not None and gives != classes and (gives, classes) != (1, 2):
        raise ValueError(
            f"model {spec} has {gives} outputs, the data has {classes} classes: "
            "give it a head of that size, or choose other data"
        )
