"""`explain_sparse_inference`: op by op, whether a file runs sparse, and what keeps it from that.

XNNPACK decides for clusters of operators (`tfprune.tflite.clusters`) by what it asks of each
(`tfprune.tflite.nchw_rules`). The explanation follows its steps on the file itself, so that it is
known on any machine. Checked against LiteRT 2.3 on emulated Arm and x86 processors, whose own
profile names the kernels that ran.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tfprune import registry
from tfprune.graph import precision
from tfprune.tflite import convert, flatbuffer, operators, samples
from tfprune.tflite.clusters import Cluster, Clusters
from tfprune.tflite.nchw_rules import Finding, Place
from tfprune.tflite.operators import POOLS, Graph, Operator, Tensor
from tfprune.tflite.variants import VARIANTS

if TYPE_CHECKING:
    import keras
    import pandas as pd
    from ai_edge_litert import schema_py_generated as schema

# Whether XNNPACK has sparse kernels for a processor: on x86 only where there is no AVX.
TARGETS = {"arm64": True, "x86": False, "x86_avx": False, "x86_sse": True}
_NO_KERNELS = (
    "XNNPACK runs sparse on x86 only where there is no AVX: its dense AVX kernels are "
    "expected to be faster"
)
_FAULT_REMEDY = "store all kernels dense, or end in a pooling over the whole map"
_FAULT_REMEDIES = {
    kind: "store all kernels dense, or pool without keepdims over height and width, with Dense for "
    "the 1x1 convolutions behind it, as tfprune.prepare_for_sparse_inference does"
    for kind in POOLS
}
_NO_EXIT = "no map is pooled as a whole (MEAN, SUM), nor made larger from depth (DEPTH_TO_SPACE)"
_NOT_ASKED = (
    "no weight that XNNPACK reads is stored without its zeros, which is how it is told that the "
    "model is sparse"
)


def explain_sparse_inference(
    model_or_tflite: keras.Model | str | os.PathLike | bytes, *, target: str = "arm64"
) -> pd.DataFrame:
    """Returns which operators of a .tflite file LiteRT will run sparse, and why not the others.

    Columns, one row an operator of the main graph:
      op: its index.
      name: of the tensor it makes.
      kind: such as "CONV_2D".
      shape: of what it makes.
      sparsity: fraction of zeros in its kernel, missing where there is none.
      runs: "sparse", by a sparse matrix; "channels first", which goes along with it; "dense";
        "faulty", channels first by mistake: wrong values, or the file doesn't load; "tflite" for
        what XNNPACK leaves to TFLite; "fused" for padding that becomes part of the convolution
        behind it; "stored" for what is done once, on loading.
      rule: what keeps it, and with it all that hangs together, from running sparse; or why it is
        faulty, or would be if enough weights were zero.
      remedy: what to do about it.

    `table.attrs["verdict"]` is about the whole graph:
      engaged: whether XNNPACK multiplies by any sparse matrix.
      reason: why, in a sentence.
      zeros: fraction of zeros among the 1x1 convolutions that are weighed up together; more than
        2/3 must be.
      fault: why the file computes wrong values or doesn't load on this target, or an empty string.
        It is meant for ends of clusters that LiteRT 2.3 doesn't look after; a file with one is
        right once no kernel in it is stored sparse.

    Args:
      model_or_tflite: the path of a .tflite file, its content, or a built Keras model, of which
        the float32 file with sparse kernels is looked at.
      target: "arm64"; "x86" (any of this decade, the same as "x86_avx"); "x86_sse" (before AVX).

    Example:
      >>> table = tfprune.explain_sparse_inference("model.tflite")
      >>> table[table.rule != ""], table.attrs["verdict"]

    Raises:
      ValueError: for an unknown target, a file that is no TFLite file, a model that leaves its
        input size open.
      RuntimeError: if a model can't be converted.
      OSError: if the file can't be read.
    """
    import pandas as pd

    if target not in TARGETS:
        raise registry.unknown("target", target, TARGETS)
    graph = operators.read(_file(model_or_tflite))
    clusters, pruned = Clusters(graph), Clusters(graph, pruned=True)
    rows = [_row(op, clusters, pruned, kernels=TARGETS[target]) for op in graph.operators]
    columns = ["op", "name", "kind", "shape", "sparsity", "runs", "rule", "remedy"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["verdict"] = _verdict(table, clusters, kernels=TARGETS[target])
    return table


def _file(given: keras.Model | str | os.PathLike | bytes) -> schema.ModelT:
    if isinstance(given, str | os.PathLike | bytes):
        return flatbuffer.read(given)
    with precision.in_float32(given):
        inputs = samples.random_inputs(given, count=1).inputs
        return convert.without_zeros(
            convert.convert(convert.trace(given, inputs), VARIANTS["float32"])
        )


def _row(op: Operator, clusters: Clusters, pruned: Clusters, *, kernels: bool) -> dict[str, object]:
    runs, rule, remedy = op.state, "", ""
    if not op.state:
        runs = _runs(op, clusters, kernels=kernels)
        rule, remedy = _rule(op, pruned)
    kernel = op.kernel
    return {
        "op": op.index,
        "name": op.output.name.partition(";")[0],  # the converter lists all that it fused
        "kind": op.kind,
        "shape": op.output.shape,
        "sparsity": None if kernel is None else kernel.zeros / max(kernel.size, 1),
        "runs": runs,
        "rule": rule,
        "remedy": remedy,
    }


def _runs(op: Operator, clusters: Clusters, *, kernels: bool) -> str:
    if op.part is None:
        return "tflite"
    if not kernels or not any(x.index in clusters.first for x in (*op.computed, op.output)):
        return "dense"
    if clusters.fault(op):
        return "faulty"
    if op.pointwise:  # at one pixel it may end a cluster, and is dense then
        return "sparse" if op.output.index in clusters.first else "dense"
    return "channels first"


def _rule(op: Operator, clusters: Clusters) -> tuple[str, str]:
    """Returns the rule that an operator breaks where that concerns a cluster, and the remedy."""
    found, fault = clusters.findings[op.index], clusters.fault(op)
    if fault:
        return fault, _FAULT_REMEDIES.get(op.kind, _FAULT_REMEDY)
    if found.place == Place.NONE:
        reads = any(_handed_on(x, clusters) for x in op.computed)
        feeds = any(
            clusters.place(reader) & (Place.INSIDE | Place.EXIT)
            for x in op.outputs
            for reader in clusters.graph.readers[x.index]
        )
        return found[1:] if reads or feeds else ("", "")
    return ("", "") if Place.ENTRY in found.place else _rule_of_place(op, clusters.graph, found)


def _rule_of_place(op: Operator, graph: Graph, found: Finding) -> tuple[str, str]:
    """Returns the rule that an operator breaks by where it stands, which may be in a cluster."""
    if any(x.index not in graph.makers for x in op.computed):
        return (
            "it reads an input of the model, and can't turn to channels first",
            "begin with a 3x3 convolution of stride 2 on 3 channels, padded by 1 on every side",
        )
    kept = op.output.index in graph.outputs and op.output.pixels > 1
    if kept and Place.EXIT not in found.place:
        return "its map is an output of the model", "end in a pooling over the whole map"
    if len(set(op.computed)) < len(op.computed) and op.kind != "MUL":
        return "it reads one tensor twice", "multiply by 2 in the weights of a convolution"
    return "", ""


def _handed_on(tensor: Tensor, clusters: Clusters) -> bool:
    maker = clusters.graph.makers.get(tensor.index)
    return tensor.pixels > 1 and bool(clusters.place(maker) & (Place.ENTRY | Place.INSIDE))


def _verdict(table: pd.DataFrame, clusters: Clusters, *, kernels: bool) -> dict[str, object]:
    taken = [c for c in clusters.all if c.taken] if kernels else []
    multiplied = int((table["runs"] == "sparse").sum())
    fault = clusters.faults() if kernels else ""
    whole = max(taken or clusters.all, key=lambda c: (not c.broken, c.weights), default=Cluster())
    if not whole.weights:
        whole = _everything(clusters)
    return {
        "engaged": multiplied > 0,
        "reason": _reason(table, clusters, whole, kernels=kernels, multiplied=multiplied),
        "zeros": whole.zeros / max(whole.weights, 1),
        "fault": fault,
    }


def _everything(clusters: Clusters) -> Cluster:
    """Returns all 1x1 convolutions of the graph, for where none could be in a cluster."""
    pointwise = [op.kernel for op in clusters.graph.running if op.pointwise]
    pointwise = [kernel for kernel in pointwise if len(kernel.shape) == 4]
    return Cluster(weights=sum(k.size for k in pointwise), zeros=sum(k.zeros for k in pointwise))


def _reason(
    table: pd.DataFrame, clusters: Clusters, whole: Cluster, *, kernels: bool, multiplied: int
) -> str:
    percent = f"{100 * whole.zeros / max(whole.weights, 1):.3g} %"
    broken = table[(table["rule"] != "") & (table["runs"] != "faulty")]
    asked = any(x is not None and x.unpacked for op in clusters.graph.running for x in op.inputs)
    if multiplied:
        reason = f"{multiplied} operators multiply by sparse matrices, {percent} zeros in all"
    elif not kernels:
        reason = _NO_KERNELS
    elif len(broken):
        first, more = broken.iloc[0], len(broken) - 1
        reason = f"operator {first['op']} ({first['kind']}): {first['rule']}"
        reason += f", and {more} more" if more else ""
    elif not asked:
        reason = _NOT_ASKED
    elif whole.broken or not clusters.all:
        reason = whole.broken or _NO_EXIT
    else:
        reason = f"{percent} of the weights of the 1x1 convolutions are zeros, not more than 2/3"
    return reason
