"""Events as an answer to an OpenAI client: a stream of chunks, or one whole answer.

Reasoning goes out as `reasoning_content` (DeepSeek's name, the most read), signatures and sealed blocks as
OpenRouter's `reasoning_details`. A client that asked with `functions` is answered with `function_call`.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from lilliput.neutral import (
    Argued,
    Began,
    Called,
    Choice,
    Counted,
    Ended,
    Event,
    Media,
    Problem,
    Refused,
    Reply,
    Request,
    Said,
    Scored,
    Shown,
    Thinking,
    Thought,
    Usage,
)
from lilliput.wire import sse
from lilliput.wire.openai.call import signed_call, write_details
from lilliput.wire.openai.media import data_url
from lilliput.wire.openai.problem import write_stream_problem
from lilliput.wire.openai.usage import write_usage

_json = msgspec.json.Encoder().encode
_OPEN = b',"logprobs":null,"finish_reason":null'


def writer(r: Request, id: str = "chatcmpl-0", created_s: int = 0) -> Writer:
    """A fresh writer for the streamed answer to `r`; `id` and `created_s` serve where the provider gave none."""
    return Writer(r, id, created_s)


class Writer:
    """Each event's bytes for the client, and with `end()` those that close a whole answer: usage and [DONE].

    `problem()` instead is the last word of one that went wrong: no usage and no [DONE] follow it.
    """

    content_type = b"text/event-stream; charset=utf-8"

    def __init__(self, r: Request, id: str, created_s: int) -> None:
        self._began = Began(id, r.model, created_s)
        self._wants_usage = r.include_usage
        self._is_legacy = "functions" in r.extra
        self._usage: Usage | None = None
        self._customs: set[tuple[int, int]] = set()
        self._opened: set[int] = set()
        self._bare: list[Called] = []
        self._head = self._tail = b""
        self._frame()

    def __call__(self, e: Event) -> bytes:
        if isinstance(e, Said) and e.choice in self._opened:
            return b'%b%d,"delta":{"content":%b}%b%b' % (self._head, e.choice, _json(e.text), _OPEN, self._tail)
        if isinstance(e, Began):
            known = self._began
            self._began = Began(e.id or known.id, e.model or known.model, e.created or known.created)
            self._frame()
            return b""
        if isinstance(e, Counted):
            self._usage = e.usage
            return b""
        if e.choice in self._opened:
            return self._chunk(e)
        self._opened.add(e.choice)
        role = self._delta(e.choice, b'{"role":"assistant","content":""}')
        return role + self._chunk(e)

    def end(self) -> bytes:
        """The usage that the client asked for, as far as it is known, and the end mark."""
        if not self._wants_usage or self._usage is None:
            return sse.event(sse.DONE)
        usage = self._head[: -len(b'{"index":')] + b'],"usage":' + _json(write_usage(self._usage)) + b"}\n\n"
        return usage + sse.event(sse.DONE)

    def problem(self, p: Problem) -> bytes:
        return write_stream_problem(p)

    def _frame(self) -> None:
        """What stands before and after a chunk's one choice: made once, for every chunk repeats it."""
        b = self._began
        fields = {"id": b.id, "object": "chat.completion.chunk", "created": b.created, "model": b.model}
        self._head = b'data: %b,"choices":[{"index":' % _json(fields)[:-1]
        self._tail = b'}],"usage":null}\n\n' if self._wants_usage else b"}]}\n\n"

    def _delta(self, choice: int, delta: bytes, rest: bytes = _OPEN) -> bytes:
        return b'%b%d,"delta":%b%b%b' % (self._head, choice, delta, rest, self._tail)

    def _chunk(self, e: Event) -> bytes:
        if isinstance(e, Said):
            return self._delta(e.choice, b'{"content":%b}' % _json(e.text))
        if isinstance(e, Argued):
            if self._bare:
                self._bare = [c for c in self._bare if (c.choice, c.index) != (e.choice, e.index)]
            return self._delta(e.choice, self._argued(e))
        if isinstance(e, Thought):
            return self._delta(e.choice, _thought(e))
        if isinstance(e, Called):
            return self._delta(e.choice, self._called(e))
        if isinstance(e, Refused):
            return self._delta(e.choice, b'{"refusal":%b}' % _json(e.text))
        if isinstance(e, Shown):
            return self._delta(e.choice, _json(_shown((e,))))
        if isinstance(e, Scored):
            rest = b',"logprobs":{"content":%b,"refusal":null},"finish_reason":null' % bytes(e.content)
            return self._delta(e.choice, b"{}", rest)
        if isinstance(e, Ended):
            bare = b"".join([self._chunk(Argued(c.index, "{}", c.choice)) for c in self._bare if c.choice == e.choice])
            word = _json(_finish(e.reason, e.native, self._is_legacy))
            return bare + self._delta(e.choice, b"{}", b',"logprobs":null,"finish_reason":%b' % word)
        return b""

    def _called(self, e: Called) -> bytes:
        if e.kind == "custom":
            self._customs.add((e.choice, e.index))
            call: dict[str, object] = {"custom": {"name": e.name, "input": ""}}
            return _json({"tool_calls": [{"index": e.index, "id": e.id, "type": "custom", **call}]})
        self._bare.append(e)
        if self._is_legacy:
            return _json({"function_call": {"name": e.name, "arguments": ""}})
        call = {"function": {"name": e.name, "arguments": ""}, **signed_call(e.signature)}
        return _json({"tool_calls": [{"index": e.index, "id": e.id, "type": "function", **call}]})

    def _argued(self, e: Argued) -> bytes:
        if (e.choice, e.index) in self._customs:
            return b'{"tool_calls":[{"index":%d,"custom":{"input":%b}}]}' % (e.index, _json(e.text))
        if self._is_legacy:
            return b'{"function_call":{"arguments":%b}}' % _json(e.text)
        return b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (e.index, _json(e.text))


