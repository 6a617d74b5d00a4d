"""What a provider says in each of three dialects, in pieces that a scenario can leave out, tear or repeat.

How the bytes travel (framing, cuts, silence) is the liar's affair.
"""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple

Dialect = Literal["chat", "responses", "messages"]
Usage = Literal["honest", "absurd", "none"]

PATHS: dict[Dialect, str] = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
FINISHES: dict[Dialect, dict[str, str]] = {
    "chat": {"stop": "stop", "length": "length", "filter": "content_filter"},
    "responses": {"stop": "completed", "length": "max_output_tokens", "filter": "content_filter"},
    "messages": {"stop": "end_turn", "length": "max_tokens", "filter": "refusal"},
}
"""How an answer ends -> each dialect's word; in Responses an end other than `completed` is told by its reason."""
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Anthropic's error types by status (platform.claude.com/docs/en/api/errors, checked 2026-11-22); else api_error."""


class Say(NamedTuple):
    """A piece of text."""

    text: str


class Role(NamedTuple):
    """What opens a stream and says nothing yet."""


class Aside(NamedTuple):
    """A good event without text that a reader may not know: Azure's chunk without choices, Anthropic's ping."""


class Finish(NamedTuple):
    """How the answer ended, and what it used."""

    reason: str = "stop"
    usage: Usage = "honest"


class Mark(NamedTuple):
    """The formal end: [DONE], message_stop; Responses has none beside its finish."""


class Whole(NamedTuple):
    """An answer in one piece."""

    text: str
    reason: str = "stop"
    usage: Usage = "honest"
    more: bool = False
    """Whether fields stand in it that nobody knows."""


class Error(NamedTuple):
    """A refusal: an event in a stream, a body of its own otherwise."""

    status: int
    code: str | int | None = None
    say: str = "no"
    kind: str | None = None


Piece = Say | Role | Aside | Finish | Mark | Whole | Error


