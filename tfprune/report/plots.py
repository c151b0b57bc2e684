"""Pictures of a record as SVG text, in panels that a page sets side by side or below one another.

Each panel is 400 units wide, so it can be read on a phone. Dense and pruned are told apart by shape
as well as colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tfprune.report import facts, formats, labels, svg
from tfprune.report.formats import number
from tfprune.report.svg import INK, PRUNED, SHIPPED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def tradeoff(record: facts.Record) -> list[str]:
    """Returns latency against size and top-1 against size of all files, where they are known.

    Size is that of the gzipped file: what is downloaded, and what zeros make smaller in every
    encoding. An axis that spans more than a factor of five is logarithmic.
    """
    return [
        *_scatter(
            record,
            "latency_ms_median",
            title="Latency against size",
            better="lower left is better",
            ylabel="ms, median",
            tick=lambda value: f"{value:g}",
        ),
        *_scatter(
            record,
            "top1",
            title="Accuracy against size",
            better="upper left is better",
            ylabel="top-1 on test data",
            tick=_percent_tick,
        ),
    ]


def layer_sparsity(record: facts.Record) -> list[str]:
    """Returns sparsity and number of parameters layer by layer, in the order of the model."""
    rows = [
        (formats.setting(row.get("name")), row["sparsity"], formats.count(row.get("params")))
        for row in facts.rows(record, "layers")
        if number(row.get("sparsity")) is not None
    ]
    return _columns_of_bars(rows, ("layer", "zeros", "parameters"))


def channels(record: facts.Record) -> list[str]:
    """Returns the share of its channels that each group lost, and how many it kept."""
    rows = [
        (
            formats.setting(row.get("name")),
            1 - row["kept"] / row["channels"],
            f"{formats.count(row['kept'])} of {formats.count(row['channels'])}",
        )
        for row in facts.rows(record, "channels")
        if number(row.get("kept")) is not None and number(row.get("channels"))
    ]
    return _columns_of_bars(rows, ("made by", "removed", "kept"))


def redundancy(record: facts.Record) -> list[str]:
    """Returns the filters of a layer in a plane and as a tree, kept and removed marked."""
    shown = facts.filters(record)
    if shown is None:
        return []
    kept, name = shown.kept, formats.elide(formats.plain(shown.layer), 24)
    count = f"{sum(kept)} of {len(kept)}"

    def style(keeps: bool) -> dict[str, object]:
        face = PRUNED if keeps else "none"
        return {"facecolor": face, "edgecolor": PRUNED if keeps else INK, "linewidth": 1.2}

    def plane(figure: Figure) -> None:
        axes = _axes(figure, f"{name}: {count} filters kept")
        for i, j in enumerate(shown.nearest):
            line = list(zip(shown.points[i], shown.points[j], strict=True))
            axes.plot(*line, color=INK, alpha=0.35, linewidth=0.8)
        for keeps, marker in ((False, "o"), (True, "D")):
            points = [p for p, k in zip(shown.points, kept, strict=True) if k == keeps]
            label = "kept" if keeps else "removed, with a line to the nearest kept"
            xs, ys = zip(*points, strict=True) if points else ((), ())
            axes.scatter(xs, ys, s=30, marker=marker, label=label, zorder=3, **style(keeps))
        axes.set(xticklabels=[], yticklabels=[])
        axes.set_xlabel(f"principal components: {100 * shown.explained:.0f} % of the variance")
        axes.margins(0.08, 0.16)
        axes.legend(frameon=False, fontsize=10, loc="upper left", ncols=2, columnspacing=1)

    def tree(figure: Figure) -> None:
        from scipy.cluster import hierarchy

        axes = _axes(figure, "How alike they are")
        drawn = hierarchy.dendrogram(shown.tree, no_plot=True)
        for xs, ys in zip(drawn["icoord"], drawn["dcoord"], strict=True):
            axes.plot(xs, ys, color=INK, linewidth=0.9)
        height = max(row[2] for row in shown.tree) or 1.0
        area = max(4.0, min(30.0, 4000 / len(kept)))
        for place, leaf in enumerate(drawn["leaves"]):
            marker = "D" if kept[leaf] else "o"
            axes.scatter(
                10 * place + 5, -0.04 * height, s=area, marker=marker, zorder=3, **style(kept[leaf])
            )
        axes.set_ylim(-0.1 * height, 1.05 * height)
        axes.set_xlim(0, 10 * len(kept))
        axes.set(xticks=[], ylabel="distance (Ward)")
        axes.set_xlabel("filters; filled ones are kept")

    alt = f"Filters of layer {formats.plain(shown.layer)}, {count} kept: "
    return [
        svg.element(plane, 300, f"{alt}two principal components"),
        *([svg.element(tree, 300, f"{alt}tree of their distances")] if shown.tree else []),
    ]


def training(record: facts.Record) -> list[str]:
    """Returns accuracy (without any: loss) and sparsity by epoch of the fine-tuning."""
    history = [row for row in facts.rows(record, "history") if number(row.get("epoch")) is not None]
    accuracy = {"top1": "training", "val_top1": "validation"}
    scored = any(number(row.get(key)) is not None for row in history for key in accuracy)
    return [
        *_curves(history, accuracy, "Accuracy by epoch", _percent_tick)[: int(scored)],
        *_curves(history, {"loss": "training"}, "Loss by epoch", "{:g}".format)[int(scored) :],
        *_curves(history, {"sparsity": ""}, "Sparsity by epoch", _percent_tick),
    ]


def schedule(record: facts.Record) -> list[str]:
    """Returns the schedule and what was reached by step, and the masks' changes by epoch."""
    keys = ("step", "scheduled", "reached")
    updates = [
        tuple(row[key] for key in keys)
        for row in facts.rows(record, "pruning_history")
        if all(number(row.get(key)) is not None for key in keys)
    ]
    churn = [
        row for row in facts.rows(record, "mask_churn") if number(row.get("epoch")) is not None
    ]
    return [
        *([_scheduled(record, updates)] if updates else []),
        *_curves(
            churn,
            {"pruned": "pruned", "regrown": "grown again"},
            "Weights whose mask changed, by epoch",
            _percent_tick,
            legend="upper right",
        ),
    ]


