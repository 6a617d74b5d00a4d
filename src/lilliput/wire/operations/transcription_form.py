"""OpenAI's form of a transcription: the multipart request, and a transcript written as it asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NoReturn

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Problem, Target, Usage
from lilliput.wire import sse
from lilliput.wire.openai.types import missing
from lilliput.wire.operations import multipart
from lilliput.wire.operations.modality import JSON, Answer, unable
from lilliput.wire.operations.multipart import Form, Part

FORMATS = ("json", "text", "srt", "vtt", "verbose_json", "diarized_json")
TIMED = ("srt", "vtt", "verbose_json", "diarized_json")
"""Formats that tell when what was said."""

_WORDS_TRUE = ("true", "1")
_encode = msgspec.json.Encoder().encode


class Body(Struct, frozen=True):
    """A form that was checked. `boundary` is kept for the body that is sent."""

    model: str
    form: Form
    file: Part | None = None
    stream: bool = False
    language: str | None = None
    format: str = "json"
    granularities: tuple[str, ...] = ()


class Spoken(Struct, gc=False):
    """A stretch of speech, its times in seconds."""

    text: str
    start: float
    end: float
    speaker: str | None = None


class Transcript(Struct):
    text: str
    language: str | None = None
    duration_s: float | None = None
    segments: Sequence[Spoken] = ()
    words: Sequence[Spoken] = ()


def check(body: bytes, content_type: str = "") -> Body:
    """The request; raises Problem (400) that names the field."""
    form = multipart.parse(body, content_type)
    one = {name: form.once(name) for name in ("model", "language", "response_format", "stream", "temperature")}
    model, format = one["model"], one["response_format"] or "json"
    if not model:
        missing("model")
    if len(model) > 256:
        _refuse("model", "a name of at most 256 characters")
    if format not in FORMATS:
        _refuse("response_format", f"one of {', '.join(FORMATS)}")
    file = form.first("file")
    if file is None and not any(form.first(name) for name in ("url", "file_url", "file_id")):
        missing("file")
    if file is not None and not file.data:
        _refuse("file", "a sound that is not empty")
    granularities = tuple(form.texts("timestamp_granularities[]", "timestamp_granularities"))
    is_stream = (one["stream"] or "").lower() in _WORDS_TRUE
    return Body(model, form, file, is_stream, one["language"] or None, format, granularities)


def sound(asked: Body, target: Target) -> Part:
    """The file itself; raises Problem for a link to one, which some providers of OpenAI's form take."""
    if asked.file is None:
        raise unable(target, "a link to a sound", "file")
    return asked.file


def write(t: Transcript, asked: Body) -> Answer:
    """`t` in the format that was asked for, as events where a stream was; its duration is its usage."""
    body, content_type = _events(t) if asked.stream else _written(t, asked)
    usage = _usage(t).get("usage")
    return Answer(body, content_type, None if usage is None else Usage(given=Raw(_encode(usage))))


def _events(t: Transcript) -> tuple[bytes, str]:
    delta = {"type": "transcript.text.delta", "delta": t.text}
    done = {"type": "transcript.text.done", "text": t.text, **_usage(t)}
    body = sse.event(_encode(delta)) + sse.event(_encode(done)) + sse.event(sse.DONE)
    return body, "text/event-stream; charset=utf-8"


def _written(t: Transcript, asked: Body) -> tuple[bytes, str]:
    if asked.format == "text":
        return f"{t.text}\n".encode(), "text/plain; charset=utf-8"
    if asked.format == "srt":
        cues = (f"{i}\n{_cue(s, ',')}" for i, s in enumerate(t.segments, 1))
        return "".join(cues).encode(), "application/x-subrip; charset=utf-8"
    if asked.format == "vtt":
        return ("WEBVTT\n\n" + "".join(_cue(s, ".") for s in t.segments)).encode(), "text/vtt; charset=utf-8"
    return _encode({"text": t.text, **_usage(t)} if asked.format == "json" else _verbose(t, asked)), JSON


def _cue(s: Spoken, point: str) -> str:
    return f"{_clock(s.start, point)} --> {_clock(s.end, point)}\n{s.text}\n\n"


def _verbose(t: Transcript, asked: Body) -> dict[str, object]:
    is_diarized = asked.format == "diarized_json"
    answer: dict[str, object] = {"task": "transcribe", "duration": t.duration_s, "text": t.text}
    if t.language is not None:
        answer["language"] = t.language
    if is_diarized:
        answer["segments"] = [
            {"type": "transcript.text.segment", "id": f"seg_{i}", **_timed(s), "speaker": s.speaker}
            for i, s in enumerate(t.segments)
        ]
    elif not asked.granularities or "segment" in asked.granularities:
        answer["segments"] = [{"id": i, **_timed(s)} for i, s in enumerate(t.segments)]
    if not is_diarized and "word" in asked.granularities:
        answer["words"] = [{"word": w.text, "start": w.start, "end": w.end} for w in t.words]
    return answer | _usage(t)


def _timed(s: Spoken) -> dict[str, object]:
    return {"start": s.start, "end": s.end, "text": s.text}


def _usage(t: Transcript) -> dict[str, object]:
    """OpenAI's usage of a model that is paid by time."""
    return {} if t.duration_s is None else {"usage": {"type": "duration", "seconds": math.ceil(t.duration_s)}}


def _clock(time_s: float, point: str) -> str:
    whole_s, ms = divmod(round(time_s * 1000), 1000)
    return f"{whole_s // 3600:02}:{whole_s // 60 % 60:02}:{whole_s % 60:02}{point}{ms:03}"


def _refuse(param: str, expected: str) -> NoReturn:
    raise Problem("client", f"{param!r} must be {expected}", code="invalid_value", param=param)
