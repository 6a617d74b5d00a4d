"""Answers of Amazon Bedrock that no recording shows: errors inside, odd orders, calls, usage."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.wire import bedrock_recordings as rec

from lilliput.neutral import (
    Argued,
    Began,
    Called,
    Counted,
    Ended,
    Event,
    Media,
    Problem,
    Said,
    Shown,
    Thought,
    Usage,
    fold,
)
from lilliput.wire import bedrock, families
from lilliput.wire.bedrock import invoke as bedrock_invoke

START = ("messageStart", {"role": "assistant", "p": "abc"})
STOP = ("messageStop", {"stopReason": "end_turn"})
USAGE = {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}
END = ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}})


def delta(block: int, **delta: Any) -> tuple[str, object]:
    return "contentBlockDelta", {"contentBlockIndex": block, "delta": delta}


def told(*events: tuple[str, object]) -> tuple[list[Event], Problem | None]:
    return rec.feed("bedrock.converse", rec.stream(*events), True)


def test_a_stream_without_block_starts() -> None:
    events, trouble = told(START, delta(0, text="a"), delta(0, text=""), delta(0, text="b"), STOP, END)
    assert trouble is None
    assert events[:3] == [Began(), Said("a"), Said("b")]
    assert isinstance(events[3], Counted)
    assert events[4:] == [Ended("stop", "end_turn")]


def test_calls_are_numbered_as_they_come_and_a_server_tool_is_none() -> None:
    def start(block: int, **use: Any) -> tuple[str, object]:
        return "contentBlockStart", {"contentBlockIndex": block, "start": {"toolUse": use}}

    events, trouble = told(
        start(7, toolUseId="a", name="f"),
        delta(7, toolUse={"input": '{"x"'}),
        start(8, toolUseId="s", name="nova_grounding", type="server_tool_use"),
        delta(8, toolUse={"input": "{}"}),
        ("contentBlockStart", {"contentBlockIndex": 9, "start": {"toolResult": {"toolUseId": "s"}}}),
        delta(9, toolResult=[{"text": "hidden"}]),
        delta(7, toolUse={"input": ":1}"}),
        start(10, toolUseId="a", name="g"),
        ("messageStop", {"stopReason": "tool_use"}),
        END,
    )
    assert trouble is None
    calls = [e for e in events if isinstance(e, Called)]
    assert [(c.index, c.id, c.name) for c in calls] == [(0, "a", "f"), (1, "a_1", "g")]
    assert [e for e in events if isinstance(e, Argued)] == [Argued(0, '{"x"'), Argued(0, ":1}")]
    assert events[-1] == Ended("tool_calls", "tool_use")


def test_arguments_without_a_call_are_no_answer() -> None:
    _, trouble = told(delta(0, toolUse={"input": "{}"}))
    assert trouble is not None
    assert trouble.code == "upstream_invalid"


def test_reasoning_is_signed_and_sealed() -> None:
    sealed = base64.b64encode(b"EuQ=").decode()
    events, _ = told(
        delta(0, reasoningContent={"text": "t"}),
        delta(0, reasoningContent={"signature": "s"}),
        delta(1, reasoningContent={"redactedContent": sealed}),
        delta(2, reasoningContent={"redactedContent": "/+8="}),
        STOP,
        END,
    )
    assert events[:4] == [
        Thought("t"),
        Thought(signature="s", family=families.ANTHROPIC),
        Thought(sealed="EuQ=", family=families.ANTHROPIC),
        Thought(sealed="/+8=", family=families.BEDROCK),
    ]
    thinking = fold(events).choices[0].thinking
    assert (thinking[0].text, thinking[0].signature, thinking[0].family) == ("t", "s", families.ANTHROPIC)


def test_pictures_and_citations() -> None:
    block = {"image": {"format": "png", "source": {"bytes": "AA=="}}}
    cited = {"citationsContent": {"content": [{"text": "c"}, {"text": "d"}], "citations": [{"title": "t"}]}}
    answer = {"output": {"message": {"content": [block, cited]}}, "stopReason": "new_word", "usage": USAGE}
    events, trouble = rec.feed("bedrock.converse", json.dumps(answer).encode(), False)
    assert trouble is None
    assert events[1:4] == [Shown(Media("image", "image/png", "AA==")), Said("c"), Said("d")]
    assert events[-1] == Ended(None, "new_word")


@pytest.mark.parametrize(
    ("kind", "fault", "status"),
    [
        ("throttlingException", "limit", 429),
        ("validationException", "client", 400),
        ("modelStreamErrorException", "provider", 502),
        ("internalServerException", "provider", 502),
        ("serviceUnavailableException", "provider", 503),
        ("modelTimeoutException", "timeout", 504),
        ("AccessDeniedException", "provider_auth", 502),
        ("somethingNew", "provider", 502),
    ],
)
@pytest.mark.parametrize("api", ["bedrock.converse", "bedrock.invoke"])
def test_an_exception_in_the_stream(api: str, kind: str, fault: str, status: int) -> None:
    raised = rec.frame({"message": "too much"}, message_type="exception", exception_type=kind)
    first = {"bedrock.converse": rec.stream(START, delta(0, text="a"))}.get(
        api, rec.chunks({"contentBlockDelta": {"delta": {"text": "a"}, "contentBlockIndex": 0}})
    )
    reader = rec.MODULES[api].reader(True)
    assert Said("a") in reader(first + raised)
    assert reader.trouble is not None
    with pytest.raises(Problem) as caught:
        reader(b"")
    p = caught.value
    assert (p.say, p.kind, p.fault, p.status) == ("too much", kind, fault, status)


def test_an_error_told_by_headers() -> None:
    raw = rec.frame(b"", message_type="error", error_code="InternalError", error_message="broken")
    _, trouble = rec.feed("bedrock.converse", raw, True)
    assert trouble is not None
    assert (trouble.say, trouble.kind, trouble.status) == ("broken", "InternalError", 502)


def test_metadata_closes_a_stream_only_after_its_stop() -> None:
    for events in ((START, END), (START, delta(0, text="a"), STOP), (), (START, END, STOP)):
        given, trouble = told(*events)
        assert trouble is not None
        assert trouble.code == "upstream_truncated"
        assert not any(isinstance(e, Ended) for e in given)
    raw = rec.stream(START, STOP, END)
    assert rec.feed("bedrock.converse", raw + b"\0" * 99, True)[1] is None


def test_plain_json_though_a_stream_was_asked_for() -> None:
    answer = b'{"output":{"message":{"content":[{"text":"a"}]}},"stopReason":"max_tokens"}'
    events, trouble = rec.feed("bedrock.converse", answer, True, range(1, len(answer)))
    assert (events, trouble) == ([Began(), Said("a"), Ended("length", "max_tokens")], None)


@pytest.mark.parametrize(
    ("raw", "code", "say"),
    [
        (b"", "upstream_truncated", ""),
        (b"{}", "upstream_invalid", "output"),
        (b'{"message":"no"}', None, "no"),
        (b'{"output":{"message":{"content":[{"toolUse":{}}]}}}', "upstream_invalid", "name"),
        (b'{"output":{"message":{"content":"x"}}}', "upstream_invalid", ""),
        (b'{"output":{"message":{"content":[{"x":"\xff"}]}}}', "upstream_invalid", ""),
        (b"[" * 5000, None, ""),
    ],
)
def test_what_is_no_answer(raw: bytes, code: str | None, say: str) -> None:
    for api in ("bedrock.converse", "bedrock.invoke"):
        events, trouble = rec.feed(api, raw, False)
        assert trouble is not None, api
        assert not any(isinstance(e, Ended) for e in events)
        if api == "bedrock.converse":
            assert code in (None, trouble.code)
            assert say in trouble.say


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ({"inputTokens": 5, "outputTokens": 1}, Usage(input=5, output=1)),
        (
            {"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 3, "cacheWriteInputTokens": 9}
            | {"cacheDetails": [{"ttl": "1h", "inputTokens": 4}, {"ttl": "5m", "inputTokens": 5}]},
            Usage(input=1, output=2, cache_read=3, cache_write_5m=5, cache_write_1h=4),
        ),
        (
            {"inputTokens": 1, "cacheReadInputTokenCount": 2, "cacheWriteInputTokenCount": 3},
            Usage(input=1, cache_read=2, cache_write_5m=3),
        ),
        ({"inputTokens": -1, "outputTokens": 1e12}, Usage(doubts=("inputTokens", "outputTokens"))),
        (
            {"inputTokens": 1, "cacheWriteInputTokens": 1, "cacheDetails": [{"ttl": "1h", "inputTokens": 4}]},
            Usage(input=1, cache_write_1h=1, doubts=("cacheDetails",)),
        ),
        ({"totalTokens": 3}, None),
        ([], None),
    ],
)
def test_usage(given: object, want: Usage | None) -> None:
    usage = bedrock.read_usage(json.dumps(given).encode())
    if want is None or usage is None:
        assert usage == want
        return
    assert {f: getattr(usage, f) for f in usage.__struct_fields__ if f != "given"} == {
        f: getattr(want, f) for f in want.__struct_fields__ if f != "given"
    }
    assert usage.given is not None
    assert json.loads(bytes(usage.given)) == given


def test_several_answers_of_one_family_stay_apart() -> None:
    metrics = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 1, "outputTokenCount": 2}}
    raw = rec.chunks(
        {"index": 0, "text": "a"},
        {"index": 1, "text": "b"},
        {"finish_reason": "COMPLETE", "is_finished": True, **metrics},
    )
    events, trouble = rec.feed("bedrock.invoke", raw, True)
    assert trouble is None
    assert [(c.text, c.reason) for c in fold(events).choices] == [("a", "stop"), ("b", "stop")]


def test_invoke_model_reads_openais_form() -> None:
    pieces: list[dict[str, Any]] = [
        {"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}}]},
        {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    events, trouble = rec.feed("bedrock.invoke", rec.chunks(*pieces), True)
    assert trouble is None
    assert (fold(events).choices[0].text, events[-1]) == ("a", Ended("stop", "stop"))
    for cut in (rec.chunks(pieces[0]), rec.chunks(*pieces) + rec.chunks(pieces[0])[:20]):
        trouble = rec.feed("bedrock.invoke", cut, True)[1]
        assert trouble is not None
        assert trouble.code == "upstream_truncated"
    text = {"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}
    events, trouble = rec.feed("bedrock.invoke", json.dumps(text).encode(), False)
    assert (trouble, fold(events).choices[0].text, events[-1]) == (None, "a", Ended("stop", "stop"))
    whole = {"id": "c", "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "length"}]}
    events, trouble = rec.feed("bedrock.invoke", json.dumps(whole).encode(), False)
    assert (trouble, events[-1]) == (None, Ended("length", "length"))


def test_reader_of_invoke_is_fresh_each_time() -> None:
    assert bedrock_invoke.reader(True) is not bedrock_invoke.reader(True)