def _scheduled(record: facts.Record, updates: Sequence[tuple[float, float, float]]) -> str:
    steps, scheduled, reached = zip(*updates, strict=True)
    # A schedule of a target that is no sparsity counts what the target does.
    kind = formats.plain(record.get("flag_target") or "sparsity").partition(":")[0]
    line = "scheduled" if kind == "sparsity" else f"scheduled, of {formats.elide(kind, 12)}"
    title = "Sparsity: scheduled and reached"

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        axes = _axes(figure, title)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        axes.set_ylim(0, 1.04)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _percent_tick(value)))
        axes.plot(steps, scheduled, color=INK, linewidth=1.2, linestyle="--", label=line)
        axes.scatter(steps, reached, s=16, color=PRUNED, zorder=3, label="reached")
        axes.legend(frameon=False, fontsize=10.5, loc="lower right")

    last = f"{line} {_percent_tick(scheduled[-1])}; reached {_percent_tick(reached[-1])}"
    return svg.element(draw, 240, f"{title}. At the end: {last}")


def _scatter(
    record: facts.Record,
    key: str,
    *,
    title: str,
    better: str,
    ylabel: str,
    tick: Callable[[float], str],
) -> list[str]:
    columns = ("gzip_bytes", key)
    rows = [
        row
        for row in facts.files(record)
        if facts.is_ok(row) and all((number(row.get(column)) or 0) > 0 for column in columns)
    ]
    if not rows:
        return []
    xs, ys = ([row[column] for row in rows] for column in columns)
    best = facts.shipped(record)

    def draw(figure: Figure) -> None:
        axes = _axes(figure, f"{title}: {better}")
        axes.set_xlabel("size of the file, gzip")
        axes.set_ylabel(ylabel)
        _scale(
            axes, "x", xs, lambda value: formats.size(value).replace(".00", "").replace(".0", "")
        )
        _scale(axes, "y", ys, tick, from_zero=key != "top1")
        names = []
        for row, x, y in zip(rows, xs, ys, strict=True):
            dense, chosen = row.get("model") == "baseline", row is best
            colour = SHIPPED if chosen else INK if dense else PRUNED
            face = "none" if dense and not chosen else colour
            marker, area = ("D", 50) if chosen else ("o", 42)
            axes.scatter(
                x,
                y,
                s=area,
                marker=marker,
                facecolor=face,
                edgecolor=colour,
                linewidth=1.4,
                zorder=3,
            )
            name = formats.elide(
                facts.name(row) if dense else formats.plain(row.get("variant")), 26
            )
            weight = "bold" if chosen else "normal"
            names.append(labels.Label(x, y, name, {"color": colour, "weight": weight}))
        labels.place(axes, names)

    alt = f"{title}, {better}. " + "; ".join(
        f"{facts.name(row)} {formats.size(x)}, {tick(y)}{' ms' if key != 'top1' else ''}"
        for row, x, y in zip(rows, xs, ys, strict=True)
    )
    return [svg.element(draw, 300, alt)]


# A name, a share, and what is written beside it.
Bar = tuple[str, float, str]


