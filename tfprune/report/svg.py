"""Pictures as SVG elements inside a page: text is text, and ink is the text colour around it.

So one picture serves light and dark. What stands for a colour of the page here serves where a
picture is shown alone. The colours are in the manner of Okabe & Ito, "Color Universal Design",
2008, and nothing is told by colour alone.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from xml.sax import saxutils

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PRUNED = "#2a78c8"
SHIPPED = "#d55e00"
INK = "#010203"
# Of several methods, in this order; the page has darker and lighter ones for its two modes.
SERIES = (
    "#1f6bb9",
    "#b84a01",
    "#007a57",
    "#a5307e",
    "#7d6201",
    "#5f45c3",
    "#0a7686",
    "#8c1c2c",
)
# Colours of the page, which matplotlib can't name.
_PAGE = {
    INK: "currentColor",
    PRUNED: f"var(--pruned, {PRUNED})",
    SHIPPED: f"var(--shipped, {SHIPPED})",
    **{colour: f"var(--series-{i}, {colour})" for i, colour in enumerate(SERIES)},
}
WIDTH = 400
SETTINGS = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
}

# Of each named part of a picture its attributes, and those of the markers in it, one by one.
Attributes = Mapping[str, str]
Marks = Mapping[str, tuple[Attributes, Sequence[Attributes]]]


def element(
    draw: Callable[[Figure], Marks | None], height: float, alt: str, *, width: float = WIDTH
) -> str:
    """Returns what `draw` draws on a figure as an <svg> element, the same for the same data.

    Args:
      draw: may return attributes for the parts to which it gave a gid.
      height: in the units in which a page's text is 10 to 11 high.
      alt: what the picture shows, in words.
      width: in the same units; 400 can be read on a phone.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Names of clip paths and markers derive from the salt: two pictures of a page may share none.
    settings = SETTINGS | {"svg.hashsalt": alt}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The page's font has the characters that DejaVu lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        FigureCanvasAgg(figure)
        marks = draw(figure) or {}
        out = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub("|".join(_PAGE), lambda colour: _PAGE[colour[0]], svg)
    used = {*marks, *re.findall(r'#(\w+)[")]', svg)}
    svg = re.sub(r' id="([^"]*)"', lambda id_: id_[0] if id_[1] in used else "", svg)
    for gid, (part, markers) in marks.items():
        svg = _marked(svg, gid, part, markers)
    # A picture whose parts speak for themselves is a group of them.
    role = "group" if marks else "img"
    return svg.replace("<svg", f'<svg role="{role}" aria-label={saxutils.quoteattr(alt)}', 1)


def _marked(svg: str, gid: str, part: Attributes, markers: Sequence[Attributes]) -> str:
    """Returns the picture with attributes on a part, and on each of the markers in it."""
    head, found, rest = svg.partition(f'<g id="{gid}">')
    if not found:  # there was nothing to draw, such as deviations of a single seed
        return svg
    head += f"<g{_written(part)}>"
    for marker in markers:
        before, _, rest = rest.partition("<use ")
        head += f"{before}<use{_written(marker)} "
    return head + rest


def _written(attributes: Attributes) -> str:
    return "".join(f" {key}={saxutils.quoteattr(value)}" for key, value in attributes.items())
