"""OpenAI's form of an image request, JSON or multipart."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from lilliput.wire.openai.types import ModelName, missing, typed
from lilliput.wire.operations import multipart
from lilliput.wire.operations.multipart import Form


class Body(Struct, frozen=True):
    """A request to generate or to edit; a model's own fields are left to its provider."""

    model: ModelName
    prompt: str
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    size: str | None = None
    response_format: Literal["url", "b64_json"] | None = None
    stream: bool | None = None


class Filled(Struct, frozen=True):
    """The same as a form that was filled in, with the images to edit."""

    model: str
    form: Form
    stream: bool = False


_body = msgspec.json.Decoder(Body).decode


def check(body: bytes, content_type: str = "") -> Body:
    """A request to generate, typed; raises Problem (400) that names the field."""
    return typed(_body, body)


def check_edit(body: bytes, content_type: str = "") -> Body | Filled:
    """A request to edit, as JSON or as a form."""
    if not multipart.is_multipart(content_type):
        return check(body)
    form = multipart.parse(body, content_type)
    model, stream = form.once("model"), form.once("stream")
    if not model:
        missing("model")
    if not any(part.name in ("image", "image[]") for part in form.parts):
        missing("image")
    return Filled(model, form, (stream or "").lower() == "true")
