"""Text to speech: OpenAI's JSON in, the sound's own bytes out. Gemini's is in `speech_gemini`."""

from __future__ import annotations

import base64
import binascii

import msgspec
from msgspec import Struct

from lilliput.neutral import Sent, Target
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.openai.problem import read_problem
from lilliput.wire.operations import speech_gemini, transcription_deepgram
from lilliput.wire.operations.modality import (
    Adapter,
    Answer,
    Header,
    Operation,
    at,
    endpoint,
    fields,
    is_text,
    lost,
    openai_form,
    pack,
    rewrite,
    whole,
)
from lilliput.wire.operations.modality_watch import EventWatch
from lilliput.wire.operations.speech_form import MIMES, Body, check
from lilliput.wire.port import Headers

__all__ = ["ADAPTERS", "OPERATION", "Body", "check"]

PATH = "/audio/speech"

_DEEPGRAM: dict[str, tuple[tuple[str, str], ...]] = {
    "mp3": (("encoding", "mp3"),),
    "opus": (("encoding", "opus"), ("container", "ogg")),
    "aac": (("encoding", "aac"),),
    "flac": (("encoding", "flac"),),
    "wav": (("encoding", "linear16"), ("container", "wav")),
    "pcm": (("encoding", "linear16"), ("container", "none"), ("sample_rate", "24000")),
}
"""Formats in Deepgram's words (https://developers.deepgram.com/docs/tts-encoding, 2026-11-22). OpenAI's pcm is of
24 kHz."""


class _Spoken(Struct):
    """How Mistral answers (mistral-986889ee81)."""

    audio_data: str


_spoken = msgspec.json.Decoder(_Spoken).decode


def _read(status: int, body: bytes, header: Header, asked: Body, target: Target) -> Answer:
    if status >= 400:
        raise read_problem(status, body)
    if not body:
        raise truncated_answer()
    mime = MIMES[asked.response_format or "mp3"]
    if not is_text(header):
        return Answer(body, (header(b"content-type") or mime.encode()).decode("latin-1"))
    try:
        return Answer(base64.b64decode(whole(_spoken, status, body).audio_data, validate=True), mime)
    except binascii.Error:
        raise invalid_answer(body, "its audio_data is not base64") from None


def _read_deepgram(status: int, body: bytes, header: Header, asked: Body, target: Target) -> Answer:
    if status >= 400:
        raise transcription_deepgram.read_problem(status, body)
    return _read(status, body, header, asked, target)


def _deepgram_endpoint(target: Target, asked: Body) -> tuple[str, Headers]:
    """A model there is a voice; a caller may name another as the voice."""
    query = (("model", _voice(asked) or target.model), *_DEEPGRAM[asked.response_format or "mp3"])
    return endpoint(target, "/v1/speak", accept="*/*", query=query)


def _deepgram_write(body: bytes, asked: Body, target: Target) -> Sent:
    kept = ("model", "input", "response_format", "stream_format", *(("voice",) if _voice(asked) else ()))
    return pack({"text": asked.input}, target, lost(fields(body), kept))


def _voice(asked: Body) -> str | None:
    return asked.voice if isinstance(asked.voice, str) and asked.voice.startswith("aura-") else None


ADAPTERS: dict[str, Adapter[Body]] = {
    **openai_form(Adapter(at(PATH, accept="*/*"), rewrite, _read, watch=EventWatch)),
    "deepgram": Adapter(_deepgram_endpoint, _deepgram_write, _read_deepgram, varies=True),
    "gemini": speech_gemini.ADAPTER,
}
OPERATION: Operation[Body] = Operation("speech", PATH, check, ADAPTERS)
