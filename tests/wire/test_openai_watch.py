"""A provider's OpenAI stream on its way to an OpenAI client: what passes, what is held back, what ends it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from lilliput.neutral import Problem, Usage
from lilliput.wire.openai.passing import Watch, whole

DONE = b"data: [DONE]\n\n"


def chunk(delta: Any = None, finish: Any = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    return event({"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more})


def event(body: Any) -> bytes:
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def raw(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


ROLE, HEL, LO, STOP = (
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "hel"}),
    chunk({"content": "lo"}),
    chunk({}, "stop"),
)
USAGE_FIELDS = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
COUNTED = Usage(input=3, output=2)


def counted(usage: Usage | None) -> Usage | None:
    """The counts alone, without the provider's own object."""
    return usage and replace(usage, given=None)


USAGE = event({"id": "c", "choices": [], "usage": USAGE_FIELDS})
GOOD = ROLE + HEL + LO + STOP + USAGE + DONE
SEEN = ROLE + HEL + LO + STOP + DONE
CUT, BAD = "upstream_truncated", "upstream_invalid"
N2 = {"index": 1, "delta": {"content": "x"}, "finish_reason": None}
PRETTY = b'data: {"choices":\ndata: [{"index":0,"delta":{"content":"a\\nb"},\r\ndata: "finish_reason":null}]}\n\n'
FLAT = b'data: {"choices": [{"index":0,"delta":{"content":"a\\nb"}, "finish_reason":null}]}\n\n'


def watch(stream: bytes, wants_usage: bool = False, step: int = 0) -> tuple[bytes, str | None, Watch]:
    """What the client sees, the code of the trouble, and the watch itself; the stream is fed `step` bytes at a time."""
    w, out = Watch(wants_usage), b""
    for at in range(0, len(stream), step or len(stream) or 1):
        out += w.feed(stream[at : at + (step or len(stream))])
        if w.done or w.trouble:
            break
    if not w.done and not w.trouble:
        out += w.end()
    assert w.done != bool(w.trouble), "it is either whole or in trouble"
    return out, (w.trouble.code if w.trouble else None), w


