"""The recordings of the Anthropic dialect, and what the neutral forms say in the terms of their `expect.py`."""

from __future__ import annotations

import functools
import itertools

from tests.conformance.kit import Facts, Interaction
from tests.wire.chat_recordings import body, events_facts, facts_of, kit, usage_facts

from lilliput.neutral import Event, Problem
from lilliput.wire import anthropic

__all__ = ["answers", "asked", "body", "events_facts", "facts_of", "feed", "kit", "messages", "said", "usage_facts"]


@functools.cache
def messages() -> tuple[Interaction, ...]:
    """Every recorded interaction of this dialect."""
    return tuple(i for i in kit().interactions if i["api"] == "anthropic.messages")


def answers(kind: str | None = None) -> list[Interaction]:
    """The interactions that were answered with 200, of one kind or of both."""
    return [i for i in messages() if i["response"]["status"] == 200 and kind in (None, i["kind"])]


def asked() -> list[Interaction]:
    """The interactions whose request was recorded, and good."""
    return [i for i in messages() if kit().request(i) is not None and i["response"]["status"] not in (400, 404)]


def said(i: Interaction) -> Facts:
    """What the recorded answer said, by `expect.py`."""
    facts: Facts = kit().expect.response_facts(i)
    return facts


def feed(raw: bytes, stream: bool, cuts: list[int] | None = None) -> tuple[list[Event], Problem | None]:
    """The events of an answer fed in pieces that end at `cuts`, and the trouble that ended them."""
    reader = anthropic.reader(stream)
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
