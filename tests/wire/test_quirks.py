"""A row's quirks on a request's fields: one table."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from lilliput.neutral import Target
from lilliput.wire import quirks

CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("nothing to do", {}, {"a": 1}, {"a": 1}),
    ("renamed", {"rename": {"a": "b"}}, {"a": 1}, {"b": 1}),
    ("renamed, but the new name is taken", {"rename": {"a": "b"}}, {"a": 1, "b": 2}, {"b": 2}),
    ("nothing to rename", {"rename": {"a": "b"}}, {"c": 1}, {"c": 1}),
    ("dropped", {"drop": ("a", "x")}, {"a": 1, "b": 2}, {"b": 2}),
    ("dropped by its new name", {"rename": {"a": "b"}, "drop": ("b",)}, {"a": 1}, {}),
    ("clamped from above", {"clamp": {"t": (0, 1)}}, {"t": 1.5}, {"t": 1}),
    ("clamped from below", {"clamp": {"t": (0.5, 1)}}, {"t": 0.1}, {"t": 0.5}),
    ("a whole number stays one", {"clamp": {"n": (16.0, 99.0)}}, {"n": 3}, {"n": 16}),
    ("a whole number and a bound that is none", {"clamp": {"n": (0.5, 9)}}, {"n": 0}, {"n": 0.5}),
    ("inside the bounds nothing changes", {"clamp": {"t": (0, 1)}}, {"t": 0.70}, {"t": 0.7}),
    ("a renamed field is clamped", {"rename": {"a": "b"}, "clamp": {"b": (0, 1)}}, {"a": 9}, {"b": 1}),
    ("what is no number is not clamped", {"clamp": {"t": (0, 1)}}, {"t": "hot"}, {"t": "hot"}),
    ("null is not clamped", {"clamp": {"t": (0, 1)}}, {"t": None}, {"t": None}),
    ("forced over the caller's", {"force": {"a": {"b": [1]}}}, {"a": 2}, {"a": {"b": [1]}}),
    ("forced where absent", {"force": {"a": None}}, {}, {"a": None}),
    ("dropped, then forced", {"drop": ("a",), "force": {"a": 1}}, {"a": 2}, {"a": 1}),
]


@pytest.mark.parametrize(("name", "row", "fields", "want"), CASES, ids=[c[0] for c in CASES])
def test_quirks(name: str, row: dict[str, Any], fields: dict[str, Any], want: dict[str, Any]) -> None:
    raws = {k: Raw(json.dumps(v).encode()) for k, v in fields.items()}
    before = dict(raws)
    got = quirks.apply(raws, Target(provider="p", model="m", **row))
    assert {k: json.loads(bytes(v)) for k, v in got.items()} == want
    assert raws == before


def test_a_row_without_quirks_costs_no_copy() -> None:
    raws = {"a": Raw(b"1")}
    assert quirks.apply(raws, Target(provider="p", model="m")) is raws


def test_types_survive_the_clamp() -> None:
    got = quirks.apply({"n": Raw(b"3")}, Target(provider="p", model="m", clamp={"n": (16.0, 99.0)}))
    assert bytes(got["n"]) == b"16"