FILTER = event({"choices": [], "prompt_filter_results": []})
ODD = event({"choices": {"a": 1}})
HUGE = event({"choices": [], "created": 10**400})
OTHER, OTHER_STOP = event({"choices": [N2]}), event({"choices": [N2 | {"finish_reason": "stop"}]})
LIMITED = event({"error": {"message": "no", "code": "rate_limit_exceeded"}})
IN_MESSAGE = event({"choices": [{"message": {"content": "x"}}]})
LAST = chunk({"content": "x"}, "length")
WITH_USAGE = chunk({}, "stop", usage=USAGE_FIELDS)
TABLE: list[tuple[str, bytes, bytes, str | None]] = [
    ("good", GOOD, SEEN, None),
    ("no usage chunk", SEEN, SEEN, None),
    ("no [DONE] but a finish", ROLE + HEL + STOP, ROLE + HEL + STOP + DONE, None),
    ("no [DONE] after usage", ROLE + HEL + STOP + USAGE, ROLE + HEL + STOP + DONE, None),
    ("a finish in the chunk with the last text", LAST, LAST + DONE, None),
    ("no finish but [DONE]", ROLE + HEL + DONE, ROLE + HEL + DONE, None),
    ("neither", ROLE + HEL, ROLE + HEL, CUT),
    ("a role only", ROLE, b"", CUT),
    ("nothing", b"", b"", BAD),
    ("comments only", b": ping\n\n: ping\n\n", b"", BAD),
    ("[DONE] only", DONE, b"", BAD),
    ("blank lines only", b"\r\n\r\n", b"", BAD),
    ("a page", b"<html><title>login</title></html>\n", b"", BAD),
    ("the last event is half", HEL + LO[:-20], HEL, CUT),
    ("the last event lacks its blank line", HEL + STOP[:-2], HEL + STOP + DONE, None),
    ("[DONE] lacks its blank line", HEL + STOP + DONE[:-2], HEL + STOP + DONE, None),
    ("[DONE] is half", HEL + STOP + b"data: [DO", HEL + STOP, CUT),
    ("half an event after the finish", HEL + STOP + LO[:-20], HEL + STOP, CUT),
    ("garbage first", raw(b"garbage") + HEL + STOP + DONE, b"", BAD),
    ("garbage in the middle", HEL + raw(b"garbage") + LO + STOP + DONE, HEL, BAD),
    ("half JSON in the middle", HEL + raw(b'{"choices":[{"del') + LO + STOP + DONE, HEL, BAD),
    ("two objects in an event", HEL + raw(b'{"choices":[]}{"choices":[]}'), HEL, BAD),
    ("not an object", HEL + raw(b'["x"]'), HEL, BAD),
    ("a bare string", HEL + raw(b'"x"'), HEL, BAD),
    ("null", HEL + raw(b"null"), HEL, BAD),
    ("NaN", HEL + raw(b'{"choices":[],"x":NaN}'), HEL, BAD),
    ("bad UTF-8 in the text", HEL + raw(b'{"choices":[{"delta":{"content":"\xff"}}]}'), HEL, BAD),
    ("bad UTF-8 elsewhere", HEL + raw(b'{"x":"\xc3","choices":[{"delta":{"content":"a"}}]}'), HEL, BAD),
    ("deep nesting", HEL + raw(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), HEL, BAD),
    ("a control character in a string", HEL + raw(b'{"x":"\x07"}'), HEL, BAD),
    ("late data", HEL + STOP + DONE + chunk({"content": "LATE"}), HEL + STOP + DONE, None),
    ("late garbage", HEL + STOP + DONE + raw(b"garbage"), HEL + STOP + DONE, None),
    ("two [DONE]", HEL + STOP + DONE + DONE, HEL + STOP + DONE, None),
    ("an error first", event({"error": {"message": "no", "code": 402}}), b"", "402"),
    ("an error in the middle", HEL + LIMITED + DONE, HEL, "rate_limit_exceeded"),
    ("a bare error string", HEL + event({"error": "overloaded"}), HEL, None),
    ("CRLF", GOOD.replace(b"\n", b"\r\n"), SEEN, None),
    ("CR", GOOD.replace(b"\n", b"\r"), SEEN, None),
    ("no space after the colon", GOOD.replace(b"data: ", b"data:"), SEEN, None),
    (
        "comments between",
        b": a\n\n" + ROLE + b": b\n\n" + HEL + STOP + b": c\n\n" + DONE,
        ROLE + HEL + STOP + DONE,
        None,
    ),
    ("event names", b"event: x\nid: 1\n" + HEL + STOP + DONE, HEL + STOP + DONE, None),
    ("one event on several lines", PRETTY + STOP + DONE, FLAT + STOP + DONE, None),
    ("choices: [] without usage", FILTER + HEL + STOP + DONE, FILTER + HEL + STOP + DONE, None),
    ("usage in a chunk with choices", HEL + WITH_USAGE + DONE, HEL + WITH_USAGE + DONE, None),
    (
        "usage: null is left out",
        chunk({"content": "x"}, usage=None) + chunk({}, "stop", usage=None) + DONE,
        chunk({"content": "x"}) + STOP + DONE,
        None,
    ),
    ("a tool call is real output", chunk({"tool_calls": [{"index": 0}]}), chunk({"tool_calls": [{"index": 0}]}), CUT),
    ("reasoning is real output", chunk({"reasoning_content": "hm"}), chunk({"reasoning_content": "hm"}), CUT),
    ("message beside delta", IN_MESSAGE, IN_MESSAGE, CUT),
    ("an empty finish is none", HEL + chunk({}, ""), HEL + chunk({}, ""), CUT),
    ("a finish of another word is kept", HEL + chunk({}, "eos"), HEL + chunk({}, "eos") + DONE, None),
    ("a finish that is a number", HEL + chunk({}, 1), HEL + chunk({}, 1) + DONE, None),
    ("a finish that is an object", HEL + chunk({}, {"a": 1}), HEL + chunk({}, {"a": 1}), CUT),
    ("a delta that is text", chunk("x") + STOP + DONE, chunk("x") + STOP + DONE, None),
    ("choices that are an object", HEL + ODD + STOP + DONE, HEL + ODD + STOP + DONE, None),
    ("a huge number", HEL + HUGE + STOP + DONE, HEL + HUGE + STOP + DONE, None),
    ("one of two choices finished", HEL + OTHER + STOP, HEL + OTHER + STOP, CUT),
    ("both choices finished", HEL + OTHER + STOP + OTHER_STOP, HEL + OTHER + STOP + OTHER_STOP + DONE, None),
    ("a choice goes on after its finish", HEL + STOP + HEL, HEL + STOP + HEL + DONE, None),
]
IDS = [row[0] for row in TABLE]


