"""Transcription: every recorded call, and Deepgram's and Cohere's answers in each of OpenAI's formats."""

from __future__ import annotations

import itertools
import json
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from tests.conformance.kit import Interaction
from tests.wire import modality_recordings as recorded

from lilliput.neutral import Problem, Target
from lilliput.wire.operations import multipart, transcription, translation
from lilliput.wire.operations.modality import Answer
from lilliput.wire.operations.modality_watch import EventWatch
from lilliput.wire.operations.multipart import Part
from lilliput.wire.operations.transcription_form import Spoken, Transcript, write

OP = transcription.OPERATION
KIND = "multipart/form-data; boundary=the-boundary"
WAV = Part("file", memoryview(b"RIFF\x00"), "a.wav", "audio/wav")
SAID = "Ruby is a programming language designed for developer happiness."


def _form(*parts: Part, **texts: str) -> bytes:
    fields = [Part(name.removesuffix("_"), memoryview(text.encode())) for name, text in texts.items()]
    return multipart.write((*fields, *parts), b"the-boundary")


def _asks(i: Interaction) -> tuple[bytes, str]:
    """The recorded form; where the sound went alone (Deepgram), the form that asks for the same."""
    kind = i["request"]["headers"].get("content-type", "")
    if multipart.is_multipart(kind):
        return recorded.request(i), kind
    query = dict(parse_qsl(urlsplit(i["request"]["url"]).query))
    part = Part("file", memoryview(recorded.request(i)), "a", kind)
    if "diarize_model" in query:
        query["response_format"] = "diarized_json"
        query["diarize"] = "true"
    return _form(part, **query), KIND


def _recorded() -> list[Interaction]:
    """All but one whose form was not kept."""
    return [i for i in recorded.recorded("transcription") if i["id"] != "openai-419f113dad"]


def test_answers_say_what_was_recorded() -> None:
    seen = 0
    for i in _recorded():
        answer = recorded.converted(i, OP, *_asks(i))
        want, got = recorded.said(i), recorded.facts(i, answer.body)
        assert got["text"] == want["text"] != "", i["id"]
        given = json.loads(recorded.body(i)).get("usage") if i["kind"] != "stream" else {"total_tokens": 49}
        total = answer.usage.total_tokens or None if answer.usage else None
        if i["provider"] == "deepgram":
            assert answer.usage is not None
            assert bytes(answer.usage.given or b"") == b'{"type":"duration","seconds":4}'
        assert total == (given["total_tokens"] if given else None), i["id"]
        seen += 1
    assert seen >= 8


def test_providers_are_asked_what_was_recorded() -> None:
    for i in _recorded():
        target, (asks, kind) = recorded.target(i), _asks(i)
        adapter, asked = OP.adapters[target.dialect], OP.check(asks, kind)
        url, headers = adapter.endpoint(target, asked)
        want, got = urlsplit(i["request"]["url"]), urlsplit(url)
        assert unquote(got.path) == want.path, i["id"]
        sent = adapter.write(asks, asked, target)
        if target.dialect == "deepgram":
            assert dict(parse_qsl(want.query)).items() <= dict(parse_qsl(got.query)).items(), i["id"]
            assert sent.body == recorded.request(i)
            assert dict(headers)["content-type"] == "audio/wav"
            continue
        form = multipart.parse(sent.body, dict(headers)["content-type"])
        before = multipart.parse(recorded.request(i), kind)
        same = {(p.name, bytes(p.data), p.filename, p.mime) for p in before.parts if p.name != "model"}
        assert {(p.name, bytes(p.data), p.filename, p.mime) for p in form.parts if p.name != "model"} == same
        assert form.once("model") == target.model


def test_usage_has_sound_in_its_own_bucket() -> None:
    i = next(i for i in _recorded() if i["id"] == "openai-5a7466b117")
    usage = recorded.converted(i, OP, *_asks(i)).usage
    assert usage is not None
    assert (usage.audio_in, usage.input, usage.output) == (37, 0, 145)
    i = next(i for i in _recorded() if i["id"] == "mistral-f765393825")
    usage = recorded.converted(i, OP, *_asks(i)).usage
    assert usage is not None
    assert (usage.audio_in, usage.input, usage.output) == (375, 5, 11)


def _deepgram(**asks: str) -> Answer:
    i = next(i for i in _recorded() if i["id"] == "deepgram-18d4e1b300")
    return recorded.converted(i, OP, _form(WAV, model="m", **asks), KIND)


