"""The form of a scenario: what the provider does to each call, and what an exact gateway tells its caller then.

The scenarios themselves are in `rows`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from lilliput.chaos.speech import Piece

Framing = Literal["chunked", "length", "longer", "close"]
Then = Literal["end", "fin", "rst", "hang"]


@dataclass(frozen=True)
class Act:
    """One answer of the provider.

    `body` holds pieces of speech, bytes as they are, and pauses in seconds. `framing`: "longer" declares more bytes
    than come, "close" declares nothing. `then`: ends well, closes or resets before the framing is over, or says no
    more and waits. `raw` takes the place of everything. `head` stands before the answer's own head.
    """

    body: tuple[Piece | bytes | float, ...] = ()
    then: Then = "end"
    status: int = 200
    headers: str = ""
    content_type: str | None = None
    framing: Framing = "chunked"
    split_bytes: int = 0
    crlf: bool = False
    head: bytes = b""
    after: bytes = b""
    raw: bytes | None = None
    tear_bytes: int = 0
    """How many of the last bytes of the body never come."""
    keep_bytes: int | None = None
    """How many of its first bytes come at all."""


class Fault(NamedTuple):
    """An error as its caller should see it: status, any of these codes (OpenAI's dialects), type (Anthropic's)."""

    status: int
    codes: tuple[str, ...] = ()
    kind: str = "api_error"
    statuses: tuple[int, ...] = ()
    """Other statuses that say the same."""


class Ends(NamedTuple):
    """A good end: all of this text, this finish, the dialect's end mark."""

    text: str
    finish: str = "stop"


class Fails(NamedTuple):
    """An error in the caller's dialect: as a status, or (`mid`) as the last event, after exactly this text."""

    fault: Fault
    text: str = ""
    mid: bool = False
    retry_after: str | None = None


Outcome = Ends | Fails


@dataclass(frozen=True)
class Mode:
    """One scenario, for callers that stream or for callers that do not.

    The last of `acts` answers all further calls. Any of `exact` is exact; `calls` is the most that may be made.
    `leaves` says when the caller hangs up: once the call has arrived ("before"), or after some text ("mid").
    """

    acts: tuple[Act, ...]
    exact: tuple[Outcome, ...]
    calls: int = 2
    leaves: Literal["", "before", "mid"] = ""
    reads_slowly: bool = False


@dataclass(frozen=True)
class Scenario:
    """`second` is what another deployment does, for scenarios that need one: they run once a route is named."""

    name: str
    group: str
    stream: Mode
    unary: Mode
    second: tuple[Act, Act] | None = None