@pytest.mark.parametrize(("name", "stream", "seen", "code"), TABLE, ids=IDS)
def test_table(name: str, stream: bytes, seen: bytes, code: str | None) -> None:
    out, trouble, w = watch(stream)
    assert out == seen
    if name == "a bare error string":
        assert w.trouble is not None
        assert "overloaded" in w.trouble.say
    else:
        assert trouble == code


@pytest.mark.parametrize(("name", "stream", "seen", "code"), TABLE, ids=IDS)
def test_the_same_however_it_is_cut(name: str, stream: bytes, seen: bytes, code: str | None) -> None:
    trouble = watch(stream)[1]
    for step in (1, 2, 7, 50) if len(stream) < 5000 else (1000, 4096):
        out, code_now, _ = watch(stream, step=step)
        assert (out, code_now) == (seen, trouble), step
    if len(stream) < 5000:
        for at in range(1, len(stream)):
            w, out = Watch(False), b""
            for piece in (stream[:at], stream[at:]):
                if not w.done and not w.trouble:
                    out += w.feed(piece)
            out += w.end() if not w.done and not w.trouble else b""
            assert (out, w.trouble.code if w.trouble else None) == (seen, trouble), at


def test_cut_at_every_byte_it_never_ends_cleanly_unless_whole() -> None:
    stream = ROLE + b"".join(chunk({"content": f"word {i} "}) for i in range(20)) + STOP + USAGE + DONE
    proof = stream.index(b'"finish_reason":"stop"}]}') + len(b'"finish_reason":"stop"}]}')
    events = [e + b"\n\n" for e in stream.split(b"\n\n")]
    for at in range(len(stream)):
        out, code, _ = watch(stream[:at])
        assert (code is None) == out.endswith(DONE), at
        if at < proof:
            assert code is not None, at
        for said in (e + b"\n\n" for e in out.split(b"\n\n")[:-1]):
            assert said in events, "what comes out went in, whole"


SPACINGS = [
    b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}',
    b'{ "choices" : [ ] , "usage" : { "prompt_tokens" : 3, "completion_tokens" : 2, "total_tokens" : 5 } }',
    b'{"usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, "choices": []}',
    b'{"choices":[],\t"usage":\t{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}',
    b'{"choices":[],"x_groq":{"id":"r","usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}}',
    b'{"choices":[],"\\u0075sage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}',
    b'{"choices":null,"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}',
    b'{"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}',
    b'{"choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}',
]


@pytest.mark.parametrize("spelling", SPACINGS)
@pytest.mark.parametrize("wants", [False, True])
def test_usage_is_found_however_it_is_spelt(spelling: bytes, wants: bool) -> None:
    out, code, w = watch(HEL + STOP + raw(spelling) + DONE, wants)
    assert code is None
    assert counted(w.usage) == COUNTED
    assert (raw(spelling) in out) == (wants or b'"delta"' in spelling)


def test_the_last_usage_counts_and_null_does_not() -> None:
    first = event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}})
    _, _, w = watch(HEL + first + USAGE + event({"choices": [], "usage": None}) + STOP + DONE)
    assert counted(w.usage) == COUNTED


@pytest.mark.parametrize(
    "usage",
    ["lots", 7, [1], {"prompt_tokens": "x"}, {"prompt_tokens": -1}],
)
def test_odd_usage_harms_no_answer(usage: Any) -> None:
    out, code, _ = watch(HEL + event({"choices": [], "usage": usage}) + STOP + DONE)
    assert code is None
    assert out.startswith(HEL)
    assert out.endswith(STOP + DONE)


