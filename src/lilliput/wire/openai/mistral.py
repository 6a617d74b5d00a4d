"""What Mistral's form of OpenAI's dialect does not take, made fit: the call ids of other makers.

An id has nine letters or digits there (errors quoted in langchain-ai/langchain#21196, checked 2026-11-22).
"""

from __future__ import annotations

import hashlib
import re

from msgspec import structs

from lilliput.neutral import Message, Part, Request, ToolCall, ToolResult

_ID = re.compile(r"[A-Za-z0-9]{9}")


def fitted(r: Request) -> Request:
    """`r` with ids that Mistral takes: one that does not fit becomes the same other one wherever it stands."""
    messages = tuple(Message(m.role, tuple(_fitted(p) for p in m.parts), m.name) for m in r.messages)
    return structs.replace(r, messages=messages)


def _fitted(p: Part) -> Part:
    if isinstance(p, ToolCall):
        return structs.replace(p, id=_id(p.id))
    if isinstance(p, ToolResult):
        return structs.replace(p, call_id=_id(p.call_id))
    return p


def _id(given: str) -> str:
    return given if _ID.fullmatch(given) else hashlib.sha256(given.encode()).hexdigest()[:9]
