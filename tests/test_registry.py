import types

import pytest

from tfprune import registry


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("magnitude", ("magnitude", (), {})),
        ("block(4, 1)", ("block", (4, 1), {})),
        ("iterative(3, spacing='geometric')", ("iterative", (3,), {"spacing": "geometric"})),
        ("x(mean=(1, 2.5))", ("x", (), {"mean": (1, 2.5)})),
    ],
)
def test_call_strings(text, expected):
    assert registry.parse(text) == expected


@pytest.mark.parametrize("text", ["f(", "f(__import__('os'))", "f(x)", "f(1)(2)", "f(**{'a': 1})"])
def test_only_literals_are_read(text):
    with pytest.raises(ValueError, match="can't read"):
        registry.parse(text)


def test_a_typo_gets_the_near_name():
    with pytest.raises(ValueError, match="Did you mean magnitude"):
        registry.method("tfprune.criteria", "criterion", "magnitud", "score")


def test_a_wrong_option_gets_the_right_ones():
    with pytest.raises(ValueError, match="its options are h, w"):
        registry.method("tfprune.granularity", "granularity", "block(height=2)", "unroll")


def test_the_file_name_is_the_registration(tmp_path, monkeypatch):
    package = tmp_path / "their_criteria"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mine.py").write_text("def score(weight, *, power=1):\n    return weight ** power\n")
    monkeypatch.syspath_prepend(tmp_path)
    method = registry.method("their_criteria", "criterion", "mine(2)", "score")
    assert method("score", 3) == 9


def test_objects_and_functions_are_methods_too():
    assert (
        registry.method("tfprune.criteria", "criterion", lambda weight: -weight, "score")(
            "score", 2
        )
        == -2
    )
    module = types.SimpleNamespace(score=lambda weight: weight)
    assert registry.method("tfprune.criteria", "criterion", module, "score")("score", 2) == 2
    with pytest.raises(TypeError, match=r"has a function score"):
        registry.method("tfprune.criteria", "criterion", 3, "score")
