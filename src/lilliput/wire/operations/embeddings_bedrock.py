"""Embeddings on Amazon Bedrock: InvokeModel with the body of the model's maker, Amazon Titan or Cohere."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from lilliput.neutral import Sent, Target
from lilliput.wire.operations import embeddings_cohere
from lilliput.wire.operations.embeddings_form import SENT, Body, texts, vectors
from lilliput.wire.operations.modality import (
    Adapter,
    Answer,
    Header,
    counted,
    endpoint,
    fields,
    lost,
    pack,
    unable,
    whole,
)
from lilliput.wire.port import Asked, Headers

_OWN = ("normalize",)


class _Titan(Struct):
    embedding: list[float]
    inputTextTokenCount: Any = None


_titan = msgspec.json.Decoder(_Titan).decode


def invoke(target: Target, asked: Asked) -> tuple[str, Headers]:
    return endpoint(target, f"/model/{quote(target.model, safe='')}/invoke")


def is_cohere(target: Target) -> bool:
    """True for a model of Cohere's, also behind a region's prefix (us.cohere.embed-v4:0)."""
    return "cohere." in target.model


def _write(body: bytes, asked: Body, target: Target) -> Sent:
    given = fields(body)
    if is_cohere(target):
        asks, own = embeddings_cohere.asks(given, asked, target), embeddings_cohere.OWN
        return pack(asks, target, lost(given, (*SENT, *own)))
    found = texts(asked, target)
    if len(found) != 1:
        raise unable(target, f"{len(found)} inputs at once (this model embeds one text a call)", "input")
    asks = {"inputText": found[0], "dimensions": asked.dimensions, **{n: given[n] for n in _OWN if n in given}}
    return pack(asks, target, lost(given, (*SENT, *_OWN)))


def _read(status: int, body: bytes, header: Header, asked: Body, target: Target) -> Answer:
    """Cohere's models tell their tokens in a header alone (bedrock-554f607a7c)."""
    if is_cohere(target):
        told = header(b"x-amzn-bedrock-input-token-count") or b""
        tokens = int(told) if told.isdigit() and len(told) < 10 else None
        return embeddings_cohere.read_told(status, body, tokens, asked, target)
    reply = whole(_titan, status, body)
    return vectors([reply.embedding], body, asked, target.model, counted(reply.inputTextTokenCount))


ADAPTER = Adapter(invoke, _write, _read)
