"""What to reach: `sparsity:0.9`, `compression:10`, `params:0.5`, `macs:0.5`.

    sparsity      fraction of zeros among the weights that are up for pruning, in [0, 1)
    compression   all parameters of the model / those that are not zero, at least 1
    params        parameters that are not zero: a share of all (up to 1), or a number (`200k`)
    macs          multiply-accumulates with weights that are not zero: a share, or a number (`5M`)

A parameter is what training changes: batch-norm statistics are not counted, as in the literature.
"""

import dataclasses

from tfprune import registry

KINDS = ("sparsity", "compression", "params", "macs")
_SUFFIX = {"k": 1e3, "M": 1e6, "G": 1e9}


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of cost and how much of it may remain."""

    kind: str
    value: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.value:.10g}"

    @property
    def cost(self) -> str:
        """What the target counts: "params" or "macs"."""
        return "macs" if self.kind == "macs" else "params"

    def remaining(self, total: float) -> float:
        """Returns how much of a cost of `total` may remain."""
        match self.kind:
            case "sparsity":
                return total * (1 - self.value)
            case "compression":
                return total / self.value
            case _:
                return total * self.value if self.value <= 1 else self.value

    def value_at(self, remaining: float, total: float) -> float:
        """Returns the value that the target would have with this much remaining."""
        match self.kind:
            case "sparsity":
                return 1 - remaining / total
            case "compression":
                return total / remaining
            case _:
                return remaining / total if self.value <= 1 else remaining


def parse(text: "str | Target") -> Target:
    """Returns the target that `text`, such as `"sparsity:0.8"`, names.

    Raises:
      ValueError: for another form, an unknown kind, or a value out of range.
    """
    if isinstance(text, Target):
        return text
    if not isinstance(text, str) or ":" not in text:
        raise ValueError(f'a target reads like "sparsity:0.8" or "macs:0.5", not {text!r}')
    kind, _, number = text.partition(":")
    if kind not in KINDS:
        raise registry.unknown("target", kind, KINDS)
    scale = _SUFFIX.get(number[-1:], 1)
    try:
        value = float(number if scale == 1 else number[:-1]) * scale
    except ValueError:
        raise ValueError(f"target {text!r}: {number!r} is not a number") from None
    low, high, words = {
        "sparsity": (0, 1, "a fraction of zeros from 0 up to, but not, 1"),
        "compression": (1, float("inf"), "original / remaining parameters, 1 or more"),
    }.get(kind, (0, float("inf"), f"a share of the {kind} up to 1, or a number above 1"))
    if not low <= value < high or (kind in ("params", "macs") and value == 0):
        raise ValueError(f"target {text!r}: {words}, is needed")
    return Target(kind, value)
