"""What criteria ask about a model and its calibration data: one file a statistic.

A statistic is a module, named as the parameter of `score` that asks for it, with

    collect(calibration, kernels, *, options) -> {kernel name: array}

Arrays are in canonical layout, seen with the weights as they are now, in inference mode, streamed
over the data; the model is as it was afterwards. Options are those of the criterion. It may say

    DATA = False            it needs no data
    LABELS = True           it needs the loss, so that the data must have labels
    refuses(kernel) -> str  why a kernel has none, or ""
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfprune import registry

if TYPE_CHECKING:
    from tfprune.calibration import Calibration
    from tfprune.graph.kernels import Kernel


def names() -> set[str]:
    """Returns all statistics that a criterion may ask for."""
    return set(registry.names("tfprune.statistics"))


def needs_data(wanted: Iterable[str]) -> bool:
    """Returns whether any of these inputs of a criterion is made from calibration data."""
    return any(getattr(_module(name), "DATA", True) for name in set(wanted) & names())


def refusal(wanted: Iterable[str], kernel: "Kernel") -> str:
    """Returns why a kernel has not all of these statistics, or an empty string."""
    modules = [_module(name) for name in sorted(set(wanted) & names())]
    reasons = (m.refuses(kernel) for m in modules if hasattr(m, "refuses"))
    return next((reason for reason in reasons if reason), "")


def collect(
    wanted: Iterable[str],
    calibration: "Calibration",
    kernels: Sequence["Kernel"],
    options: dict[str, object],
) -> dict[str, dict[str, np.ndarray]]:
    """Returns {statistic: {kernel name: array}}, each computed once for all kernels.

    Args:
      wanted: names; those that are no statistics are left out.
      calibration: the model and its data.
      kernels: whose statistics are wanted; those that a statistic refuses are left out of it.
      options: of the criterion; each statistic takes those that it declares.

    Raises:
      ValueError: for bad data, a kernel that the data never reach, or a value that is not finite.
    """
    found = {}
    for name in sorted(set(wanted) & names()):
        method = registry.Method(name, _module(name), options)
        able = [kernel for kernel in kernels if not refusal([name], kernel)]
        found[name] = method("collect", calibration, able) if able else {}
        for kernel in able:
            _check(name, kernel, found[name].get(kernel.name))
    return found


def _check(name: str, kernel: "Kernel", value: object) -> None:
    layer = kernel.layer.name
    if value is None:
        raise ValueError(
            f"layer {layer!r} ({kernel.name}) is never reached by the data, or inside a wrapper "
            f"that hides it, so that it has no {name}: protect it"
        )
    if isinstance(value, np.ndarray) and not np.isfinite(value).all():
        raise ValueError(
            f"layer {layer!r} ({kernel.name}): its {name} is NaN or infinite: check the scale of "
            "the inputs, and the labels"
        )


def _module(name: str) -> object:
    return registry.module("tfprune.statistics", "statistic", name)
