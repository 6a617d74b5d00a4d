"""Embeddings at Cohere: v2's `/v2/embed`, whose body its models on Bedrock nearly share."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Sent, Target, Usage
from lilliput.wire.operations.embeddings_form import COHERE, SENT, Body, Vectors, purpose, texts, vectors
from lilliput.wire.operations.modality import (
    NULL,
    Adapter,
    Answer,
    Header,
    at,
    counted,
    fields,
    inner,
    lost,
    pack,
    whole,
)

OWN = ("truncate", "max_tokens", "priority")
"""Cohere's own fields, which a caller may send too (https://docs.cohere.com/reference/embed, 2026-11-22)."""


class _Units(Struct):
    input_tokens: float | None = None
    image_tokens: float = 0


class _Meta(Struct):
    billed_units: Raw = NULL


class _ByType(Struct):
    float: Vectors


class _Reply(Struct):
    embeddings: _ByType | Vectors
    meta: _Meta | None = None


_reply = msgspec.json.Decoder(_Reply).decode
_units = msgspec.json.Decoder(_Units).decode


def asks(given: dict[str, Raw], asked: Body, target: Target) -> dict[str, object]:
    """What Cohere's models are asked on whichever platform; which purpose they serve, they insist to know."""
    return {
        "texts": texts(asked, target),
        "input_type": purpose(asked, COHERE) or "search_document",
        "output_dimension": asked.dimensions,
        **{name: given[name] for name in OWN if name in given},
    }


def _write(body: bytes, asked: Body, target: Target) -> Sent:
    given = fields(body)
    ours = {"model": target.model, "embedding_types": ["float"]}
    return pack(ours | asks(given, asked, target), target, lost(given, (*SENT, *OWN)))


def read_told(status: int, body: bytes, tokens: int | None, asked: Body, target: Target) -> Answer:
    """The answer; `tokens` are told elsewhere, if at all. A list stands for `embeddings` where no type was asked for
    (bedrock-246f8d05a6)."""
    reply = whole(_reply, status, body)
    found = reply.embeddings if isinstance(reply.embeddings, list) else reply.embeddings.float
    return vectors(found, body, asked, target.model, _usage(reply.meta) or counted(tokens))


def _read(status: int, body: bytes, header: Header, asked: Body, target: Target) -> Answer:
    return read_told(status, body, None, asked, target)


def _usage(meta: _Meta | None) -> Usage | None:
    given = meta.billed_units if meta is not None else NULL
    units = inner(_units, given)
    if units is None or units.input_tokens is None:
        return None
    images = units.image_tokens
    return counted(units.input_tokens + images, details={"image_tokens": images}, given=given)


ADAPTER = Adapter(at("/v2/embed"), _write, _read)
