"""Images from words: OpenAI's form passes, Google's is in `images_google`; to edit images is in `image_edits`."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Target
from lilliput.wire.operations import images_google
from lilliput.wire.operations.images_form import Body, Filled, check
from lilliput.wire.operations.modality import (
    NULL,
    Adapter,
    Answer,
    Header,
    Operation,
    at,
    openai_form,
    rewrite,
    tokens,
    whole,
)
from lilliput.wire.operations.modality_watch import EventWatch

__all__ = ["ADAPTERS", "OPERATION", "Body", "check", "read_passing", "watch"]

PATH = "/images/generations"


class _Reply(Struct):
    data: list[Raw]
    usage: Raw = NULL


_reply = msgspec.json.Decoder(_Reply).decode


def read_passing(status: int, body: bytes, header: Header, asked: Body | Filled, target: Target) -> Answer:
    """An answer that is in OpenAI's form already: it passes as it came."""
    return Answer(body, usage=tokens(whole(_reply, status, body).usage, "image"))


def watch() -> EventWatch:
    return EventWatch("image")


ADAPTERS: dict[str, Adapter[Body]] = {
    **openai_form(Adapter(at(PATH), rewrite, read_passing, watch=watch)),
    "gemini": images_google.ADAPTER,
}
OPERATION: Operation[Body] = Operation("images", PATH, check, ADAPTERS)
