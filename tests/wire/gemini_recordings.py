"""The recordings of the Gemini dialect, and what the neutral forms say in the terms of their `expect.py`."""

from __future__ import annotations

import functools
import itertools
from typing import Any

from tests.conformance.kit import Facts, Interaction, Kit
from tests.conformance.need import recordings

from lilliput.neutral import Choice, Event, Problem, Reply, Usage
from lilliput.wire import gemini

API = "gemini.generate"


@functools.cache
def kit() -> Kit:
    return Kit(recordings())


@functools.cache
def chats() -> tuple[Interaction, ...]:
    """Every recorded Gemini call, at AI Studio and at Vertex."""
    return tuple(i for i in kit().interactions if i["api"] == API)


def answers(kind: str | None = None) -> list[Interaction]:
    """The interactions that were answered with 200, of one kind or of both."""
    return [i for i in chats() if i["response"]["status"] == 200 and kind in (None, i["kind"])]


def body(i: Interaction) -> bytes:
    return kit().body(i)


def path(i: Interaction) -> str:
    """The path and query of the recorded call."""
    return "/" + str(i["request"]["url"]).split("://", 1)[1].split("/", 1)[1]


def said(i: Interaction) -> Facts:
    """What the recorded answer said, by `expect.py`."""
    return dict(kit().expect.response_facts(i))


def read(i: Interaction, cuts: list[int] | None = None) -> tuple[list[Event], Problem | None]:
    """The events of a recorded answer fed in pieces that end at `cuts`, and the trouble that ended them."""
    return feed(body(i), i["kind"] == "stream", cuts)


def feed(raw: bytes, stream: bool, cuts: list[int] | None = None) -> tuple[list[Event], Problem | None]:
    reader = gemini.reader(stream)
    events: list[Event] = []
    edges = [0, *(cuts or ()), len(raw)]
    pieces = [raw[a:b] for a, b in itertools.pairwise(edges) if b > a]
    try:
        for piece in (*pieces, b""):
            events += reader(piece)
            if reader.trouble:
                return events, reader.trouble
    except Problem as trouble:
        return events, trouble
    return events, None


def pass_on(raw: bytes, path: str, cuts: list[int] | None = None) -> tuple[bytes, gemini.Watch]:
    """What a client gets of a stream that passes, fed in pieces."""
    watch = gemini.watch(gemini.Asked("m", True, "alt=sse" in path))
    edges = [0, *(cuts or ()), len(raw)]
    out = b""
    for a, b in itertools.pairwise(edges):
        out += watch.feed(raw[a:b])
        if watch.trouble:
            return out, watch
    return out + watch.end(), watch


def facts_of(reply: Reply) -> dict[str, Any]:
    """A neutral answer in the terms of `expect.py`: its first choice, but for usage."""
    c = reply.choices[0] if reply.choices else Choice()
    parse = kit().expect._args
    return {
        "text": c.text,
        "reasoning": "".join(t.text for t in c.thinking),
        "tool_calls": [[t.name, parse(t.arguments)] for t in c.calls],
        "finish_reason": c.reason or c.native,
        "choices": len(reply.choices),
        "media_out": [s.media.kind for s in c.media],
        "usage": usage_facts(reply.usage),
    }


def usage_facts(u: Usage | None) -> dict[str, int] | None:
    if u is None:
        return None
    return {
        "prompt_tokens": u.prompt_tokens,
        "completion_tokens": u.completion_tokens,
        "cached_tokens": u.cache_read,
        "reasoning_tokens": u.reasoning,
        "cache_write_tokens": u.cache_write_5m + u.cache_write_1h,
    }
