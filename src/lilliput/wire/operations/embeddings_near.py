"""Embeddings where the form is nearly OpenAI's: Mistral, Voyage, Jina, and Ollama's own `/api/embed`."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from lilliput.neutral import Sent, Target
from lilliput.wire.operations import embeddings_form
from lilliput.wire.operations.embeddings_form import PATH, SENT, Body, Vectors, purpose, read_passing, texts, vectors
from lilliput.wire.operations.modality import Adapter, Answer, Header, at, counted, fields, lost, pack, whole

_OLLAMA_OWN = ("truncate", "keep_alive", "options")


class _Ollama(Struct):
    """`embedding` is what the older `/api/embeddings` answers (ollama-3110bd1efa)."""

    embeddings: Vectors | None = None
    embedding: list[float] | None = None
    prompt_eval_count: Any = None
    error: Any = None


_ollama = msgspec.json.Decoder(_Ollama).decode


def _ask_mistral(body: bytes, asked: Body, target: Target) -> Sent:
    """Fields that it does not know are a 422 (https://docs.mistral.ai/api/endpoint/embeddings, 2026-11-22)."""
    given = fields(body)
    unknown = tuple(name for name in ("input_type", "user") if name in given)
    kept: dict[str, object] = {name: raw for name, raw in given.items() if name not in (*unknown, "dimensions")}
    return pack(kept | {"model": target.model, "output_dimension": asked.dimensions}, target, unknown)


def _ask_voyage(body: bytes, asked: Body, target: Target) -> Sent:
    """Its base64 is OpenAI's; "float" is no word of its (https://docs.voyageai.com/reference/embeddings-api)."""
    given = fields(body)
    kept: dict[str, object] = {
        name: raw for name, raw in given.items() if name not in ("dimensions", "encoding_format", "user")
    }
    ours = {
        "model": target.model,
        "input": texts(asked, target),
        "input_type": purpose(asked, embeddings_form.VOYAGE),
        "output_dimension": asked.dimensions,
        "encoding_format": "base64" if asked.encoding_format == "base64" else None,
    }
    return pack(kept | ours, target, ("user",) if "user" in given else ())


def _ask_jina(body: bytes, asked: Body, target: Target) -> Sent:
    given = fields(body)
    kept: dict[str, object] = {
        name: raw for name, raw in given.items() if name not in ("input_type", "encoding_format", "user")
    }
    ours = {
        "model": target.model,
        "input": texts(asked, target),
        "task": given.get("task") or purpose(asked, embeddings_form.JINA),
        "embedding_type": "base64" if asked.encoding_format == "base64" else given.get("embedding_type"),
    }
    return pack(kept | ours, target, ("user",) if "user" in given else ())


def _ask_ollama(body: bytes, asked: Body, target: Target) -> Sent:
    given = fields(body)
    ours = {"model": target.model, "input": texts(asked, target), "dimensions": asked.dimensions}
    sent = ours | {name: given[name] for name in _OLLAMA_OWN if name in given}
    return pack(sent, target, lost(given, (*SENT, *_OLLAMA_OWN)))


def _read_ollama(status: int, body: bytes, header: Header, asked: Body, target: Target) -> Answer:
    reply = whole(_ollama, status, body)
    found = reply.embeddings or ([reply.embedding] if reply.embedding else [])
    return vectors(found, body, asked, target.model, counted(reply.prompt_eval_count))


MISTRAL = Adapter(at(PATH), _ask_mistral, read_passing)
VOYAGE = Adapter(at(PATH), _ask_voyage, read_passing)
JINA = Adapter(at(PATH), _ask_jina, read_passing)
OLLAMA = Adapter(at("/api/embed"), _ask_ollama, _read_ollama)
