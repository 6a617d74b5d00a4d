"""OpenAI's legacy completions as clients speak them: the request typed and read, the answer written and watched."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from lilliput.neutral import (
    Began,
    Choice,
    Counted,
    Ended,
    Event,
    Message,
    Problem,
    Refused,
    Reply,
    Request,
    Said,
    Scored,
    Text,
    Usage,
)
from lilliput.wire import sse
from lilliput.wire.completions.call import DIALECT
from lilliput.wire.openai.problem import write_stream_problem
from lilliput.wire.openai.request import NULL
from lilliput.wire.openai.types import Anything, ModelName, Penalty, StreamOptions, typed
from lilliput.wire.openai.usage import write_usage

_READ = frozenset(
    {
        *("model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "stop", "seed", "n", "presence_penalty"),
        *("frequency_penalty", "logprobs", "user", "stream", "stream_options"),
    }
)
"""The fields that have a neutral name; every other one goes to `extra` as it is."""


class Body(Struct, frozen=True, gc=False):
    """A completion request (OpenAI's Python SDK 3.54, checked 2026-11-22); null is the same as absent."""

    model: ModelName
    prompt: str | list[str | int | list[int]] | None = None
    best_of: Annotated[int, Meta(ge=0, le=128)] | None = None
    echo: bool | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Anything | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    max_tokens: Annotated[int, Meta(ge=0, lt=2**31)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    presence_penalty: Penalty | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    suffix: str | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_k: Annotated[int, Meta(ge=-1, lt=2**31)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    user: str | None = None


class _Top(Struct, gc=False):
    token: str
    logprob: float


class _Score(_Top, gc=False):
    top_logprobs: list[_Top] = []


_body = msgspec.json.Decoder(Body).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_scores = msgspec.json.Decoder(list[_Score]).decode
_json = msgspec.json.Encoder().encode


def check(body: bytes, path: str = "") -> Body:
    """The request in `body`; raises Problem (400) that names the field."""
    return typed(_body, body)


def read_request(body: bytes, path: str = "") -> Request:
    """The request in `body`, its prompt as one user message.

    Raises Problem (400) where `check` does, and for several prompts or tokens, which only pass to a provider of this
    dialect as they are.
    """
    b = check(body)
    try:
        fields = _fields(body.decode())
    except UnicodeDecodeError as e:
        say = f"the body is not UTF-8 (byte {e.start}); send JSON in UTF-8"
        raise Problem("client", say, code="invalid_json") from None
    prompt = b.prompt
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            say = f"prompt is a list of {len(prompt)}; this model takes one prompt a request, as text"
            raise Problem("client", say, code="unsupported_prompt", param="prompt")
        prompt = prompt[0]
    return Request(
        model=b.model,
        messages=(Message("user", (Text(prompt),) if prompt else ()),),
        dialect=DIALECT,
        max_tokens=b.max_tokens,
        temperature=b.temperature,
        top_p=b.top_p,
        top_k=b.top_k,
        stop=(b.stop,) if isinstance(b.stop, str) else tuple(b.stop or ()),
        seed=b.seed,
        n=b.n,
        presence_penalty=b.presence_penalty,
        frequency_penalty=b.frequency_penalty,
        logprobs=None if b.logprobs is None else True,
        top_logprobs=b.logprobs,
        user=b.user,
        stream=bool(b.stream),
        include_usage=bool(b.stream_options and b.stream_options.include_usage),
        extra={name: raw for name, raw in fields.items() if name not in _READ and bytes(raw) not in NULL},
    )


# -- the answer --------------------------------------------------------------------------------------------------


def writer(r: Request, id: str = "cmpl-0", created_s: int = 0) -> Writer:
    """A fresh writer for the streamed answer to `r`; `id` and `created_s` serve where the provider gave none."""
    return Writer(r, id, created_s)


class Writer:
    """Each event's bytes for the client, and with `end()` those that close a whole answer: usage and [DONE].

    There is a place for text alone: reasoning, media and tool calls are left out.
    """

    content_type = b"text/event-stream; charset=utf-8"

    def __init__(self, r: Request, id: str, created_s: int) -> None:
        self._began = Began(id, r.model, created_s)
        self._wants_usage = r.include_usage
        self._usage: Usage | None = None
        self._head = b""
        self._tail = b'}],"usage":null}' if r.include_usage else b"}]}"
        self._frame()

    def __call__(self, e: Event) -> bytes:
        if isinstance(e, Said | Refused):
            return self._chunk(e.choice, _json(e.text))
        if isinstance(e, Ended):
            return self._chunk(e.choice, b'""', finish=_json(e.reason or e.native))
        if isinstance(e, Scored):
            return self._chunk(e.choice, b'""', logprobs=_json(_logprobs((e.content,))))
        if isinstance(e, Counted):
            self._usage = e.usage
        elif isinstance(e, Began):
            known = self._began
            self._began = Began(e.id or known.id, e.model or known.model, e.created or known.created)
            self._frame()
        return b""

    def end(self) -> bytes:
        """The usage that the client asked for, as far as it is known, and the end mark."""
        if not self._wants_usage or self._usage is None:
            return sse.event(sse.DONE)
        usage = self._head[: -len(b'{"index":')] + b'],"usage":' + _json(write_usage(self._usage)) + b"}"
        return sse.event(usage) + sse.event(sse.DONE)

    def problem(self, p: Problem) -> bytes:
        return write_stream_problem(p)

    def _frame(self) -> None:
        self._head = _json(_about(self._began))[:-1] + b',"choices":[{"index":'

    def _chunk(self, choice: int, text: bytes, logprobs: bytes = b"null", finish: bytes = b"null") -> bytes:
        form = b'%b%d,"text":%b,"logprobs":%b,"finish_reason":%b%b'
        return sse.event(form % (self._head, choice, text, logprobs, finish, self._tail))


def write_reply(reply: Reply, r: Request, id: str = "cmpl-0", created_s: int = 0) -> bytes:
    """The whole answer to `r`; `id` and `created_s` serve where the provider gave none."""
    about = _about(Began(reply.id or id, reply.model or r.model, reply.created or created_s))
    usage = write_usage(reply.usage) if reply.usage is not None else None
    return _json({**about, "choices": [_choice(c) for c in reply.choices], "usage": usage})


def _about(b: Began) -> dict[str, object]:
    return {"id": b.id, "object": "text_completion", "created": b.created, "model": b.model}


def _choice(c: Choice) -> dict[str, object]:
    finish = c.reason or c.native
    return {"index": c.index, "text": c.text + c.refusal, "logprobs": _logprobs(c.logprobs), "finish_reason": finish}


def _logprobs(raws: tuple[Raw, ...]) -> dict[str, object] | None:
    """The legacy form of log-probabilities, None where they have none that can be read."""
    try:
        scores = [score for raw in raws for score in _scores(raw)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not scores:
        return None
    return {
        "tokens": [s.token for s in scores],
        "token_logprobs": [s.logprob for s in scores],
        "top_logprobs": [{t.token: t.logprob for t in s.top_logprobs} for s in scores],
    }
