"""What may refuse a request: an unknown key, a model that the key may not call, a body of the wrong kind.

A rule that may refuse is one function here. Rules that only watch belong in `observe`.
"""

from __future__ import annotations

import itertools
import logging
import os
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from msgspec import Raw, Struct

from lilliput.catalogue.rows import Model
from lilliput.gateway.metrics import Meter
from lilliput.gateway.routing import Routing
from lilliput.gateway.shed import Load
from lilliput.gateway.threads import Threads
from lilliput.gateway.till import Till
from lilliput.gateway.upstream import Link, Upstream
from lilliput.neutral import Key, Problem, Target

if TYPE_CHECKING:
    from lilliput.gateway.exchange import Receipts, Replays, Tasks
    from lilliput.gateway.task_desk import Desk

MOST_WAYS = 4096
log = logging.getLogger("lilliput")
LEAST_SECRET = 12
"""Characters of a header's value that may be a secret; shorter ones are words."""

Headers = Mapping[bytes, bytes]


class Here(Protocol):
    """A provider that runs on this machine and is started when it is called."""

    def fit(self, operation: str, fields: dict[str, Raw]) -> dict[str, Raw]:
        """The fields of a request that it takes; raises Problem (400) for a value that it cannot."""
        ...

    async def wake(self, target: Target) -> Target:
        """The target with its address of now; raises Problem (503) when it cannot run."""
        ...


class Way(Struct, frozen=True, eq=False):
    """A target's endpoint with what every call to it repeats: connection pool and head, route header."""

    target: Target
    link: Link
    url: str
    headers: tuple[tuple[str, str], ...]
    served: bytes
    route: bytes


class Gate:
    """What `exchange` is handed: the network, the keys, the catalogue, a clock, dice and the meter."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        find_key: Callable[[str], Key | None],
        allows: Callable[[Key, str], bool],
        target: Callable[[str], Target],
        models: Callable[[], Iterable[Model]] = tuple,
        here: Mapping[str, Here] | None = None,
        model: Callable[[str], Model | None] = lambda id: None,
        threads: Threads | None = None,
        till: Till | None = None,
        routing: Routing | None = None,
        replays: Replays | None = None,
        receipts: Receipts | None = None,
        desk: Desk | None = None,
        tasks: Tasks | None = None,
        meter: Meter | None = None,
        load: Load | None = None,
        scrapers: Collection[str] | None = (),
        ready: Callable[[], Mapping[str, str]] = dict,
        key_epoch: Callable[[], int] = int,
        body_limit_bytes: int = 10 * 1024 * 1024,
        clock: Callable[[], float] = time.time,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self.upstream = upstream
        self.find_key = find_key
        self.allows = allows
        self.target = target
        self.models = models
        self.here = here or {}
        self.model = model
        self.threads = threads
        self.till = till
        self.routing = routing
        self.replays = replays
        self.receipts = receipts
        self.desk = desk
        self.tasks = tasks
        self.meter = meter or Meter()
        self.load = load or Load()
        self.load.shed = self.meter.book.shed
        self.scrapers = scrapers
        self.ready = ready
        self.key_epoch = key_epoch
        self.body_limit_bytes = body_limit_bytes
        self.clock = clock
        self.dice = dice
        self.ways: dict[tuple[int, tuple[object, ...]], Way] = {}
        self.is_closing = False
        boot = os.urandom(6).hex()
        self._boot = f"req_{boot}".encode()
        self._count = itertools.count(1).__next__

    def request_id(self) -> bytes:
        return b"%b%08x" % (self._boot, self._count())


def admit(gate: Gate, headers: Headers) -> Key:
    """The key that a request carries; raises Problem (401).

    Decided from the headers alone, before a byte of the body is read.
    """
    return known(gate, token(headers))


def token(headers: Headers) -> str:
    """What stands for a key in any of the three headers that clients use; raises Problem (401)."""
    carried = headers.get(b"authorization")
    if carried is not None:
        if carried[:7].lower() != b"bearer ":
            raise _no_key("the Authorization header must read 'Bearer <key>'")
        given = carried[7:].strip()
    else:
        given = headers.get(b"x-api-key") or headers.get(b"x-goog-api-key") or b""
        if not given:
            raise _no_key(
                "no API key was given; send 'Authorization: Bearer <key>' (print one with `lilliput key dev`)"
            )
    return given.decode("latin-1")


def known(gate: Gate, token: str) -> Key:
    """The live key of this token; raises Problem (401)."""
    key = gate.find_key(token)
    if key is None:
        raise _no_key("the API key is unknown, expired or revoked; list keys with `lilliput key list`")
    return key


def may_scrape(gate: Gate, headers: Headers) -> Key | None:
    """The key that asks for the metrics, None where anyone may; raises Problem (401, 403)."""
    if gate.scrapers is None:
        return None
    key = admit(gate, headers)
    if key.local or key.id in gate.scrapers or key.name in gate.scrapers:
        return key
    say = f"this key may not read the metrics; add {key.id!r} to `keys` in [metrics], or use `lilliput key dev`'s"
    raise Problem("permission", say, code="metrics_not_allowed")


def _no_key(say: str) -> Problem:
    return Problem("auth", say, code="invalid_api_key")


def may_call(gate: Gate, key: Key, target: Target) -> None:
    """Raises Problem (403) when the model is outside the key's scope."""
    if not gate.allows(key, target.id):
        raise Problem(
            "permission",
            f"this key may not call {target.id!r}; it may call {', '.join(key.models)}",
            code="model_not_allowed",
            param="model",
        )


