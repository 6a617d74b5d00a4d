"""`previous_response_id` over every provider: what went before is looked up here and sent along with each request.

A caller's turns are its own: `owner` is the id of its key, and no other key finds them. Where turns are kept is not
this file's business (`store.responses`), nor what they look like (`wire.responses.state`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from msgspec import Raw

from lilliput.neutral import Problem
from lilliput.wire.responses.state import (
    MOST_BYTES,
    MOST_ITEMS,
    MOST_TURNS,
    Turn,
    items,
    join,
    pack,
    previous,
    references,
    resolve,
    too_long,
    turn,
    unpack,
)

Keep = Callable[[bytes], Awaitable[None]]
"""Stores a final Response object with what it was asked."""


class Threads(Protocol):
    """Where turns are kept, packed; every method raises `Problem("server", ...)` when it cannot answer."""

    async def find(self, owner: str, id: str) -> bytes | None:
        """The turn that ended with the response `id`, if it is this owner's and has not expired."""

    async def find_item(self, owner: str, id: str) -> bytes | None:
        """The turn whose answer holds the item `id`, under the same terms."""

    async def keep(self, owner: str, id: str, turn: bytes, items: Sequence[str]) -> None:
        """Keep a turn, whose answer holds items with these ids; one with the same id is replaced."""

    async def drop(self, owner: str, id: str) -> bool:
        """Forget a turn; False when there is none."""


async def expand(threads: Threads, owner: str, fields: dict[str, Raw]) -> dict[str, Raw]:
    """The request's `fields` with all that went before in its input, and the items themselves for references to them;
    the same dict where there is neither.

    Raises Problem for a response or an item that is not known, or no longer, and for a thread that is too long.
    """
    id = previous(fields)
    if id is not None:
        fields = join(fields, await _thread(threads, owner, id))
    named = references(fields)
    if not named:
        return fields
    known: dict[str, Raw] = {}
    for id in named:
        if id not in known:
            packed = await threads.find_item(owner, id)
            known |= items(unpack(packed)) if packed is not None else {}
            if id not in known:
                raise _no_item(id)
    return resolve(fields, known)


async def _thread(threads: Threads, owner: str, last: str) -> list[Turn]:
    """The turns that end with `last`, the oldest first."""
    id: str | None = last
    turns: list[Turn] = []
    size = 0
    while id is not None:
        packed = await threads.find(owner, id)
        if packed is None:
            raise _unknown(id)
        turns.append(unpack(packed))
        size += len(packed)
        if len(turns) > MOST_TURNS:
            raise too_long(f"over {MOST_TURNS} turns")
        if size > 4 * MOST_BYTES:  # responses repeat tools and more; `join` counts what is sent
            raise too_long(f"over {MOST_BYTES} bytes")
        id = turns[-1].previous
    return turns[::-1]


async def remember(threads: Threads, owner: str, fields: dict[str, Raw], response: bytes) -> None:
    """Keep what a later request may continue: the request's own `fields`, as they were before `expand`, and the
    whole Response object; nothing when the request says `store: false`."""
    kept = turn(fields, response)
    if kept is not None:
        await threads.keep(owner, kept.id, pack(kept), tuple(items(kept))[:MOST_ITEMS])


async def response(threads: Threads, owner: str, id: str) -> bytes:
    """The Response object with this id, for `GET /v1/responses/{id}`; raises Problem (404) when there is none."""
    packed = await threads.find(owner, id)
    if packed is None:
        raise _no_response(id)
    return unpack(packed).response


async def forget(threads: Threads, owner: str, id: str) -> None:
    """Drop the response with this id, for `DELETE /v1/responses/{id}`; raises Problem (404) when there is none."""
    if not await threads.drop(owner, id):
        raise _no_response(id)


def _unknown(id: str) -> Problem:
    """As OpenAI says it, with its status (openai/codex and others quote it; checked 2026-11-22)."""
    say = f"Previous response with id {id[:80]!r} not found."
    return Problem("missing", say, 400, code="previous_response_not_found", param="previous_response_id")


def _no_item(id: str) -> Problem:
    """As OpenAI says it (vercel/ai and others quote it; checked 2026-11-22)."""
    say = f"Item with id {id[:80]!r} not found. Items are not persisted when `store` is set to false."
    return Problem("missing", f"{say} Send the item itself instead.", param="input")


def _no_response(id: str) -> Problem:
    return Problem("missing", f"Response with id {id[:80]!r} not found.", param="id")
