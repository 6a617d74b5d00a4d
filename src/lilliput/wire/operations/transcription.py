"""Speech to text: OpenAI's multipart form in, and the text in the format that it asks for.

Providers of that form pass here, Cohere nearly so; Deepgram is in `transcription_deepgram`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Sent, Target
from lilliput.wire.broken import invalid_answer
from lilliput.wire.openai.problem import read_problem
from lilliput.wire.openai.types import missing
from lilliput.wire.operations import multipart, transcription_deepgram
from lilliput.wire.operations import transcription_form as form
from lilliput.wire.operations.modality import (
    NULL,
    Adapter,
    Answer,
    Header,
    Operation,
    endpoint,
    openai_form,
    tokens,
    unable,
    whole,
)
from lilliput.wire.operations.modality_watch import EventWatch
from lilliput.wire.operations.transcription_form import Body, Transcript, check, sound
from lilliput.wire.port import Headers

__all__ = ["ADAPTERS", "OPERATION", "Body", "check", "passing"]

PATH = "/audio/transcriptions"
_COHERE_SENT = ("model", "language", "temperature", "file")


class _Reply(Struct):
    text: str
    usage: Raw = NULL


_reply = msgspec.json.Decoder(_Reply).decode


def _to(path: str) -> Callable[[Target, Body], tuple[str, Headers]]:
    def to(target: Target, asked: Body) -> tuple[str, Headers]:
        accept = "text/event-stream" if asked.stream else "*/*"
        return endpoint(target, path, multipart.content_type(asked.form.boundary), accept)

    return to


def _write(body: bytes, asked: Body, target: Target) -> Sent:
    return Sent(multipart.write(multipart.with_text(asked.form, "model", target.model), asked.form.boundary))


def _read(status: int, body: bytes, header: Header, asked: Body, target: Target) -> Answer:
    """Some models do not stream, and answer a stream whole; Groq's plain text comes as JSON where it failed."""
    given = (header(b"content-type") or b"").decode("latin-1")
    if status >= 400:
        raise read_problem(status, body)
    if given.startswith("text/event-stream"):
        return _whole_stream(body, given)
    if asked.format in ("text", "srt", "vtt") and not given.startswith("application/json"):
        if given.startswith("text/html"):
            raise invalid_answer(body, "it is a web page")
        return Answer(body, given or "text/plain; charset=utf-8")
    return Answer(body, usage=tokens(whole(_reply, status, body).usage))


def passing(path: str) -> Adapter[Body]:
    """The adapter for a form that passes to `path`."""
    return Adapter(_to(path), _write, _read, varies=True, watch=EventWatch)


def _whole_stream(body: bytes, content_type: str) -> Answer:
    watch = EventWatch()
    out = watch.feed(body) + watch.end()
    if watch.trouble is not None:
        raise watch.trouble
    return Answer(out, content_type, watch.usage)


def _write_cohere(body: bytes, asked: Body, target: Target) -> Sent:
    """It tells no times, and must know the language (https://docs.cohere.com/reference/create-audio-transcription)."""
    sound(asked, target)
    if asked.format in form.TIMED:
        raise unable(target, f"response_format {asked.format!r}", "response_format")
    if asked.language is None:
        missing("language")
    parts = multipart.with_text(asked.form, "model", target.model)
    names = dict.fromkeys(part.name for part in parts)
    kept = (*_COHERE_SENT, "response_format", "stream")
    body = multipart.write((part for part in parts if part.name in _COHERE_SENT), asked.form.boundary)
    return Sent(body, tuple(name for name in names if name not in kept))


def _read_cohere(status: int, body: bytes, header: Header, asked: Body, target: Target) -> Answer:
    reply = whole(_reply, status, body)
    return form.write(Transcript(reply.text), asked)


_COHERE: Adapter[Body] = Adapter(_to("/v2/audio/transcriptions"), _write_cohere, _read_cohere, varies=True)
ADAPTERS: dict[str, Adapter[Body]] = {
    **openai_form(passing(PATH)),
    "cohere": _COHERE,
    "cohere_v1": _COHERE,
    "deepgram": transcription_deepgram.ADAPTER,
}
OPERATION: Operation[Body] = Operation("transcription", PATH, check, ADAPTERS, form=True)
