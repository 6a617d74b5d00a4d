"""Two small neighbours of Anthropic's Messages: how many tokens a request has, and the list of models."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Request, Target
from lilliput.wire import quirks
from lilliput.wire.anthropic.call import VERTEX, at, write_fields
from lilliput.wire.anthropic.types import check_count
from lilliput.wire.broken import invalid_answer
from lilliput.wire.port import Headers

__all__ = ["check_count", "count_body", "count_endpoint", "read_count", "write_count", "write_models"]

_COUNTED = frozenset(
    {
        *("messages", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control", "mcp_servers"),
        *("context_management", "speed", "container"),
    }
)
"""The fields that a request to count may have (Anthropic's Python SDK, checked 2026-11-22)."""


class _Count(Struct):
    input_tokens: int


_read = msgspec.json.Decoder(_Count).decode


def count_endpoint(target: Target) -> tuple[str, Headers]:
    """Where `target` counts; Vertex does it under a model's name of its own."""
    return at(target, "/models/count-tokens:rawPredict" if target.dialect == VERTEX else "/v1/messages/count_tokens")


def count_body(r: Request, target: Target) -> bytes:
    """The body that asks how many tokens `r` has."""
    fields, _ = write_fields(r, target)
    asked = {name: raw for name, raw in fields.items() if name in _COUNTED}
    counted = quirks.apply({"model": Raw(msgspec.json.encode(target.model)), **asked}, target)
    return msgspec.json.encode(counted)


def read_count(body: bytes) -> int:
    """The tokens that a provider counted; raises Problem."""
    try:
        return _read(body).input_tokens
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise invalid_answer(body, "it has no count of tokens") from None


def write_count(tokens: int) -> bytes:
    return msgspec.json.encode({"input_tokens": tokens})


def write_models(models: Iterable[tuple[str, str, int]], has_more: bool = False) -> bytes:
    """The list of models, each with its id, its name for people and when it was made, in Unix seconds."""
    data = [
        {
            "type": "model",
            "id": id,
            "display_name": name,
            "created_at": datetime.fromtimestamp(created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        for id, name, created_s in models
    ]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return msgspec.json.encode({"data": data, "has_more": has_more, **ends})
