"""What to reach: `sparsity:0.9`, `compression:10`, `params:0.5`, `macs:0.5`, `latency:4ms`.

    sparsity      fraction of zeros among the weights that are up for pruning, in [0, 1)
    compression   all parameters of the model / those that are not zero, at least 1
    params        parameters that are not zero: a share of all (up to 1), or a number (`200k`)
    macs          multiply-accumulates with weights that are not zero: a share, or a number (`5M`)
    bytes         size of the TFLite file: a share of the dense model's, or a number (`200k`)
    latency       time of one inference in LiteRT: a share of the dense model's, or `4ms`
    redundant     what the criterion by itself finds redundant goes, however much that is; it has
                  no value, and needs a criterion with its own threshold or number of clusters

A parameter is what training changes: batch-norm statistics are not counted, as in the literature.
Bytes and latency are measured on the smaller model, so they need channels to be removed.
"""

import dataclasses
from collections.abc import Mapping

from tfprune import registry

KINDS = ("sparsity", "compression", "params", "macs", "bytes", "latency")
REDUNDANT = "redundant"
_SUFFIX = {"k": 1e3, "M": 1e6, "G": 1e9}
_MILLISECONDS = "ms"


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of cost and how much of it may remain; `unit` is "ms" for a time, else empty."""

    kind: str
    value: float
    unit: str = ""

    def __str__(self) -> str:
        return self.kind if self.kind == REDUNDANT else f"{self.kind}:{self.value:.10g}{self.unit}"

    @property
    def cost(self) -> str:
        """What the target counts, or what comes nearest to what it measures: params or macs."""
        return "macs" if self.kind in ("macs", "latency") else "params"

    @property
    def measured(self) -> bool:
        """Whether a file has to be made to know what is reached."""
        return self.kind in ("bytes", "latency")

    @property
    def found(self) -> bool:
        """Whether it takes a measurement or scores to know how much is to go."""
        return self.measured or self.kind == REDUNDANT

    @property
    def is_share(self) -> bool:
        """Whether the value is a share of what the dense model has."""
        return self.value <= 1 and not self.unit

    def remaining(self, total: float) -> float:
        """Returns how much of a cost of `total` may remain."""
        match self.kind:
            case "sparsity":
                return total * (1 - self.value)
            case "compression":
                return total / self.value
            case _:
                return total * self.value if self.is_share else self.value

    def value_at(self, remaining: float, total: float) -> float:
        """Returns the value that the target would have with this much remaining."""
        match self.kind:
            case "sparsity":
                return 1 - remaining / total
            case "compression":
                return total / remaining
            case _:
                return remaining / total if self.is_share else remaining


def parse(text: "str | Target") -> Target:
    """Returns the target that `text`, such as `"sparsity:0.8"`, names.

    Raises:
      ValueError: for another form, an unknown kind, or a value out of range.
    """
    if isinstance(text, Target):
        return text
    if text == REDUNDANT:
        return Target(REDUNDANT, 0.0)
    if not isinstance(text, str) or ":" not in text:
        raise ValueError(f'a target reads like "sparsity:0.8" or "macs:0.5", not {text!r}')
    kind, _, number = text.partition(":")
    if kind not in KINDS:
        raise registry.unknown("target", kind, (*KINDS, REDUNDANT))
    unit = _MILLISECONDS if kind == "latency" and number.endswith(_MILLISECONDS) else ""
    number = number.removesuffix(unit)
    scale = 1 if unit else _SUFFIX.get(number[-1:], 1)
    try:
        value = float(number if scale == 1 else number[:-1]) * scale
    except ValueError:
        raise ValueError(f"target {text!r}: {number!r} is not a number") from None
    infinite = float("inf")
    low, high, words = {
        "sparsity": (0, 1, "a fraction of zeros from 0 up to, but not, 1"),
        "compression": (1, infinite, "original / remaining parameters, 1 or more"),
        "latency": (0, infinite if unit else 1 + 1e-9, "a share up to 1, or a time such as 4ms"),
    }.get(kind, (0, infinite, f"a share of the {kind} up to 1, or a number above 1"))
    if not low <= value < high or (kind not in ("sparsity", "compression") and value == 0):
        raise ValueError(f"target {text!r}: {words}, is needed")
    return Target(kind, value, unit)


def not_for_training(target: Target) -> ValueError:
    """Returns the error for a target that a schedule can't lead to."""
    return ValueError(
        f"target {target} is found by measuring files or from scores, which can't be done at each "
        "step: prune first with tfprune.prune, shrink, then fit"
    )


def split(target: Target, steps: int, dense: Mapping[str, float]) -> list[Target]:
    """Returns the targets of iterative pruning: each step leaves the same share of what it finds.

    Args:
      target: what to reach in the end.
      steps: in how many prunings, 1 or more.
      dense: `params` and `macs` of the model before the first.

    Raises:
      ValueError: for no steps, or a size or time that can't be split as it is not a share.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: one or more are needed")
    if steps == 1 or target.kind == REDUNDANT:
        return [target] * steps
    if target.kind == "sparsity":
        return [Target("sparsity", 1 - (1 - target.value) ** (1 / steps))] * steps
    if target.measured:
        if not target.is_share:
            raise ValueError(f"{target} in {steps} steps: give a share, such as {target.kind}:0.5")
        return [Target(target.kind, target.value ** (1 / steps))] * steps
    total = dense[target.cost]
    share = target.remaining(total) / total
    return [Target(target.cost, total * share ** (i / steps)) for i in range(1, steps + 1)]
