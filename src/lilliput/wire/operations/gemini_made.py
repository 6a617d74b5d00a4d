"""What Gemini's models make that is no text: asked by generateContent, of one kind a call."""

from __future__ import annotations

from typing import Any

from lilliput.neutral import Media, Reply, Sent, Target, fold
from lilliput.wire import gemini
from lilliput.wire.operations.modality import pack
from lilliput.wire.port import Headers


def endpoint(target: Target, asked: Any) -> tuple[str, Headers]:
    return gemini.endpoint(target, stream=False)


def ask(prompt: str, modality: str, options: dict[str, object], target: Target, dropped: tuple[str, ...]) -> Sent:
    """The body that asks for `modality`, IMAGE or AUDIO; `options` go to its generationConfig."""
    contents = [{"role": "user", "parts": [{"text": prompt}]}]
    generation = {"responseModalities": [modality], **options}
    return pack({"contents": contents, "generationConfig": generation}, target, dropped)


def read(status: int, body: bytes) -> tuple[Reply, list[Media]]:
    """The answer, and the media in it; raises Problem for what is no answer."""
    if status >= 400:
        raise gemini.read_problem(status, body)
    reader = gemini.reader(stream=False)
    events = [*reader(body), *reader(b"")]
    if reader.trouble is not None:
        raise reader.trouble
    reply = fold(events)
    return reply, [shown.media for choice in reply.choices for shown in choice.media if shown.media.data]
