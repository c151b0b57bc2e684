"""The page, figures and tables of a benchmark: what they say, and of whom."""

import base64
import hashlib
import itertools
import json
import math
import re
import stat
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import tfprune.report
from tests.report import trials
from tfprune import literature
from tfprune.evaluation import summary
from tfprune.report import benchmark
from tfprune.report.benchmark import allocation, comparison, curves, diagram, page, series, tables

PAIR = (("cifar10", "resnet32"),)
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Elements with their attributes, and the text in each."""

    def __init__(self, text):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        element = (tag, dict(attrs), [])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, texts in self._open:
            texts.append(data)

    def all(self, tag=None, **wanted):
        """Returns attributes and text of the elements that have these attributes."""
        return [
            (attrs, " ".join("".join(texts).split()))
            for name, attrs, texts in self.elements
            if tag in (None, name) and all(attrs.get(k) == v for k, v in wanted.items())
        ]

    @property
    def text(self):
        return self.all("main")[0][1]


def loaded(folder, records):
    for i, record in enumerate(records):
        path = folder / "runs" / str(i) / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(record))
    return tfprune.report.load(folder)


def rendered(table, published=None):
    comparisons, ranks = benchmark.compare(table)
    return page.render(table, comparisons, ranks, published)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A benchmark with failures and a record that is none: its table, its folder, its page."""
    folder = tmp_path_factory.mktemp("bench")
    broken = folder / "runs" / "half" / "record.json"
    broken.parent.mkdir(parents=True)
    broken.write_text('{"schema": 1,')
    records = trials.grid(pairs=(*PAIR, ("fashion_mnist", "lenet5")))
    error = {"error": "MemoryError: gone", "traceback": "Traceback:\n    deep inside"}
    records.append(trials.failed(method="snip/global", seed=7) | error)
    table = loaded(folder, records)
    found = benchmark.write(table, folder / "report", published=literature.load())
    return table, folder / "report", Page(found.read_text())


def test_files_are_there_whole_and_for_others_to_read(whole):
    _, folder, _ = whole
    assert {path.name for path in folder.iterdir()} == {"report.html", "figures", "tables"}
    names = ["cifar10-resnet32-compression", "fashion_mnist-lenet5-compression"]
    pictures = [f"{name}{x}" for name in names for x in ("", "-layers", "-methods")]
    pictures += ["cifar10-resnet8-compression", "ranks-compression"]
    pictures = {f"{name}.{ending}" for name in pictures for ending in ("png", "svg")}
    # The failed trial is the only one of its pair: there is nothing to draw.
    pictures -= {f"cifar10-resnet8-compression.{ending}" for ending in ("png", "svg")}
    assert {path.name for path in (folder / "figures").iterdir()} == pictures
    assert all(path.stat().st_mode & stat.S_IROTH for path in folder.rglob("*.*"))
    assert (folder / "report.html").read_text().rstrip().endswith("</html>")


def test_the_same_records_give_the_same_page(whole):
    table, folder, _ = whole
    again = rendered(table, literature.load())
    assert again == (folder / "report.html").read_text()


def test_means_and_deviations_are_those_of_the_trials(whole):
    table, folder, _ = whole
    found = table[table["pair"].eq("resnet32 on cifar10") & table["status"].eq("ok")]
    csv = pd.read_csv(folder / "tables" / "cifar10-resnet32-compression.csv")
    assert len(csv) == found.groupby(["method", "point"]).ngroups
    for row in csv.itertuples():
        rows = found[found["method"].eq(row.method) & found["point"].eq(row.point)]
        tops = rows["pruned_top1"].to_numpy()
        assert row.pruned_top1_mean == pytest.approx(sum(tops) / 3)
        spread = math.sqrt(((tops - sum(tops) / 3) ** 2).sum() / 2)
        assert row.pruned_top1_std == pytest.approx(spread)


