"""Grammars hold what a schema allows and nothing else: read here as regular expressions, which theirs are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from tests.loop.gbnf_reader import pattern
from tests.loop.test_form import ADDRESS, ADDRESSES

from lilliput.loop import gbnf
from lilliput.loop.form import form

DEEP = {
    "type": "object",
    "title": "An order",
    "required": ["who", "tags"],
    "additionalProperties": False,
    "properties": {
        "note": {"type": "string", "description": "as it was written"},
        "who": {"type": "object", "properties": {"a\"b": {"type": ["integer", "null"]}, "age": {"type": "number"}}},
        "tags": {"type": "array", "items": {"enum": ["a|\"b", "c\\", 1, None]}, "minItems": 2, "maxItems": 3},
        "opt": {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string"}}]},
    },
}  # fmt: skip
WORDS = st.text(st.sampled_from(' "\\\n\r\t\x00|') | st.characters(codec="utf-8"), max_size=8)
WHO = st.fixed_dictionaries(
    {}, optional={'a"b': st.integers(-(10**14), 10**14) | st.none(), "age": st.sampled_from([0.5, -3])}
)
TAGS = st.lists(st.sampled_from(['a|"b', "c\\", 1, None]), min_size=2, max_size=3)
ORDERS = st.fixed_dictionaries(
    {"who": WHO, "tags": TAGS}, optional={"note": WORDS, "opt": st.booleans() | st.lists(WORDS)}
)


@given(ORDERS)
def test_all_that_a_schema_allows_can_be_written(value: dict[str, Any]) -> None:
    of = form("extract", schema=Raw(json.dumps(DEEP).encode()))
    target = of.target(json.dumps(value))
    assert pattern(of.grammar()).fullmatch(target)
    assert json.loads(of.answer(target) or "") == value


@pytest.mark.parametrize(
    "text",
    ['{"who":{},"tags":[1,1]}', '{"note":"","who":{"age":1},"tags":[null,1]}'],
)
@pytest.mark.parametrize(
    ("old", "new"),
    [(":[", ": ["), ("{", "{\n"), ('"tags"', '"tag"'), ("1]", "1,1,1]"), ("1]", "2]"), ("}", ',"x":1}'), ("1,1]", "1]"),
     ('"who"', '"tags":[1],"who"'), ("{", "{,"), ("]}", "],}"), ("]}", ']"opt":true}'), ('"who":{},', ""),
     ('"who":{"age":1},', ""), ("]}", '],"opt":true,"opt":true}')],
)  # fmt: skip
def test_nothing_else_can(text: str, old: str, new: str) -> None:
    rules = pattern(gbnf.of_schema(DEEP))
    assert rules.fullmatch(text)
    assert old not in text or not rules.fullmatch(text.replace(old, new))


def test_what_may_be_empty() -> None:
    values = {"type": "array", "items": {"type": "integer"}}
    rules = pattern(gbnf.of_schema({"type": "object", "properties": {"a": values, "b": values}}))
    assert all(map(rules.fullmatch, ["{}", '{"a":[]}', '{"b":[1]}', '{"a":[-1,0],"b":[]}']))
    needed = {"type": "object", "properties": {"a": values}, "required": ["a"]}
    assert not pattern(gbnf.of_schema(needed)).fullmatch("{}")


@given(ADDRESSES.filter(lambda v: abs(v.get("floor", 0)) < 10**15 and v["share"] is None))
def test_a_flat_object_can_be_written(value: dict[str, Any]) -> None:
    assert pattern(ADDRESS.grammar()).fullmatch(ADDRESS.target(json.dumps(value)))


def test_a_flat_object_may_lack_what_it_need_not_have() -> None:
    fields = {"a": {"type": "integer"}, "b": {"type": ["integer", "null"]}, "c": {"type": ["integer", "null"]}}
    needed = {"type": "object", "properties": fields, "required": ["a", "b"]}
    rules = pattern(form("extract", schema=Raw(json.dumps(needed).encode())).grammar())
    assert rules.fullmatch("|a 1|c \\0")
    assert not rules.fullmatch("|b 1")
    assert not rules.fullmatch("|a 1|b \\0")


@pytest.mark.parametrize(
    "written", ["|a", "|a ", " |a x", "|b 1|a 1", "|a 1|a 1", "|a x|h 1", "|a x\n", "|c 1.5", "|e tent"]
)
def test_a_flat_object_can_be_written_in_one_way(written: str) -> None:
    assert not pattern(ADDRESS.grammar()).fullmatch(written)


@pytest.mark.parametrize(
    "each",
    [{"$ref": "#/x"}, {}, True, {"type": "string", "maxLength": 3}, {"type": "object"}, {"type": "array"},
     {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": True},
     {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["b"]},
     {"type": "array", "items": {"type": "null"}, "uniqueItems": True}, {"enum": [1], "minimum": 1},
     {"type": "array", "items": {"type": "null"}, "maxItems": 0}],
)  # fmt: skip
def test_what_is_not_known_here_is_left_to_the_engine(each: Any) -> None:
    assert gbnf.of_schema({"type": "object", "properties": {"x": each}}) == ""
