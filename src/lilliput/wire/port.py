"""The shape of a dialect: the functions that its module offers on each side of the gateway.

A module fits by having them (`wire.dialects` holds the list); there is nothing to inherit. Readers, writers and
watches carry the state of one answer, so each call that makes one makes a fresh one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Raw

from lilliput.neutral import Event, Problem, Reply, Request, Sent, Target, Usage

Headers = tuple[tuple[str, str], ...]


class Asked(Protocol):
    """What a caller's body says to the gateway itself."""

    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool | None: ...


class Reader(Protocol):
    """A provider's answer as events, whole or streamed.

    Feed it the bytes as they come, then b"" at their end; each call gives the events that are now known. It raises
    only Problem; events before the trouble in the same bytes are given first, `trouble` is set, and the next call
    raises it. The end of the bytes raises code "upstream_truncated" unless the answer said that it is over.
    `Ended` comes last for each choice; `Called` comes before its `Argued`, with an id that is unique in the answer.
    """

    trouble: Problem | None
    done: bool
    """The answer said that it is over, where its dialect has a word for it: nothing after that is looked at."""

    def __call__(self, data: bytes) -> Sequence[Event]: ...


class Writer(Protocol):
    """Events as bytes for the client: each event's own, then `end()` for what closes a whole answer, or `problem()`
    for the last word of one that went wrong. `content_type` is the stream's."""

    content_type: bytes

    def __call__(self, e: Event) -> bytes: ...
    def end(self) -> bytes: ...
    def problem(self, p: Problem) -> bytes: ...


class Watch(Protocol):
    """A stream that passes from a provider to a client of the same dialect, event by event, each checked.

    `feed` gives what may go to the client now: nothing before the first real output (a role or a ping is none), after
    which `started` is true. `end` is called at the end of the provider's bytes. `done`: the answer said that it is
    over. `trouble`: the stream proved bad; what was given before stands. `usage` is what is known so far. `problem`
    is the last word of one that went wrong.
    """

    started: bool
    done: bool
    trouble: Problem | None

    @property
    def usage(self) -> Usage | None: ...
    def feed(self, chunk: bytes) -> bytes: ...
    def end(self) -> bytes: ...
    def problem(self, p: Problem) -> bytes: ...


class Provider(Protocol):
    """The upstream side of a dialect."""

    SUPPORT: Mapping[str, str]
    """What of `fields.FIELDS` is approximated or dropped, and how."""

    def endpoint(self, target: Target, stream: bool) -> tuple[str, Headers]:
        """The URL, and the headers that every such call carries: credentials and the target's own included."""
        ...

    def write_body(self, r: Request, target: Target) -> Sent:
        """The body that asks `target` what `r` asks, the row's quirks applied; raises Problem (400) for what it
        cannot be asked at all. A stream is always asked for its usage."""
        ...

    def reader(self, stream: bool) -> Reader: ...

    def read_problem(self, status: int, body: bytes) -> Problem:
        """What an answer that is no success says."""
        ...


class Client(Protocol):
    """The client side of a dialect. `path` is the request's decoded path with its query, where Gemini puts the model.

    One may also have `read_checked(asked, fields)`: `read_request` of a body that `check` and a split into its raw
    fields have taken apart before.

    `id` and `created_s` (Unix seconds) serve where the provider gave none.
    """

    DIALECT: str

    def check(self, body: bytes, path: str) -> Asked:
        """The body, typed; raises Problem (400) that names the field."""
        ...

    def read_request(self, body: bytes, path: str) -> Request:
        """The request; raises Problem (400) where `check` does, and for media that cannot be told apart."""
        ...

    def writer(self, r: Request, id: str, created_s: int) -> Writer: ...

    def write_reply(self, reply: Reply, r: Request, id: str, created_s: int) -> bytes: ...

    def write_problem(self, p: Problem, request_id: str) -> bytes:
        """The body of an error answer; the status is the Problem's."""
        ...

    def rewrite(self, fields: dict[str, Raw], asked: Asked, target: Target) -> bytes:
        """The caller's own body for a provider of the same dialect: the model's name there, usage asked for, quirks."""
        ...

    def watch(self, asked: Asked) -> Watch: ...

    def whole(self, status: int, body: bytes) -> Usage | None:
        """The usage in a whole answer that passes; raises Problem for what is no answer, or an error in a success."""
        ...
