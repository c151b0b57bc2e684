import itertools
import xml.etree.ElementTree as ET

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tests.report import records
from tfprune.report import labels, plots

PICTURES = (
    plots.tradeoff,
    plots.layer_sparsity,
    plots.channels,
    plots.redundancy,
    plots.training,
    plots.schedule,
)


def words(svg):
    return [e.text for e in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", records.ALL)
def test_pictures_are_xml_and_always_the_same(name, picture):
    panels = picture(records.ALL[name]())
    assert panels == picture(records.ALL[name]())
    for panel in panels:
        ET.fromstring(panel)


@pytest.mark.parametrize("depth", [8, 20, 110])
def test_every_layer_is_drawn_with_its_parameters(depth):
    layers = records.resnet(depth)["layers"]
    drawn = [word for panel in plots.layer_sparsity({"layers": layers}) for word in words(panel)]
    assert [word for word in drawn if word in {e["name"] for e in layers}] == [
        e["name"] for e in layers
    ]
    assert drawn.count("36,864") == sum(e["params"] == 36_864 for e in layers)


def test_channels_are_drawn_with_how_many_are_left():
    (panel,) = plots.channels(records.shrunk())
    assert words(panel).count("8 of 16") == words(panel).count("21 of 32") == 3
    assert words(panel).count("0.0 %") == 3
    assert not plots.channels(records.resnet())


def test_filters_are_drawn_with_which_were_kept():
    plane, tree = plots.redundancy(records.shrunk())
    assert "9 of 16 filters kept" in " ".join(words(plane))
    assert "53 % of the variance" in " ".join(words(plane))
    # In the tree each has its mark; in the plane those of one kind are one collection.
    assert tree.count("fill: var(--pruned") == 9
    alone = {"layer": "dense", "kept": [True], "points": [[0, 0]], "nearest": [0], "tree": []}
    assert len(plots.redundancy({"filters": alone | {"explained": 1.0}})) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"kept": [True]},
        {"points": [[0, 0]] * 15 + [[0, float("nan")]]},
        {"nearest": [99] * 16},
        {"tree": [[0, 0, 1, 2]]},
        {"explained": "<b>"},
        {"more": 1},
    ],
)
def test_filters_that_make_no_sense_are_left_out(wrong):
    assert not plots.redundancy({"filters": records.filters() | wrong})


def test_two_pictures_of_a_page_share_no_ids():
    record = records.resnet()
    ids = [
        {e.get("id") for e in ET.fromstring(panel).iter()} - {None}
        for picture in PICTURES
        for panel in picture(record)
    ]
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(ids, 2))


def test_a_run_without_accuracy_shows_its_loss():
    record = {"history": [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]}
    (panel,) = plots.training(record)
    assert "Loss by epoch" in words(panel)


def test_the_schedule_is_drawn_with_what_was_reached():
    record = records.resnet()
    along, churn = plots.schedule(record)
    assert {"scheduled", "reached", "step"} <= set(words(along))
    assert {"pruned", "grown again", "epoch"} <= set(words(churn))
    assert "scheduled 90 %; reached 90 %" in along
    assert "pruned 0.1527 %; grown again 0.0008195 %" in churn
    updates = record["pruning_history"]
    (fewer, _) = plots.schedule(record | {"pruning_history": updates[:5] + updates[6:]})
    assert fewer.count("<use") == along.count("<use") - 1  # an update, a point
    record["flag_target"] = "macs:0.5"
    assert "scheduled, of macs" in words(plots.schedule(record)[0])


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"pruning_history": None, "mask_churn": [{"epoch": 0}]},
        {"pruning_history": [{"step": 1, "scheduled": "<b>", "reached": 0.5}, 7]},
        {"pruning_history": "no", "mask_churn": [{"pruned": 0.5}]},
    ],
)
def test_a_schedule_that_makes_no_sense_is_left_out(wrong):
    assert not plots.schedule(wrong)


def test_names_of_points_that_coincide_do_not_overlap():
    figure = Figure(figsize=(400 / 72, 300 / 72), dpi=72)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1))
    names = ("float32", "float32_sparse", "float16", "float16_sparse", "dense float32", "$int8")
    style = {"color": "black"}
    labels.place(axes, [labels.Label(0.97, 0.5 + i / 100, n, style) for i, n in enumerate(names)])
    figure.draw_without_rendering()
    boxes = [labels.extent(text) for text in axes.texts]
    assert not any(a.overlap(b) for a, b in itertools.combinations(boxes, 2))
    assert all(axes.bbox.x0 <= box.left and box.right <= axes.bbox.x1 for box in boxes)
