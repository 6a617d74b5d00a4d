"""What only watches a request, after its last byte: the record of it. What is counted of it is `metrics`.

Nothing here may refuse or change an answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from lilliput.limits_config import Taken
from lilliput.neutral import Problem, Target, Usage

REFUSED = b"none; tries=0; why=refused"
"""The route of a request that went nowhere."""

NAMED = b"named"
"""Why a target was chosen: the caller named it."""


class Trace(Protocol):
    """What looks on at the bytes that go to providers and come from them."""

    def sent(self, target: Target, body: bytes) -> Callable[[bytes], object]:
        """A try begins; what it gives is told each piece of the answer's body."""
        ...


class Record(Struct, kw_only=True):
    """One request as it went, written by `exchange`, read by every observer; times are Unix seconds, by `clock`."""

    request_id: bytes
    operation: str
    key_id: str
    began_at: float
    clock: Callable[[], float] = time.time
    first_at: float | None = None
    """When the first of a streamed answer went to the caller."""
    ended_at: float = 0.0
    model: str = ""
    served_by: str = ""
    route: bytes = REFUSED
    why: bytes = NAMED
    task: bytes = b""
    """Of a task: its name, that its teacher answers, and why; the route's beginning."""
    tries: int = 0
    is_stream: bool = False
    cache: str = ""
    """What became of it: hit, semantic, miss, bypass or idempotent; empty where nobody looked."""
    usage: Usage | None = None
    dropped: tuple[str, ...] = ()
    pieces: int = 0
    """Pieces of the answer that went to the caller: its tokens, as far as nobody tells."""
    prompt_tokens: int = 0
    """By estimate, from the body's size."""
    taken: Taken | None = None
    is_held: bool = False
    held_nusd: int = 0
    cost_nusd: int | None = None
    lines: bytes = b""
    """Further header lines of the answer."""
    told_cost: bool = False
    """Whether the answer's own usage tells the cost."""
    problem: Problem | None = None
    left_early: bool = False
    trace: Trace | None = None
