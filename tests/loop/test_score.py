"""When two answers are the same."""

from __future__ import annotations

import pytest
from msgspec import Raw

from lilliput.loop import score
from lilliput.neutral import Problem
from lilliput.tasks import Scorer

SCHEMA = Raw(
    b'{"type":"object","required":["a"],"properties":{"a":{"type":"integer"},"b":{"type":["string","null"],'
    b'"enum":["x",null]},"c":{"type":"array","items":{"type":"number"}}},"additionalProperties":false}'
)
EXACT, FIELDS, FORM = Scorer(by="exact"), Scorer(by="fields"), Scorer(by="schema")
F1, HALF, PATTERN = Scorer(by="f1"), Scorer(by="f1", least=0.5), Scorer(by="pattern", pattern=r"#(\d+)")

CASES = [
    ("white space", EXACT, " a \n b", "a b", True),
    ("one Unicode form", EXACT, "e\u0301", "\u00e9", True),
    ("case counts", EXACT, "A", "a", False),
    ("order and space of JSON", FIELDS, '{"a": 1, "b": "x y"}', '{"b":"x  y","a":1.0}', True),
    ("absent, null and empty", FIELDS, '{"a":1,"b":null,"c":""}', '{"a":1}', True),
    ("a number is no text", FIELDS, '{"a":"1"}', '{"a":1}', False),
    ("true is no number", FIELDS, '{"a":true}', '{"a":1}', False),
    ("a wrong field", FIELDS, '{"a":1,"b":2}', '{"a":1,"b":3}', False),
    ("an invented field", FIELDS, '{"a":1,"b":2}', '{"a":1}', False),
    ("order of a list", FIELDS, '{"a":[1,2]}', '{"a":[2,1]}', False),
    ("names with slashes", FIELDS, '{"a/b":1}', '{"a":{"b":1}}', False),
    ("no JSON", FIELDS, "no", "no", False),
    ("both empty", FIELDS, "{}", '{"a":null}', True),
    ("what a pattern finds", PATTERN, "it is #12", "#12, surely", True),
    ("a pattern that finds nothing", PATTERN, "none", "none", False),
    ("same shape, no schema", FORM, '{"a":1,"b":"q"}', '{"b":"x","a":2.5}', True),
    ("other shape, no schema", FORM, '{"a":"1"}', '{"a":1}', False),
    ("articles and points", F1, "The cat.", "a cat", True),
    ("one word more", F1, "black cat", "cat", False),
    ("one word more, near enough", HALF, "black cat", "cat", True),
]


@pytest.mark.parametrize(("name", "scorer", "a", "b", "same"), CASES, ids=[case[0] for case in CASES])
def test_agrees(name: str, scorer: Scorer, a: str, b: str, same: bool) -> None:
    assert score.agrees(scorer, a, b) is same


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ('{"a":1}', True),
        ('{"a":2.0,"b":null,"c":[1,2.5]}', True),
        ('{"b":"x"}', False),
        ('{"a":true}', False),
        ('{"a":1.5}', False),
        ('{"a":1,"b":"y"}', False),
        ('{"a":1,"c":["1"]}', False),
        ('{"a":1,"d":1}', False),
        ("[]", False),
        ("{", False),
    ],
)
def test_schema(value: str, fits: bool) -> None:
    assert score.agrees(FORM, value, "{}", schema=SCHEMA) is fits


def test_f1_of_fields_and_tokens() -> None:
    assert score.score(FIELDS, '{"a":1,"b":2,"c":3}', '{"a":1,"b":9}') == pytest.approx(2 / 5)
    assert score.field_counts('{"a":1,"b":2,"c":3}', '{"a":1,"b":9}') == (1, 3, 2)
    assert score.field_counts("no", '{"a":1}') == (0, 0, 1)
    assert score.token_f1("in the year of 1066", "1066") == pytest.approx(2 / 5)
    assert (score.token_f1("", ""), score.token_f1("the", ""), score.token_f1("x", "")) == (1.0, 1.0, 0.0)
    assert score.exact_match("The Battle!", "battle")


def test_models_are_asked_and_missed() -> None:
    near = Scorer(by="embedding", model="m", least=0.8)
    assert score.agrees(near, "a", "b", ask=lambda a, b: 0.8)
    assert not score.agrees(near, "a", "b", ask=lambda a, b: 0.79)
    with pytest.raises(Problem, match="needs the model 'm'"):
        score.agrees(near, "a", "b")


def test_hostile_json_is_no_json() -> None:
    assert not score.is_json("[" * 100_000)
    assert not score.agrees(FIELDS, '"\ud800"', '"x"')