def write_reply(reply: Reply, r: Request, id: str = "chatcmpl-0", created_s: int = 0) -> bytes:
    """The whole answer to `r`; `id` and `created_s` serve where the provider gave none."""
    is_legacy = "functions" in r.extra
    return _json(
        {
            "id": reply.id or id,
            "object": "chat.completion",
            "created": reply.created or created_s,
            "model": reply.model or r.model,
            "choices": [_choice(c, is_legacy) for c in reply.choices],
            "usage": write_usage(reply.usage) if reply.usage is not None else None,
        }
    )


def _choice(c: Choice, is_legacy: bool) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": c.text or None, "refusal": c.refusal or None}
    if not c.text and not c.calls and not c.refusal and not c.media:
        message["content"] = ""
    if c.thinking:
        thinking = "".join(t.text for t in c.thinking if t.sealed is None)
        if thinking:
            message["reasoning_content"] = thinking
        if any(t.signature or t.sealed for t in c.thinking):
            message["reasoning_details"] = write_details(c.thinking)
    if c.calls and is_legacy:
        message["function_call"] = {"name": c.calls[0].name, "arguments": c.calls[0].arguments}
    elif c.calls:
        message["tool_calls"] = [
            {"id": t.id, "type": "custom", "custom": {"name": t.name, "input": t.arguments}}
            if t.kind == "custom"
            else {
                "id": t.id,
                "type": "function",
                "function": {"name": t.name, "arguments": t.arguments or "{}"},
                **signed_call(t.signature),
            }
            for t in c.calls
        ]
    if c.media:
        message |= _shown(c.media)
    logprobs = None
    if c.logprobs:
        tokens = b",".join(bytes(raw).strip()[1:-1] for raw in c.logprobs)
        logprobs = {"content": Raw(b"[" + tokens + b"]"), "refusal": None}
    finish = _finish(c.reason, c.native, is_legacy)
    return {"index": c.index, "message": message, "logprobs": logprobs, "finish_reason": finish}


def _finish(reason: str | None, native: str | None, is_legacy: bool) -> str | None:
    """OpenAI's word, else the provider's own: an unknown end is never dressed up as a known one."""
    if reason == "tool_calls" and is_legacy:
        return "function_call"
    return reason or native or None


def _thought(e: Thought) -> bytes:
    """A sealed block carries its text inside, lest it be read as open reasoning."""
    delta: dict[str, object] = {}
    if e.text and e.sealed is None:
        delta["reasoning_content"] = e.text
    if e.signature or e.sealed is not None:
        text = e.text if e.sealed is not None else ""
        delta["reasoning_details"] = write_details([Thinking(text, e.signature, e.sealed, e.family)])
    return _json(delta)


def _shown(media: tuple[Shown, ...]) -> dict[str, object]:
    """Pictures as OpenRouter's `operations.images`; sound, of which OpenAI's form holds one piece, as `audio`."""
    out: dict[str, object] = {}
    images = [{"type": "image_url", "image_url": {"url": data_url(s.media)}} for s in media if s.media.kind != "audio"]
    if images:
        out["images"] = images
    sounds = [s for s in media if s.media.kind == "audio"]
    if sounds:
        out["audio"] = _audio([s.media for s in sounds], "".join(s.transcript or "" for s in sounds))
    return out


def _audio(sounds: list[Media], transcript: str) -> dict[str, str | None]:
    name = next((m.name for m in sounds if m.name), None)
    return {"id": name, "data": "".join(m.data or "" for m in sounds), "transcript": transcript}