def test_a_point_says_the_figures_of_its_method(whole):
    table, _, shown = whole
    rows = table[
        table["pair"].eq("resnet32 on cifar10") & table["method"].eq("tfmot") & table["point"].eq(8)
    ]
    mean, spread = 100 * rows["pruned_top1"].mean(), 100 * rows["pruned_top1"].std()
    assert f"{mean:.1f} ± {spread:.1f}" in [text for _, text in shown.all("td")]
    words = f"tfmot at 8 ×: top-1 {mean:.1f} % ± {spread:.1f}, 3 seeds"
    points = [a for a, _ in shown.all(**{"class": "point", "data-method": "tfmot"})]
    said = [a for a in points if a["aria-label"].startswith(words)]
    # Against compression twice, speed-up and size; and in a panel of its own.
    assert len(said) == 5
    assert all(a["tabindex"] == "-1" for a in points)


def test_every_method_has_a_row_a_name_and_a_panel(whole):
    table, _, shown = whole
    for method in table["method"].unique():
        if method != "dense":
            assert len(shown.all("tr", **{"data-method": method})) >= 4
    legend = {attrs["data-method"] for attrs, _ in shown.all("li") if "data-method" in attrs}
    methods = {"magnitude/global", "snip/global", "tfmot"}
    assert legend == methods | {"random/uniform", "magnitude/uniform"}
    assert {a["data-method"] for a, _ in shown.all("div") if "data-method" in a} == methods


def test_the_page_needs_nothing_and_runs_one_script(whole):
    _, folder, shown = whole
    policy = shown.all("meta", **{"http-equiv": "Content-Security-Policy"})[0][0]["content"]
    (script,) = re.findall("<script>(.*?)</script>", (folder / "report.html").read_text(), re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    for tag, attrs, _ in shown.elements:
        assert tag not in ("iframe", "object", "embed", "link", "base", "form", "img", "image"), tag
        for key, value in attrs.items():
            assert not key.startswith("on"), (tag, key)
            if key in ("src", "href", "xlink:href", "action"):
                assert value.startswith("#"), value


def test_no_two_parts_share_an_id_and_links_lead_somewhere(whole):
    _, _, shown = whole
    ids = [attrs["id"] for _, attrs, _ in shown.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"] for _, attrs, _ in shown.elements if "href" in attrs]
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_heads_of_tables_and_pictures_have_words(whole):
    _, _, shown = whole
    assert all(attrs.get("scope") in ("col", "row") for attrs, _ in shown.all("th"))
    assert all(attrs.get("aria-label") for attrs, _ in shown.all("svg"))


def test_failures_and_what_was_left_out_are_in_plain_sight(whole):
    _, _, shown = whole
    assert "snip/global at 8 × on resnet8 on cifar10, seed 7: MemoryError: gone" in shown.text
    assert "half/record.json: can't be read as JSON" in shown.text
    (traceback,) = [texts for tag, _, texts in shown.elements if tag == "pre"]
    assert "".join(traceback) == "Traceback:\n    deep inside"


def test_published_results_are_those_of_the_data_set(whole):
    _, _, shown = whole
    known = literature.load("cifar10").dropna(subset=["compression_ratio", "delta_top1"])
    marks = [a["aria-label"] for a, _ in shown.all(**{"class": "point published"})]
    assert len(marks) == len(known)
    same = known[known["architecture"].eq("ResNet-32")]
    assert 0 < len(same) == sum("on ResNet-32, as reported by its authors" in m for m in marks)
    assert "as reported by their authors" in shown.text


def test_without_published_results_none_is_drawn(whole):
    table, _, _ = whole
    assert "reported by" not in rendered(table)


def test_a_checklist_a_ranking_and_settings_are_there(whole):
    table, _, shown = whole
    ranks = summary.ranks(table[table["replays"].isna() & table["model"].ne("resnet8")])
    assert len(ranks) == 5
    for text in ("At least 5 operating points", "5d5d5d", "A processor", "flip_crop"):
        assert text in shown.text


def test_latex_is_what_booktabs_takes(whole):
    _, folder, _ = whole
    text = (folder / "tables" / "fashion_mnist-lenet5-compression.tex").read_text()
    assert r"lenet5 on fashion\_mnist" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in rows} == {5}
    best = next(line for line in rows if line.startswith("magnitude/global"))
    assert best.count("mathbf") >= 4
    assert all(f"\\{word}" in text for word in ("toprule", "midrule", "bottomrule"))


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("a_b%&#$", r"a\_b\%\&\#\$"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("~^<>|", r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}"),
        ("two\nlines", "two lines"),
    ],
)
def test_nothing_is_a_command_of_latex(text, latex):
    assert tables._escaped(text) == latex


