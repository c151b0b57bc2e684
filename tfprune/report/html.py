"""A record as one HTML page: no network, no script, and every text in it is untrusted."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tfprune.report import facts, formats, plots
from tfprune.report.whole import whole

if TYPE_CHECKING:
    import jinja2

_MODEL = {
    "top1": ("Top-1", formats.percent),
    "top5": ("Top-5", formats.percent),
    "val_top1": ("Top-1 on validation data", formats.percent),
    "loss": ("Loss", formats.decimal),
    "params": ("Parameters", formats.count),
    "nonzero_params": ("Non-zero parameters", formats.count),
    "macs": ("MACs", formats.count),
    "nonzero_macs": ("Non-zero MACs", formats.count),
    "entropy_bytes": ("Ideal size of the weights: codebooks and entropy", formats.size),
    "huffman_bytes": ("The same with Huffman's code", formats.size),
}
_TILES = (
    ("Size, gzip", "gzip_bytes", formats.size, facts.smaller),
    (
        "Latency",
        "latency_ms_median",
        functools.partial(formats.milliseconds, unit=" ms"),
        facts.faster,
    ),
    ("Top-1 accuracy", "top1", functools.partial(formats.percent, digits=1), facts.gained),
)
_RUN = {
    "train_examples": formats.count,
    "validation_examples": formats.count,
    "test_examples": formats.count,
    "seconds_total": formats.seconds,
}
# Each has a place of its own in the page; what else a record holds is listed under "Run".
_PLACED = {
    *(f"{model}_{key}" for model in ("base", "pruned") for key in _MODEL),
    *("schema", "command", "sparsity", "compression_ratio", "theoretical_speedup"),
    *("layers", "channels", "filters", "skipped", "tflite", "recommended", "history"),
    *("storage", "ops", "sparse_inference", "pruning_history", "mask_churn"),
}


class Tile(NamedTuple):
    """A large figure, and below it what has changed, each with what it is compared to."""

    title: str
    figure: str
    changes: list[tuple[str, str]]


def write(record: facts.Record, path: str | os.PathLike) -> None:
    """Writes the page of `record` to `path`, whole or not at all.

    Raises:
      OSError: if it can't be written.
    """
    page = render(record)
    with whole(path) as partial:
        partial.write_text(page, encoding="utf-8")


def render(record: facts.Record) -> str:
    """Returns the page of `record`; of the same record, always the same text."""
    from markupsafe import Markup

    files = facts.files(record)
    reference = facts.dense(record, "float32") or {"top1": record.get("base_top1")}
    template = environment().get_template("report.html")
    return template.render(
        facts=facts,
        record=record,
        files=files,
        # What was only exported has files of one model, which have no name for it.
        done="exported" if files and all(row.get("model") is None for row in files) else "pruned",
        elsewhere=facts.elsewhere(record),
        kept_dense=facts.kept_dense(record),
        sparse_inference=facts.sparse_inference(record),
        ops=facts.operators(record),
        base_top1=reference.get("top1"),
        top5=any(formats.number(row.get("top5")) is not None for row in files),
        layers=facts.rows(record, "layers"),
        skipped=facts.rows(record, "skipped"),
        shipped=facts.shipped(record),
        tiles=_tiles(record),
        model=_model(record),
        lists=_lists(record),
        # matplotlib writes XML, in which the text of the record is escaped.
        tradeoff=[Markup(panel) for panel in plots.tradeoff(record)],  # noqa: S704
        sparsity=[Markup(panel) for panel in plots.layer_sparsity(record)],  # noqa: S704
        channels=[Markup(panel) for panel in plots.channels(record)],  # noqa: S704
        redundancy=[Markup(panel) for panel in plots.redundancy(record)],  # noqa: S704
        training=[Markup(panel) for panel in plots.training(record)],  # noqa: S704
        schedule=[Markup(panel) for panel in plots.schedule(record)],  # noqa: S704
    )


def environment() -> jinja2.Environment:
    """Returns what makes pages of the templates in this folder: all text in them is escaped."""
    import jinja2
    from markupsafe import Markup

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else formats.setting(value),
    )
    found.globals["f"] = formats
    return found


def _tiles(record: facts.Record) -> list[Tile]:
    shipped = facts.shipped(record)
    row = shipped or {"top1": record.get("pruned_top1")}
    others = {f"dense {name}": facts.dense(record, name) or {} for name in ("float32", "int8")}
    if not shipped:
        others = {"dense Keras model": {"top1": record.get("base_top1")}}
    tiles = [
        Tile(
            title,
            show(row.get(key)),
            [
                (change(row, other), f"{name}, {show(other.get(key))}")
                for name, other in others.items()
                if change(row, other) and other != row
            ],
        )
        for title, key, show, change in _TILES
    ]
    return tiles + _left(record)


def _left(record: facts.Record) -> list[Tile]:
    """Returns what is left of the parameters and of the multiply-accumulates."""

    def dense(key: str) -> str:
        return f"dense model, {formats.short_count(record.get(key))}"

    def known(*changes: tuple[str, str]) -> list[tuple[str, str]]:
        return [change for change in changes if not change[0].startswith(formats.DASH)]

    compression = f"{formats.ratio(record.get('compression_ratio'))} compression"
    sparsity = f"{formats.percent(record.get('sparsity'), digits=1)} sparsity"
    speedup = f"{formats.ratio(record.get('theoretical_speedup'))} theoretical speed-up"
    if "pruned_nonzero_params" not in record:
        return []
    params, macs = (record.get(f"pruned_nonzero_{key}") for key in ("params", "macs"))
    changes = known((compression, dense("base_params")))
    if not facts.rows(record, "channels"):  # else what is gone is no zero but gone
        changes += known((sparsity, "of the weights up for pruning"))
    return [
        Tile("Non-zero parameters", formats.short_count(params), changes),
        Tile("Non-zero MACs", formats.short_count(macs), known((speedup, dense("base_macs")))),
    ]


def _model(record: facts.Record) -> list[tuple[str, str, str]]:
    """Returns name, dense figure and pruned figure of what the run knows of the Keras models."""
    return [
        (name, show(record.get(f"base_{key}")), show(record.get(f"pruned_{key}")))
        for key, (name, show) in _MODEL.items()
        if f"base_{key}" in record or f"pruned_{key}" in record
    ]


def _lists(record: facts.Record) -> dict[str, list[tuple[str, str]]]:
    """Returns names and values of settings, of the environment, and of the rest of the record."""
    lists: dict[str, list[tuple[str, str]]] = {"Settings": [], "Run": [], "Environment": []}
    for key, value in sorted(record.items()):
        if key.startswith("flag_"):
            lists["Settings"].append((key.removeprefix("flag_"), formats.setting(value)))
        elif key.startswith("env_"):
            lists["Environment"].append((key.removeprefix("env_"), formats.setting(value)))
        elif key not in _PLACED:
            show = _RUN.get(key, formats.setting)
            lists["Run"].append((key.replace("_", " "), show(value)))
    return {title: pairs for title, pairs in lists.items() if pairs}
