"""What an answer says to a client of its dialect: its text, how it ended, its error, and what should not be there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lilliput.chaos.client import Seen
from lilliput.chaos.speech import Dialect


@dataclass
class Reading:
    """`finish` is the dialect's own word, `ended` the formal end; `junk` is what no client of the dialect can read."""

    text: str = ""
    finish: str | None = None
    ended: bool = False
    code: str | None = None
    kind: str | None = None
    message: str | None = None
    junk: list[str] = field(default_factory=list)
    has_own_shape: bool = False
    """Whether the error is told in a form that the dialect does not have."""

    @property
    def is_error(self) -> bool:
        return self.message is not None


def read(dialect: Dialect, stream: bool, seen: Seen) -> Reading:
    """The answer as far as it came, whatever its status."""
    reading = Reading()
    if stream and seen.status == 200 and not seen.headers.get("content-type", "").startswith("application/json"):
        for data in _events(seen.body):
            if data == b"[DONE]":
                reading.ended = reading.ended or dialect == "chat"
            elif reading.is_error or reading.ended:
                reading.junk.append(f"after the end: {data[:60]!r}")
            else:
                _event(dialect, data, reading)
        return reading
    is_error = seen.status >= 400
    _value(seen.body, reading, lambda value: _whole(dialect, value, reading, is_error))
    return reading


def _events(body: bytes) -> Iterator[bytes]:
    """Each event's data, the last also when its blank line is missing."""
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
        rest = [line for line in block.split(b"\n") if line and not line.startswith(_FIELDS)]
        if lines or rest:
            yield b"\n".join([*lines, *rest])


_FIELDS = (b"data:", b":", b"event:", b"id:", b"retry:")


def _value(data: bytes, reading: Reading, take: Callable[[dict[str, Any]], None]) -> None:
    """Lets `take` read a JSON object; what is none, or has other types within, is junk."""
    try:
        value = json.loads(data)
        take(value)
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError, IndexError):
        reading.junk.append(f"nothing the dialect has: {data[:60]!r}")


def _event(dialect: Dialect, data: bytes, reading: Reading) -> None:
    kinds = {"chat": _chat, "messages": _messages, "responses": _responses}
    _value(data, reading, lambda value: kinds[dialect](value, reading))


def _chat(value: dict[str, Any], reading: Reading) -> None:
    if value.get("error"):
        _error(value, reading)
    for choice in value.get("choices") or ():
        reading.text += (choice.get("delta") or {}).get("content") or ""
        reading.finish = choice.get("finish_reason") or reading.finish


def _messages(value: dict[str, Any], reading: Reading) -> None:
    kind, delta = value.get("type"), value.get("delta") or {}
    if kind == "error" or value.get("error"):
        _error(value, reading)
    elif kind == "content_block_delta":
        reading.text += delta.get("text") or ""
    elif kind == "message_delta":
        reading.finish = delta.get("stop_reason") or reading.finish
    elif kind == "message_stop":
        reading.ended = True


def _responses(value: dict[str, Any], reading: Reading) -> None:
    kind, response = value.get("type"), value.get("response") or {}
    if kind == "error":
        _error(value if value.get("error") else {"error": value}, reading)
    elif kind == "response.failed":
        _error(response, reading)
    elif kind == "response.output_text.delta":
        reading.text += value.get("delta") or ""
    elif kind in ("response.completed", "response.incomplete"):
        reading.finish, reading.ended = _finish(response), True
    elif value.get("error"):
        _error(value, reading)


def _finish(response: dict[str, Any]) -> str | None:
    return (response.get("incomplete_details") or {}).get("reason") or response.get("status")


def _error(value: dict[str, Any], reading: Reading) -> None:
    error = value.get("error")
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        reading.message, reading.has_own_shape = str(error or value.get("message") or ""), True
        return
    code = error.get("code")
    reading.message, reading.kind = error["message"], error.get("type")
    reading.code = None if code is None else str(code)


def _whole(dialect: Dialect, value: dict[str, Any], reading: Reading, is_error: bool) -> None:
    if is_error or value.get("error") or value.get("type") == "error":
        _error(value, reading)
    elif dialect == "chat":
        choice = (value.get("choices") or [{}])[0]
        reading.text, reading.finish = (choice.get("message") or {}).get("content") or "", choice.get("finish_reason")
    elif dialect == "messages":
        reading.text, reading.finish = _joined(value.get("content")), value.get("stop_reason")
    else:
        messages = [item for item in value.get("output") or () if item.get("type") == "message"]
        reading.text, reading.finish = "".join(_joined(item.get("content")) for item in messages), _finish(value)
    reading.ended = reading.finish is not None


def _joined(content: object) -> str:
    parts = content if isinstance(content, list) else ()
    return "".join(part.get("text") or "" for part in parts if isinstance(part, dict))
