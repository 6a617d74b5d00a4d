"""Moderation: whether a text or an image is harmful, in OpenAI's form, which Mistral shares."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Target
from lilliput.wire.openai.types import Anything, ModelName, typed
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

PATH = "/moderations"


class Body(Struct, frozen=True):
    """`input` is a text, texts, or parts of text and images. OpenAI has a default for `model`; here it is named."""

    model: ModelName
    input: str | list[str | Anything]

    @property
    def stream(self) -> bool:
        """A judgement comes whole."""
        return False


class _Reply(Struct):
    results: list[Raw]
    usage: Raw = NULL


_body = msgspec.json.Decoder(Body).decode
_reply = msgspec.json.Decoder(_Reply).decode


def check(body: bytes, content_type: str = "") -> Body:
    """The request, typed; raises Problem (400) that names the field."""
    return typed(_body, body)


def _read(status: int, body: bytes, header: Header, asked: Body, target: Target) -> Answer:
    return Answer(body, usage=tokens(whole(_reply, status, body).usage))


ADAPTERS: dict[str, Adapter[Body]] = openai_form(Adapter(at(PATH), rewrite, _read))
OPERATION: Operation[Body] = Operation("moderation", PATH, check, ADAPTERS)
