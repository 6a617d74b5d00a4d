"""What a call cost, told in the answer's own usage: `usage.cost`, a decimal number of dollars, as OpenRouter tells it.

https://openrouter.ai/docs/use-cases/usage-accounting (checked 2026-11-22). Only the usage is taken apart; every other
field keeps its bytes. An answer that tells no usage is left as it is, and so is Gemini's, which names it otherwise.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw

_LAST = re.compile(rb'"finish_reason":\s*"[a-z]|"choices":\s*\[\s*\]|"type":\s*"message_delta"')
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


def whole(body: bytes, dollars: str) -> bytes:
    """The JSON answer with its cost; what is none passes."""
    return _told(body, dollars) if b'"usage"' in body else body


def events(data: bytes, dollars: str) -> bytes:
    """Whole server-sent events with the cost in those that tell usage."""
    if b'"usage"' not in data:
        return data
    return b"\n".join(
        [
            b"data: " + _told(line[6:], dollars) if line[:6] == b"data: " and b'"usage"' in line else line
            for line in data.split(b"\n")
        ]
    )


def may_be_last(events: bytes) -> bool:
    """Whether the usage at the end of a stream is among these events, as far as one can see without reading them."""
    return b'"usage"' in events and _LAST.search(events) is not None


def _told(body: bytes, dollars: str) -> bytes:
    try:
        fields = _fields(body)
    except (msgspec.MsgspecError, RecursionError):
        return body
    usage = fields.get("usage")
    if usage is not None and bytes(usage)[:1] == b"{":
        return _encode({**fields, "usage": {**_fields(usage), "cost": Raw(dollars.encode())}})
    response = fields.get("response")  # the event that closes an answer in OpenAI's Responses holds all of it
    if response is not None and bytes(response)[:1] == b"{":
        return _encode({**fields, "response": Raw(_told(bytes(response), dollars))})
    return body
