"""The recordings of OpenAI's Responses dialect, and how they are fed to its reader."""

from __future__ import annotations

import functools
import itertools

from tests.conformance.kit import Interaction
from tests.wire.chat_recordings import events_facts, facts_of, kit, said, usage_facts

from lilliput.neutral import Event, Problem
from lilliput.wire import responses

__all__ = ["answers", "body", "calls", "events_facts", "facts_of", "feed", "kit", "read", "said", "usage_facts"]


@functools.cache
def calls() -> tuple[Interaction, ...]:
    """Every recorded interaction of this dialect."""
    return tuple(i for i in kit().interactions if i["api"] == "openai.responses")


def answers(kind: str | None = None) -> list[Interaction]:
    """The interactions that were answered with 200, of one kind or of both."""
    return [i for i in calls() if i["response"]["status"] == 200 and kind in (None, i["kind"])]


def body(i: Interaction) -> bytes:
    return kit().body(i)


def read(i: Interaction, cuts: list[int] | None = None) -> tuple[list[Event], Problem | None]:
    return feed(body(i), i["kind"] == "stream", cuts)


def feed(raw: bytes, stream: bool, cuts: list[int] | None = None) -> tuple[list[Event], Problem | None]:
    """The events of an answer fed in pieces that end at `cuts`, and the trouble that ended them."""
    reader = responses.reader(stream)
    events: list[Event] = []
    edges = [0, *(cuts or ()), len(raw)]
    try:
        for piece in (*(raw[a:b] for a, b in itertools.pairwise(edges) if b > a), b""):
            events += reader(piece)
            if reader.trouble:
                return events, reader.trouble
    except Problem as trouble:
        return events, trouble
    return events, None
