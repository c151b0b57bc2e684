import pathlib

import pytest

from tfprune.evaluation import grid

RECIPES = sorted((pathlib.Path(__file__).parents[2] / "pipelines/recipes").glob("*.toml"))
PAIR = {"model": "digits_cnn", "dataset": "digits"}


def trials(said=None, overriding=None, **settings):
    return list(
        grid.trials(grid.build({"pairs": [PAIR]} | settings | (said or {}), overriding or {}))
    )


def names(found, **wanted):
    return {x.method.name for x in found if all(getattr(x, key) == v for key, v in wanted.items())}


def test_every_method_at_every_point_with_every_seed():
    found = trials(
        pairs=[PAIR, {"model": "lenet_300_100", "dataset": "digits"}],
        methods=["magnitude/global", "wanda/uniform"],
        controls=["dense"],
        points=[1, 2, 8],
        seeds=[3, 5],
    )
    assert len(found) == len({x.id for x in found}) == 2 * 2 * (2 * 2 + 1)
    for pair in {x.pair for x in found}:
        for seed in (3, 5):
            for point in (2, 8):
                assert names(found, pair=pair, seed=seed, point=point) == {
                    "magnitude/global",
                    "wanda/uniform",
                }
            assert names(found, pair=pair, seed=seed, point=1) == {"dense"}


def test_seed_by_seed_and_what_is_replayed_first():
    found = trials(methods=["snip"], points=[4], seeds=[0, 1])
    assert [x.seed for x in found] == sorted(x.seed for x in found)
    place = {x.id: i for i, x in enumerate(found)}
    replays = [x for x in found if x.origin]
    assert replays
    for replay in replays:
        assert replay.origin.method.name == "snip/global"
        assert place[replay.origin.id] < place[replay.id]


def test_what_is_only_replayed_is_run_too():
    found = trials(methods=["random@snip"], controls=[], points=[4], seeds=[0])
    assert names(found) == {"snip/global", "random@snip/global"}


def test_protocols():
    found = trials(protocol="shrinkbench")
    assert {x.point for x in found} == {1, 2, 4, 8, 16, 32}
    assert {x.target for x in found if x.point == 8} == {"compression:8.0"}
    assert len({x.seed for x in found}) >= 3
    assert {"dense", "random/uniform", "magnitude/uniform", "random@grad/global"} <= names(found)
    assert "scratch" not in names(found)
    found = trials(protocol="structured")
    assert {x.point for x in found} == {1, 1.5, 2, 3, 4, 8}
    assert {x.target for x in found if x.point == 4} == {"macs:0.25"}
    assert {"dense", "random/uniform", "l1/uniform", "scratch"} <= names(found)


def test_pair_over_file_over_protocol_and_flags_over_all():
    pairs = [PAIR, PAIR | {"model": "lenet_300_100", "points": [4], "epochs": 2}]
    found = trials(pairs=pairs, epochs=3.0, seeds=[0], points=[2])
    kept = {(x.pair.model, x.point, x.epochs) for x in found if x.point > 1}
    assert kept == {("digits_cnn", 2, 3), ("lenet_300_100", 4, 2)}
    found = trials({"pairs": pairs}, {"epochs": 5.0, "points": [16.0]}, seeds=[0])
    assert {(x.point, x.epochs) for x in found if x.point > 1} == {(16, 5)}


def test_a_file(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(
        'protocol = "structured"\nmethods = ["fpgm"]\npoints = [2]\nseeds = [7]\n'
        '[[pairs]]\nmodel = "digits_cnn"\ndataset = "digits"\ntrain_epochs = 1\n'
    )
    found = trials(grid.read(path))
    assert names(found) == {"dense", "fpgm/uniform", "random/uniform", "l1/uniform", "scratch"}
    assert {x.pair.train_epochs for x in found} == {1}
    path.write_text("points = [2\n")
    with pytest.raises(ValueError, match=r"grid.toml: "):
        grid.read(path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes(path):
    found = trials(grid.read(path))
    assert len({str(x.pair) for x in found}) > 1
    assert "dense" in names(found)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"methods": ["magnitud"]}, "pair 1: method 'magnitud/global'.* Did you mean magnitude"),
        ({"points": [0.5]}, "pair 1: operating point 0.5 is impossible"),
        ({"points": [float("nan")]}, "operating point nan is impossible"),
        ({"points": []}, "points is empty"),
        ({"points": 4}, "points = 4, where a list of float is needed"),
        ({"seeds": [1.5]}, "seeds = .*, where a list of int is needed"),
        ({"seeds": "12"}, "where a list of int is needed"),
        ({"epochs": "many"}, "epochs = 'many', where a float is needed"),
        ({"epochs": -1}, "epochs = -1.0: 0 or more is needed"),
        ({"point": [2]}, "unknown setting of the grid, pair 1: 'point'. Did you mean points"),
        ({"protocol": "shrink"}, "unknown protocol 'shrink'. Did you mean shrinkbench"),
        ({"controls": ["denze"]}, "unknown control of .* 'denze'. Did you mean dense"),
        ({"variants": ["int9"]}, "unknown variant of .* 'int9'"),
        ({"axis": "bytes"}, "unknown axis"),
        ({"pairs": []}, "names no pairs"),
        ({"pairs": ["resnet8"]}, "pair 1 is 'resnet8': a table"),
        ({"pairs": [{"model": "lenet5"}]}, "pair 1 has no dataset"),
    ],
)
def test_wrong_words(said, message):
    with pytest.raises(ValueError, match=message):
        trials(said)


def test_an_id_is_all_that_decides_the_result_and_nothing_else(tmp_path):
    def only(**settings):
        (found,) = trials(controls=[], methods=["snip"], seeds=[0], points=[4], **settings)
        return found

    first = only()
    assert only().id == first.id
    elsewhere = only(pairs=[PAIR | {"data_dir": "/elsewhere"}])
    assert elsewhere.id == first.id
    for changed in ({"epochs": 1}, {"learning_rate": 1}, {"calibration_samples": 3}):
        assert only(**changed).id != first.id
    assert only(pairs=[PAIR | {"augment": "flip"}]).id != first.id
    # The same trial whether the protocol or the user asks for it.
    asked = trials(methods=["random/uniform"], seeds=[0], points=[4])
    added = trials(methods=["snip"], seeds=[0], points=[4])
    assert not any(x.control for x in asked if x.method.name == "random/uniform")
    assert all(x.control for x in added if x.method.name == "random/uniform")
    ids = [{x.id for x in found if x.method.name == "random/uniform"} for found in (asked, added)]
    assert ids[0] == ids[1]
    # Of files it is the content that counts.
    for name in ("a.keras", "b.keras"):
        (tmp_path / name).write_bytes(b"weights")
    (tmp_path / "c.keras").write_bytes(b"others")
    a, b, c = (only(pairs=[PAIR | {"model": str(tmp_path / f"{name}.keras")}]).id for name in "abc")
    assert a == b != c
