"""Events as an answer to a Gemini client: pieces as server-sent events or in a JSON array, or one whole answer.

A function call is one part of this dialect, so its arguments are gathered until they are whole.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

import msgspec
from msgspec import Raw, Struct, field

from lilliput.neutral import (
    Argued,
    Began,
    Called,
    Choice,
    Counted,
    Ended,
    Event,
    Problem,
    Refused,
    Reply,
    Request,
    Said,
    Scored,
    Shown,
    Thinking,
    Thought,
    ToolCall,
    Usage,
)
from lilliput.wire import sse
from lilliput.wire.families import GEMINI, tagged
from lilliput.wire.gemini.chunk import FINISH, one_line
from lilliput.wire.gemini.problem import write_problem
from lilliput.wire.gemini.usage import write_usage
from lilliput.wire.openai.media import mime_of

_WORDS = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY", "error": "OTHER"}
_json = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, Raw]).decode


class _Token(Struct):
    token: str = ""
    logprob: float = 0.0
    top_logprobs: list[_Token] | None = None


_tokens = msgspec.json.Decoder(list[_Token]).decode


class _Open(Struct):
    """One choice under way: its calls that are not written yet, and how it ended."""

    calls: dict[int, ToolCall] = field(default_factory=dict)
    pieces: dict[int, list[str]] = field(default_factory=dict)
    malformed: str | None = None
    ended: Ended | None = None


def writer(r: Request, id: str = "", created_s: int = 0) -> Writer:
    """A fresh writer for the streamed answer to `r`; `id` serves where the provider gave none."""
    return Writer(r, id)


class Writer:
    """Each event's bytes for the client, and with `end()` the last piece: finish reasons and usage.

    Without `alt=sse` a stream is one JSON array, as Google's is.
    """

    def __init__(self, r: Request, id: str) -> None:
        self._sse = "$alt" not in r.extra
        self.content_type = b"text/event-stream" if self._sse else b"application/json"
        self._id, self._model = id, r.model
        self._usage: Usage | None = None
        self._open: dict[int, _Open] = {}
        self._is_first = True
        self._tail = b""
        self._frame()

    def __call__(self, e: Event) -> bytes:
        if isinstance(e, Began):
            self._id, self._model = e.id or self._id, e.model or self._model
            self._frame()
            return b""
        if isinstance(e, Counted):
            self._usage = e.usage
            return b""
        choice = self._open.get(e.choice)
        if choice is None:
            choice = self._open[e.choice] = _Open()
        if isinstance(e, Called):
            choice.calls[e.index] = ToolCall(e.id, e.name, "", e.kind, e.signature)
            choice.pieces[e.index] = []
            return b""
        if isinstance(e, Argued):
            choice.pieces[e.index].append(e.text)
            return b""
        before = self._calls(e.choice, choice) if choice.calls else b""
        if isinstance(e, Ended):
            choice.ended = e
            return before
        return before + self._said(e)

    def end(self) -> bytes:
        """The piece that closes a whole answer."""
        out = b"".join(self._calls(i, c) for i, c in self._open.items() if c.calls)
        candidates = [_candidate(i, c.ended, c.malformed) for i, c in self._open.items()]
        last: dict[str, object] = {"candidates": candidates}
        if self._usage is not None:
            last["usageMetadata"] = write_usage(self._usage)
        out += self._event(_json(last)[:-1] + self._tail)
        return out if self._sse else out + b"]"

    def problem(self, p: Problem) -> bytes:
        """The error that ends a stream which has begun."""
        out = self._event(write_problem(p))
        return out if self._sse else out + b"]"

    def _frame(self) -> None:
        self._tail = b"," + _json({"modelVersion": self._model, "responseId": self._id})[1:]

    def _event(self, piece: bytes) -> bytes:
        if self._sse:
            return sse.event(piece)
        start, self._is_first = b"[" if self._is_first else b",\n", False
        return start + piece

    def _piece(self, choice: int, parts: bytes) -> bytes:
        head = b'{"candidates":[{"content":{"parts":[%b],"role":"model"},"index":%d}]' % (parts, choice)
        return self._event(head + self._tail)

    def _said(self, e: Event) -> bytes:
        if isinstance(e, Said | Refused):
            return self._piece(e.choice, b'{"text":%b}' % _json(e.text))
        if isinstance(e, Thought):
            return self._piece(e.choice, _json(_thought(e)))
        if isinstance(e, Shown):
            return self._piece(e.choice, b",".join(map(_json, _shown(e))))
        if isinstance(e, Scored):
            scores = {"index": e.choice, "logprobsResult": _scores((e.content,))}
            return self._event(_json({"candidates": [scores]})[:-1] + self._tail)
        return b""

    def _calls(self, index: int, choice: _Open) -> bytes:
        calls = [msgspec.structs.replace(c, arguments="".join(choice.pieces[i])) for i, c in choice.calls.items()]
        choice.calls, choice.pieces = {}, {}
        parts = [_call(c) for c in calls]
        choice.malformed = choice.malformed or _malformed(calls)
        written = b",".join(_json(p) for p in parts if p is not None)
        return self._piece(index, written) if written else b""


def write_reply(reply: Reply, r: Request, id: str = "", created_s: int = 0) -> bytes:
    """The whole answer to `r`; `id` serves where the provider gave none."""
    out: dict[str, object] = {"candidates": [_whole(c) for c in reply.choices]}
    if reply.usage is not None:
        out["usageMetadata"] = write_usage(reply.usage)
    return _json(out | {"modelVersion": reply.model or r.model, "responseId": reply.id or id})


def _whole(c: Choice) -> dict[str, object]:
    thoughts = [_thought(t) for t in c.thinking]
    texts: list[dict[str, object]] = [{"text": text} for text in (c.text, c.refusal) if text]
    if texts and thoughts and "thoughtSignature" in thoughts[-1] and c.thinking[-1].family == GEMINI:
        texts[-1]["thoughtSignature"] = thoughts[-1].pop("thoughtSignature")  # Google signs what follows a thought
        thoughts = [t for t in thoughts if t != {"text": ""}]
    shown = [part for s in c.media for part in _shown(s)]
    calls = [part for call in c.calls if (part := _call(call)) is not None]
    out = _candidate(c.index, Ended(c.reason, c.native, c.index), _malformed(c.calls))
    out["content"] = {"parts": [*thoughts, *texts, *shown, *calls] or [{"text": ""}], "role": "model"}
    return out | ({"logprobsResult": _scores(c.logprobs)} if c.logprobs else {})


def _candidate(index: int, ended: Ended | None, malformed: str | None) -> dict[str, object]:
    """How a choice ended: by Google's word, the provider's own where it means the same or nothing to us."""
    out: dict[str, object] = {"content": {"parts": [{"text": ""}], "role": "model"}, "index": index}
    if ended is None:
        return out
    if malformed is not None:
        return out | {"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": malformed}
    reason, native = ended.reason, ended.native
    if reason is None:
        return out | {"finishReason": native or "FINISH_REASON_UNSPECIFIED"}
    is_own = native is not None and FINISH.get(native) == reason
    return out | {"finishReason": native if is_own else _WORDS[reason]}


def _thought(t: Thought | Thinking) -> dict[str, object]:
    """A thought, or a signature by itself. Another family's goes as base64, for SDKs decode what stands there.

    Whose it is must be known: what comes back without a word of that is Google's own.
    """
    out: dict[str, object] = {"text": t.text}
    if t.text or t.family != GEMINI:
        out["thought"] = True
    if t.family == GEMINI and t.signature:
        out["thoughtSignature"] = t.signature
    elif t.family not in (None, GEMINI) and (t.signature or t.sealed is not None):
        value = f"signed:{t.signature}" if t.sealed is None else f"sealed:{t.sealed}"
        out["thoughtSignature"] = base64.b64encode(tagged(value, t.family, GEMINI).encode()).decode()
    return out


def _shown(s: Shown) -> list[dict[str, object]]:
    out: list[dict[str, object]] = [{"text": s.transcript}] if s.transcript else []
    if s.media.data:
        out.append({"inlineData": {"mimeType": mime_of(s.media), "data": s.media.data}})
    elif s.media.url:
        out.append({"fileData": {"mimeType": s.media.mime, "fileUri": s.media.url}})
    return out


def _call(c: ToolCall) -> dict[str, object] | None:
    """A call as one part; None when its arguments are no object, which this dialect cannot say."""
    args = _args(c)
    if args is None:
        return None
    call = {"functionCall": {"id": c.id, "name": c.name, "args": args}}
    return call | ({"thoughtSignature": c.signature} if c.signature else {})


def _args(c: ToolCall) -> Raw | dict[str, str] | None:
    if c.kind == "custom":
        return {"input": c.arguments}
    text = c.arguments.strip()
    if text in ("", "null"):
        return {}
    try:
        _object(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return Raw(one_line(text.encode()))


def _malformed(calls: Iterable[ToolCall]) -> str | None:
    """What to say of the first call whose arguments are no object."""
    bad = next((c for c in calls if _args(c) is None), None)
    return None if bad is None else f"Malformed function call: {bad.name}({bad.arguments})"


def _scores(contents: Iterable[Raw]) -> dict[str, object]:
    """OpenAI's log-probabilities as `logprobsResult`."""
    tokens: list[_Token] = []
    for raw in contents:
        try:
            tokens += _tokens(raw)
        except (msgspec.MsgspecError, RecursionError):
            continue
    tops = [{"candidates": [_score(x) for x in t.top_logprobs or ()]} for t in tokens]
    return {"chosenCandidates": [_score(t) for t in tokens], "topCandidates": tops}


def _score(t: _Token) -> dict[str, object]:
    return {"token": t.token, "logProbability": t.logprob}
