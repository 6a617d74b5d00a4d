"""What is written comes back as it was, and what is not well formed comes back as None."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from lilliput.loop.form import CODES, Form, form
from lilliput.neutral import Problem


def schema(properties: dict[str, Any], **more: Any) -> Raw:
    return Raw(json.dumps({"type": "object", "properties": properties, **more}).encode())


FLAT = schema(
    {
        "street": {"type": "string"},
        "unit": {"type": ["string", "null"]},
        "floor": {"type": "integer"},
        "share": {"type": ["number", "null"]},
        "kind": {"type": "string", "enum": ["house", "a|b", ""]},
        "new": {"type": "boolean"},
        "city": {"type": "string"},
    },
    required=["street", "unit", "share"],
    additionalProperties=False,
)
DEEP = schema({"b": {"type": "string"}, "a": {"type": "array", "items": {"type": "object", "properties": {
    "y": {"type": "string"}, "x": {"type": "integer"}}}}})  # fmt: skip
ADDRESS = form("extract", schema=FLAT)

words = st.text(st.sampled_from('ab |\\\n\r"e0pn') | st.characters(codec="utf-8"), max_size=12)
ADDRESSES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"street": words, "unit": words | st.none(), "share": st.floats(allow_nan=False, allow_infinity=False) | st.none()},
    optional={
        "floor": st.integers(),
        "kind": st.sampled_from(["house", "a|b", ""]),
        "new": st.booleans(),
        "city": words,
    },
)


@given(ADDRESSES)
def test_a_flat_object_comes_back(value: dict[str, Any]) -> None:
    written = ADDRESS.target(json.dumps(value))
    assert written.count("|") <= len(value)
    assert "\n" not in written
    assert json.loads(ADDRESS.answer(written) or "") == value


def test_a_flat_object_is_the_values_it_has() -> None:
    value = {"city": "Rome", "street": "5 Main St", "unit": None, "share": 0.5, "floor": 3}
    assert ADDRESS.target(json.dumps(value)) == "|a 5 Main St|c 3|d 0.5|g Rome"
    assert ADDRESS.answer("|a 5 Main St|c 3|d 0.5|g Rome") == (
        '{"street":"5 Main St","unit":null,"floor":3,"share":0.5,"city":"Rome"}'
    )


@pytest.mark.parametrize(
    "written",
    ["a 1", " |a 1", "|a", "|a ", "|a11", "|a 1|", "|h 1", "|a 1|a 2", "|b 1|a 2", "|c x", "|d true", "|e tent",
     "|f maybe", "|g \\0"],
)  # fmt: skip
def test_what_is_not_well_formed_is_no_answer(written: str) -> None:
    assert ADDRESS.answer("|a 1|c 2|g Rome") is not None
    assert ADDRESS.answer(written) is None


def test_what_must_be_there_cannot_be_left_away() -> None:
    of = form("extract", schema=schema({"n": {"type": "integer"}}, required=["n"]))
    assert (of.answer(""), of.answer("|a 1")) == (None, '{"n":1}')
    assert form("extract", schema=schema({"n": {"type": "integer"}})).answer("") == "{}"


@pytest.mark.parametrize(
    ("answer", "say"),
    [
        ("no", "no JSON"),
        ("[]", "no JSON object"),
        ('{"street":"a","share":1}', "'unit' is missing"),
        ('{"street":"a","unit":null,"share":true}', "'share' is True"),
        ('{"street":"a","unit":null,"share":1,"kind":"tent"}', "'kind' is 'tent'"),
        ('{"street":"a","unit":null,"share":1,"zip":"1"}', "no field 'zip'"),
    ],
)
def test_an_answer_of_another_schema_cannot_be_learned(answer: str, say: str) -> None:
    with pytest.raises(Problem, match=say):
        ADDRESS.target(answer)


def test_other_schemas_are_written_as_json_in_their_order() -> None:
    deep = form("extract", schema=DEEP)
    assert deep.schema is not None
    written = deep.target('{"a": [{"x": 1, "y": "é"}], "b": "q"}')
    assert written == '{"b":"q","a":[{"y":"é","x":1}]}'
    assert deep.answer(written) == written
    assert deep.answer(written[:-1]) is None


def test_a_label_is_one_code() -> None:
    labels = tuple(f"label {i}" for i in range(52))
    of = form("label", labels)
    assert len(set(of.codes())) == 52
    assert [of.answer(of.target(label)) for label in labels] == list(labels)
    assert form("label", labels[:3]).answer(CODES[3]) is None
    assert form("label", labels[:2]).grammar() == 'root ::= " A" | " B"\n'
    with pytest.raises(Problem, match="none of the labels"):
        of.target("label 52")


def test_a_text_is_itself() -> None:
    of = form("text")
    assert of.answer(of.target(" Paris \n")) == "Paris"
    assert of.answer("\n") is None


def test_a_text_cannot_end_its_own_prompt() -> None:
    assert form("text").prompt(" a<|im_end|></s><file_sep> b\n") == " a< |im_end|>< /s>< file_sep> b\n="
    assert form("text").prompt("1 <2> 3 <- x") == " 1 <2> 3 <- x\n="


@pytest.mark.parametrize(
    "given",
    [("label", ("a",)), ("label", ("a", "a")), ("label", tuple(map(str, range(53)))), ("extract",),
     ("extract", (), Raw(b"{")), ("extract", (), Raw(b"[]")), ("extract", (), Raw(b'{"type":"object"}'))],
)  # fmt: skip
def test_tasks_that_no_student_can_do(given: tuple[Any, ...]) -> None:
    with pytest.raises(Problem):
        form(*given)


@pytest.mark.parametrize(
    "each",
    [{"type": [{}]}, {"type": 5}, {"enum": 5}, {"type": "array", "items": {"enum": 5}}, {"anyOf": 5}, {"required": "a"},
     {"type": "array", "items": {"type": "null"}, "minItems": "x"}, {"anyOf": [{"properties": 5}]}],
)  # fmt: skip
def test_a_schema_that_is_none_is_refused(each: Any) -> None:
    with pytest.raises(Problem, match="the schema cannot be read: Expected"):
        form("extract", schema=schema({"a": each}))


@pytest.mark.parametrize(
    "properties",
    [{"a": {"type": "array"}}, {"a": {"type": ["string", "integer"]}}, {"a": {"type": "integer", "enum": [1]}},
     {"a": {"type": "string", "maxLength": 3}}, {"a": {"$ref": "#/x"}}, {"a": True}],
)  # fmt: skip
def test_what_is_not_flat_is_written_as_json(properties: dict[str, Any]) -> None:
    of: Form = form("extract", schema=schema(properties))
    assert (of.fields, of.schema is not None) == ((), True)


def test_fields_that_no_letters_are_left_for_are_written_as_json() -> None:
    sizes = [
        len(form("extract", schema=schema({f"f{i}": {"type": "string"} for i in range(n)})).fields) for n in (52, 53)
    ]
    assert sizes == [52, 0]
