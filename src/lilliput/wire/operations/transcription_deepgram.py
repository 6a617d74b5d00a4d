"""Transcription at Deepgram: the sound itself as the body, all options in the query (`/v1/listen`)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from lilliput.neutral import Problem, Sent, Target
from lilliput.wire.broken import invalid_answer
from lilliput.wire.openai import problem as openai_problem
from lilliput.wire.operations import transcription_form as form
from lilliput.wire.operations.modality import Adapter, Answer, Header, endpoint, inner, whole
from lilliput.wire.operations.transcription_form import Body, Spoken, Transcript
from lilliput.wire.port import Headers

_OWN = (
    "detect_language",
    "diarize",
    "diarize_model",
    "dictation",
    "filler_words",
    "keyterm",
    "keywords",
    "measurements",
    "multichannel",
    "numerals",
    "paragraphs",
    "profanity_filter",
    "punctuate",
    "redact",
    "replace",
    "utt_split",
    "utterances",
    "version",
)
"""Deepgram's own options that a caller may add to the form: those that change what is heard, or how it is written
(https://developers.deepgram.com/reference/speech-to-text/listen-pre-recorded, 2026-11-22)."""
_SENT = (
    "model",
    "file",
    "language",
    "response_format",
    "stream",
    "smart_format",
    "timestamp_granularities",
    "timestamp_granularities[]",
)

Seconds = Annotated[float, Meta(ge=0, le=1e7)]


class _Word(Struct, gc=False):
    word: str
    start: Seconds
    end: Seconds
    punctuated_word: str | None = None


class _Alternative(Struct):
    transcript: str
    words: list[_Word] = []


class _Channel(Struct):
    alternatives: list[_Alternative]
    detected_language: str | None = None


class _Utterance(Struct):
    transcript: str
    start: Seconds
    end: Seconds
    speaker: int | None = None


class _Results(Struct):
    channels: list[_Channel]
    utterances: list[_Utterance] = []


class _Metadata(Struct):
    duration: Seconds | None = None


class _Reply(Struct):
    results: _Results
    metadata: _Metadata | None = None


class _Refusal(Struct):
    err_code: str | None = None
    err_msg: str | None = None


_reply = msgspec.json.Decoder(_Reply).decode
_refusal = msgspec.json.Decoder(_Refusal).decode


def read_problem(status: int, body: bytes) -> Problem:
    """What Deepgram's refusal says, which has names of its own for code and words."""
    said = inner(_refusal, body)
    if said is not None and said.err_msg:
        body = msgspec.json.encode({"message": said.err_msg, "code": said.err_code})
    return openai_problem.read_problem(status, body)


def _endpoint(target: Target, asked: Body) -> tuple[str, Headers]:
    """Unasked, it would take any sound for English; OpenAI's models find the language out, so it is told to."""
    own = [(part.name, part.text) for part in asked.form.parts if part.name in _OWN]
    names = [name for name, _ in own]
    query = [("model", target.model), ("smart_format", next(iter(asked.form.texts("smart_format")), "true"))]
    if asked.language:
        query.append(("language", asked.language))
    elif "detect_language" not in names:
        query.append(("detect_language", "true"))
    if asked.format in form.TIMED and "utterances" not in names:
        query.append(("utterances", "true"))
    if asked.format == "diarized_json" and "diarize" not in names:
        query.append(("diarize", "true"))
    mime = form.sound(asked, target).mime or "application/octet-stream"
    return endpoint(target, "/v1/listen", mime, query=(*query, *own))


def _write(body: bytes, asked: Body, target: Target) -> Sent:
    names = dict.fromkeys(part.name for part in asked.form.parts)
    return Sent(bytes(form.sound(asked, target).data), tuple(n for n in names if n not in (*_SENT, *_OWN)))


def _read(status: int, body: bytes, header: Header, asked: Body, target: Target) -> Answer:
    if status >= 400:
        raise read_problem(status, body)
    reply = whole(_reply, status, body)
    heard = [channel.alternatives[0] for channel in reply.results.channels if channel.alternatives]
    if not heard:
        raise invalid_answer(body, "it has no transcript")
    transcript = Transcript(
        "\n".join(each.transcript for each in heard if each.transcript),
        asked.language or reply.results.channels[0].detected_language,
        reply.metadata.duration if reply.metadata else None,
        [Spoken(u.transcript, u.start, u.end, _letter(u.speaker)) for u in reply.results.utterances],
        [Spoken(w.punctuated_word or w.word, w.start, w.end) for w in heard[0].words],
    )
    return form.write(transcript, asked)


def _letter(speaker: int | None) -> str | None:
    """OpenAI's diarised transcripts call speakers A, B, C."""
    return None if speaker is None else chr(ord("A") + speaker) if 0 <= speaker < 26 else str(speaker)


ADAPTER: Adapter[Body] = Adapter(_endpoint, _write, _read, varies=True)