def test_deepgram_in_every_format() -> None:
    assert json.loads(_deepgram().body) == {"text": SAID, "usage": {"type": "duration", "seconds": 4}}
    plain = _deepgram(response_format="text")
    assert (plain.body.decode(), plain.content_type) == (f"{SAID}\n", "text/plain; charset=utf-8")
    assert _deepgram(response_format="srt").body.decode() == f"1\n00:00:00,160 --> 00:00:03,520\n{SAID}\n\n"
    assert _deepgram(response_format="vtt").body.decode() == f"WEBVTT\n\n00:00:00.160 --> 00:00:03.520\n{SAID}\n\n"
    verbose = json.loads(_deepgram(response_format="verbose_json", language="en").body)
    assert (verbose["text"], verbose["language"], verbose["duration"]) == (SAID, "en", 3.6999376)
    assert verbose["segments"] == [{"id": 0, "start": 0.16, "end": 3.52, "text": SAID}]
    assert "words" not in verbose
    by_word = json.loads(_deepgram(response_format="verbose_json", **{"timestamp_granularities[]": "word"}).body)
    assert by_word["words"][0] == {"word": "Ruby", "start": 0.16, "end": 0.56}
    assert len(by_word["words"]) == 9
    assert "segments" not in by_word
    (turn,) = json.loads(_deepgram(response_format="diarized_json").body)["segments"]
    assert (turn["speaker"], turn["id"], turn["type"]) == ("A", "seg_0", "transcript.text.segment")


def test_times_past_an_hour() -> None:
    spoken = Transcript("a", segments=[Spoken("a", 59.9996, 3725.25)])
    asked = OP.check(_form(WAV, model="m", response_format="srt"), KIND)
    assert write(spoken, asked).body == b"1\n00:01:00,000 --> 01:02:05,250\na\n\n"


def test_a_stream_of_what_came_whole() -> None:
    answer = _deepgram(stream="true")
    assert answer.content_type.startswith("text/event-stream")
    watch = EventWatch()
    assert watch.feed(answer.body) == answer.body
    assert (watch.done, watch.trouble) == (True, None)
    assert recorded.kit().answer_facts("transcription", "stream", 200, answer.body)["text"] == SAID


def _query(**asks: str) -> dict[str, str]:
    target = Target(provider="d", model="nova-3", dialect="deepgram", base="https://example.test", query="tag=us")
    asked = OP.check(_form(WAV, model="m", **asks), KIND)
    return dict(parse_qsl(urlsplit(OP.adapters["deepgram"].endpoint(target, asked)[0]).query))


def test_deepgram_options() -> None:
    assert _query() == {"tag": "us", "model": "nova-3", "smart_format": "true", "detect_language": "true"}
    assert _query(language="de", numerals="true", callback="https://evil.test") == {
        "tag": "us",
        "model": "nova-3",
        "smart_format": "true",
        "language": "de",
        "numerals": "true",
    }
    assert _query(response_format="srt", detect_language="false")["utterances"] == "true"
    assert _query(response_format="diarized_json")["diarize"] == "true"
    target = Target(provider="d", model="nova-3", dialect="deepgram")
    body = _form(WAV, model="m", prompt="names", temperature="0", keyterm="x")
    sent = OP.adapters["deepgram"].write(body, OP.check(body, KIND), target)
    assert (sent.body, sent.dropped) == (b"RIFF\x00", ("prompt", "temperature"))


def test_cohere_tells_no_times_and_must_know_the_language() -> None:
    target = Target(provider="c", model="m", dialect="cohere", base="https://example.test")

    def sent(**asks: str) -> Any:
        body = _form(WAV, model="m", **asks)
        return OP.adapters["cohere"].write(body, OP.check(body, KIND), target)

    assert sent(language="en", prompt="p", response_format="text").dropped == ("prompt",)
    for asks, param in (({}, "language"), ({"language": "en", "response_format": "srt"}, "response_format")):
        with pytest.raises(Problem) as caught:
            sent(**asks)
        assert (caught.value.status, caught.value.param) == (400, param)


REFUSED = [
    (_form(WAV), "model"),
    (_form(WAV, model=""), "model"),
    (_form(model="m"), "file"),
    (_form(Part("file", memoryview(b""), "a"), model="m"), "file"),
    (_form(WAV, model="m", response_format="doc"), "response_format"),
    (_form(WAV, Part("model", memoryview(b"n")), model="m"), "model"),
]


