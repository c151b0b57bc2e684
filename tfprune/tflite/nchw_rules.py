"""What XNNPACK asks of each kind of operator before it computes it with channels first.

XNNPACK multiplies by sparse matrices in maps that lie channel by channel (NCHW). It takes that
layout in a cluster of operators: one convolution turns to it, some kinds pass it on, a pooling over
the whole map leaves it. A rule is `rule(operator) -> Finding`, one a kind. Read in XNNPACK as of
August 2026 (`xnn_check_nchw_compatibility` in src/subgraph.c) and checked against LiteRT 2.3.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

from tfprune.tflite.operators import POOLS, UNARY, Operator

_PREPARE = "tfprune.prepare_for_sparse_inference"


class Place(enum.Flag):
    """Where in a cluster an operator may stand."""

    NONE = 0
    ENTRY = 1
    INSIDE = 2
    EXIT = 4


class Finding(NamedTuple):
    """Where an operator may stand; if nowhere, the rule it breaks and what can be done."""

    place: Place
    rule: str = ""
    remedy: str = ""


Rule = Callable[[Operator], Finding]
_RULES: dict[str, Rule] = {}


def find(op: Operator) -> Finding:
    """Returns where an operator may stand in a cluster."""
    if op.part is None:
        name = op.kind.lower()
        return _no(f"XNNPACK doesn't run {name}, TFLite does", "use another operation for it")
    kinds = {x.kind for x in (*op.computed, *op.outputs, op.kernel) if x is not None}
    if not kinds <= {"FLOAT32", "FLOAT16"}:
        integers = ", ".join(sorted(kinds - {"FLOAT32", "FLOAT16"})).lower()
        floats = "export float32_sparse, float16_sparse or int8_weights_sparse"
        return _no(f"it computes with {integers}, not with floats", floats)
    return _RULES.get(op.kind, _unknown)(op)


def _rule(*kinds: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        _RULES.update(dict.fromkeys(kinds, function))
        return function

    return register


def _no(rule: str, remedy: str = "") -> Finding:
    return Finding(Place.NONE, rule, remedy)


def _unknown(op: Operator) -> Finding:
    return _no(f"XNNPACK has no {op.kind.lower()} with channels first", "use another operation")


@_rule("CONV_2D")
def _convolution(op: Operator) -> Finding:
    window, channels = op.window, op.inputs[0].shape[-1]
    if op.pointwise:
        return Finding(Place.INSIDE)
    if op.inputs[1].shape[-1] != channels:
        return _no("its channels are in groups", "use one group")
    if window.dilation != (1, 1):
        return _no("it is dilated", "use dilation 1")
    if window.kernel == (1, 1):
        return _no("a 1x1 convolution has a stride", "give the stride to a depthwise one before it")
    if window.kernel == (3, 3) and window.strides == (2, 2) and channels == 3:
        return _entry(op)
    return _no(
        f"a {_by(window.kernel)} convolution of stride {max(window.strides)}, input channels: "
        f"{channels}; only 1x1 can be, and, where a cluster begins, 3x3 of stride 2 on 3 channels",
        "use depthwise and 1x1 convolutions, and train again",
    )


def _entry(op: Operator) -> Finding:
    if not op.window.same and op.window.padding == (1, 1, 1, 1):
        return Finding(Place.ENTRY)
    smaller = op.inputs[0].shape[1] - 1
    return _uneven(
        op,
        f"build it for an input of odd size, such as {smaller}, or pad by 1 on every side "
        "(ZeroPadding2D(1), padding='valid') and train on",
    )


@_rule("DEPTHWISE_CONV_2D")
def _depthwise(op: Operator) -> Finding:
    window = op.window
    if window.dilation != (1, 1):
        return _no("it is dilated", f"{_PREPARE} writes 3x3 of dilation 2 as 5x5")
    if op.options.depthMultiplier != 1:
        return _no("its depth multiplier is not 1", "widen the 1x1 convolution before it instead")
    if window.strides not in ((1, 1), (2, 2)):
        return _no("its strides are not both 1 or both 2", "use strides 1 or 2")
    if window.kernel not in ((3, 3), (5, 5)):
        return _no(
            f"its kernel is {_by(window.kernel)}, not 3x3 or 5x5", f"{_PREPARE} embeds smaller ones"
        )
    if window.same or set(window.padding) != {window.kernel[0] // 2}:
        return _uneven(op, f"{_PREPARE} embeds 3x3 in 5x5, or use other padding and train again")
    return Finding(Place.INSIDE)


def _uneven(op: Operator, remedy: str) -> Finding:
    """Returns the breach of a convolution that does not pad by half its width on every side."""
    window, half = op.window, op.window.kernel[0] // 2
    if window.same and all(n % 2 for n in op.inputs[0].shape[1:3]):
        return _no(
            f"its padding is 'same' with stride 2, not {half} in numbers (here they are equal)",
            "tfprune.export writes it out in the file",
        )
    amounts = "on one side only ('same')"
    if not window.same:
        amounts = "by " + " ".join(map(str, window.padding)) + " (top, bottom, left, right)"
    return _no(f"it pads {amounts}, not by {half} on every side", remedy)


def _by(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))


@_rule("FULLY_CONNECTED")
def _fully_connected(op: Operator) -> Finding:
    if op.options.keepNumDims:
        return Finding(Place.INSIDE)
    return _no("it reads a flat vector", "pool over the whole map before it")


@_rule("RESHAPE", "REDUCE_MAX", "REDUCE_MIN")
def _reshape(op: Operator) -> Finding:
    rule = "it reshapes a map" if op.kind == "RESHAPE" else "a cluster ends in means or sums only"
    return _no(rule, "use GlobalAveragePooling2D")


@_rule(*UNARY)
def _unary(op: Operator) -> Finding:
    if len(op.output.shape) != 4:
        return _no("it works on something that is no map")
    return Finding(Place.INSIDE)


@_rule("ADD", "MUL")
def _binary(op: Operator) -> Finding:
    a, b = op.inputs
    if len(a.shape) != 4 or len(b.shape) != 4:
        return _no(
            f"one operand has the shape {list(min(a.shape, b.shape, key=len))}, no four axes",
            "keep four axes, and put constants into the weights of a convolution next to it",
        )
    # XNNPACK looks at the shape of the first operand for either one.
    if (a.constant or b.constant) and sum(n != 1 for n in a.shape) > 1:
        return _no("one operand is a constant", "put it into the weights of a convolution")
    return Finding(Place.INSIDE)


@_rule("MINIMUM", "MAXIMUM")
def _clamp(op: Operator) -> Finding:
    if any(x.constant and x.size == 1 for x in op.inputs):
        return _unary(op)
    return _unknown(op)


@_rule("AVERAGE_POOL_2D", "MAX_POOL_2D")
def _pool(op: Operator) -> Finding:
    if op.kind == "AVERAGE_POOL_2D" and (op.options.filterHeight, op.options.filterWidth) == (1, 1):
        return _unary(op)
    if op.kind == "AVERAGE_POOL_2D" and op.output.pixels == 1:
        return _no("it pools a whole map like parts of one", f"{_PREPARE} writes it as a mean")
    return _no("it pools over parts of a map", "use depthwise convolutions of stride 2")


@_rule("RESIZE_BILINEAR")
def _resize(op: Operator) -> Finding:
    if min(op.inputs[0].shape[1:3]) > 1:
        return Finding(Place.INSIDE)
    return _no("it resizes a map of one pixel in height or width", "use a larger input")


@_rule(*POOLS)
def _reduce(op: Operator) -> Finding:
    if len(op.inputs[0].shape) != 4:
        return _no("it works on something that is no map")
    return Finding(Place.INSIDE | Place.EXIT)


@_rule("DEPTH_TO_SPACE")
def _depth_to_space(_: Operator) -> Finding:
    return Finding(Place.EXIT)
