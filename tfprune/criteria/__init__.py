"""How much each unit matters: one file a criterion, in the three families of the survey.

The families are magnitude, clustering and sensitivity (Vadera & Ameen 2020, arXiv 2011.00241). A
criterion is a module with `score(...)`; higher means more important. Its parameter names say what
it needs, and only that is computed:

    weight     the kernel in canonical layout (*spatial, inputs, outputs)
    units      the same as (n_units, unit_size), zero-padded where a unit is cut by an edge
    bn_scale   the scale (gamma) of the batch normalisation that follows, (outputs,)
    rng        a numpy Generator of the kernel's own, from the seed

Keyword-only parameters are its options. It returns one score a weight, in the kernel's shape,
which is averaged over each unit, or one score a unit, (n_units,).
"""

import dataclasses
import inspect
from collections.abc import Callable

import numpy as np

from tfprune import granularity as granularities
from tfprune import registry


def get(spec: object) -> registry.Method:
    """Returns the criterion that `spec` names, such as `"magnitude"`."""
    return registry.method("tfprune.criteria", "criterion", spec, "score")


def needs(criterion: registry.Method) -> set[str]:
    """Returns the inputs that the criterion's `score` asks for.

    Raises:
      TypeError: if it asks for something that is not known.
    """
    parameters = inspect.signature(criterion.definition.score).parameters.values()
    wanted = {p.name for p in parameters if p.kind is not p.KEYWORD_ONLY}
    if not wanted <= Inputs.names():
        raise TypeError(
            f"criterion {criterion.name!r} asks for {sorted(wanted - Inputs.names())}; "
            f"its parameters may be {sorted(Inputs.names())}, options come after a *"
        )
    return wanted


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a criterion may ask for about one kernel, each computed only when asked."""

    weight: Callable[[], np.ndarray]
    units: Callable[[], np.ndarray]
    bn_scale: Callable[[], np.ndarray]
    rng: Callable[[], np.random.Generator]

    @classmethod
    def names(cls) -> set[str]:
        """Returns the names that a criterion may use."""
        return {field.name for field in dataclasses.fields(cls)}


def score(
    criterion: registry.Method, granularity: registry.Method, inputs: Inputs, layer: str
) -> np.ndarray:
    """Returns the scores of a kernel's units, (n_units,).

    Raises:
      ValueError: if the criterion returns another shape, or NaN; it names the `layer`.
    """
    given = {name: getattr(inputs, name)() for name in needs(criterion)}
    scores = np.asarray(criterion("score", **given))
    weight = given.get("weight", inputs.weight())
    if scores.shape == weight.shape:
        count = granularities.sizes(granularity, weight.shape)
        scores = granularity("unroll", scores).sum(axis=1) / count
    if scores.shape != granularity("unroll", weight).shape[:1]:
        raise ValueError(
            f"criterion {criterion.name!r} returned scores of shape {scores.shape} for layer "
            f"{layer!r}: one a weight {weight.shape} or one a unit is needed"
        )
    if np.isnan(scores).any():
        raise ValueError(f"criterion {criterion.name!r} gave NaN scores for layer {layer!r}")
    return scores
