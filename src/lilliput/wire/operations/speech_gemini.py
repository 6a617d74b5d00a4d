"""Speech by Gemini's models that speak: generateContent with a voice, answered with bare samples."""

from __future__ import annotations

import base64
import binascii
import re
import struct

from lilliput.neutral import Media, Sent, Target
from lilliput.wire.broken import invalid_answer
from lilliput.wire.operations import gemini_made
from lilliput.wire.operations.modality import Adapter, Answer, Header, fields, lost, unable
from lilliput.wire.operations.speech_form import MIMES, Body

_FORMATS = (None, "wav", "pcm")
_SAMPLES = re.compile(r"audio/(?:l16|pcm)\b(?:.*\brate=(\d{4,6}))?", re.I)
"""What Gemini calls signed 16-bit samples of one channel, little-endian whatever the name says, with their rate
(https://ai.google.dev/gemini-api/docs/speech-generation, 2026-11-22)."""
_RATE_HZ = 24_000
_MIME = re.compile(r"audio/[\w.+-]{1,64}")


def _write(body: bytes, asked: Body, target: Target) -> Sent:
    if asked.response_format not in _FORMATS:
        raise unable(target, f"response_format {asked.response_format!r} (it has wav and pcm)", "response_format")
    options: dict[str, object] = {}
    kept = ["model", "input", "response_format", "stream_format"]
    if isinstance(asked.voice, str):
        options["speechConfig"] = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": asked.voice}}}
        kept.append("voice")
    return gemini_made.ask(asked.input, "AUDIO", options, target, lost(fields(body), kept))


def _read(status: int, body: bytes, header: Header, asked: Body, target: Target) -> Answer:
    reply, made = gemini_made.read(status, body)
    if not made:
        raise invalid_answer(body, "it has no sound")
    try:
        sound = b"".join(base64.b64decode(each.data or "", validate=True) for each in made)
    except binascii.Error:
        raise invalid_answer(body, "its sound is not base64") from None
    return Answer(*_as_asked(sound, made[0], asked), usage=reply.usage)


def _as_asked(sound: bytes, media: Media, asked: Body) -> tuple[bytes, str]:
    """Samples as they are, or with the header of a WAV file; another kind of sound passes under its own name."""
    samples = _SAMPLES.match(media.mime or "")
    if samples is None:
        return sound, media.mime if _MIME.fullmatch(media.mime or "") and media.mime else "application/octet-stream"
    if asked.response_format == "pcm":
        return sound, MIMES["pcm"]
    rate_hz = int(samples.group(1) or _RATE_HZ)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, rate_hz * 2, 2, 16)
    head = struct.pack("<4sI4s", b"RIFF", 36 + len(sound), b"WAVE")
    return head + form + struct.pack("<4sI", b"data", len(sound)) + sound, MIMES["wav"]


ADAPTER: Adapter[Body] = Adapter(gemini_made.endpoint, _write, _read)
