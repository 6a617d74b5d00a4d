"""A neutral conversation as Anthropic's: `system` apart, then turns of user and assistant by turns."""

from __future__ import annotations

import base64
import re

import msgspec
from msgspec import Raw

from lilliput.neutral import (
    Cache,
    Media,
    Opaque,
    Part,
    Problem,
    Refusal,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from lilliput.wire.anthropic.request import DIALECT
from lilliput.wire.families import ANTHROPIC
from lilliput.wire.openai.media import mime_of

_NO_ID = re.compile(r"[^a-zA-Z0-9_-]")
_PLAIN = ("application/json", "application/xml", "application/yaml", "application/x-yaml")

Block = dict[str, object]


class Turns:
    """The conversation of one request as it is written; `dropped` fills with the names of what had no place.

    Neighbours of one role become one turn, in which the results of tools come first.
    """

    def __init__(self, r: Request) -> None:
        self.dropped: dict[str, None] = {}
        self.system: list[Block | Raw] = []
        self._own = r.dialect == DIALECT
        turns: list[tuple[str, list[Block | Raw], list[Block | Raw]]] = []
        for m in r.messages:
            results: list[Block | Raw] = []
            blocks: list[Block | Raw] = []
            for p in m.parts:
                if isinstance(p, ToolResult):
                    results.append(self._result(p))
                elif (block := self._part(p)) is not None:
                    blocks.append(block)
            if m.role == "system" and not (self._own and turns):
                self.system += blocks
                continue
            if m.name is not None:
                self.dropped["messages.name"] = None
            role = "user" if m.role == "tool" else m.role
            if turns and turns[-1][0] == role:
                turns[-1][1].extend(results)
                turns[-1][2].extend(blocks)
            elif results or blocks:
                turns.append((role, results, blocks))
        self.messages = [{"role": role, "content": results + blocks} for role, results, blocks in turns]

    def _part(self, p: Part) -> Block | Raw | None:
        if isinstance(p, Text):
            block: Block = {"type": "text", "text": p.text}
            return None if not p.text else block if p.cache is None else marked(block, p.cache)
        if isinstance(p, Media):
            return self._media(p)
        if isinstance(p, Thinking):
            return self._thinking(p)
        if isinstance(p, Refusal):
            self.dropped["messages.refusal"] = None
            return {"type": "text", "text": p.text} if p.text else None
        if isinstance(p, ToolCall):
            return self._call(p)
        if isinstance(p, Opaque) and p.dialect == DIALECT:
            return p.raw
        self.dropped["messages.other"] = None
        return None

    def _thinking(self, p: Thinking) -> Block | None:
        """Only what Anthropic signed or sealed: it refuses any other."""
        if p.family == ANTHROPIC and p.sealed is not None:
            return {"type": "redacted_thinking", "data": p.sealed}
        if p.family == ANTHROPIC and p.signature is not None:
            return {"type": "thinking", "thinking": p.text, "signature": p.signature}
        if p.text:
            self.dropped["messages.thinking"] = None
        if p.signature is not None or p.sealed is not None:
            self.dropped["messages.thinking_signature"] = None
        return None

    def _call(self, p: ToolCall) -> Block:
        """Arguments must be an object there: what a model wrote amiss goes under "input", like a custom tool's text."""
        if p.kind == "custom":
            self.dropped["tools.custom"] = None
        if p.signature is not None:
            self.dropped["messages.thinking_signature"] = None
        return marked({"type": "tool_use", "id": _id(p.id), "name": p.name, "input": arguments(p)}, p.cache)

    def _result(self, p: ToolResult) -> Block:
        block: Block = {"type": "tool_result", "tool_use_id": _id(p.call_id)}
        blocks = [b for part in p.parts if (b := self._part(part)) is not None]
        if blocks:
            match p.parts:
                case (Text(text=text, cache=None),):
                    block["content"] = text
                case _:
                    block["content"] = blocks
        if p.is_error:
            block["is_error"] = True
        return marked(block, p.cache)

    def _media(self, m: Media) -> Block:
        """Raises Problem (400) for what Anthropic cannot be shown: sound, video and files that are no documents."""
        if m.kind in ("audio", "video"):
            say = f"Anthropic's models take no {m.kind}; leave it out or ask another model"
            raise Problem("client", say, code="unsupported_media", param=m.kind)
        if m.detail is not None:
            self.dropped["image.detail"] = None
        source: dict[str, object]
        if m.file_id is not None:
            source = {"type": "file", "file_id": m.file_id}
        elif m.data is None:
            source = {"type": "url", "url": m.url or ""}
        else:
            mime = mime_of(m)
            source = {"type": "base64", "media_type": mime, "data": m.data}
            if m.kind == "file" and mime.startswith("image/"):
                return marked({"type": "image", "source": source}, m.cache)
            if m.kind == "file" and mime != "application/pdf":
                source = {"type": "text", "media_type": "text/plain", "data": _text(m.data, mime)}
        block: Block = {"type": "image" if m.kind == "image" else "document", "source": source}
        if m.kind == "file" and m.name:
            block["title"] = m.name
        return marked(block, m.cache)


def marked(block: Block, cache: Cache | None) -> Block:
    """`block`, with the mark that asks to keep the prompt up to there."""
    if cache is not None:
        block["cache_control"] = {"type": "ephemeral", "ttl": "1h"} if cache == "1h" else {"type": "ephemeral"}
    return block


def arguments(call: ToolCall) -> object:
    """A call's arguments as the object that they must be; what is none stands under "input"."""
    if call.kind == "function":
        if call.arguments.strip() in ("", "null"):
            return {}
        try:
            if isinstance(msgspec.json.decode(call.arguments), dict):
                return Raw(call.arguments.encode())
        except (ValueError, RecursionError):
            pass
    return {"input": call.arguments}


def _id(given: str) -> str:
    """A call's id in the letters that Anthropic takes; the call and its result come out the same."""
    return _NO_ID.sub("_", given) or "call"


def _text(data: str, mime: str) -> str:
    """The text of a document that is no PDF."""
    try:
        if mime.startswith("text/") or mime in _PLAIN:
            return base64.b64decode(data + "=" * (-len(data) % 4)).decode()
    except ValueError:
        pass
    say = f"Anthropic's models take no {mime[:80]} documents; send a PDF, an image or text in UTF-8"
    raise Problem("client", say, code="unsupported_media", param="file")
