"""Reranking: documents put in order by what they have to do with a query.

OpenAI has no form for it; the client's is Cohere's and Jina's, which most servers share. The documents that the
client wants back are put in here, since not every provider gives them.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from lilliput.neutral import Sent, Target
from lilliput.wire.broken import invalid_answer
from lilliput.wire.openai.types import ModelName, missing, typed
from lilliput.wire.operations.embeddings_bedrock import invoke, is_cohere
from lilliput.wire.operations.modality import (
    NULL,
    Adapter,
    Answer,
    Header,
    Operation,
    at,
    fields,
    lost,
    pack,
    rewrite,
    tokens,
    whole,
)

PATH = "/rerank"

_SENT = ("model", "query", "documents", "top_n", "return_documents")
_COHERE_OWN = ("max_tokens_per_doc", "priority")


class Document(Struct, frozen=True, gc=False):
    text: str


class Body(Struct, frozen=True):
    model: ModelName
    query: str
    documents: list[str | Document]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None

    @property
    def stream(self) -> bool:
        """Ranks come whole."""
        return False


class _Rank(Struct, omit_defaults=True):
    index: int
    relevance_score: float
    document: Raw | UnsetType = UNSET


class _Cohere(Struct):
    billed_units: Raw = NULL


class _Reply(Struct):
    """`data` is Voyage's name for the results."""

    results: list[_Rank] | None = None
    data: list[_Rank] | None = None
    usage: Raw = NULL
    meta: _Cohere | None = None
    error: Any = None


_body = msgspec.json.Decoder(Body).decode
_reply = msgspec.json.Decoder(_Reply).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


def check(body: bytes, content_type: str = "") -> Body:
    """The request, typed; raises Problem (400) that names the field."""
    read = typed(_body, body)
    if not read.documents:
        missing("documents")
    return read


def _texts(asked: Body) -> list[str]:
    return [each if isinstance(each, str) else each.text for each in asked.documents]


def _write_cohere(body: bytes, asked: Body, target: Target) -> Sent:
    """Version 2, which takes texts alone (https://docs.cohere.com/reference/rerank, 2026-11-22)."""
    return pack(_cohere(body, asked) | {"model": target.model}, target, _lost(body))


def _write_bedrock(body: bytes, asked: Body, target: Target) -> Sent:
    """Cohere's models there want to know the version (bedrock-8b1c146e75)."""
    version = 2 if is_cohere(target) else None
    return pack(_cohere(body, asked) | {"api_version": version}, target, _lost(body))


def _cohere(body: bytes, asked: Body) -> dict[str, object]:
    given = fields(body)
    own = {name: given[name] for name in _COHERE_OWN if name in given}
    return {"query": asked.query, "documents": _texts(asked), "top_n": asked.top_n, **own}


def _lost(body: bytes) -> tuple[str, ...]:
    return lost(fields(body), (*_SENT, *_COHERE_OWN))


def _write_voyage(body: bytes, asked: Body, target: Target) -> Sent:
    kept: dict[str, object] = {
        name: raw for name, raw in fields(body).items() if name not in ("top_n", "return_documents")
    }
    ours = {"model": target.model, "documents": _texts(asked), "top_k": asked.top_n}
    return pack(kept | ours, target)


def _read(status: int, body: bytes, header: Header, asked: Body, target: Target) -> Answer:
    """The answer under Cohere's names; what else the provider tells stays as it came."""
    reply = whole(_reply, status, body)
    ranks = reply.results if reply.results is not None else reply.data
    if ranks is None:
        raise invalid_answer(body, "it has no results")
    if any(not 0 <= rank.index < len(asked.documents) for rank in ranks):
        raise invalid_answer(body, "it ranks a document that was not sent")
    usage = tokens(reply.usage)
    if usage is None and reply.meta is not None:
        usage = tokens(reply.meta.billed_units)
    if reply.results is not None and not (asked.return_documents and any(rank.document is UNSET for rank in ranks)):
        return Answer(body, usage=usage)
    if asked.return_documents:
        for rank in ranks:
            given = asked.documents[rank.index]
            rank.document = Raw(_encode({"text": given} if isinstance(given, str) else given))
    answer = _fields(body)
    if reply.results is None:
        del answer["data"]
    answer["results"] = Raw(_encode(ranks))
    return Answer(_encode(answer), usage=usage)


_BEDROCK: Adapter[Body] = Adapter(invoke, _write_bedrock, _read)
_COHERE: Adapter[Body] = Adapter(at("/v2/rerank"), _write_cohere, _read)
ADAPTERS: dict[str, Adapter[Body]] = {
    **dict.fromkeys(("openai_chat", "jina"), Adapter(at(PATH), rewrite, _read)),
    "bedrock": _BEDROCK,
    "bedrock_invoke": _BEDROCK,
    "cohere": _COHERE,
    "cohere_v1": _COHERE,
    "voyage": Adapter(at(PATH), _write_voyage, _read),
}
OPERATION: Operation[Body] = Operation("rerank", PATH, check, ADAPTERS)
