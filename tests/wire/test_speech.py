"""Speech: every recorded call, and the formats in Deepgram's words."""

from __future__ import annotations

import base64
import io
import json
import wave
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from tests.wire import modality_recordings as recorded

from lilliput.neutral import Problem, Target
from lilliput.wire.operations import speech
from lilliput.wire.operations.modality import JSON

OP = speech.OPERATION
FORMATS = {"deepgram-22fed388d3": "wav", "deepgram-770937f5e8": "mp3"}


def _asks(i: Any) -> bytes:
    asks = recorded.client_body(i)
    if i["id"] in FORMATS:
        asks["response_format"] = FORMATS[i["id"]]
    return json.dumps(asks).encode()


def test_answers_are_the_sound_that_was_recorded() -> None:
    seen = 0
    for i in recorded.recorded("speech"):
        answer = recorded.converted(i, OP, _asks(i))
        raw = recorded.body(i)
        if i["provider"] == "mistral":
            assert answer.body == base64.b64decode(json.loads(raw)["audio_data"])
            assert answer.body[:3] == b"ID3"
            assert answer.content_type == "audio/mpeg"
        else:
            assert recorded.facts(i, answer.body) == recorded.said(i)
            assert (answer.body, answer.content_type) == (raw, i["response"]["headers"]["content-type"])
        seen += 1
    assert seen >= 5


def test_providers_are_asked_what_was_recorded() -> None:
    for i in recorded.recorded("speech"):
        target, asks = recorded.target(i), _asks(i)
        adapter, asked = OP.adapters[target.dialect], OP.check(asks, JSON)
        sent = adapter.write(asks, asked, target)
        assert json.loads(sent.body) == json.loads(recorded.request(i)), i["id"]
        got, want = urlsplit(adapter.endpoint(target, asked)[0]), urlsplit(i["request"]["url"])
        assert (got.path, dict(parse_qsl(got.query))) == (want.path, dict(parse_qsl(want.query))), i["id"]


def _query(**asks: Any) -> dict[str, str]:
    target = Target(provider="d", model="aura-2-thalia-en", dialect="deepgram", base="https://example.test")
    asked = OP.check(json.dumps({"model": "m", "input": "a"} | asks).encode(), JSON)
    return dict(parse_qsl(urlsplit(OP.adapters["deepgram"].endpoint(target, asked)[0]).query))


def test_deepgram_voices_and_formats() -> None:
    assert _query(voice="alloy") == {"model": "aura-2-thalia-en", "encoding": "mp3"}
    assert _query(voice="aura-2-zeus-en")["model"] == "aura-2-zeus-en"
    assert _query(response_format="pcm") == {
        "model": "aura-2-thalia-en",
        "encoding": "linear16",
        "container": "none",
        "sample_rate": "24000",
    }
    assert _query(response_format="opus")["container"] == "ogg"
    body = b'{"model":"m","input":"a","voice":"aura-2-zeus-en"}'
    assert OP.adapters["deepgram"].write(body, OP.check(body, JSON), Target(provider="d", model="m")).dropped == ()
    body = b'{"model":"m","input":"a","voice":"alloy","speed":1.5,"instructions":"slowly"}'
    sent = OP.adapters["deepgram"].write(body, OP.check(body, JSON), Target(provider="d", model="m"))
    assert (sent.body, sent.dropped) == (b'{"text":"a"}', ("voice", "speed", "instructions"))


REFUSED = [
    (b"{}", "model"),
    (b'{"model":"m"}', "input"),
    (b'{"model":"m","input":""}', "input"),
    (b'{"model":"m","input":"a","response_format":"midi"}', "response_format"),
    (b'{"model":"m","input":"a","speed":"fast"}', "speed"),
]


@pytest.mark.parametrize(("body", "param"), REFUSED)
def test_refused(body: bytes, param: str) -> None:
    with pytest.raises(Problem) as caught:
        OP.check(body, JSON)
    assert (caught.value.status, caught.value.param) == (400, param)


BAD = [
    (200, b"", b"audio/mpeg", "ended before"),
    (200, b'{"error":{"message":"no voice"}}', b"application/json", r"^no voice$"),
    (200, b'{"audio_data":"?"}', b"application/json", "not base64"),
    (200, b"<html>", b"text/html", "not what was asked for"),
    (429, b'{"error":{"message":"slow down"}}', b"application/json", "slow down"),
]


@pytest.mark.parametrize(("status", "body", "kind", "say"), BAD)
def test_no_answer(status: int, body: bytes, kind: bytes, say: str) -> None:
    asked = OP.check(b'{"model":"m","input":"a"}', JSON)
    with pytest.raises(Problem, match=say):
        OP.adapters["openai_chat"].read(
            status, body, {b"content-type": kind}.get, asked, Target(provider="p", model="m")
        )