class Speech:
    """One answer in `dialect`: `bytes_of` gives each piece in turn."""

    def __init__(self, dialect: Dialect, stream: bool) -> None:
        self.dialect, self.stream = dialect, stream
        self._said = ""
        self._sequence = -1

    def bytes_of(self, piece: Piece) -> bytes:
        if isinstance(piece, Whole):
            return _json(getattr(self, f"_{self.dialect}_whole")(piece))
        if isinstance(piece, Error) and not self.stream:
            return _json(self._refusal(piece))
        if isinstance(piece, Say):
            self._said += piece.text
        told: bytes = getattr(self, f"_{self.dialect}")(piece)
        return told

    def _refusal(self, e: Error) -> dict[str, Any]:
        if self.dialect == "messages":
            kind = _KINDS.get(e.status, "api_error")
            return {"type": "error", "error": {"type": kind, "message": e.say}, "request_id": "req_1"}
        error = {"message": e.say, "type": e.kind or _KINDS.get(e.status, "server_error"), "param": None}
        return {"error": error | {"code": e.code}}

    # -- OpenAI chat

    def _chat(self, piece: Piece) -> bytes:
        if isinstance(piece, Mark):
            return b"data: [DONE]\n\n"
        if isinstance(piece, Error):
            return _data(self._refusal(piece))
        if isinstance(piece, Finish):
            end = self._chunk({}, FINISHES["chat"][piece.reason])
            return end if piece.usage == "none" else end + _data(_CHUNK | {"choices": []} | _chat_usage(piece.usage))
        if isinstance(piece, Aside):
            return _data(_CHUNK | {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
        return self._chunk({"content": piece.text} if isinstance(piece, Say) else {"role": "assistant", "content": ""})

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        return _data(_CHUNK | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    def _chat_whole(self, w: Whole) -> dict[str, Any]:
        message = {"role": "assistant", "content": w.text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": FINISHES["chat"][w.reason], "logprobs": None}
        body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "liar", "choices": [choice]}
        return body | _chat_usage(w.usage) | _more(w.more)

    # -- Anthropic Messages

    def _messages(self, piece: Piece) -> bytes:
        if isinstance(piece, Say):
            return _event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece.text})
        if isinstance(piece, Role):
            message = self._messages_whole(Whole("")) | {"content": [], "stop_reason": None}
            block = {"type": "text", "text": ""}
            return _event("message_start", message=message) + _event(
                "content_block_start", index=0, content_block=block
            )
        if isinstance(piece, Finish):
            delta = {"stop_reason": FINISHES["messages"][piece.reason], "stop_sequence": None}
            return _event("content_block_stop", index=0) + _event(
                "message_delta", delta=delta, **_plain_usage(piece.usage)
            )
        if isinstance(piece, Error):
            return _event("error", **self._refusal(piece))
        return _event("ping") if isinstance(piece, Aside) else _event("message_stop")

    def _messages_whole(self, w: Whole) -> dict[str, Any]:
        body: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": "liar"}
        body |= {"content": [{"type": "text", "text": w.text}], "stop_sequence": None}
        body["stop_reason"] = FINISHES["messages"][w.reason]
        return body | _plain_usage(w.usage) | _more(w.more)

    # -- OpenAI Responses

    def _responses(self, piece: Piece) -> bytes:
        if isinstance(piece, Mark):
            return b""
        if isinstance(piece, Error):
            return self._next("error", code=_word(piece.code) or piece.kind, message=piece.say, param=None)
        if isinstance(piece, Say):
            return self._next("response.output_text.delta", **_PLACE, delta=piece.text, logprobs=[])
        if isinstance(piece, Aside):
            return self._next("keepalive")
        if isinstance(piece, Role):
            part = {"type": "output_text", "text": "", "annotations": []}
            item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
            created = self._responses_whole(Whole("")) | {"status": "in_progress", "output": [], "usage": None}
            return (
                self._next("response.created", response=created)
                + self._next("response.output_item.added", output_index=0, item=item)
                + self._next("response.content_part.added", **_PLACE, part=part)
            )
        assert isinstance(piece, Finish)
        body = self._responses_whole(Whole(self._said, piece.reason, piece.usage))
        item = body["output"][0]
        name = "response.completed" if piece.reason == "stop" else "response.incomplete"
        return (
            self._next("response.output_text.done", **_PLACE, text=self._said, logprobs=[])
            + self._next("response.content_part.done", **_PLACE, part=item["content"][0])
            + self._next("response.output_item.done", output_index=0, item=item)
            + self._next(name, response=body)
        )

    def _next(self, name: str, **fields: Any) -> bytes:
        self._sequence += 1
        return _event(name, sequence_number=self._sequence, **fields)

    def _responses_whole(self, w: Whole) -> dict[str, Any]:
        is_whole = w.reason == "stop"
        status, reason = ("completed", None) if is_whole else ("incomplete", FINISHES["responses"][w.reason])
        content = [{"type": "output_text", "text": w.text, "annotations": [], "logprobs": []}]
        item = {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content}
        body: dict[str, Any] = {"id": "resp_1", "object": "response", "created_at": 1, "status": status}
        body |= {"model": "liar", "error": None, "output": [item], "parallel_tool_calls": True, "tool_choice": "auto"}
        body |= {"incomplete_details": None if is_whole else {"reason": reason}, "tools": [], "metadata": {}}
        return body | _plain_usage(w.usage) | _more(w.more)


_CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "liar"}
_PLACE: dict[str, Any] = {"item_id": "msg_1", "output_index": 0, "content_index": 0}


def _chat_usage(usage: Usage) -> dict[str, Any]:
    counts = {"honest": (7, 5, 12), "absurd": (-7, 5_000_000_000, -1), "none": None}[usage]
    return {} if counts is None else {"usage": dict(zip(_CHAT_COUNTS, counts, strict=True))}


_CHAT_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def _plain_usage(usage: Usage) -> dict[str, Any]:
    """As Messages and Responses both name it."""
    counts = {"honest": (7, 5), "absurd": (-7, 5_000_000_000), "none": None}[usage]
    return {} if counts is None else {"usage": {"input_tokens": counts[0], "output_tokens": counts[1]}}


def _more(wanted: bool) -> dict[str, Any]:
    return {"x_new": {"deep": [None, {"a": 1.5}]}, "service_tier": "default"} if wanted else {}


def _word(value: object) -> str | None:
    return None if value is None else str(value)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _data(value: object) -> bytes:
    return b"data: %b\n\n" % _json(value)


def _event(name: str, **fields: Any) -> bytes:
    return b"event: %b\n%b" % (name.encode(), _data({"type": name} | fields))
