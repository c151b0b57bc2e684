"""Magnitude of a weight, |w| (Han et al. 2015, arXiv 1506.02626).

Over a larger unit it is averaged, as TFMOT does over its blocks.
"""

import numpy as np


def score(weight: np.ndarray) -> np.ndarray:
    """Returns |w|, one a weight."""
    return np.abs(weight)
