"""How masks change while a model trains: one file a method.

A method is a module with `update(training)`, which `tfprune.Pruner` calls where its schedule is
due, on the host, between two steps. It changes the masks of the model and returns them; what it
sees is a `Training`. Its keyword-only parameters are its options. A module may also say

    SCHEDULE = "constant"     the schedule where none is given; else "polynomial"
    REFUSES = ("channel",)    granularities at which it has no meaning
    tap(variable) -> Tap      what stands, at every step and inside the compiled train step, between
                              its gradient and the optimizer; until the schedule ends
    watch(training)           called before every step that begins, on the host
    check(recipe)             raises ValueError for words that contradict it
    span(schedule, total, per_epoch) -> (begin, end)
                              the steps at which it begins and ends where none are given
    cycle(...)                as `span`, the steps over which the learning rate is to decay

Each of them may take the method's options too.
"""

import importlib
from typing import TYPE_CHECKING

from tfprune import registry

if TYPE_CHECKING:
    from tfprune.planning import Recipe

__all__ = [
    "Tap",
    "Training",
    "attach",
    "check",
    "detach",
    "get",
    "names",
    "recall",
    "remember",
]

_PACKAGE = "tfprune.sparse_training"
# Imported on first use, so that names alone don't take Keras.
_PARTS = {
    **dict.fromkeys(("Tap", "attach", "detach"), "_taps"),
    **dict.fromkeys(("Training", "recall", "remember"), "_training"),
}


def __getattr__(name: str) -> object:
    if name not in _PARTS:
        raise AttributeError(f"module {_PACKAGE!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{_PACKAGE}.{_PARTS[name]}"), name)


def get(spec: object) -> registry.Method:
    """Returns the method that `spec` names, such as `"rigl(drop=0.2)"`."""
    return registry.method(_PACKAGE, "method", spec, "update")


def names() -> list[str]:
    """Returns the names that `get` takes."""
    return sorted(registry.names(_PACKAGE))


def check(method: registry.Method, recipe: "Recipe") -> None:
    """Checks that a method goes with the other words.

    Raises:
      ValueError: if not.
    """
    granularity = registry.parse(recipe.granularity.name)[0]
    if granularity in getattr(method.definition, "REFUSES", ()):
        raise ValueError(
            f"method {method.name!r} moves single units of a kernel: granularity {granularity!r} "
            "contradicts it; give weight, block or filter, or method='gradual'"
        )
    if method.has("check"):
        method("check", recipe)
