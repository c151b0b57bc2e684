"""Which weights live or die together: one file a granularity.

A granularity is a reversible view of a kernel in canonical layout `(*spatial, inputs, outputs)`:

    unroll(array) -> (n_units, unit_size)    the units, zero-padded where a unit is cut by an edge
    fold(keep, shape) -> bool mask           the kept units (n_units,), as a mask of the kernel

and, where not every choice of units is allowed,

    refuses(shape) -> str                    why a kernel of this shape has no such units, or ""
    stays(scores) -> bool (n_units,)         the units that must be kept, whatever the target

`channel` alone is `COUPLED`: its units reach over several kernels, so that it says how to unroll a
channel's slices of each, and how to join their scores.
"""

import numpy as np

from tfprune import registry


def get(spec: object) -> registry.Method:
    """Returns the granularity that `spec` names, such as `"weight"` or `"block(4, 1)"`."""
    return registry.method("tfprune.granularity", "granularity", spec, "unroll")


def sizes(granularity: registry.Method, shape: tuple[int, ...]) -> np.ndarray:
    """Returns how many weights each unit of a kernel of this shape has, (n_units,), read-only."""
    counts = granularity("unroll", np.ones(shape, bool)).sum(axis=1, dtype=np.int64)
    # Mostly all are alike, and one number for millions of weights is enough.
    same = len(counts) and (counts == counts[0]).all()
    return np.broadcast_to(counts[0], counts.shape) if same else counts
