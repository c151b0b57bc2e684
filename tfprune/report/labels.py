"""Names beside points or at the ends of curves, where they cover neither each other nor a point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

_MARKER = 5.0
_RADII = (9, 18, 28, 40, 54, 70, 90)
_ANGLES = (0, 180, 90, 270, 45, 135, 225, 315, 20, 160, 200, 340)
_PASSES = 3


class Label(NamedTuple):
    """A name, the point that it belongs to, and the style of its text."""

    x: float
    y: float
    text: str
    style: dict[str, str]


class Box(NamedTuple):
    """A rectangle in display units."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """Returns the area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    @property
    def area(self) -> float:
        """Returns width x height."""
        return (self.right - self.left) * (self.top - self.bottom)


def place(axes: Axes, labels: list[Label]) -> None:
    """Writes `labels` into `axes`, each as near its point as the others allow.

    Candidates are rings of places around the point. Each label in turn takes the cheapest, given
    where the others are, in a few passes. What isn't beside its point gets a line to it.
    """
    axes.figure.draw_without_rendering()
    texts = [
        axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=10.5,
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "color": label.style["color"],
                "alpha": 0.5,
                "linewidth": 0.7,
                "shrinkA": 0,
                "shrinkB": _MARKER,
            },
            **label.style,
        )
        for label in labels
    ]
    points = [tuple(axes.transData.transform((label.x, label.y))) for label in labels]
    markers = [Box(x - _MARKER, y - _MARKER, x + _MARKER, y + _MARKER) for x, y in points]
    frame = Box(*axes.bbox.extents)
    sizes = [(box.right - box.left, box.top - box.bottom) for box in map(extent, texts)]
    boxes: dict[int, Box] = {}
    for _ in range(_PASSES):
        for i, point in enumerate(points):
            taken = [box for j, box in boxes.items() if j != i] + markers
            candidates = [
                (_cost(box, taken, frame) + 0.4 * radius, radius > _RADII[0], box)
                for radius in _RADII
                for angle in _ANGLES
                for box in [_beside(point, sizes[i], radius, math.radians(angle))]
            ]
            _, far, boxes[i] = min(candidates, key=lambda candidate: candidate[0])
            texts[i].arrow_patch.set_visible(far)
    for text, (x, y), box in zip(texts, points, boxes.values(), strict=True):
        text.set_position(((box.left + box.right) / 2 - x, (box.bottom + box.top) / 2 - y))


def at_ends(axes: Axes, labels: Sequence[Label], *, gap: float) -> None:
    """Writes `labels` to the right of `axes`, in the order of their points' heights, with lines.

    Args:
      axes: with its limits set.
      labels: of the last points of curves; the line of one with a gid has it with an a behind.
      gap: the least distance between two lines of text, as a share of the height of `axes`.
    """
    to_axes = (axes.transScale + axes.transLimits).transform
    ends = [tuple(to_axes((label.x, label.y))) for label in labels]
    order = sorted(range(len(labels)), key=lambda i: ends[i][1])
    places = np.array([ends[i][1] for i in order])
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    places[-1:] = np.minimum(places[-1:], 1.0)
    for i in range(len(places) - 2, -1, -1):
        places[i] = min(places[i], places[i + 1] - gap)
    for i, place in zip(order, places, strict=True):
        gid = labels[i].style.get("gid")
        axes.annotate(
            labels[i].text,
            ends[i],
            (1.05, place),
            xycoords="axes fraction",
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": labels[i].style["color"],
                "linewidth": 0.7,
                "relpos": (0, 0.5),
                "shrinkB": 1,
                "gid": gid and f"{gid}a",
            },
            annotation_clip=False,
            parse_math=False,
            **labels[i].style,
        )


def extent(text: Annotation) -> Box:
    """Returns the rectangle of the text alone: an annotation's own extent has its line as well."""
    from matplotlib.text import Text

    return Box(*Text.get_window_extent(text).extents)


def _beside(
    point: tuple[float, float], size: tuple[float, float], radius: float, angle: float
) -> Box:
    """Returns the rectangle of this size whose edge is `radius` from `point` at this angle."""
    (x, y), (width, height) = point, size
    x += math.cos(angle) * (radius + width / 2)
    y += math.sin(angle) * (radius + height / 2)
    return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _cost(box: Box, taken: list[Box], frame: Box) -> float:
    return sum(box.overlap(other) for other in taken) + 3 * (box.area - box.overlap(frame))
