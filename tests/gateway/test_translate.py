"""From one dialect to another through the gateway: what is lost is told, what goes wrong is told in the caller's terms.

The conversions themselves are tested in `tests/wire` and by the conformance harness.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.gateway.calls import HI
from tests.gateway.rig import (
    DONE,
    ROLE,
    STREAM,
    STREAM_HEAD,
    answering,
    chunk,
    framed,
    json_answer,
    rig,
    run,
    whole,
)

MESSAGES = {"model": "p/m", "max_tokens": 5, "messages": HI}
RESPONSES = {"model": "p/m", "input": "hi"}
GENERATE = "/v1beta/models/p/m:generateContent"
STREAMED = "/v1beta/models/p/m:streamGenerateContent"
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
DOORS: list[tuple[str, str, dict[str, Any], str]] = [
    ("messages", "/v1/messages", {**MESSAGES, "stream": True}, "message_stop"),
    ("responses", "/v1/responses", {**RESPONSES, "stream": True}, "response.completed"),
    ("gemini", STREAMED + "?alt=sse", CONTENTS, '"finishReason"'),
    ("completions", "/v1/completions", {"model": "p/m", "prompt": "hi", "stream": True}, "[DONE]"),
]
BY_DOOR = pytest.mark.parametrize(("door", "path", "body", "end"), DOORS, ids=[d[0] for d in DOORS])


def streaming(*events: bytes, end: bool = True) -> bytes:
    return STREAM_HEAD + framed(*events, end=end)


@BY_DOOR
def test_a_whole_stream_ends_as_its_dialect_does(door: str, path: str, body: dict[str, Any], end: str) -> None:
    async def main() -> None:
        async with rig(answering(streaming(*STREAM))) as r:
            got = await r.ask("POST", path, body)
            assert (got.status, got.is_whole) == (200, True)
            assert end in got.body.decode()
            assert b"hel" in got.body
            assert r.counted("lilliput_tokens_total", kind="input") == 3

    run(main())


@BY_DOOR
@pytest.mark.parametrize(
    "events",
    [STREAM[:2], STREAM[:3], [*STREAM[:2], b'data: {"error":{"message":"overloaded","code":503}}\n\n']],
    ids=["one word", "two words", "an error"],
)
def test_a_stream_that_is_not_whole_never_ends_well(
    door: str, path: str, body: dict[str, Any], end: str, events: list[bytes]
) -> None:
    async def main() -> None:
        async with rig(answering(streaming(*events))) as r:
            got = await r.ask("POST", path, body)
            assert got.status == 200
            assert end not in got.body.decode(), got.body
            assert b"error" in got.body

    run(main())


@BY_DOOR
def test_until_something_real_came_another_try_is_free(door: str, path: str, body: dict[str, Any], end: str) -> None:
    async def main() -> None:
        answers = iter([streaming(ROLE), streaming(*STREAM)])

        async def script(provider: Any, asked: bytes, reader: Any, writer: Any) -> None:
            writer.write(next(answers))

        async with rig(script) as r:
            got = await r.ask("POST", path, body)
            assert got.status == 200
            assert end in got.body.decode()
            assert got.headers["x-lilliput-route"] == "p/m; tries=2; why=named"

    run(main())


def test_gemini_without_alt_is_an_array_and_gets_no_pings() -> None:
    async def main() -> None:
        async with rig(answering(streaming(*STREAM))) as r:
            got = await r.ask("POST", STREAMED, CONTENTS)
            assert got.headers["content-type"].startswith("application/json")
            pieces = json.loads(got.body)
            assert "".join(p["text"] for piece in pieces for p in piece["candidates"][0]["content"]["parts"]) == "hello"

    run(main())


def test_what_is_lost_is_told() -> None:
    async def main() -> None:
        async with rig() as r:
            marked = [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]
            body = {**MESSAGES, "messages": [{"role": "user", "content": marked}], "mcp_servers": []}
            got = await r.ask("POST", "/v1/messages", body)
            assert got.status == 200
            assert set(got.headers["x-lilliput-dropped"].split(", ")) == {"cache_control", "mcp_servers"}
            got = await r.ask("POST", "/v1/messages", MESSAGES)
            assert "x-lilliput-dropped" not in got.headers

    run(main())


def test_a_lost_field_s_name_cannot_break_out_of_the_header() -> None:
    async def main() -> None:
        async with rig() as r:
            got = await r.ask("POST", "/v1/messages", {**MESSAGES, "x\r\nSet-Cookie: a": 1, "ok": 1, "y" * 5000: 1})
            assert got.status == 200
            assert "set-cookie" not in got.headers
            assert len(got.headers["x-lilliput-dropped"]) <= 1000

    run(main())


SHAPES = [
    ("/v1/messages", {"model": "p/m", "messages": HI}, "invalid_request_error"),
    ("/v1/responses", {"input": "hi"}, None),
    (GENERATE, {"contents": 5}, "INVALID_ARGUMENT"),
]


@pytest.mark.parametrize(("path", "body", "kind"), SHAPES)
def test_a_bad_body_is_refused_in_the_caller_s_terms(path: str, body: dict[str, Any], kind: str | None) -> None:
    async def main() -> None:
        async with rig() as r:
            got = await r.ask("POST", path, body)
            assert got.status == 400
            error = got.json["error"]
            assert error["message"]
            if kind is not None:
                assert kind in (error.get("type"), error.get("status"))
            assert r.provider.bodies == []

    run(main())


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
def test_a_provider_s_refusal_keeps_its_class(status: int) -> None:
    async def main() -> None:
        refusal = json_answer(b'{"error":{"message":"no more","type":"x"}}', status, "retry-after: 7\r\n")
        async with rig(answering(refusal)) as r:
            for path, body in (("/v1/messages", MESSAGES), ("/v1/responses", RESPONSES), (GENERATE, CONTENTS)):
                got = await r.ask("POST", path, body)
                assert got.status == {401: 502, 500: 502, 529: 503}.get(status, status), path
                assert "no more" in got.json["error"]["message"]
                assert got.headers["retry-after"] == "7"

    run(main())


def test_previous_response_id_over_a_provider_that_knows_no_such_thing() -> None:
    async def main() -> None:
        async with rig() as r:
            first = await r.ask("POST", "/v1/responses", RESPONSES)
            again = {"model": "p/m", "input": "and?", "previous_response_id": first.json["id"]}
            second = await r.ask("POST", "/v1/responses", again)
            assert second.json["previous_response_id"] == first.json["id"]
            asked = [(m["role"], m["content"]) for m in json.loads(r.provider.bodies[-1])["messages"]]
            assert asked == [("user", "hi"), ("assistant", "hello"), ("user", "and?")]
            shown = await r.ask("GET", f"/v1/responses/{first.json['id']}")
            assert shown.json == first.json
            gone = await r.ask("DELETE", f"/v1/responses/{first.json['id']}")
            assert gone.json["deleted"] is True
            missing = await r.ask("POST", "/v1/responses", again)
            assert (missing.status, missing.error["code"]) == (400, "previous_response_not_found")

    run(main())


def test_a_streamed_response_can_be_continued_as_soon_as_it_is_over() -> None:
    async def main() -> None:
        async with rig() as r:
            got = await r.ask("POST", "/v1/responses", {**RESPONSES, "stream": True})
            final = json.loads(got.events[-1])["response"]
            again = {**RESPONSES, "previous_response_id": final["id"]}
            assert (await r.ask("POST", "/v1/responses", again)).status == 200
            assert len(json.loads(r.provider.bodies[-1])["messages"]) == 3

    run(main())


def test_a_custom_tool_over_a_provider_that_calls_functions() -> None:
    """The call comes back as the custom tool's, whole or streamed."""
    call = {"id": "c1", "type": "function", "function": {"name": "patch", "arguments": '{"input":"a\\nb"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    unary = whole(choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}])
    head = {"index": 0, **call, "function": {"name": "patch", "arguments": '{"input":'}}
    rest = {"index": 0, "function": {"arguments": '"a\\nb"}'}}
    events = [ROLE, chunk({"tool_calls": [head]}), chunk({"tool_calls": [rest]}), chunk({}, "tool_calls"), DONE]
    asked = {**RESPONSES, "tools": [{"type": "custom", "name": "patch"}]}

    async def main() -> None:
        async with rig(answering(json_answer(unary))) as r:
            items = (await r.ask("POST", "/v1/responses", asked)).json["output"]
            assert [(i["type"], i["name"], i["input"]) for i in items] == [("custom_tool_call", "patch", "a\nb")]
        async with rig(answering(streaming(*events))) as r:
            got = await r.ask("POST", "/v1/responses", {**asked, "stream": True})
            items = json.loads(got.events[-1])["response"]["output"]
            assert [(i["type"], i["name"], i["input"]) for i in items] == [("custom_tool_call", "patch", "a\nb")]

    run(main())
