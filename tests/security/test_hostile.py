"""Ten thousand hostile requests over every route of a running gateway; `make soak` sends a million."""

from __future__ import annotations

import pytest
from tests.gateway.rig import Answered
from tests.security.hostile import HEAVY, Case, case, fault, missed, siege


def besiege(seed: int, count: int) -> None:
    seen = siege(seed, range(count), warm=count // 10)
    assert seen.faults == []
    assert seen.answered == count
    assert seen.grew_bytes < 50 << 20
    assert missed(seen) == []
    assert seen.statuses[200] > count // 20, "some mutations are harmless"
    assert seen.statuses[400] > count // 4


def test_two_thousand_over_every_route() -> None:
    besiege(1, 2_000)


@pytest.mark.slow
def test_ten_thousand_over_every_route() -> None:
    besiege(2, 10_000)


def test_a_number_makes_the_same_request_again() -> None:
    assert [case(1, n, "k") for n in range(200)] == [case(1, n, "k") for n in range(200)]
    assert case(1, 0, "k") != case(2, 0, "k")


def test_every_route_with_a_body_has_one_to_spoil() -> None:
    assert all(base.body for base in HEAVY if base.route.path.endswith(("completions", "messages", "responses")))


ASKED = Case("value", "POST", "/v1/messages", b"")
OURS = b'{"type":"error","error":{"type":"invalid_request_error","message":"no"},"request_id":"r"}'
THEIRS = b'{"error":{"message":"no","type":"x","param":null,"code":null}}'
ID = {"x-request-id": "r"}
EVENTS = ID | {"content-type": "text/event-stream"}
JUDGED = [
    ("good", Answered(400, ID, OURS, True), None),
    ("a 500", Answered(500, ID, OURS, True), "status 500"),
    ("a 502", Answered(502, ID, OURS, True), "status 502"),
    ("cut", Answered(200, ID, b"{", False), "a cut answer"),
    ("no id", Answered(400, {}, OURS, True), "no x-request-id"),
    ("moved", Answered(302, ID, b"", True), "status 302"),
    ("another's form", Answered(400, ID, THEIRS, True), "openai"),
    ("no form", Answered(404, ID, b"Not Found", True), "form of None"),
    ("a raw escape", Answered(400, ID, OURS.replace(b"no", rb"\u001b[31m"), True), "form of None"),
    ("a stream that breaks", Answered(200, EVENTS, b'data: {"error":{}}', True), "broke"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "got", "wrong"), JUDGED, ids=[row[0] for row in JUDGED])
def test_the_judge(name: str, got: Answered, wrong: str | None) -> None:
    told = fault(ASKED, got)
    assert told is None if wrong is None else told is not None and wrong in told
