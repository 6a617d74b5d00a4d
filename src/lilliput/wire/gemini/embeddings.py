"""A Gemini client's embedContent and batchEmbedContents as OpenAI's embeddings call, and its answer back."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from lilliput.neutral import Problem
from lilliput.wire.gemini import types as gemini_types
from lilliput.wire.openai.types import missing, typed

BATCH = "batchEmbedContents"


class _Part(Struct, frozen=True):
    text: str | None = None


class _Content(Struct, frozen=True):
    parts: list[_Part]


class _One(Struct, frozen=True, rename="camel"):
    content: _Content | None = None
    task_type: str | None = None
    output_dimensionality: int | None = None
    requests: list[_One] | None = None


class _Vector(Struct):
    embedding: list[float]


class _Answer(Struct):
    data: list[_Vector]


_one = msgspec.json.Decoder(_One).decode
_answer = msgspec.json.Decoder(_Answer).decode
_encode = msgspec.json.Encoder().encode


def to_openai(body: bytes, path: str) -> bytes:
    """OpenAI's form of the request in `body`; raises Problem (400) for what is not text or differs within a batch."""
    asked = typed(_one, gemini_types.camel(body))
    ones = asked.requests if BATCH in path else [asked]
    if not ones:
        missing("requests")
    texts = [_text(one, f"requests[{i}]." if BATCH in path else "") for i, one in enumerate(ones)]
    first = ones[0]
    for one in ones:
        if (one.task_type, one.output_dimensionality) != (first.task_type, first.output_dimensionality):
            say = "requests differ in taskType or outputDimensionality; send one batch for each"
            raise Problem("client", say, code="invalid_value", param="requests")
    fields = {
        "model": gemini_types.asked(path).model,
        "input": texts,
        "input_type": first.task_type,
        "dimensions": first.output_dimensionality,
    }
    return _encode({name: value for name, value in fields.items() if value is not None})


def from_openai(body: bytes, path: str) -> bytes:
    """Gemini's form of an answer in OpenAI's."""
    vectors = [{"values": v.embedding} for v in _answer(body).data]
    return _encode({"embeddings": vectors} if BATCH in path else {"embedding": vectors[0]})


def _text(one: _One, at: str) -> str:
    if one.content is None:
        missing(f"{at}content")
    if any(p.text is None for p in one.content.parts):
        say = f"{at}content has a part that is no text; only text can be embedded across providers"
        raise Problem("client", say, code="unsupported_media", param=f"{at}content.parts")
    return "".join(p.text or "" for p in one.content.parts)
