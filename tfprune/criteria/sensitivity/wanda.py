"""Wanda: |w| times the L2 norm of what it multiplies, |w| ||x||_2 (Sun et al. 2023, 2306.11695).

Weights are compared within each output: where a unit is a single weight (granularities weight and
n_m), its score is its rank among the weights of its output, so that every output of every layer
loses the same share, as in the paper's language models. On image classifiers the authors did not
find that better than to compare within a layer: `wanda(per_output=False)` keeps the plain scores,
as do all larger units. All statistics are those of the dense network; the authors prune layer by
layer and see inputs that are already changed.
"""

import numpy as np


def score(
    weight: np.ndarray, units: np.ndarray, input_norm: np.ndarray, *, per_output: bool = True
) -> np.ndarray:
    """Returns |w| ||x||, or its rank within the output between 0 and 1, one a weight."""
    scores = np.abs(weight) * input_norm
    if not per_output or units.shape[1] > 1:
        return scores
    columns = scores.reshape(-1, scores.shape[-1])
    ranks = np.argsort(np.argsort(columns, axis=0, kind="stable"), axis=0)
    return ((ranks + 0.5) / len(columns)).reshape(scores.shape)
