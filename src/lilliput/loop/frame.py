"""What all requests of a task have in common is found once, and taken away from each: the student reads the rest.

Pure, standard library (and msgspec) only. Training and serving cut with the same `cut`, so they see the same text.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from lilliput.tasks import Frame

ROWS = 8
"""So many different requests it takes to tell a template from chance; of fewer, nothing is taken away."""
OUTLIERS = 0.02
"""The share of requests that may miss what the others have in common; they do not fit then."""


def fit(messages: Sequence[Raw]) -> Frame:
    """The frame of a task's requests: the commonest system text, and what nearly all user messages under it begin and
    end with, cut where words do. A head or tail without a word in it (a bracket, a full stop) is left in the text."""
    parts = [found for raw in messages if (found := _parts(raw))]
    if not parts:
        return Frame()
    system = Counter(s for s, _ in parts).most_common(1)[0][0]
    texts = sorted({text for s, text in parts if s == system})
    head = tail = ""
    if len(texts) >= ROWS:
        head = _whole(_common(texts))
        rest = sorted(text[len(head) :][::-1] for text in texts if text.startswith(head))
        tail = _whole(_common(rest))[::-1]
    return Frame(system_sha256=_sha256(system), head=head, tail=tail)


def cut(frame: Frame, messages: Raw) -> str | None:
    """The text that differs from request to request; None where this one does not fit the frame or has none."""
    parts = _parts(messages)
    if parts is None or _sha256(parts[0]) != frame.system_sha256:
        return None
    text = parts[1]
    if not text.startswith(frame.head) or not text.endswith(frame.tail):
        return None
    return text[len(frame.head) : len(text) - len(frame.tail)].strip() or None


def _parts(raw: Raw) -> tuple[str, str] | None:
    """The system text and the one user message of a request of text alone, None for any other."""
    try:
        messages = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return None
    if not isinstance(messages, list) or not messages:
        return None
    texts = [(m.get("role"), _text(m.get("content"))) if isinstance(m, dict) else (None, None) for m in messages]
    *before, (role, user) = texts
    if role != "user" or user is None or any(r not in ("system", "developer") or t is None for r, t in before):
        return None
    return "\n".join(t for _, t in before if t is not None), user


def _text(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [
        p["text"] for p in content if isinstance(p, dict) and p.get("type") == "text" and isinstance(p.get("text"), str)
    ]
    return "\n".join(parts) if len(parts) == len(content) else None


def _common(texts: Sequence[str]) -> str:
    """The longest beginning that all but the outliers of the sorted texts share."""
    span = max(1, math.ceil(len(texts) * (1 - OUTLIERS)))
    best = ""
    for first, last in zip(texts, texts[span - 1 :], strict=False):
        n = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
        best = max(best, first[:n], key=len)
    return best


def _whole(head: str) -> str:
    """Without a word that may go on."""
    while head and head[-1].isalnum():
        head = head[:-1]
    return head if any(c.isalnum() for c in head) else ""


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if text else ""
