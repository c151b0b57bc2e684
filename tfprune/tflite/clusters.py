"""Which operators XNNPACK puts together into a cluster with channels first, and what becomes of it.

A cluster is what hangs together by tensors that one operator that may stand in it hands to another.
It is taken as a whole or not at all:

  broken       an operator in it reads what comes from outside, or what it hands on is also read
               outside (or is an output);
  worthwhile   more than 2/3 of all weights of its 1x1 convolutions are zero;
  asked for    some weights that operators of this part of the graph use pass through DENSIFY.

XNNPACK does not look at where a cluster ends. An operator at its edge that is no pooling reads
channels first and takes them for channels last: the values are wrong, or the file doesn't load.
It takes no more than one pooling behind a cluster somewhere in the same part. Read in XNNPACK as
of August 2026 (`xnn_subgraph_rewrite_for_nchw` in src/subgraph.c), and seen in LiteRT 2.3.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

from tfprune.tflite import nchw_rules, operators
from tfprune.tflite.nchw_rules import Place
from tfprune.tflite.operators import POOLS, Graph, Operator, Tensor

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

_HANDS_ON = Place.ENTRY | Place.INSIDE
_TAKES = Place.INSIDE | Place.EXIT


@dataclasses.dataclass
class Cluster:
    """Operators that are taken together.

    Attributes:
      operators: indices in the graph.
      broken: why it can't be taken, or an empty string.
      weights, zeros: of its 1x1 convolutions.
      asked: whether a part of the graph with sparse weights holds it.
    """

    operators: list[int] = dataclasses.field(default_factory=list)
    broken: str = ""
    weights: int = 0
    zeros: int = 0
    asked: bool = False

    @property
    def worthwhile(self) -> bool:
        """Whether enough weights are zero."""
        return self.zeros * 3 > self.weights * 2

    @property
    def taken(self) -> bool:
        """Whether XNNPACK computes it with channels first."""
        return not self.broken and self.worthwhile and self.asked


class Clusters:
    """The clusters of a graph.

    Attributes:
      findings: {operator's index: where it may stand, or the rule it breaks}.
      all: every cluster of at least one operator that may stand in one.
      first: indices of the tensors that hold channels first.
    """

    def __init__(self, graph: Graph, *, pruned: bool = False) -> None:
        """Finds the clusters of `graph`: as it is, or as if enough were `pruned` and asked for."""
        self.graph = graph
        self.findings = {op.index: nchw_rules.find(op) for op in graph.running}
        self.all: list[Cluster] = []
        for part in sorted({op.part for op in graph.running if op.part is not None}):
            self.all += self._of_part([op for op in graph.running if op.part == part])
        taken = [c for c in self.all if c.taken or (pruned and not c.broken)]
        self.first = {
            x.index
            for cluster in taken
            for op in (graph.operators[index] for index in cluster.operators)
            if self._takes(op)
            for x in op.computed
        }

    def place(self, op: Operator | None) -> Place:
        """Returns where an operator may stand; nowhere for what comes from outside."""
        return Place.NONE if op is None else self.findings[op.index].place

    def fault(self, op: Operator) -> str:
        """Returns how an operator goes wrong that reads channels first, or an empty string."""
        tensor = op.output
        if not any(x.index in self.first for x in op.computed):
            return ""
        if op.kind in POOLS:
            return self._pooling_fault(op)
        if op.kind == "DEPTH_TO_SPACE" or tensor.index in self.first or tensor.pixels == 1:
            return ""
        return "it reads channels first and takes them for channels last"

    def faults(self) -> str:
        """Returns what goes wrong in the whole graph, or an empty string."""
        found = [(op, self.fault(op)) for op in self.graph.running]
        found = [f"{label(op)}: {fault}" for op, fault in found if fault]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return found[0] + more if found else ""

    def _pooling_fault(self, op: Operator) -> str:
        _, height, width, _ = op.inputs[0].shape
        axes = {int(axis) % 4 for axis in op.numbers.ravel()}
        spatial = axes & {1, 2}
        if len(spatial) == 1 and not (3 in axes and height == width):
            return "it pools over one of height and width only, and takes one for the other"
        # With as many channels as rows the sizes are right by chance; that is not relied on.
        kept = op.options.keepDims and (
            op.output.index in self.graph.outputs
            or not all(self._flattens(x) for x in self.graph.readers[op.output.index])
        )
        return "it keeps dimensions, and their sizes come out in the wrong order" if kept else ""

    def _flattens(self, reader: Operator) -> bool:
        if reader.kind == "CONV_2D":
            return reader.output.index in self.first
        return reader.kind == "RESHAPE" or (
            reader.kind == "FULLY_CONNECTED"
            and (not reader.options.keepNumDims or reader.output.index in self.first)
        )

    def _takes(self, op: Operator) -> bool:
        return bool(self.place(op) & _TAKES)

    def _maker(self, tensor: Tensor, part: int) -> Operator | None:
        maker = self.graph.makers.get(tensor.index)
        return maker if maker is not None and maker.part == part else None

    def _of_part(self, operators: list[Operator]) -> list[Cluster]:
        """Returns the clusters of a part of the graph.

        The leader of a cluster is its last operator. Those that turn out broken keep the leader
        they had by then, as in XNNPACK: it decides whether what they read counts as read outside.
        """
        leader = {op.index: op.index for op in operators}
        broken: dict[int, str] = {}

        def join(op: Operator) -> bool:
            joined = False
            for x in op.computed:
                maker = self._maker(x, op.part)
                if self.place(maker) & _HANDS_ON and maker.index not in broken:
                    pair = leader[op.index], leader[maker.index]
                    joined |= pair[0] != pair[1]
                    leader[op.index] = leader[maker.index] = max(pair)
                elif op.index not in broken:
                    broken[op.index] = _outside(op, maker)
            return joined

        exits = [op for op in operators if Place.EXIT in self.place(op)]
        again = any([join(op) for op in exits])
        if not again:
            return []
        while again:
            again = any(
                [join(op) for op in operators if self._takes(op) and op.index not in broken]
            )
        off = {}
        for index, reason in sorted(broken.items()):
            off.setdefault(leader[index], reason)
        self._count(operators, leader, off)
        found: dict[int, Cluster] = collections.defaultdict(Cluster)
        asked = any(x is not None and x.unpacked for op in operators for x in op.inputs)
        for op in operators:
            cluster = found[leader[op.index]]
            cluster.broken, cluster.asked = off.get(leader[op.index], ""), asked
            if self.place(op) != Place.NONE:
                cluster.operators.append(op.index)
            if op.pointwise:
                cluster.weights += op.kernel.size
                cluster.zeros += op.kernel.zeros
        return [cluster for cluster in found.values() if cluster.operators]

    def _count(
        self, operators: list[Operator], leader: dict[int, int], off: dict[int, str]
    ) -> None:
        """Turns off the clusters whose values are read elsewhere too."""
        taking = [op for op in operators if leader[op.index] not in off and self._takes(op)]
        inside = collections.Counter(x.index for op in taking for x in _read(op))
        for op in taking:
            for x in _read(op):
                readers = [r for r in self.graph.readers[x.index] if r.part == op.part]
                leaves = self.graph.leaves(x)
                if inside[x.index] != len(readers) + leaves:
                    off.setdefault(leader[op.index], _elsewhere(x, readers, taking, leaves))


def _read(op: Operator) -> list[Tensor]:
    """Returns what an operator reads, as often as it does; a square reads its operand once."""
    return list(dict.fromkeys(op.computed)) if op.kind == "MUL" else op.computed


def _outside(op: Operator, maker: Operator | None) -> str:
    if maker is None:
        return f"{label(op)} reads an input of the model, or what TFLite computes"
    return f"{label(op)} reads what {label(maker)} makes, which can't stand in a cluster"


def _elsewhere(
    tensor: Tensor, readers: list[Operator], taking: list[Operator], leaves: bool
) -> str:
    others = [label(op) for op in readers if op not in taking]
    if others:
        return f"{tensor.name!r} is also read by {', '.join(others)}"
    if leaves:
        return f"{tensor.name!r} is also an output"
    return f"{tensor.name!r} is read twice by {label(readers[0])}"


def fault(model: schema.ModelT) -> str:
    """Returns why a file goes wrong where XNNPACK runs it sparse, or an empty string.

    Args:
      model: the file's content.
    """
    return Clusters(operators.read(model)).faults()


def label(op: Operator) -> str:
    """Returns how an operator is called in a sentence."""
    return f"operator {op.index} ({op.kind})"