def test_text_of_records_is_text(tmp_path):
    table = loaded(tmp_path, trials.hostile())
    benchmark.write(table, tmp_path / "report", published=literature.load())
    shown = Page((tmp_path / "report" / "report.html").read_text())
    assert len(shown.all("script")) == 1
    assert not shown.all("img")
    assert not [key for _, attrs, _ in shown.elements for key in attrs if key.startswith("on")]
    assert trials.SCRIPT in shown.text
    assert "{{ 7 * 7 }}" in shown.text
    assert not {"\u202e", "\x07"} & set(shown.text)
    names = [path.name for path in (tmp_path / "report").rglob("*.*")]
    assert all(re.fullmatch(r"[\w.-]+", name, re.ASCII) for name in names)
    assert not re.search(
        r"\\input|<script",
        "".join(path.read_text() for path in (tmp_path / "report" / "tables").glob("*.tex")),
    )


def test_one_seed_is_said_to_say_little(tmp_path):
    shown = Page(rendered(loaded(tmp_path, trials.grid(seeds=1, pairs=PAIR))))
    assert "One seed only" in shown.text
    assert "One seed: no spread is known." in shown.text
    assert not re.search(", (not )?significantly", shown.text)
    assert " ± " not in shown.text
    assert "nan" not in shown.text.lower().split()


def test_one_method_without_a_dense_control(tmp_path):
    shown = Page(rendered(loaded(tmp_path, [trials.trial(point=2)])))
    assert "no dense control to compare with" in shown.text
    assert "Change against the dense model" not in shown.text
    assert not shown.all("section", id="ranks")


def test_nothing_finished(tmp_path):
    table = loaded(tmp_path, [trials.failed(point=2), trials.failed(point=4)])
    benchmark.write(table, tmp_path / "report")
    shown = Page((tmp_path / "report" / "report.html").read_text())
    assert "nothing to compare" in shown.text
    assert shown.text.count("MemoryError: out of memory") >= 2


def test_settings_that_differ_are_shown_with_whose_they_are(tmp_path):
    two = [trials.trial(batch_size=64), trials.trial("tfmot", batch_size=128)]
    other = trials.trial(model="lenet5", epochs=9)
    text = Page(rendered(loaded(tmp_path, [*two, other]))).text
    assert "64 (1 trial)" in text
    assert "128 (2 trials)" in text
    assert "lenet5 on cifar10: 9" in text
    assert "resnet8 on cifar10: 2" in text


def compared(tmp_path, tops, **changed):
    """Returns the comparison of methods with these accuracies, by point, over seeds."""
    records = [
        trials.trial(method, point=point, seed=seed, pruned_top1=top, **changed)
        | {"control": method in ("dense", "random/uniform", "magnitude/uniform")}
        for method, by_point in tops.items()
        for point, values in by_point.items()
        for seed, top in enumerate(values)
    ]
    (found,), _ = benchmark.compare(loaded(tmp_path, records))
    return found


def test_the_point_is_the_largest_that_costs_two_points_at_most(tmp_path):
    found = compared(
        tmp_path,
        {
            "dense": {1: [0.90]},
            "tfmot": {2: [0.89], 4: [0.885], 8: [0.5]},
            "snip/global": {2: [0.85], 4: [0.7], 8: [0.879]},
        },
    )
    assert comparison.chosen_point(found) == 4


def test_a_verdict_says_what_is_beyond_the_spread(tmp_path):
    found = compared(
        tmp_path,
        {
            "dense": {1: [0.9, 0.902]},
            "tfmot": {2: [0.89, 0.892, 0.894]},
            "magnitude/uniform": {2: [0.887, 0.89, 0.893]},
            "random/uniform": {2: [0.5, 0.502, 0.504]},
        },
    )
    said = comparison.verdict(found)
    assert (said.row.name, said.change) == ("tfmot", "−0.9")
    assert said.controls == [
        ("magnitude/uniform", "+0.2", False),
        ("random/uniform", "+39.0", True),
    ]


