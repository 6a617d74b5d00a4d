"""Turns of a thread: what is kept of each, and how they are joined again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw
from tests.wire import responses_recordings as rec

from lilliput.neutral import Problem, Text
from lilliput.wire import responses
from lilliput.wire.responses.state import MOST_BYTES, Turn, join, pack, previous, turn, unpack


def raws(**fields: Any) -> dict[str, Raw]:
    return {name: Raw(json.dumps(value).encode()) for name, value in fields.items()}


def answer(*output: Any, id: str = "resp_1", status: str = "completed") -> bytes:
    return json.dumps({"id": id, "status": status, "output": output}).encode()


def kept(fields: dict[str, Raw], response: bytes) -> Turn:
    found = turn(fields, response)
    assert found is not None
    assert unpack(pack(found)) == found
    return found


def joined(fields: dict[str, Raw], *turns: Turn) -> Any:
    return json.loads(bytes(join(fields, turns)["input"]))


SAID = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": "4"}
CARRIED = {"type": "message", "role": "assistant", "content": "4"}


def test_a_thread_is_its_turns_in_order_and_then_the_new_input() -> None:
    first = kept(raws(model="a", input="2+2?", instructions="be brief"), answer(SAID))
    second = kept(raws(input=[{"role": "user", "content": "why?"}], previous_response_id="resp_1"), answer(id="resp_2"))
    assert (first.previous, second.previous) == (None, "resp_1")
    fields = raws(model="b", input="and?", previous_response_id="resp_2", store=True)
    out = join(fields, [first, second])
    assert set(out) == {"model", "input", "store"}
    assert json.loads(bytes(out["input"])) == [
        {"type": "message", "role": "user", "content": "2+2?"},
        CARRIED,
        {"role": "user", "content": "why?"},
        {"type": "message", "role": "user", "content": "and?"},
    ]
    assert "previous_response_id" in fields  # what was asked is not touched


def test_reasoning_comes_along_where_it_holds_something() -> None:
    items = [
        {"id": "rs_1", "type": "reasoning", "summary": []},
        {"id": "rs_2", "type": "reasoning", "summary": [], "encrypted_content": "gA"},
        {"id": "rs_3", "type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]},
        {"id": "fc_1", "type": "function_call", "call_id": "1", "name": "f", "arguments": "{}", "status": "completed"},
        {"id": "ws_1", "type": "web_search_call", "status": "completed"},
    ]
    out = joined(raws(input=[]), kept(raws(input=[]), answer(*items)))
    assert out == [
        {"type": "reasoning", "summary": [], "encrypted_content": "gA"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"id": "ws_1", "type": "web_search_call", "status": "completed"},
    ]


NOT_KEPT = [
    ("asked not to", raws(input="x", store=False), answer()),
    ("failed", raws(input="x"), answer(status="failed")),
    ("queued", raws(input="x"), answer(status="queued")),
    ("no id", raws(input="x"), b'{"status":"completed"}'),
    ("an output that is none", raws(input="x"), b'{"id":"r","status":"completed","output":{}}'),
    ("an item that is none", raws(input="x"), b'{"id":"r","status":"completed","output":[1]}'),
    ("no JSON", raws(input="x"), b""),
]


@pytest.mark.parametrize(("name", "fields", "response"), NOT_KEPT, ids=[n[0] for n in NOT_KEPT])
def test_what_is_not_kept(name: str, fields: dict[str, Raw], response: bytes) -> None:
    assert turn(fields, response) is None


def test_odd_items_are_joined_all_the_same() -> None:
    odd = {"type": "reasoning", "id": 7, "summary": "so", "content": 5, "encrypted_content": 1}
    assert joined(raws(input=[]), kept(raws(input=[]), answer(odd, {"type": 3}))) == [
        {"type": "reasoning", "summary": "so", "content": 5, "encrypted_content": 1},
        {"type": 3},
    ]


def test_previous_is_read_where_it_is_said() -> None:
    assert previous(raws(previous_response_id="resp_1")) == "resp_1"
    assert previous(raws(previous_response_id=None)) is None
    assert previous({}) is None


def test_a_thread_too_long_to_send_is_refused() -> None:
    long = kept(raws(input="x" * (MOST_BYTES // 2)), answer(id="resp_1"))
    with pytest.raises(Problem) as refused:
        join(raws(input="y"), [long, long])
    assert (refused.value.status, refused.value.param) == (400, "previous_response_id")


def test_recorded_turns_can_be_continued() -> None:
    for i in rec.answers("chat"):
        body = rec.kit().expect.body_json(i["request"])
        if not isinstance(body, dict) or body.get("store") is False or not body.get("model"):
            continue
        found = turn(raws(**body), rec.body(i))
        if found is None:
            assert i["id"] == "openai-5172643fc4"
            continue
        out = join(raws(model="m", input="go on"), [found])
        before = responses.read_request(json.dumps(body).encode(), "").messages
        r = responses.read_request(json.dumps({"model": "m", "input": json.loads(bytes(out["input"]))}).encode(), "")
        said = "".join(p.text for m in r.messages[-2:] for p in m.parts if isinstance(p, Text))
        assert said.endswith(rec.said(i)["text"] + "go on")
        assert len(r.messages) >= len([m for m in before if m.role != "system"])
