"""What a benchmark compares, by name.

    criterion                     such as "snip", with the protocol's allocation
    criterion/allocation          "magnitude/erk", "obc/global"
    criterion/allocation+correction        "l1/uniform+least_squares"
    base@method                   "random@snip/global": another criterion, each layer as sparse as
                                  snip made it, which tells the choice of weights from the choice
                                  of layers
    tfmot                         TensorFlow Model Optimization's own pruning, at once, and training
    tfmot_polynomial              the same, pruned over the first half of the training
    dense                         nothing is pruned, all else is the same
    scratch                       the network that l1/uniform leaves, from random weights

Dense, scratch and the replays are controls, which Blalock et al. 2020 (arXiv 2003.03033) and, for
training from scratch, Liu et al. 2019 (arXiv 1810.05270) ask for.
"""

import dataclasses
import re

from tfprune import registry

DENSE, SCRATCH = "dense", "scratch"
# Names, and the schedules that they stand for.
TFMOT = {"tfmot": "constant", "tfmot_polynomial": "polynomial"}
# What a network from scratch has the shape of.
SHAPED_BY = "l1/uniform"
# How many units these leave in each layer depends on no score: all criteria share it as it is.
_BLIND = ("uniform", "uniform_plus", "erk")
# A name, and options that may hold any text between quotes.
_WORD = r"""[\w.]+(?:\((?:[^()'"]|'[^']*'|"[^"]*"|\([^()]*\))*\))?"""
_FORM = re.compile(
    rf"(?:(?P<base>{_WORD})@)?(?P<criterion>{_WORD})"
    rf"(?:/(?P<allocation>{_WORD}))?(?:\+(?P<correction>\w+))?"
)


@dataclasses.dataclass(frozen=True)
class Method:
    """How a network is pruned.

    Attributes:
      criterion, allocation, correction: as in `tfprune.prune`; of dense and tfmot empty.
      special: dense, scratch, tfmot, tfmot_polynomial, or empty.
      replays: the name of the method whose layer allocation is taken over, or empty.
    """

    criterion: str = ""
    allocation: str = ""
    correction: str = "own"
    special: str = ""
    replays: str = ""

    @property
    def name(self) -> str:
        """What it is called in tables; `parse` of it gives the method again."""
        if self.special:
            return self.special
        if self.replays:
            return f"{self.criterion}@{self.replays}"
        added = "" if self.correction == "own" else f"+{self.correction}"
        return f"{self.criterion}/{self.allocation}{added}"

    @property
    def allocates(self) -> bool:
        """Whether what it scores decides how sparse each layer gets."""
        blind = registry.parse(self.allocation)[0] in _BLIND
        return not self.special and not self.replays and not blind


def parse(text: str, *, granularity: str, allocation: str) -> Method:
    """Returns the method that `text` names.

    Args:
      text: as the module says.
      granularity: what is pruned together, which not every criterion can score.
      allocation: where `text` has none.

    Raises:
      ValueError: for a wrong word.
    """
    channels = registry.parse(granularity)[0] == "channel"
    if text == SCRATCH and not channels:
        raise ValueError(
            "method 'scratch' needs granularity 'channel': of another there is no smaller network"
        )
    if text in TFMOT and registry.parse(granularity)[0] != "weight":
        raise ValueError(f"method {text!r} prunes weights, not granularity {granularity!r}")
    if text in (DENSE, SCRATCH, *TFMOT):
        return Method(special=text)
    found = _FORM.fullmatch(text)
    if not found:
        raise ValueError(
            f"can't read method {text!r}: write criterion, criterion/allocation, "
            "criterion/allocation+correction, base@method, tfmot, tfmot_polynomial, dense, scratch"
        )
    method = Method(
        found["criterion"], found["allocation"] or allocation, found["correction"] or "own"
    )
    _check(method, granularity)
    if not found["base"]:
        return method
    if not method.allocates:
        # The same in every layer whatever the scores: no replay is needed for it.
        method = Method(found["base"], method.allocation)
    else:
        method = Method(found["base"], replays=method.name)
    _check(dataclasses.replace(method, allocation=method.allocation or "uniform"), granularity)
    return method


def _check(method: Method, granularity: str) -> None:
    from tfprune.planning import Recipe

    try:
        Recipe.of(
            None,
            criterion=method.criterion,
            allocation=method.allocation,
            correction=method.correction,
            granularity=granularity,
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"method {method.name!r}: {error}") from None


def controls(methods: list[Method], *, kinds: tuple[str, ...], plain: str) -> list[Method]:
    """Returns what `methods` have to be compared with, in the order of `kinds`.

    Args:
      methods: those that are compared.
      kinds: some of `CONTROLS`.
      plain: the criterion that counts as magnitude: "magnitude", or of channels "l1".
    """
    found: dict[Method, None] = {}
    for kind in kinds:
        match kind:
            case "dense" | "scratch":
                found[Method(special=kind)] = None
            case "random":
                found[Method("random", "uniform")] = None
            case "magnitude":
                found[Method(plain, "uniform")] = None
            case "replays":
                for method in methods:
                    for base in ("random", plain):
                        if method.special or method.replays or method.criterion == base:
                            continue
                        if method.allocates:
                            found[Method(base, replays=method.name)] = None
                        else:
                            found[Method(base, method.allocation)] = None
    return list(found)


CONTROLS = ("dense", "random", "magnitude", "replays", "scratch")
