"""One good stream of 4 KiB, cut once after every byte: what came is flagged or complete, never a false end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from lilliput.chaos import faults
from lilliput.chaos.scenario import Act, Ends, Fails, Mode, Outcome, Scenario, Then
from lilliput.chaos.speech import Dialect, Finish, Mark, Piece, Role, Say, Speech

LEAST_BYTES = 4096
_LINE_END = 2
"""An event whose blank line alone is missing may be taken or left."""


class Point(NamedTuple):
    """After `at` bytes of the stream all of `text` has come, and when `is_over` its finish too."""

    at: int
    text: str
    is_over: bool


@cache
def story() -> tuple[Piece, ...]:
    """The pieces of a chat stream of at least `LEAST_BYTES`."""
    words = tuple(Say(f"word{i:03} ") for i in range(400))
    size = len(_told((Role(), Finish(usage="none"), Mark()), "chat")[-1])
    each = len(_told(words[:1], "chat")[-1])
    return (Role(), *words[: -(-(LEAST_BYTES - size) // each)], Finish(usage="none"), Mark())


def _told(pieces: Sequence[Piece], dialect: Dialect) -> list[bytes]:
    """The stream after each of its pieces."""
    speech, data = Speech(dialect, True), b""
    return [data := data + speech.bytes_of(piece) for piece in pieces]


@cache
def points(dialect: Dialect) -> tuple[Point, ...]:
    """The stream in `dialect` after each of its pieces."""
    text, found, is_over = "", [Point(0, "", False)], False
    for piece, data in zip(story(), _told(story(), dialect), strict=True):
        text += piece.text if isinstance(piece, Say) else ""
        is_over = is_over or isinstance(piece, Finish)
        found.append(Point(len(data), text, is_over))
    return tuple(found)


def exact(dialect: Dialect, at: int) -> tuple[Outcome, ...]:
    """What may be told of the stream cut after `at` bytes."""
    found: list[Outcome] = []
    for seen in {at, at + _LINE_END}:
        last = max((p for p in points(dialect) if p.at <= seen), key=lambda p: p.at)
        found.append(Fails(faults.BROKEN, last.text, mid=bool(last.text)))
        if last.is_over:
            found.append(Ends(last.text))  # the finish is proof that it is whole
    return tuple(found)


def cuts(dialect: Dialect = "chat", *, every: int = 1, then: Then = "end") -> Iterator[Scenario]:
    """A scenario for each `every`th offset, for a provider that is asked in `dialect`."""
    for at in range(0, points(dialect)[-1].at + 1, every):
        mode = Mode((Act(story(), then, keep_bytes=at),), exact(dialect, at))
        yield Scenario(f"cut after {at} bytes", "every byte", mode, mode)
