"""How much each unit matters: one file a criterion, in the three families of the survey.

The families are magnitude, clustering and sensitivity (Vadera & Ameen 2020, arXiv 2011.00241). A
criterion is a module with `score(...)`; higher means more important. Its parameter names say what
it needs, and only that is computed:

    weight     the kernel in canonical layout (*spatial, inputs, outputs)
    units      the same as (n_units, unit_size), zero-padded where a unit is cut by an edge
    kernel_norms   norms of each unit's two-dimensional kernels, (n_units, kernels)
    unroll     the view itself: an array of the kernel's shape -> (n_units, unit_size)
    bn_scale   the scale (gamma) of the batch normalisation that follows, (outputs,)
    rng        a numpy Generator of the kernel's own, from the seed
    pattern    (n, m) of the granularity n_m, else None
    trial      what happens to the loss without some units, see `tfprune.planning.trial`

and all statistics of calibration data, each a file in `tfprune.statistics`: `grad`, `gram`, ...

Keyword-only parameters are its options. It returns one score a weight, in the kernel's shape,
which is averaged over each unit, or one score a unit, (n_units,). A module may also say

    GRANULARITIES = ("filter", "channel")   the only ones it has a meaning for
    SIDE = "made" or "read"                 of a coupled channel, score only what makes or reads it
    JOINT = True                            score a coupled channel's slices as one: `units` and
                                            `kernel_norms` are those of all kernels, side by side
    COMPARABLE = True                       scores of different layers compare as they are
    ROUNDS = 100                            `prune` scores anew in as many rounds
    ACCUMULATES = True                      scores add up over the updates of one training
    CORRECTS = ("channel",)                 the only granularities at which it corrects
    correct(weight, mask, ...) -> weight, or (weight, mask)
                                            what the weights that stay become: arrays in canonical
                                            layout, and inputs as of `score`
"""

import inspect
from collections.abc import Mapping

import numpy as np

from tfprune import granularity as granularities
from tfprune import registry, statistics

# What a plan knows of a kernel without any data.
LOCAL = ("weight", "units", "kernel_norms", "unroll", "bn_scale", "rng", "pattern", "trial")
# What a criterion that sees a coupled channel as one may ask for.
WHOLE = ("units", "kernel_norms", "rng")


def get(spec: object) -> registry.Method:
    """Returns the criterion that `spec` names, such as `"magnitude"`."""
    return registry.method("tfprune.criteria", "criterion", spec, "score")


def needs(criterion: registry.Method, function: str = "score") -> set[str]:
    """Returns the inputs that the criterion's `score` (or `correct`) asks for.

    Raises:
      TypeError: if it asks for something that is not known.
    """
    parameters = inspect.signature(getattr(criterion.definition, function)).parameters.values()
    wanted = {p.name for p in parameters if p.kind is not p.KEYWORD_ONLY}
    wanted -= {"mask"} if function == "correct" else set()
    known = {*LOCAL, *statistics.names()}
    if not wanted <= known:
        raise TypeError(
            f"criterion {criterion.name!r} asks for {sorted(wanted - known)}; "
            f"its parameters may be {sorted(known)}, options come after a *"
        )
    return wanted


def check(criterion: registry.Method, granularity: registry.Method) -> None:
    """Checks that the criterion knows its inputs and has a meaning for the granularity.

    Raises:
      TypeError, ValueError: if not.
    """
    wanted = needs(criterion)
    if has(criterion, "JOINT") and not wanted <= {*WHOLE}:
        raise TypeError(
            f"criterion {criterion.name!r} is JOINT and asks for {sorted(wanted - {*WHOLE})}: "
            f"of all kernels together there are {', '.join(WHOLE)}"
        )
    if criterion.has("correct"):
        needs(criterion, "correct")
    if not _among(criterion, "GRANULARITIES", granularity):
        own, name = criterion.definition.GRANULARITIES, registry.parse(granularity.name)[0]
        raise ValueError(
            f"criterion {criterion.name!r} has no meaning for granularity {name!r}: it has for "
            f"{' and '.join(own)}"
        )


def corrects(criterion: registry.Method, granularity: registry.Method) -> bool:
    """Returns whether the criterion says what the weights that stay become."""
    return criterion.has("correct") and _among(criterion, "CORRECTS", granularity)


def _among(criterion: registry.Method, attribute: str, granularity: registry.Method) -> bool:
    """Returns whether a granularity is among those that an attribute lists, if there is any."""
    listed = getattr(criterion.definition, attribute, None)
    return listed is None or registry.parse(granularity.name)[0] in listed


def has(criterion: registry.Method, attribute: str) -> bool:
    """Returns whether the criterion's module says that this attribute is true."""
    return bool(getattr(criterion.definition, attribute, False))


def score(
    criterion: registry.Method,
    granularity: registry.Method,
    given: Mapping[str, object],
    shape: tuple[int, ...],
    layer: str,
) -> np.ndarray:
    """Returns the scores of a kernel's units, (n_units,), in float64.

    Those of single weights stay in float32 where the criterion has them so: nothing is added up.

    Args:
      criterion: what scores.
      granularity: the view whose units are scored.
      given: the inputs that the criterion needs.
      shape: the kernel's, in canonical layout.
      layer: its name, for errors.

    Raises:
      ValueError: if the criterion refuses the layer, returns another shape, or NaN.
    """
    try:
        scores = np.asarray(criterion("score", **given))
    except ValueError as error:
        raise ValueError(f"criterion {criterion.name!r} on layer {layer!r}: {error}") from error
    if scores.dtype != np.float32 or granularity.name != "weight":
        scores = scores.astype(np.float64)
    if scores.dtype == np.float32 and scores.shape == shape:
        scores = scores.reshape(-1)
    elif scores.shape == shape:
        count = granularities.sizes(granularity, shape)
        scores = granularity("unroll", scores).sum(axis=1) / count
    elif scores.shape != granularity("unroll", np.ones(shape, bool)).shape[:1]:
        raise ValueError(
            f"criterion {criterion.name!r} returned scores of shape {scores.shape} for layer "
            f"{layer!r}: one a weight {shape} or one a unit is needed"
        )
    if np.isnan(scores).any():
        raise ValueError(f"criterion {criterion.name!r} gave NaN scores for layer {layer!r}")
    return scores