def _columns_of_bars(rows: Sequence[Bar], heads: tuple[str, str, str]) -> list[str]:
    if not rows:
        return []
    # What fits side by side on a desktop; a short list isn't torn apart.
    columns = min(2, math.ceil(len(rows) / 12))
    size = math.ceil(len(rows) / columns)
    return [_bars(rows[i : i + size], heads) for i in range(0, len(rows), size)]


def _bars(rows: Sequence[Bar], heads: tuple[str, str, str]) -> str:
    positions = range(len(rows))
    left, width, step = 0.37, 0.31, 17
    height = step * (len(rows) + 1.6)

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((left, 0, width, 1))
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.3, -1.9), xticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
        # The track is what there was, the bar what is gone.
        axes.barh(positions, [1] * len(rows), height=0.62, color=INK, alpha=0.1)
        axes.barh(positions, [share for _, share, _ in rows], height=0.62, color=PRUNED)
        names = [formats.elide(name, 22) for name, _, _ in rows]
        axes.set_yticks(positions, names, parse_math=False, fontsize=10)
        axes.tick_params(axis="y", length=0)
        style = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 10}
        shares, beside = 1.42, 2.02  # right edges of the columns, in widths of the bars
        for y, (_, share, text) in enumerate(rows):
            axes.text(shares, y, formats.percent(share, digits=1), ha="right", **style)
            axes.text(beside, y, text, ha="right", **style)
        for x, head in zip((-0.05, shares, beside), heads, strict=True):
            axes.text(x, -1.3, head, ha="right", alpha=0.75, **style)

    alt = f"{heads[1].capitalize()} by {heads[0]}: " + "; ".join(
        f"{formats.plain(name)} {formats.percent(share, digits=1)}" for name, share, _ in rows
    )
    return svg.element(draw, height, alt)


def _curves(
    history: Sequence[facts.Row],
    series: dict[str, str],
    title: str,
    tick: Callable[[float], str],
    *,
    legend: str = "lower right",
) -> list[str]:
    lines = {}
    for key, label in series.items():
        known = [(row["epoch"], row[key]) for row in history if number(row.get(key)) is not None]
        if known:
            lines[label] = tuple(zip(*known, strict=True))
    if not lines:
        return []

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = _axes(figure, title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        values = [y for _, ys in lines.values() for y in ys]
        _scale(axes, "y", values, tick, from_zero=False)
        if "sparsity" in series:
            axes.set_ylim(0, 1.04)
        for i, (label, (xs, ys)) in enumerate(lines.items()):
            pale = not i and len(lines) > 1
            colour = INK if pale else PRUNED
            axes.plot(
                xs,
                ys,
                color=colour,
                linewidth=1.2 if pale else 2,
                linestyle="--" if pale else "-",
                marker="o" if len(xs) < 25 else "",
                markersize=4,
                label=label,
            )
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=10.5, loc=legend)

    last = "; ".join(f"{label} {tick(ys[-1])}".strip() for label, (_, ys) in lines.items())
    return [svg.element(draw, 240, f"{title}. At the end: {last}")]


def _axes(figure: Figure, title: str) -> Axes:
    axes = figure.add_subplot()
    axes.grid(color=INK, alpha=0.12, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=3)
    figure.text(0.012, 0.985, title, fontsize=11.5, weight="bold", va="top")
    figure.subplots_adjust(
        left=62 / svg.WIDTH,
        right=1 - 12 / svg.WIDTH,
        bottom=44 / figure.bbox.height,
        top=1 - 32 / figure.bbox.height,
    )
    return axes


def _scale(
    axes: Axes,
    which: str,
    values: Sequence[float],
    tick: Callable[[float], str],
    *,
    from_zero: bool = True,
) -> None:
    """Sets limits and ticks of an axis: logarithmic over a wide span, else from zero if asked."""
    from matplotlib import ticker

    axis = getattr(axes, f"{which}axis")
    low, high = min(values), max(values)
    if from_zero and low > 0 and high > 5 * low:
        getattr(axes, f"set_{which}scale")("log")
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
        axis.set_minor_locator(ticker.NullLocator())
        margin = (high / low) ** 0.12
        low, high = low / margin, high * margin
    else:
        margin = 0.15 * (high - low) or 0.05 * abs(high) or 1
        low, high = (0 if from_zero else low - margin), high + margin
        axis.set_major_locator(ticker.MaxNLocator(5, steps=(1, 2, 5, 10)))
    getattr(axes, f"set_{which}lim")(low, high)
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: tick(value)))


def _percent_tick(value: float) -> str:
    return f"{100 * value:.4g} %"
