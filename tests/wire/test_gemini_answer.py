"""Gemini answers one by one: framings, finishes, usage and what goes wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.wire import gemini_recordings as rec

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
    Scored,
    Shown,
    Thought,
    Usage,
    fold,
)
from lilliput.wire import gemini
from lilliput.wire.families import GEMINI
from lilliput.wire.gemini.chunk import ArraySplitter

HEAD = {"modelVersion": "m", "responseId": "r-1"}


def _piece(*parts: dict[str, Any], finish: object = None, index: int | None = 0, **more: Any) -> dict[str, Any]:
    c: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}} if parts else {}
    c |= {"finishReason": finish} if finish is not None else {}
    c |= {"index": index} if index is not None else {}
    return {"candidates": [c], **HEAD, **more}


def _sse(*pieces: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\r\n\r\n" % json.dumps(p).encode() for p in pieces)


def _read(raw: bytes, stream: bool = True) -> tuple[list[Event], Problem | None]:
    return rec.feed(raw, stream)


def _whole(piece: dict[str, Any]) -> list[Event]:
    events, trouble = _read(json.dumps(piece).encode(), False)
    assert trouble is None, trouble
    return events


PIECES = [_piece({"text": "a"}), _piece({"text": "b"}), _piece({"text": ""}, finish="STOP")]
TOLD = [Began("r-1", "m"), Said("a"), Said("b"), Ended("stop", "STOP")]


@pytest.mark.parametrize(
    ("raw", "stream"),
    [
        (_sse(*PIECES), True),
        (_sse(*PIECES).replace(b"\r\n", b"\n"), True),
        (_sse(*PIECES).rstrip(), True),
        (json.dumps(PIECES, indent=2).encode(), True),
        (json.dumps(PIECES).replace("}, {", "}\r\n,\r\n{").encode() + b"\n", True),
        (json.dumps(PIECES).encode(), False),
    ],
)
def test_framings(raw: bytes, stream: bool) -> None:
    assert _read(raw, stream) == (TOLD, None)
    assert rec.feed(raw, stream, list(range(1, len(raw))))[0] == TOLD


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        _sse(*PIECES[:2]),
        _sse(*PIECES)[:-12],
        _sse(*PIECES) + b"dat",
        json.dumps(PIECES).encode()[:-1],
        json.dumps(PIECES[:2]).encode(),
        json.dumps(PIECES[2]).encode()[:-1],
        _sse(_piece({"text": "a"}, finish="STOP"), _piece({"text": "a"}, index=1)),
        _sse(HEAD),
        b"[]",
    ],
)
def test_a_cut_stream_is_told(raw: bytes) -> None:
    events, trouble = _read(raw)
    assert trouble is not None
    assert trouble.code == "upstream_truncated"
    assert not any(isinstance(e, Ended) for e in events)
    watch = rec.pass_on(raw, "")[1]
    assert (watch.done, watch.trouble is not None) == (False, True)


@pytest.mark.parametrize(
    "raw", [b"[{}] x", b"data: {]\n\n", b"{}", b'{"candidates":[]}', b'data: {"candidates":7}\n\n']
)
def test_rubbish_is_told(raw: bytes) -> None:
    assert _read(raw)[1] is not None
    assert _read(raw, False)[1] is not None


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("MODEL_ARMOR", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", None),
        ("SOMETHING_NEW", None),
        (1, "stop"),
        (2, "length"),
        (99, None),
    ],
)
def test_finish_words(finish: str | int, reason: str | None) -> None:
    assert _whole(_piece(finish=finish))[-1] == Ended(reason, str(finish))  # type: ignore[arg-type]


def test_a_whole_answer_without_a_finish_claims_none() -> None:
    assert _whole(_piece({"text": "a"}))[-1] == Ended(None, None)


def test_calls_end_in_tool_calls_and_have_ids_of_their_own() -> None:
    parts: list[dict[str, Any]] = [
        {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "S"},
        {"functionCall": {"name": "g", "id": "own"}},
        {"functionCall": {"name": "g", "id": "own", "args": {}}},
    ]
    assert _whole(_piece(*parts, finish="STOP"))[1:] == [
        Called(0, "call_r1_0", "f", signature="S"),
        Argued(0, '{"a": 1}'),
        Called(1, "own", "g"),
        Called(2, "call_r1_2", "g"),
        Argued(2, "{}"),
        Ended("tool_calls", "STOP"),
    ]
    assert _whole(_piece(*parts, finish="MAX_TOKENS"))[-1] == Ended("length", "MAX_TOKENS")


def test_parts_of_all_sorts() -> None:
    events = _whole(
        _piece(
            {"text": "hm", "thought": True},
            {"text": "a", "thoughtSignature": "S1"},
            {"thoughtSignature": "S2"},
            {"inlineData": {"mimeType": "image/png", "data": "_-8="}},
            {"executableCode": {"code": "1"}},
            finish="STOP",
        )
    )
    assert events[1:-1] == [
        Thought("hm", family=GEMINI),
        Said("a"),
        Thought("", signature="S1", family=GEMINI),
        Thought("", signature="S2", family=GEMINI),
        Shown(Media("image", mime="image/png", data="/+8=")),
    ]


def test_several_candidates_are_choices() -> None:
    answer = {"candidates": [_piece({"text": t}, finish="STOP", index=None)["candidates"][0] for t in "ab"]}
    assert [(c.index, c.text, c.reason) for c in fold(_whole(answer)).choices] == [(0, "a", "stop"), (1, "b", "stop")]


@pytest.mark.parametrize("stream", [True, False])
def test_a_blocked_prompt_is_filtered_content(stream: bool) -> None:
    answer = {
        "promptFeedback": {"blockReason": "OTHER"},
        "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3},
    }
    events, trouble = _read(_sse(answer) if stream else json.dumps(answer).encode(), stream)
    assert trouble is None
    assert events[-1] == Ended("content_filter", "OTHER")
    assert [e.usage.prompt_tokens for e in events if isinstance(e, Counted)] == [3]
    assert rec.pass_on(_sse(answer), "?alt=sse")[1].done


@pytest.mark.parametrize("as_array", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_an_error_inside_an_answer(as_array: bool, stream: bool) -> None:
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
    error = {"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED", "details": [{}, detail]}}
    raw = json.dumps([error] if as_array else error).encode()
    events, trouble = _read(raw, stream)
    assert events == []
    assert trouble is not None
    assert (trouble.status, trouble.say, trouble.retry_after_s, trouble.kind) == (
        429,
        "slow",
        34.5,
        "RESOURCE_EXHAUSTED",
    )
    again = gemini.read_problem(429, raw)
    assert (again.fault, again.retry_after_s) == ("limit", 34.5)
    events, trouble = _read(_sse(PIECES[0], error))
    assert events == TOLD[:2]
    assert trouble is not None
    watch = rec.pass_on(_sse(PIECES[0], error), "?alt=sse")[1]
    assert watch.trouble is not None
    assert watch.trouble.status == 429


def test_log_probabilities_in_openais_form() -> None:
    result = {
        "chosenCandidates": [{"token": "é", "tokenId": 1, "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "e", "logProbability": -1}]}],
    }
    answer = _piece({"text": "é"}, finish="STOP")
    answer["candidates"][0]["logprobsResult"] = result
    (scored,) = [e for e in _whole(answer) if isinstance(e, Scored)]
    top = {"token": "e", "logprob": -1, "bytes": [101]}
    assert json.loads(bytes(scored.content)) == [
        {"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": [top]}
    ]


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ({"promptTokenCount": 9, "candidatesTokenCount": 5, "totalTokenCount": 14}, Usage(input=9, output=5)),
        (
            {"promptTokenCount": 9, "candidatesTokenCount": 5, "thoughtsTokenCount": 3, "totalTokenCount": 17},
            Usage(input=9, output=5, reasoning=3),
        ),
        (
            {"promptTokenCount": 9, "candidatesTokenCount": 5, "thoughtsTokenCount": 3, "totalTokenCount": 14},
            Usage(input=9, output=2, reasoning=3, doubts=("candidatesTokenCount",)),
        ),
        (
            {"promptTokenCount": 9, "candidatesTokenCount": 5, "totalTokenCount": 20},
            Usage(input=9, output=5, reasoning=6, doubts=("totalTokenCount",)),
        ),
        (
            {"promptTokenCount": 9, "cachedContentTokenCount": 4, "toolUsePromptTokenCount": 2, "totalTokenCount": 11},
            Usage(input=7, cache_read=4),
        ),
        (
            {"promptTokenCount": 9, "cachedContentTokenCount": 12},
            Usage(cache_read=9, doubts=("cachedContentTokenCount",)),
        ),
        (
            {
                "promptTokenCount": 100,
                "cachedContentTokenCount": 40,
                "promptTokensDetails": [
                    {"modality": "AUDIO", "tokenCount": 50},
                    {"modality": "IMAGE", "tokenCount": 20},
                ],
                "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 30}, {"modality": "TEXT", "tokenCount": 10}],
                "candidatesTokenCount": 10,
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 8}],
            },
            Usage(input=20, cache_read=40, audio_in=20, image_in=20, output=2, image_out=8),
        ),
        (
            {"promptTokenCount": -9, "candidatesTokenCount": 1e18, "totalTokenCount": 3},
            Usage(doubts=("promptTokenCount", "candidatesTokenCount")),
        ),
    ],
)
def test_usage(given: dict[str, Any], want: Usage) -> None:
    usage = gemini.read_usage(json.dumps(given).encode())
    assert usage is not None
    assert json.loads(bytes(usage.given or b"")) == given
    assert Usage(**{f: getattr(usage, f) for f in usage.__struct_fields__ if f != "given"}) == want
    assert rec.usage_facts(gemini.read_usage(json.dumps(gemini.write_usage(want)).encode())) == rec.usage_facts(want)


@pytest.mark.parametrize("raw", [b"{}", b"[]", b"null", b'"x"', b"\xff", b'{"serviceTier":"x"}'])
def test_no_usage(raw: bytes) -> None:
    assert gemini.read_usage(raw) is None


def test_the_last_count_wins_and_what_it_leaves_out_stands() -> None:
    counts = [{"promptTokenCount": 5, "totalTokenCount": 5}, {"candidatesTokenCount": 2, "totalTokenCount": 7}]
    events, _ = _read(_sse(PIECES[0] | {"usageMetadata": counts[0]}, PIECES[2] | {"usageMetadata": counts[1]}))
    told = [e.usage.total_tokens for e in events if isinstance(e, Counted)]
    assert told == [5, 7]


def test_counts_left_out_later_stand() -> None:
    first = {"promptTokenCount": 5, "candidatesTokenCount": 2, "cachedContentTokenCount": 3, "totalTokenCount": 7}
    last = {"promptTokenCount": 5, "candidatesTokenCount": 4, "totalTokenCount": 9}
    events, _ = _read(_sse(PIECES[0] | {"usageMetadata": first}, PIECES[2] | {"usageMetadata": last}))
    told = [e.usage for e in events if isinstance(e, Counted)]
    assert [(u.output, u.cache_read, u.total_tokens) for u in told] == [(2, 3, 7), (4, 3, 9)]


def test_an_array_is_split_however_it_is_cut() -> None:
    elements = [{"a": 'x"}]\\'}, {"b": [1, {"c": "é\\\\"}]}, {}]
    raw = json.dumps(elements, indent=1).encode()
    for size in (1, 2, 3, 7, 1000):
        splitter = ArraySplitter()
        out = [e for k in range(0, len(raw), size) for e in splitter.feed(raw[k : k + size])]
        assert [json.loads(e) for e in out] == elements
        assert splitter.is_over
    with pytest.raises(Problem, match="closed already"):
        splitter.feed(b"{}")
