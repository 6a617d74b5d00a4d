"""What holds for every operation: readers that only raise Problem, usage, streams, and who can do what."""

from __future__ import annotations

import contextlib
import functools
import json
import random
from typing import Any

import pytest
from msgspec import Raw
from tests.wire import modality_recordings as recorded

from lilliput.neutral import Problem, Target, Usage
from lilliput.wire.operations import modalities, modality, multipart
from lilliput.wire.operations.modality_watch import EventWatch
from lilliput.wire.operations.multipart import Part

_PARTS = [Part("model", memoryview(b"m")), Part("file", memoryview(b"a"), "a.wav", "audio/wav")]
_FORM = multipart.write(_PARTS, b"x")
_SRT = multipart.write([*_PARTS, Part("response_format", memoryview(b"srt"))], b"x")
ASKS: dict[str, tuple[bytes, str]] = {
    "embeddings": (b'{"model":"m","input":["a","b"],"encoding_format":"base64"}', modality.JSON),
    "rerank": (b'{"model":"m","query":"q","documents":["a","b"],"return_documents":true}', modality.JSON),
    "transcription": (_SRT, multipart.content_type(b"x")),
    "translation": (_FORM, multipart.content_type(b"x")),
    "speech": (b'{"model":"m","input":"a"}', modality.JSON),
    "images": (b'{"model":"m","prompt":"a"}', modality.JSON),
    "image_edits": (b'{"model":"m","prompt":"a"}', modality.JSON),
    "moderation": (b'{"model":"m","input":"a"}', modality.JSON),
}
"""A good request of each operation, and its content type."""

MODELS = ("m", "amazon.titan-embed-text-v2:0", "cohere.embed-v4:0", "imagen-4")


@functools.cache
def _answers() -> list[bytes]:
    """The recorded answers of every operation, long ones as their ends."""
    apis = ("embeddings", "rerank", "transcription", "speech", "images", "moderation")
    bodies = [recorded.body(i) for api in apis for i in recorded.recorded(api)]
    return [raw if len(raw) < 4000 else raw[:300] + raw[-300:] for raw in bodies] + [
        b'{"results":{"channels":[{"alternatives":[{"transcript":"a","words":[{"word":"a","start":1e9,"end":2}]}]}]}}',
        b'{"results":{"channels":[{"alternatives":[{"transcript":"a"}]}],"utterances":[{"transcript":"a","start":0,"end":9}]}}',
        b'{"embeddings":[{"values":[1]},{"values":[2]}],"usageMetadata":{"promptTokenCount":-1}}',
        b'{"embeddings":[[1],[2]],"meta":{"billed_units":{"input_tokens":1e300}},"prompt_eval_count":1e12}',
        b'{"predictions":[{"bytesBase64Encoded":"aa"}]}',
        b"[" * 5000,
    ]


def _mutated(dice: random.Random) -> bytes:
    raw = bytearray(dice.choice(_answers()))
    for _ in range(dice.randrange(4)):
        at = dice.randrange(len(raw) + 1)
        raw[at : at + dice.randrange(6)] = dice.choice(
            (b"", b"\xff", b"null", b"{}", b"[]", b'"', b"-1", b"1e999", b"1e300", b'"\\ud800"', b",", b"true")
        )
    return bytes(raw)


@pytest.mark.parametrize("name", modalities.NAMES)
def test_readers_raise_only_problems(name: str) -> None:
    _read_mutated(name, 400)


@pytest.mark.slow
@pytest.mark.parametrize("name", modalities.NAMES)
def test_readers_raise_only_problems_however_long(name: str) -> None:
    _read_mutated(name, 4000)


def _read_mutated(name: str, times: int) -> None:
    """Feeds each adapter of an operation mutated answers of all operations."""
    operation, dice = modalities.operation(name), random.Random(11)
    asked = operation.check(*ASKS[name])
    kinds = (None, b"application/json", b"text/event-stream", b"audio/mpeg", b"text/plain")
    for dialect, adapter in operation.adapters.items():
        for _ in range(times):
            target = Target(provider="p", model=dice.choice(MODELS), dialect=dialect)
            kind = dice.choice(kinds)
            header = {b"content-type": kind, b"date": b"x", b"x-amzn-bedrock-input-token-count": b"9" * 5000}.get
            try:
                answer = adapter.read(dice.choice((200, 200, 200, 500)), _mutated(dice), header, asked, target)
            except Problem:
                continue
            assert isinstance(answer.body, bytes)
            assert "\n" not in answer.content_type