@pytest.mark.parametrize(("body", "param"), REFUSED)
def test_refused(body: bytes, param: str) -> None:
    with pytest.raises(Problem) as caught:
        OP.check(body, KIND)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_a_link_is_for_openai_form_alone() -> None:
    body = _form(model="m", file_url="https://example.test/a.mp3")
    asked = OP.check(body, KIND)
    assert b"a.mp3" in OP.adapters["mistral"].write(body, asked, Target(provider="p", model="m")).body
    with pytest.raises(Problem, match="link to a sound"):
        OP.adapters["deepgram"].write(body, asked, Target(provider="p", model="m", dialect="deepgram"))


BAD = [
    ("openai_chat", 200, b'{"error":{"message":"no"}}', r"^no$"),
    ("openai_chat", 200, b"{}", "not what was asked for"),
    ("openai_chat", 500, b"oops", "oops"),
    ("deepgram", 200, b'{"results":{"channels":[]}}', "no transcript"),
    ("deepgram", 400, b'{"err_code":"Bad Request","err_msg":"no such model"}', "^no such model$"),
    ("cohere", 200, b'{"text":1}', "not what was asked for"),
]


@pytest.mark.parametrize(("dialect", "status", "answer", "say"), BAD)
def test_no_answer(dialect: str, status: int, answer: bytes, say: str) -> None:
    asked = OP.check(_form(WAV, model="m"), KIND)
    with pytest.raises(Problem, match=say):
        OP.adapters[dialect].read(status, answer, recorded.no_header, asked, Target(provider="p", model="m"))


def test_plain_text_passes_and_a_web_page_does_not() -> None:
    asked = OP.check(_form(WAV, model="m", response_format="text"), KIND)
    target, read = Target(provider="p", model="m"), OP.adapters["openai_chat"].read
    assert read(200, b" Hello.", {b"content-type": b"text/plain; charset=UTF-8"}.get, asked, target) == Answer(
        b" Hello.", "text/plain; charset=UTF-8"
    )
    with pytest.raises(Problem, match="web page"):
        read(200, b"<html>", {b"content-type": b"text/html"}.get, asked, target)
    with pytest.raises(Problem, match="busy"):
        read(200, b'{"error":{"message":"busy"}}', {b"content-type": b"application/json"}.get, asked, target)


def test_a_stream_is_watched_in_any_pieces() -> None:
    (i,) = (i for i in _recorded() if i["kind"] == "stream")
    raw = recorded.body(i)
    for size in (len(raw), 17, 1):
        watch, out = EventWatch(), b""
        for at in range(0, len(raw), size):
            out += watch.feed(raw[at : at + size])
        out += watch.end()
        assert (watch.trouble, watch.done, watch.started) == (None, True, True)
        assert recorded.facts(i, out)["text"] == SAID
        assert watch.usage is not None
        assert watch.usage.audio_in == 37


def test_a_cut_stream_is_no_answer() -> None:
    (i,) = (i for i in _recorded() if i["kind"] == "stream")
    raw = recorded.body(i)
    whole = raw.index(b"transcript.text.done")
    for end in itertools.chain(range(0, whole, 29), (whole,)):
        watch = EventWatch()
        watch.feed(raw[:end])
        watch.end()
        assert watch.trouble is not None
        assert watch.trouble.code in ("upstream_truncated", "upstream_invalid")


def test_an_error_inside_a_stream() -> None:
    watch = EventWatch()
    assert watch.feed(b'data: {"type":"transcript.text.delta","delta":"a"}\n\n')
    assert watch.feed(b'data: {"error":{"message":"busy","code":503}}\n\n') == b""
    assert watch.trouble is not None
    assert (watch.trouble.say, watch.trouble.status) == ("busy", 503)
    assert b"busy" in watch.problem(watch.trouble)


def test_translations_go_to_their_own_path() -> None:
    (i,) = (i for i in recorded.recorded("transcription") if i["id"] == "openai-419f113dad")
    asked = translation.OPERATION.check(_form(WAV, model="m"), KIND)
    adapter = translation.OPERATION.adapters["openai_chat"]
    target = Target(provider="openai", model="whisper-1", base="https://api.openai.com/v1")
    assert adapter.endpoint(target, asked)[0] == i["request"]["url"]
    answer = adapter.read(200, recorded.body(i), recorded.header(i), asked, target)
    assert recorded.facts(i, answer.body)["text"] == recorded.said(i)["text"]
    assert "deepgram" not in translation.OPERATION.adapters
