"""Magnitude of what a weight contributes on average, |w| E|x|, x what it multiplies.

The activation-weighted magnitude |w a| of the survey of Vadera & Ameen 2020 (arXiv 2011.00241); x
is summed over the positions of an example.
"""

import numpy as np


def score(weight: np.ndarray, input_abs: np.ndarray) -> np.ndarray:
    """Returns |w| times the mean |x|, one a weight."""
    return np.abs(weight) * input_abs