@pytest.mark.parametrize("name", modalities.NAMES)
def test_every_adapter_asks_and_is_found(name: str) -> None:
    operation = modalities.operation(name)
    body, kind = ASKS[name]
    asked = operation.check(body, kind)
    assert (asked.model, bool(asked.stream)) == ("m", False)
    for dialect, adapter in operation.adapters.items():
        target = Target(provider="p", model="the model", dialect=dialect, base="https://example.test/v1")
        url, headers = adapter.endpoint(target, asked)
        assert url.startswith("https://example.test/v1/")
        assert " " not in url
        names = [header for header, _ in headers]
        assert names.count("content-type") == names.count("accept") == 1
        if not adapter.varies:
            assert adapter.endpoint(target, asked) == (url, headers)
        try:
            sent = adapter.write(body, asked, target)
        except Problem:
            continue
        if dict(headers)["content-type"] == modality.JSON:
            assert isinstance(json.loads(sent.body), dict)


@pytest.mark.parametrize("name", modalities.NAMES)
def test_any_body_is_checked_or_refused(name: str) -> None:
    operation, dice = modalities.operation(name), random.Random(5)
    body, kind = ASKS[name]
    for _ in range(500):
        raw = bytearray(body)
        at = dice.randrange(len(raw))
        raw[at : at + dice.randrange(5)] = dice.choice((b"", b"\xff", b'"', b"[", b"null", b"{}", b"\r\n"))
        with contextlib.suppress(Problem):
            operation.check(bytes(raw), kind)


USAGES: list[tuple[str, Usage | None]] = [
    ("null", None),
    ("[]", None),
    ('{"prompt_tokens":3,"total_tokens":3}', Usage(input=3)),
    ('{"total_tokens":3}', Usage(input=3)),
    (
        '{"input_tokens":37,"output_tokens":12,"input_token_details":{"audio_tokens":30}}',
        Usage(input=7, audio_in=30, output=12),
    ),
    ('{"type":"duration","seconds":4}', Usage()),
    ('{"input_tokens":-5}', Usage()),
    ('{"input_tokens":"many"}', None),
]


@pytest.mark.parametrize(("given", "want"), USAGES)
def test_usage(given: str, want: Usage | None) -> None:
    got = modality.tokens(Raw(given.encode()))
    if got is None or want is None:
        assert got is want
        return
    assert (got.input, got.audio_in, got.output) == (want.input, want.audio_in, want.output)
    assert got.given is not None
    assert bytes(got.given).decode() == given


def test_what_is_dropped_by_the_row_is_told() -> None:
    target = Target(provider="p", model="x", drop=("user",), rename={"dimensions": "size"})
    body = b'{"model":"m","input":"a","user":"u","dimensions":4,"extra":null}'
    sent = modality.rewrite(body, modalities.operation("embeddings").check(body, ""), target)
    assert json.loads(sent.body) == {"model": "x", "input": "a", "size": 4}
    assert sent.dropped == ("user",)


def test_streams_end_with_their_last_word() -> None:
    event = b'data: {"type":"image_generation.completed","usage":{"input_tokens":1,"output_tokens":9}}\n\n'
    watch = EventWatch("image")
    assert watch.feed(event) + watch.end() == event
    assert watch.done
    assert watch.usage is not None
    assert (watch.usage.input, watch.usage.image_out) == (1, 9)
    cut = EventWatch()
    assert cut.feed(b'data: {"type":"speech.audio.delta","audio":""}\n\n')
    cut.end()
    assert cut.trouble is not None
    assert cut.trouble.code == "upstream_truncated"
    odd = EventWatch()
    assert odd.feed(b"data: hello\n\n") == b""
    assert odd.trouble is not None
    assert (odd.started, odd.feed(event), odd.end()) == (False, b"", b"")


def test_a_mutated_stream_never_ends_well_and_short() -> None:
    (i,) = (i for i in recorded.recorded("transcription") if i["kind"] == "stream")
    raw, dice = recorded.body(i), random.Random(2)
    for _ in range(2000):
        at, size = dice.randrange(len(raw)), dice.choice((1, 7, 17, 400))
        mutated = raw[:at] + dice.choice((b"", b"\xff", b"{", b"\n\n")) + raw[at + dice.randrange(5) :]
        watch = EventWatch()
        for start in range(0, len(mutated), size):
            watch.feed(mutated[start : start + size])
        watch.end()
        assert watch.done or watch.trouble is not None


def test_names_are_modules_and_no_two_share_a_path() -> None:
    operations: list[modality.Operation[Any]] = [modalities.operation(name) for name in modalities.NAMES]
    assert len({each.path for each in operations}) == len(operations)
    assert set(ASKS) == set(modalities.NAMES)
