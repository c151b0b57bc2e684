"""Synaptic flow, |w| dR/d|w|, of a signal of ones through the linear network of all |w|.

SynFlow (Tanaka et al. 2020, arXiv 2006.05467) needs no data. What flows into a layer flows out of
it, so that scores in wide layers are low; scored anew in a hundred rounds, no layer is ever pruned
away as a whole while another could give. See `tfprune.statistics.flow` for R. Over a larger unit
it is averaged.
"""

import numpy as np

ROUNDS = 100


def score(flow: np.ndarray) -> np.ndarray:
    """Returns the flow through each weight."""
    return flow
