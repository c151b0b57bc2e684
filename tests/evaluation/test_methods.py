import pytest

from tfprune.evaluation import methods
from tfprune.evaluation.methods import Method


def parsed(text, granularity="weight", allocation="global"):
    return methods.parse(text, granularity=granularity, allocation=allocation)


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("snip", Method("snip", "global")),
        ("magnitude/erk", Method("magnitude", "erk")),
        ("obc/erk+none", Method("obc", "erk", "none")),
        ("woodfisher(block=10)/lamp", Method("woodfisher(block=10)", "lamp")),
        (
            "l1/sensitivity('a/b@c+d.csv')",
            Method("l1", "sensitivity('a/b@c+d.csv')"),
        ),
        ("random@snip", Method("random", replays="snip/global")),
        ("magnitude@obc/global+none", Method("magnitude", replays="obc/global+none")),
        ("tfmot", Method(special="tfmot")),
        ("tfmot_polynomial", Method(special="tfmot_polynomial")),
        ("dense", Method(special="dense")),
    ],
)
def test_a_name_is_a_method_and_back(text, method):
    assert parsed(text) == method
    assert parsed(method.name) == method


def test_what_no_score_decides_is_not_replayed():
    assert parsed("random@wanda/uniform") == Method("random", "uniform")
    assert parsed("random@snip/erk") == Method("random", "erk")


@pytest.mark.parametrize(
    ("text", "granularity", "message"),
    [
        ("magnitud", "weight", "unknown criterion 'magnitud'. Did you mean magnitude"),
        ("magnitude/globl", "weight", "unknown allocation 'globl'. Did you mean global"),
        ("magnitude/global+mend", "weight", "unknown correction 'mend'"),
        ("randm@snip", "weight", "unknown criterion 'randm'"),
        ("a/b/c", "weight", "can't read method 'a/b/c'"),
        ("", "weight", "can't read method ''"),
        ("tfmot", "channel", "prunes weights"),
        ("scratch", "weight", "needs granularity 'channel'"),
        ("cup", "weight", "method 'cup/global'"),
    ],
)
def test_wrong_words(text, granularity, message):
    with pytest.raises(ValueError, match=message):
        parsed(text, granularity)


def test_controls_of_weights():
    chosen = [parsed(x) for x in ("magnitude/global", "snip/global", "wanda/uniform", "obc/erk")]
    chosen.append(parsed("tfmot"))
    added = methods.controls(chosen, kinds=methods.CONTROLS[:4], plain="magnitude")
    assert {method.name for method in added} == {
        "dense",
        "random/uniform",
        "magnitude/uniform",
        "random@magnitude/global",
        "random@snip/global",
        "magnitude@snip/global",
        "random/erk",
        "magnitude/erk",
    }


def test_controls_of_channels():
    chosen = [parsed(x, "channel", "uniform") for x in ("l1", "fpgm", "taylor/global")]
    added = methods.controls(chosen, kinds=methods.CONTROLS, plain="l1")
    names = {"dense", "random/uniform", "l1/uniform", "scratch"}
    assert {method.name for method in added} == names | {
        "random@taylor/global",
        "l1@taylor/global",
    }
