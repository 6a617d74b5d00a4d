"""OpenAI's form of a request to speak."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from lilliput.wire.openai.types import Anything, ModelName, Named, typed

Format = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]

MIMES: dict[str, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}


class Body(Struct, frozen=True):
    """`voice` is a name, or an object that names one of the caller's own; some servers need none."""

    model: ModelName
    input: Named
    voice: str | Anything | None = None
    response_format: Format | None = None
    speed: Annotated[float, Meta(ge=0.1, le=10)] | None = None
    instructions: str | None = None
    stream_format: Literal["audio", "sse"] | None = None

    @property
    def stream(self) -> bool:
        """Events; a sound alone comes whole, as its own bytes."""
        return self.stream_format == "sse"


_body = msgspec.json.Decoder(Body).decode


def check(body: bytes, content_type: str = "") -> Body:
    """The request, typed; raises Problem (400) that names the field."""
    return typed(_body, body)