def test_events_are_asked_for_by_stream_format() -> None:
    assert OP.check(b'{"model":"m","input":"a","stream_format":"sse"}', JSON).stream
    assert not OP.check(b'{"model":"m","input":"a"}', JSON).stream


def _gemini(mime: str = "audio/L16;codec=pcm;rate=16000", **asks: Any) -> tuple[bytes, str]:
    target = Target(provider="g", model="tts", dialect="gemini", base="https://g.test/v1beta")
    data = base64.b64encode(b"\x01\x00\x02\x00").decode()
    parts = [{"inlineData": {"mimeType": mime, "data": data}}]
    answer = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}
    asked = OP.check(json.dumps({"model": "m", "input": "a"} | asks).encode(), JSON)
    got = OP.adapters["gemini"].read(200, json.dumps(answer).encode(), recorded.no_header, asked, target)
    return got.body, got.content_type


def test_gemini_speaks_in_samples() -> None:
    assert _gemini(response_format="pcm") == (b"\x01\x00\x02\x00", "audio/pcm")
    assert _gemini("audio/wav") == (b"\x01\x00\x02\x00", "audio/wav")
    sound, kind = _gemini()
    assert kind == "audio/wav"
    with wave.open(io.BytesIO(sound)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        assert file.readframes(9) == b"\x01\x00\x02\x00"
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 2, 16000, 2, "NONE", "not compressed"))
        file.writeframes(b"\x01\x00\x02\x00")
    assert sound == made.getvalue()


def test_gemini_is_asked_with_its_voice() -> None:
    target = Target(provider="g", model="tts", dialect="gemini", base="https://g.test/v1beta")
    adapter = OP.adapters["gemini"]
    body = b'{"model":"m","input":"a","voice":"Kore","speed":2,"response_format":"wav"}'
    asked = OP.check(body, JSON)
    sent = adapter.write(body, asked, target)
    assert json.loads(sent.body)["generationConfig"] == {
        "responseModalities": ["AUDIO"],
        "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Kore"}}},
    }
    assert sent.dropped == ("speed",)
    assert adapter.endpoint(target, asked)[0].endswith("/models/tts:generateContent")
    body = b'{"model":"m","input":"a","response_format":"mp3"}'
    with pytest.raises(Problem, match="wav and pcm") as caught:
        adapter.write(body, OP.check(body, JSON), target)
    assert caught.value.param == "response_format"


def test_gemini_without_a_sound() -> None:
    target = Target(provider="g", model="tts", dialect="gemini", base="https://g.test/v1beta")
    asked = OP.check(b'{"model":"m","input":"a"}', JSON)
    answer = b'{"candidates":[{"content":{"parts":[{"text":"no"}]},"finishReason":"STOP"}]}'
    with pytest.raises(Problem, match="no sound"):
        OP.adapters["gemini"].read(200, answer, recorded.no_header, asked, target)
    with pytest.raises(Problem, match="ended before"):
        OP.adapters["gemini"].read(200, answer[:40], recorded.no_header, asked, target)


def test_deepgram_says_what_is_wrong() -> None:
    asked = OP.check(b'{"model":"m","input":"a"}', JSON)
    answer = b'{"err_code":"INVALID_QUERY_PARAMETER","err_msg":"no such model","request_id":"1"}'
    with pytest.raises(Problem, match=r"^no such model$") as caught:
        OP.adapters["deepgram"].read(400, answer, recorded.no_header, asked, Target(provider="d", model="m"))
    assert caught.value.code == "INVALID_QUERY_PARAMETER"


def test_a_recorded_voice_of_gemini() -> None:
    (i,) = (i for i in recorded.kit().interactions if i["id"] == "gemini-73e4c3db52")
    given = json.loads(recorded.request(i))
    asks = {"model": "m", "input": given["contents"][0]["parts"][0]["text"], "voice": "Kore", "response_format": "pcm"}
    body, target = json.dumps(asks).encode(), recorded.target(i)
    asked, adapter = OP.check(body, JSON), OP.adapters["gemini"]
    assert adapter.endpoint(target, asked)[0] == i["request"]["url"]
    del given["model"]
    assert json.loads(adapter.write(body, asked, target).body) == given
    answer = adapter.read(200, recorded.body(i), recorded.header(i), asked, target)
    (part,) = json.loads(recorded.body(i))["candidates"][0]["content"]["parts"]
    assert answer.body == base64.b64decode(part["inlineData"]["data"])
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == recorded.said(i)["usage"]["prompt_tokens"]
    assert answer.usage.audio_out > 0
