"""Embeddings at Google: the Gemini API's `:batchEmbedContents`, and Vertex's `:predict`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Sent, Target, Usage
from lilliput.wire.operations.embeddings_form import GEMINI, SENT, Body, purpose, texts, vectors
from lilliput.wire.operations.modality import (
    NULL,
    Adapter,
    Answer,
    Header,
    counted,
    endpoint,
    fields,
    inner,
    lost,
    pack,
    whole,
)
from lilliput.wire.port import Headers


class _Values(Struct):
    values: list[float]


class _PerModality(Struct):
    modality: str | None = None
    tokenCount: Any = None


class _Metadata(Struct):
    promptTokenCount: Any = None
    promptTokenDetails: list[_PerModality] | None = None


class _Batch(Struct):
    embeddings: list[_Values]
    usageMetadata: Raw = NULL


class _Statistics(Struct):
    token_count: float | None = None


class _Embeddings(Struct):
    values: list[float]
    statistics: _Statistics | None = None


class _Prediction(Struct):
    embeddings: _Embeddings


class _Predicted(Struct):
    predictions: list[_Prediction]


_batch = msgspec.json.Decoder(_Batch).decode
_metadata = msgspec.json.Decoder(_Metadata).decode
_predicted = msgspec.json.Decoder(_Predicted).decode


def _is_vertex(target: Target) -> bool:
    """True where the base names a publisher of models, as only Vertex's does."""
    return "/publishers/" in target.base


def _endpoint(target: Target, asked: Body) -> tuple[str, Headers]:
    method = "predict" if _is_vertex(target) else "batchEmbedContents"
    return endpoint(target, f"/models/{quote(target.model, safe='')}:{method}")


def _write(body: bytes, asked: Body, target: Target) -> Sent:
    ask = _ask_vertex if _is_vertex(target) else _ask_gemini
    return pack(ask(asked, target), target, lost(fields(body), SENT))


def _ask_gemini(asked: Body, target: Target) -> dict[str, object]:
    one = {
        "model": f"models/{target.model}",
        "taskType": _task(asked),
        "outputDimensionality": asked.dimensions,
    }
    given = {name: value for name, value in one.items() if value is not None}
    return {"requests": [{**given, "content": {"parts": [{"text": text}]}} for text in texts(asked, target)]}


def _ask_vertex(asked: Body, target: Target) -> dict[str, object]:
    task = _task(asked)
    more = {"task_type": task} if task else {}
    return {
        "instances": [{"content": text, **more} for text in texts(asked, target)],
        "parameters": {"outputDimensionality": asked.dimensions} if asked.dimensions else None,
    }


def _task(asked: Body) -> str | None:
    """CLASSIFICATION, CLUSTERING and its other words are Google's own, whatever their case."""
    task = purpose(asked, GEMINI)
    return task.upper() if task else None


def _read_gemini(status: int, body: bytes, asked: Body, target: Target) -> Answer:
    """Older models do not tell usage (gemini-e669a5269d)."""
    reply = whole(_batch, status, body)
    return vectors([each.values for each in reply.embeddings], body, asked, target.model, _usage(reply.usageMetadata))


def _usage(given: Raw) -> Usage | None:
    told = inner(_metadata, given)
    if told is None:
        return None
    images = next((each.tokenCount for each in told.promptTokenDetails or () if each.modality == "IMAGE"), 0)
    return counted(told.promptTokenCount, details={"image_tokens": images}, given=given)


def _read_vertex(status: int, body: bytes, asked: Body, target: Target) -> Answer:
    found = [each.embeddings for each in whole(_predicted, status, body).predictions]
    counts = [each.statistics.token_count for each in found if each.statistics and each.statistics.token_count]
    usage = counted(sum(counts)) if counts else None
    return vectors([each.values for each in found], body, asked, target.model, usage)


def _read(status: int, body: bytes, header: Header, asked: Body, target: Target) -> Answer:
    read = _read_vertex if _is_vertex(target) else _read_gemini
    return read(status, body, asked, target)


ADAPTER = Adapter(_endpoint, _write, _read)