def test_a_control_that_does_better_is_said_to(tmp_path):
    records = [
        trials.trial(method, point=point, seed=seed, pruned_top1=top + seed / 1000, model=model)
        for method, top in {"random/uniform": 0.8, "snip/global": 0.7, "tfmot": 0.6}.items()
        for point, seed, model in itertools.product((2, 4), (0, 1), ("resnet8", "resnet32"))
    ]
    text = Page(rendered(loaded(tmp_path, records))).text
    assert "snip/global keeps the most accuracy: mean rank 2.0 of 3, ahead on 2 of 2" in text
    assert "Yet of the controls random/uniform did better." in text


def test_what_is_kept_is_the_mean_over_seeds(tmp_path):
    table = loaded(tmp_path, trials.grid(pairs=PAIR))
    (found,), _ = benchmark.compare(table)
    kept = allocation.kept(table, found, 8)
    assert not [name for name in kept.index if "@" in name]
    rows = table[table["method"].eq("snip/global") & table["point"].eq(8)]
    shares = [[x["nonzero_params"] / x["params"] for x in layers] for layers in rows["layers"]]
    np.testing.assert_allclose(kept.loc["snip/global"], np.mean(shares, axis=0))
    assert list(kept.columns) == [layer["name"] for layer in rows["layers"].iloc[0]]


def test_of_channels_the_share_of_channels_is_kept(tmp_path):
    table = loaded(tmp_path, [trials.trial(axis="macs", point=4)])
    (found,), _ = benchmark.compare(table)
    assert allocation.kept(table, found, 4).to_numpy().tolist() == [[0.25] * 3]


def test_groups_of_demsar():
    # His table 6: C4.5+m+cf, C4.5+m, C4.5+cf, C4.5 over 14 data sets.
    ranks = np.array([1.964, 2.0, 2.893, 3.143])
    assert diagram.groups(ranks, 1.25) == [(0, 3)]
    assert diagram.groups(ranks, 1.12) == [(0, 2), (2, 3)]


def test_groups_join_what_is_near_and_nothing_else():
    rng = np.random.default_rng(0)
    for _ in range(50):
        ranks, critical = np.sort(rng.uniform(1, 9, 8)), rng.uniform(0.2, 4)
        found = diagram.groups(ranks, critical)
        joined = {
            pair
            for first, last in found
            for pair in itertools.combinations(range(first, last + 1), 2)
        }
        near = {
            p for p in itertools.combinations(range(8), 2) if ranks[p[1]] - ranks[p[0]] <= critical
        }
        assert joined == near
        # None lies inside another.
        assert not [1 for a, b in itertools.permutations(found, 2) if a[0] <= b[0] and b[1] <= a[1]]


def test_more_methods_than_colours_are_grey_together_and_shown_alone(tmp_path, monkeypatch):
    more = {f"criterion{i}/global": (0.05 + i / 50, 1.0) for i in range(12)}
    monkeypatch.setattr(trials, "METHODS", trials.METHODS | more)
    monkeypatch.setattr(trials, "CONTROLS", {"dense": None, "random/uniform": None})
    table = loaded(tmp_path, trials.grid(seeds=1, pairs=PAIR))
    (found,), _ = benchmark.compare(table)
    colours = series.coloured([found])
    # Those that lose least are told apart.
    best = {"magnitude/global", "snip/global", *list(more)[:4]}
    assert best < set(colours)
    assert sorted(colours.values()) == [*range(8)]
    assert [name for name, _ in curves.one_by_one(found)] == found.methods
    panel = series.panels(found)[0]
    drawn = {curve.method: curve for curve in series.curves(found, panel, colours)}
    assert len(drawn) == 17
    assert not drawn["criterion11/global"].shape
    # Every curve begins at the dense model.
    assert {curve.points[0].x for curve in drawn.values()} == {1.0}


def test_runs_of_the_pruning_pipeline_are_rows_too(tmp_path):
    from tests.report import records

    run = records.resnet() | {"dataset": "cifar10", "model": "resnet20", "run_id": "x"}
    run |= {"flag_criterion": "magnitude", "flag_granularity": "weight", "flag_seed": 0}
    shown = Page(rendered(loaded(tmp_path, [run])))
    assert "magnitude/global" in shown.text