def hide(problem: Problem, target: Target) -> None:
    """Strikes out the provider's own key, and what its headers hold, where it quotes them in an error."""
    for secret in (target.key.reveal() if target.key is not None else "", *target.headers.values()):
        if len(secret) >= LEAST_SECRET:
            problem.say = problem.say.replace(secret, "***")
            problem.code = problem.code and problem.code.replace(secret, "***")


def shown(problem: Problem) -> Problem:
    """What a caller is told of it: not where our own store is, nor what it said. The log has that."""
    if problem.fault != "server" or not (problem.code or "").startswith("store_"):
        return problem
    log.error("%s", problem.say)
    say = "the gateway's store cannot be used now; its log says why"
    return Problem("server", say, problem.status, code=problem.code, retry_after_s=problem.retry_after_s)


def served(target: Target) -> bytes:
    """The target's name for a header; raises Problem (400) for one that could break out of it."""
    is_printable(target)
    return target.id.encode("ascii", "backslashreplace")


def is_printable(target: Target) -> None:
    """Raises Problem (400) for a model's name that could break out of a header, where every answer shows it."""
    if not target.id.isprintable():
        say = f"the model's name {target.model!r} is not printable"
        raise Problem("client", say, code="invalid_value", param="model")


def is_json(content_type: bytes | None) -> None:
    """Raises Problem (415) for a body that says it is something other than JSON."""
    if content_type == b"application/json" or content_type is None:
        return
    if content_type.partition(b";")[0].strip().lower() in (b"application/json", b"text/json"):
        return
    shown = content_type[:80].decode("latin-1")
    raise Problem(
        "client",
        f"the body is declared as {shown!r}; send JSON with 'Content-Type: application/json'",
        415,
        code="unsupported_media_type",
    )


def fits(gate: Gate, length_bytes: int) -> None:
    """Raises Problem (413) for a body past the limit."""
    if length_bytes > gate.body_limit_bytes:
        raise too_large(gate.body_limit_bytes)


def too_large(limit_bytes: int) -> Problem:
    say = f"the body is over the limit of {limit_bytes} bytes; send less, or raise server.body_limit_bytes"
    return Problem("client", say, 413, code="body_too_large")
