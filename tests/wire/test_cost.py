"""The cost in an answer's own usage: spliced in, every other field keeping its bytes."""

from __future__ import annotations

import json

import pytest

from lilliput.wire import cost

BODIES = [
    ("in the usage", b'{"a": 1.0,"usage":{"n":2}}', b'{"a":1.0,"usage":{"n":2,"cost":0.000007}}'),
    ("in an empty one", b'{"usage":{}}', b'{"usage":{"cost":0.000007}}'),
    ("in place of the provider's", b'{"usage":{"cost":9,"n":2}}', b'{"usage":{"cost":0.000007,"n":2}}'),
    ("in the outer one", b'{"x":{"usage":{}},"usage":{}}', b'{"x":{"usage":{}},"usage":{"cost":0.000007}}'),
    ("in a response", b'{"response":{"usage":{"n":1}}}', b'{"response":{"usage":{"n":1,"cost":0.000007}}}'),
    ("bytes are kept", b'{"x":"\\u00e9","n":1e2,"usage":{}}', b'{"x":"\\u00e9","n":1e2,"usage":{"cost":0.000007}}'),
]  # fmt: skip
AS_THEY_ARE = [
    b"",
    b"not json",
    b'"usage"',
    b'{"usage":null}',
    b'{"usage":[]}',
    b'{"usageMetadata":{"n":1}}',
    b'{"text":"\\"usage\\":{}"}',
    b'{"message":{"usage":{"n":1}}}',
    b'{"response":{"id":"\\"usage\\""}}',
    b'[{"usage":{}}]',
    b'\x00{"usage":{}}\xff',
]


@pytest.mark.parametrize(("name", "body", "told"), BODIES)
def test_it_is_told(name: str, body: bytes, told: bytes) -> None:
    assert cost.whole(body, "0.000007") == told
    assert cost.events(b"event: x\ndata: %b\n\ndata: [DONE]\n\n" % body, "0.000007") == (
        b"event: x\ndata: %b\n\ndata: [DONE]\n\n" % told
    )
    json.loads(told)


@pytest.mark.parametrize("body", AS_THEY_ARE)
def test_what_tells_no_usage_is_left_as_it_is(body: bytes) -> None:
    assert cost.whole(body, "1") is body
    events = b"data: %b\n\n" % body
    assert cost.events(events, "1") == events


LAST = [
    (True, b'data: {"choices":[],"usage":{"n":1}}'),
    (True, b'data: {"choices": [ ], "usage": {"n":1}}'),
    (True, b'data: {"choices":[{"finish_reason":"stop"}],"usage":{"n":1}}'),
    (True, b'data: {"type":"message_delta","usage":{"n":1}}'),
    (False, b'data: {"choices":[{"finish_reason":null}],"usage":{"n":1}}'),
    (False, b'data: {"choices":[{"finish_reason":""}],"usage":{"n":1}}'),
    (False, b'data: {"choices":[{"finish_reason":"stop"}]}'),
    (False, b'data: {"type":"message_start","message":{"usage":{}}}'),
    (False, b'data: {"choices":[{"delta":{"content":"\\"usage\\": \\"choices\\":[]"}}]}'),
]


@pytest.mark.parametrize(("may", "events"), LAST)
def test_only_usage_at_the_end_waits_for_its_cost(may: bool, events: bytes) -> None:
    assert cost.may_be_last(events) is may
