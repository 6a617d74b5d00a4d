"""A request through a provider's body and back: the same, up to the losses that the dialect declares."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from lilliput.neutral import (
    Format,
    Media,
    MediaKind,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Request,
    Target,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from lilliput.wire import openai as chat

TARGET = Target(provider="p", model="m", base="http://localhost/v1")

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NAMES = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=6)
MAYBE_NAME = st.none() | NAMES
DATA = st.binary(max_size=9).map(lambda b: base64.b64encode(b).decode())
RAW_OBJECTS = st.dictionaries(NAMES, st.integers() | WORDS | st.none(), max_size=3).map(
    lambda d: Raw(msgspec.json.encode(d))
)


@st.composite
def medias(draw: st.DrawFn) -> Media:
    kinds: list[MediaKind] = ["image", "audio", "video", "file"]
    kind = draw(st.sampled_from(kinds))
    family = "application" if kind == "file" else kind
    mime = draw(st.none() | st.sampled_from(["mpeg", "wav", "x-wav", "png", "pdf"]).map(lambda s: f"{family}/{s}"))
    where = draw(st.sampled_from(["data", "url", "file_id"]))
    value = draw({"data": DATA, "url": NAMES.map(lambda n: f"https://x/{n}"), "file_id": NAMES}[where])
    media = Media(kind, mime=mime, name=draw(MAYBE_NAME), detail=draw(MAYBE_NAME))
    return replace(media, **{where: value})


PARTS_ANYWHERE: st.SearchStrategy[Part] = st.one_of(
    WORDS.map(Text),
    WORDS.map(Text),
    medias(),
    st.builds(Thinking, WORDS, MAYBE_NAME, MAYBE_NAME, MAYBE_NAME),
    WORDS.map(Refusal),
    st.builds(ToolCall, NAMES, NAMES, WORDS, st.sampled_from(["function", "custom"])),
    st.builds(
        ToolResult, NAMES, st.lists(WORDS.map(Text) | medias(), max_size=2).map(tuple), MAYBE_NAME, st.booleans()
    ),
    st.builds(Opaque, st.sampled_from(["openai_chat", "gemini"]), st.just(Raw(b'{"type":"hologram"}'))),
)
MESSAGES = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    st.lists(PARTS_ANYWHERE, max_size=4).map(tuple),
    MAYBE_NAME,
)
FORMATS = st.one_of(
    st.just(Format("text")),
    st.just(Format("json")),
    st.builds(
        Format, st.just("schema"), st.none() | RAW_OBJECTS, MAYBE_NAME, st.none() | st.booleans(), st.none() | WORDS
    ),
)
REQUESTS = st.builds(
    Request,
    model=NAMES,
    messages=st.lists(MESSAGES, max_size=4).map(lambda ms: (*ms, Message("user", (Text("hi"),)))),
    dialect=st.sampled_from(["openai_chat", "openai_chat", "anthropic"]),
    tools=st.lists(
        st.builds(Tool, NAMES, st.none() | WORDS, st.none() | RAW_OBJECTS, st.none() | st.booleans()), max_size=2
    ).map(tuple),
    tool_choice=st.none()
    | st.sampled_from([ToolChoice("auto"), ToolChoice("none"), ToolChoice("required")])
    | NAMES.map(lambda n: ToolChoice("named", n)),
    parallel_tools=st.none() | st.booleans(),
    format=st.none() | FORMATS,
    max_tokens=st.none() | st.integers(1, 2**31 - 1),
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(1, 100),
    stop=st.lists(WORDS, max_size=3).map(tuple),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    n=st.none() | st.integers(1, 128),
    presence_penalty=st.none() | st.floats(-2, 2),
    frequency_penalty=st.none() | st.floats(-2, 2),
    logprobs=st.none() | st.booleans(),
    top_logprobs=st.none() | st.integers(0, 20),
    reasoning=st.none() | st.builds(Reasoning, NAMES) | st.builds(Reasoning, MAYBE_NAME, st.integers(1, 50_000)),
    user=st.none() | WORDS,
    stream=st.booleans(),
    include_usage=st.booleans(),
    extra=st.dictionaries(NAMES.map(lambda n: f"x_{n}"), RAW_OBJECTS, max_size=2),
)


def _usage_asked(r: Request) -> Request:
    return replace(r, include_usage=r.stream)


def _named(r: Request) -> Request:
    anything = Raw(b'{"type":"object","properties":{}}')
    tools = tuple(t if t.schema is not None else replace(t, schema=anything) for t in r.tools)
    f = r.format
    if f is not None and f.kind == "schema":
        f = replace(f, name=f.name or "answer")
    messages = tuple(replace(m, name=None) if m.role == "tool" else m for m in r.messages)
    return replace(r, tools=tools, format=f, messages=messages)


def _chosen(r: Request) -> Request:
    return r if r.tools else replace(r, tool_choice=None, parallel_tools=None)


def _budgeted(r: Request) -> Request:
    want = r.reasoning
    if want is None or want.effort is not None:
        return replace(r, reasoning=want and Reasoning(want.effort))
    budget = want.budget_tokens or 0
    return replace(r, reasoning=Reasoning("low" if budget <= 4096 else "medium" if budget <= 16384 else "high"))


def _without_foreign(r: Request) -> Request:
    own = r.dialect == "openai_chat"
    r = _each(r, lambda p: None if isinstance(p, Opaque) and p.dialect != "openai_chat" else p)
    return r if own else replace(r, extra={})


def _without_empty(r: Request) -> Request:
    def keep(p: Part) -> Part | None:
        if isinstance(p, ToolResult):
            return replace(p, parts=tuple(q for q in p.parts if not isinstance(q, Text) or q.text))
        return None if isinstance(p, Text | Refusal) and not p.text else p

    return _each(r, keep)


def _argued(r: Request) -> Request:
    def fill(p: Part) -> Part:
        return replace(p, arguments="{}") if isinstance(p, ToolCall) and p.kind == "function" and not p.arguments else p

    return _each(r, fill)


def _results_apart(r: Request) -> Request:
    out: list[Message] = []
    for m in r.messages:
        results = [p for p in m.parts if isinstance(p, ToolResult)]
        out += [Message("tool", (replace(p, is_error=False),), m.name if m.role == "tool" else None) for p in results]
        rest = tuple(p for p in m.parts if not isinstance(p, ToolResult))
        content = [p for p in rest if isinstance(p, Text | Media | Refusal | Opaque)]
        if m.role == "assistant" or (m.role != "tool" and (content or not results)):
            out.append(replace(m, parts=rest))
    return replace(r, messages=tuple(out))


def _placed(r: Request) -> Request:
    def parts(m: Message) -> tuple[Part, ...]:
        out = m.role != "assistant" and (Thinking, ToolCall)
        return tuple(p for p in m.parts if not (out and isinstance(p, out)))

    return replace(r, messages=tuple(replace(m, parts=parts(m)) for m in r.messages))


def _ordered(r: Request) -> Request:
    def rank(p: Part) -> int:
        return 0 if isinstance(p, Thinking) else 2 if isinstance(p, ToolCall) else 1

    return replace(r, messages=tuple(replace(m, parts=tuple(sorted(m.parts, key=rank))) for m in r.messages))


def _thought(r: Request) -> Request:
    def parts(m: Message) -> tuple[Part, ...]:
        thoughts = [p for p in m.parts if isinstance(p, Thinking)]
        if r.dialect == "openai_chat" and any(t.signature or t.sealed or t.family for t in thoughts):
            kept = [t for t in thoughts if t.text or t.signature or t.sealed]
        else:
            text = "".join(t.text for t in thoughts if t.sealed is None)
            kept = [Thinking(text)] if text else []
        return (*kept, *(p for p in m.parts if not isinstance(p, Thinking)))

    return replace(r, messages=tuple(replace(m, parts=parts(m)) for m in r.messages))


GUESSED = {"image": "image/png", "audio": "audio/wav", "video": "video/mp4", "file": "application/pdf"}


def _media(m: Media) -> Media:
    if m.file_id is not None:
        return Media("file", file_id=m.file_id, name=m.name)
    mime = None if m.data is None else m.mime or GUESSED[m.kind]
    if m.kind == "audio" and mime == "audio/x-wav":
        mime = "audio/wav"
    name = (m.name or "file") if m.kind == "file" else None
    return Media(m.kind, mime, m.data, m.url, None, name, m.detail if m.kind == "image" else None)


def _portrayed(r: Request) -> Request:
    def show(p: Part) -> Part:
        if isinstance(p, ToolResult):
            return replace(p, parts=tuple(_media(q) if isinstance(q, Media) else q for q in p.parts))
        return _media(p) if isinstance(p, Media) else p

    return _each(r, show)


def _each(r: Request, change: Any) -> Request:
    messages = [replace(m, parts=tuple(q for p in m.parts if (q := change(p)) is not None)) for m in r.messages]
    return replace(r, messages=tuple(messages))


SETTLED = {
    "empty text": _without_empty,
    "foreign": _without_foreign,
    "tool turns": _results_apart,
    "place": _placed,
    "order": _ordered,
    "thinking": _thought,
    "arguments": _argued,
    "usage": _usage_asked,
    "names": _named,
    "media": _portrayed,
    "choice": _chosen,
    "budget": _budgeted,
}
"""Each declared loss as what it does to a request. The losses of reading alone have tests of their own above."""
READING = {"developer", "legacy", "marks", "tool parts", "cache marks"}


def test_every_loss_is_held_to_account() -> None:
    assert SETTLED.keys() | READING == chat.LOSSES.keys()


@settings(max_examples=400, deadline=None)
@given(REQUESTS)
def test_a_request_comes_back_but_for_its_losses(r: Request) -> None:
    again = chat.read_request(chat.write_body(r, replace(TARGET, model=r.model)).body)
    want = r
    for settle in SETTLED.values():
        want = settle(want)
    assert again == replace(want, dialect="openai_chat")
    assert chat.read_request(chat.write_body(again, replace(TARGET, model=r.model)).body) == replace(
        again, include_usage=r.stream
    )
