"""Random scores: the control that every criterion has to beat (Blalock et al. 2020, 2003.03033)."""

import numpy as np


def score(units: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a uniform number in [0, 1) for each unit, from the kernel's own generator."""
    return rng.random(len(units))