def test_usage_asked_for_is_kept_as_it_came() -> None:
    stream = chunk({"content": "x"}, usage=None) + STOP + USAGE + DONE
    assert watch(stream, True)[0] == stream


HOSTILE = [
    "\n\ndata: [DONE]\n\n",
    "\r\n\r\ndata: x",
    "\u2028\u2029\u0085",
    "\x1b[31m",
    "\x00",
    "data: ",
    ": x",
    "\ud83e\udd93",
    '"}]}\n\n',
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_one_event_in_is_one_event_out(text: str, ascii_only: bool) -> None:
    clean = text.encode("utf-16", "surrogatepass").decode("utf-16")
    body = {"choices": [{"index": 0, "delta": {"content": clean}, "finish_reason": None}]}
    data = json.dumps(body, ensure_ascii=ascii_only).encode()
    out, code, _ = watch(raw(data) + STOP + DONE)
    assert code is None
    assert out == raw(data) + STOP + DONE
    assert out.count(b"\n\n") == 3


def test_before_the_first_real_output_nothing_comes_out() -> None:
    w = Watch(False)
    assert w.feed(b": ping\n\n" + ROLE + event({"choices": []})) == b""
    assert not w.started
    out = w.feed(HEL)
    assert w.started
    assert out == ROLE + event({"choices": []}) + HEL


WHOLE: list[tuple[str, bytes, str | None, Usage | None]] = [
    ("good", b'{"choices":[{}],"usage":{"prompt_tokens":3,"completion_tokens":2}}', None, COUNTED),
    ("no usage", b'{"choices":[{}]}', None, None),
    ("usage: null", b'{"choices":[{}],"usage":null}', None, None),
    ("spaces", b' { "choices" : [ {} ] , "usage" : {"prompt_tokens":3,"completion_tokens":2} } \n', None, COUNTED),
    ("no choices yet an answer", b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}', None, COUNTED),
    ("empty", b"", BAD, None),
    ("blank", b"  \n", BAD, None),
    ("a page", b"<html>login</html>", BAD, None),
    ("broken", b'{"choices":[{}', BAD, None),
    ("two", b'{"choices":[{}]}{}', BAD, None),
    ("an array", b"[]", BAD, None),
    ("null", b"null", BAD, None),
    ("a string", b'"x"', BAD, None),
    ("no choices", b"{}", BAD, None),
    ("choices: null", b'{"choices":null}', BAD, None),
    ("choices of another kind", b'{"choices":7}', BAD, None),
    ("bad UTF-8", b'{"choices":[{"message":{"content":"\xff"}}]}', BAD, None),
    ("bad UTF-8 elsewhere", b'{"x":"\xff","choices":[{}]}', BAD, None),
    ("deep", b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}", BAD, None),
    ("an error", b'{"error":{"message":"no credit","code":402}}', "402", None),
    (
        "an error beside choices: null",
        b'{"error":{"message":"no","code":"rate_limit_exceeded"},"choices":null}',
        "rate_limit_exceeded",
        None,
    ),
    ("error: null", b'{"error":null,"choices":[{}]}', None, None),
    ("a stream", b"data: {}\n\n", BAD, None),
    ("gzip", b"\x1f\x8b\x08\x00", BAD, None),
]


@pytest.mark.parametrize(("name", "body", "code", "usage"), WHOLE, ids=[row[0] for row in WHOLE])
def test_whole(name: str, body: bytes, code: str | None, usage: Usage | None) -> None:
    if code is None:
        assert counted(whole(200, body)) == usage
    else:
        with pytest.raises(Problem) as caught:
            whole(200, body)
        assert caught.value.code == code


def test_a_long_stream_costs_no_memory() -> None:
    w = Watch(False)
    w.feed(HEL)
    assert sum(len(w.feed(LO * 100)) for _ in range(200)) == len(LO) * 20_000
    assert not w._held
    assert w._splitter.rest == b""


def test_usage_is_json() -> None:
    assert counted(watch(GOOD)[2].usage) == COUNTED
