"""Embeddings in OpenAI's form: the request's shape and the answer's usage; bytes pass otherwise."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from lilliput.neutral import Problem
from lilliput.wire.openai_problem import invalid_answer, read_problem
from lilliput.wire.openai_types import ModelName, typed


class Body(Struct, frozen=True):
    """`input` is a text, texts, token numbers or lists of them."""

    model: ModelName
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | UnsetType | None = UNSET
    dimensions: Annotated[int, Meta(ge=1, le=65536)] | None = None
    user: str | None = None

    @property
    def stream(self) -> bool:
        """Vectors come whole."""
        return False


class _Whole(Struct):
    data: list[Raw] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_body = msgspec.json.Decoder(Body).decode
_whole = msgspec.json.Decoder(_Whole).decode


def check(body: bytes) -> Body:
    """The request, typed; raises Problem (400) that names the field."""
    read = typed(_body, body)
    if not read.input:
        raise Problem("client", "'input' is empty; send a text or a list of texts", code="empty_input", param="input")
    return read


def whole(status: int, body: bytes) -> dict[str, Any] | None:
    """The usage object of an answer, None without one; raises Problem for what is no answer."""
    try:
        reply = _whole(body)
    except (msgspec.MsgspecError, RecursionError):
        raise invalid_answer(body) from None
    if reply.data is None:
        if reply.error is not None:
            raise read_problem(status, body)
        raise invalid_answer(body)
    return reply.usage
