"""What only watches a request, after its last byte: the record of it, and the meter.

Nothing here may refuse or change an answer.
"""

from __future__ import annotations

from msgspec import Struct

from lilliput.limits_config import Taken
from lilliput.neutral import Problem, Usage

REFUSED = b"none; tries=0; why=refused"
"""The route of a request that went nowhere."""

NAMED = b"named"
"""Why a target was chosen: the caller named it."""

MOST_TOTALS = 10_000
"""Callers choose model names, so the meter holds only so many; later ones share one total per key."""


class Record(Struct, kw_only=True):
    """One request as it went, written by `exchange`, read by every observer; times are Unix seconds."""

    request_id: bytes
    operation: str
    key_id: str
    began_at: float
    model: str = ""
    served_by: str = ""
    route: bytes = REFUSED
    why: bytes = NAMED
    tries: int = 0
    is_stream: bool = False
    usage: Usage | None = None
    dropped: tuple[str, ...] = ()
    pieces: int = 0
    """Pieces of the answer that went to the caller: its tokens, as far as nobody tells."""
    prompt_tokens: int = 0
    """By estimate, from the body's size."""
    taken: Taken | None = None
    is_held: bool = False
    cost_nusd: int | None = None
    lines: bytes = b""
    """Further header lines of the answer."""
    problem: Problem | None = None
    left_early: bool = False


class Total(Struct):
    requests: int = 0
    problems: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Meter:
    """Requests and tokens per key and deployment since the start, in memory."""

    def __init__(self) -> None:
        self.totals: dict[tuple[str, str], Total] = {}

    def note(self, record: Record) -> None:
        who = (record.key_id, record.served_by)
        total = self.totals.get(who)
        if total is None:
            if len(self.totals) >= MOST_TOTALS:
                who = (record.key_id, "")
            total = self.totals.setdefault(who, Total())
        total.requests += 1
        if record.problem is not None:
            total.problems += 1
        if record.usage is not None:
            total.prompt_tokens += record.usage.prompt_tokens
            total.completion_tokens += record.usage.completion_tokens
