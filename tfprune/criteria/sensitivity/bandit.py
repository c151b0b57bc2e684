"""Bandit: the change of the loss when a unit is masked, estimated by a multi-armed bandit.

Each unit is an arm, and a pull masks it, measures the change of the loss on a mini-batch, and
restores it (Ameen & Vadera 2026, arXiv 2606.07615). The reward is minus the change: units that the
network can spare are sought, so that they are the ones that are known best. All arms are pulled
once; then in each round, on a new mini-batch, the half that the policy likes best, in one
vectorised pass, until there were `pulls` for each on average. With r_j the mean reward of arm j,
means scaled so that they fill [0, 1], n_j its number of pulls and n = sum n_j, a policy takes the
arms whose index is highest:

    ucb1            r_j + sqrt(2 ln n / n_j)                             (Auer et al. 2002)
    epsilon_greedy  r_j, but each place goes to any arm with epsilon = 0.1  (Watkins 1989)
    softmax         r_j / tau + Gumbel noise, tau = 0.1: draws without replacement in proportion to
                    exp(r_j / tau) (Boltzmann exploration, Sutton & Barto 1998; Gumbel 1954)
    thompson        a draw of N(r_j, s_j^2), s_j the standard error of r_j: the Gaussian posterior
                    of the mean under a flat prior (Thompson 1933)

Mini-batches are those of `tfprune.statistics.sample`: examples with more loss are in them more
often and weigh less. A score is the mean of an arm's pulls, be it one.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tfprune import registry
from tfprune.statistics.sample import Sample

_EPSILON = 0.1
_TEMPERATURE = 0.1


class Arms(NamedTuple):
    """What is known of all arms, (arms,) each.

    Attributes:
      reward: the mean, scaled.
      error: its standard error.
      pulls: how often each was pulled.
    """

    reward: np.ndarray
    error: np.ndarray
    pulls: np.ndarray


# (arms, how many are pulled next, rng) -> index, (arms,): the highest are pulled.
Policy = Callable[[Arms, int, np.random.Generator], np.ndarray]


def ucb1(arms: Arms, places: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the upper confidence bounds."""
    del places, rng
    return arms.reward + np.sqrt(2 * np.log(arms.pulls.sum()) / arms.pulls)


def epsilon_greedy(arms: Arms, places: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the means, and infinity for arms that are taken at random."""
    explored = rng.permutation(len(arms.reward)) < rng.binomial(places, _EPSILON)
    return np.where(explored, np.inf, arms.reward)


def softmax(arms: Arms, places: int, rng: np.random.Generator) -> np.ndarray:
    """Returns log-probabilities with Gumbel noise."""
    del places
    return arms.reward / _TEMPERATURE + rng.gumbel(size=len(arms.reward))


def thompson(arms: Arms, places: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a draw of each arm's posterior."""
    del places
    return rng.normal(arms.reward, arms.error)


POLICIES: dict[str, Policy] = {x.__name__: x for x in (ucb1, epsilon_greedy, softmax, thompson)}


def score(
    trial: object,
    rng: np.random.Generator,
    sample: Sample,
    *,
    policy: str = "ucb1",
    pulls: int = 2,
    batch: int = 16,
) -> np.ndarray:
    """Returns the estimated mean change of the loss, one a unit.

    Args:
      trial: a `tfprune.planning.trial.Trial`.
      rng: of policies that draw.
      sample: the mini-batches.
      policy: ucb1, epsilon_greedy, softmax or thompson.
      pulls: how often an arm is pulled on average.
      batch: examples in a mini-batch.

    Raises:
      ValueError: for an unknown policy.
    """
    del pulls
    if policy not in POLICIES:
        raise registry.unknown("policy", policy, POLICIES)
    changes = trial.on(sample.x, sample.y)
    total, squares, seen = np.zeros((3, trial.count))
    chosen = np.arange(trial.count)
    for begin in range(0, len(sample.y), batch):
        rows = slice(begin, begin + batch)
        found = changes(chosen, rows) * sample.weight[rows]
        total[chosen] += found.sum(axis=1)
        squares[chosen] += np.square(found).sum(axis=1)
        seen[chosen] += batch
        places = -(-trial.count // 2)
        index = POLICIES[policy](_known(total, squares, seen, batch), places, rng)
        chosen = np.argsort(-index, kind="stable")[:places]
    return total / seen


def _known(total: np.ndarray, squares: np.ndarray, seen: np.ndarray, batch: int) -> Arms:
    """Returns what sums over examples, and their number, say about the rewards."""
    mean = total / seen
    error = np.sqrt(np.maximum(squares / seen - mean**2, 0) / seen)
    scale = np.ptp(mean) or 1.0
    return Arms((mean.max() - mean) / scale, error / scale, seen / batch)
