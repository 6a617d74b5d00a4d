"""`GET /metrics`: what the workers counted, in the text format of Prometheus 0.0.4 or as OpenMetrics 1.0.

Every family is a row of `FAMILIES`, and docs/metrics.md shows the same table. Labels take few values: never the id of
a key or a request, and of models only so many (see `metrics`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Literal, Protocol

from msgspec import Struct

from lilliput import __version__
from lilliput.gateway import gates
from lilliput.gateway.exchange import dollars
from lilliput.gateway.metrics import BOUNDS_S, KINDS, NONE, Book, add, decode, encode, summed

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
AGE_S = 1.0
"""How old the numbers of another worker may be."""
_STATES = {"closed": 0.0, "half_open": 1.0, "open": 2.0}
_ODD = re.compile(r'[\\\n"]')
_ESCAPES = {"\\": r"\\", "\n": r"\n", '"': r"\""}

Kind = Literal["counter", "gauge", "histogram"]
Value = float | str
Sample = tuple[str, Value]
"""What follows the family's name, and the value."""


class Family(Struct, frozen=True):
    """`name` without the `_total` of a counter. Workers' gauges are joined by `join`."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    unit: str
    about: str
    join: Literal["sum", "max", "min"] = "sum"


_WHERE = ("operation", "provider", "model")
FAMILIES = (
    Family(
        "lilliput_requests", "counter", (*_WHERE, "outcome", "status"), "requests",
        "Requests that ended. `outcome` is ok, left (the caller went), shed, or the class of what was wrong; `status` "
        "its class of status, none where nobody was left to be told. Those refused at their headers have no operation",
    ),
    Family(
        "lilliput_request_duration_seconds", "histogram", _WHERE, "seconds",
        "From a request's arrival to the last byte of its answer",
    ),
    Family(
        "lilliput_first_token_seconds", "histogram", _WHERE, "seconds",
        "From a request's arrival to the first output of a streamed answer",
    ),
    Family(
        "lilliput_tokens", "counter", (*_WHERE, "kind"), "tokens",
        f"Tokens used, in kinds that do not overlap: {', '.join(KINDS)}",
    ),
    Family("lilliput_cost_dollars", "counter", _WHERE, "US dollars", "Cost of requests, by the ledger's prices"),
    Family(
        "lilliput_upstream_calls", "counter", ("provider", "model", "outcome"), "calls",
        "Calls to deployments, each try by itself. `outcome` as above",
    ),
    Family("lilliput_retries", "counter", (), "calls", "Calls made again to the same deployment"),
    Family("lilliput_failovers", "counter", (), "calls", "Calls made to another deployment after one that failed"),
    Family(
        "lilliput_breaker_state", "gauge", ("deployment",), "state",
        "0 closed, 1 half open, 2 open; the worst that a worker sees", "max",
    ),
    Family("lilliput_holds", "gauge", (), "holds", "Requests under way with money put aside"),
    Family("lilliput_held_dollars", "gauge", (), "US dollars", "Money put aside for requests under way"),
    Family(
        "lilliput_shed", "counter", ("why", "priority"), "requests",
        "Requests turned away because of load: max_in_flight, or lag of the event loop",
    ),
    Family("lilliput_cache", "counter", ("result",), "requests", "Requests that the cache was asked about"),
    Family(
        "lilliput_task_answers", "counter", ("task", "by", "why"), "answers",
        "Answers of tasks. `by` is teacher or student; `why` the teacher: the task's state, or what kept the student "
        "from it",
    ),
    Family(
        "lilliput_task_events", "counter", ("task", "event"), "events",
        "What came of them: rows kept, comparisons that agree or differ, demotions, and what was dropped",
    ),
    Family("lilliput_in_flight", "gauge", (), "requests", "Requests under way, open streams included"),
    Family("lilliput_waiting", "gauge", (), "requests", "Requests of whose answer no byte is out yet"),
    Family("lilliput_open_connections", "gauge", (), "connections", "Client connections"),
    Family(
        "lilliput_event_loop_lag_seconds", "gauge", (), "seconds",
        "How late the event loop is; of the worker that is latest", "max",
    ),
    Family("lilliput_workers", "gauge", (), "processes", "Workers in these numbers"),
    Family("lilliput_build_info", "gauge", ("version",), "", "Always 1", "max"),
    Family("process_cpu_seconds", "counter", (), "seconds", "CPU time of all workers"),
    Family("process_resident_memory_bytes", "gauge", (), "bytes", "Memory in use by all workers"),
    Family("process_open_fds", "gauge", (), "file descriptors", "Open file descriptors of all workers"),
    Family("process_start_time_seconds", "gauge", (), "Unix seconds", "When the first of the workers started", "min"),
)  # fmt: skip
_GREATEST = frozenset(f.name for f in FAMILIES if f.join == "max")
_LEAST = frozenset(f.name for f in FAMILIES if f.join == "min")


class Shelf(Protocol):
    """Where workers of one gateway leave their books for each other."""

    def put(self, book: bytes) -> None: ...
    def others(self) -> Iterable[bytes]: ...


class Page:
    """The page of one worker. `process` measures it (families of `process_`); `shelf` is there when there are several,
    and then the owner calls `publish` each `AGE_S`."""

    def __init__(
        self,
        gate: gates.Gate,
        process: Callable[[], Mapping[str, float]] = dict,
        shelf: Shelf | None = None,
        cpu_s: Callable[[], float] = time.process_time,
    ) -> None:
        self._gate, self._process, self._shelf, self._cpu_s = gate, process, shelf, cpu_s
        self._cpu_before_s = gate.meter.book.cpu_s

    def publish(self) -> Book:
        """This worker's book as it stands, left where the others find it."""
        gate, book = self._gate, self._gate.meter.book
        book.cpu_s = self._cpu_before_s + self._cpu_s()
        book.gauges = {name: {"": float(value)} for name, value in self._process().items()}
        book.gauges |= _gauges(gate)
        if self._shelf is not None:
            self._shelf.put(encode(book))
        return book

    def text(self, accept: str) -> tuple[bytes, str]:
        """The page of all workers, and its content type: OpenMetrics for who asks for it."""
        books = [self.publish()]
        if self._shelf is not None:
            books += [decode(data) for data in self._shelf.others()]
        is_open = "application/openmetrics-text" in accept
        return _text(summed(books, _GREATEST, _LEAST), is_open).encode(), OPEN if is_open else PLAIN


def _gauges(gate: gates.Gate) -> dict[str, dict[str, float]]:
    load = gate.load
    found = {
        "lilliput_in_flight": load.waiting + sum(conn.streaming is not None for conn in load.conns),
        "lilliput_waiting": load.waiting,
        "lilliput_open_connections": len(load.conns),
        "lilliput_event_loop_lag_seconds": load.lag_s,
        "lilliput_workers": 1,
    }
    gauges = {name: {"": float(value)} for name, value in found.items()}
    gauges["lilliput_build_info"] = {_labels(version=__version__): 1.0}
    if gate.till is not None and gate.till.ledger is not None:
        gauges["lilliput_holds"] = {"": float(gate.till.holds)}
        gauges["lilliput_held_dollars"] = {"": gate.till.held_nusd / 1e9}
    if gate.routing is not None:
        health, now = gate.routing.world.health, gate.routing.clock()
        known = [id for id in health.known if id in gate.meter.served]
        known += [id for id, d in health.known.items() if d.open_until and id not in gate.meter.served]
        states = {_labels(deployment=id): _STATES[health.state(id, now)] for id in known[: 2 * gate.meter.models]}
        gauges["lilliput_breaker_state"] = states
    return gauges


def _text(book: Book, is_open: bool) -> str:
    lines = []
    for family in FAMILIES:
        samples = list(_SAMPLES[family.name](book)) if family.name in _SAMPLES else None
        if samples is None:
            samples = sorted(book.gauges.get(family.name, {}).items())
        if not samples:
            continue
        suffix = "_total" if family.kind == "counter" else ""
        meta = family.name if is_open else family.name + suffix
        lines += [f"# HELP {meta} {family.about}.", f"# TYPE {meta} {family.kind}"]
        lines += [f"{family.name}{suffix}{after} {_number(value)}" for after, value in samples]
    return "\n".join([*lines, "# EOF\n"] if is_open else [*lines, ""])


def _requests(book: Book) -> Iterator[Sample]:
    for (operation, served), s in book.series.items():
        where = _where(operation, served)
        if s.ok:
            yield _labels(**where, outcome="ok", status="2xx"), s.ok
        for (outcome, status), n in s.ends.items():
            yield _labels(**where, outcome=outcome, status=status), n
    refused = {**book.refused, **({("shed", "5xx"): sum(book.shed.values())} if book.shed else {})}
    for (outcome, status), n in refused.items():
        yield _labels(operation=NONE, provider=NONE, model=NONE, outcome=outcome, status=status), n


def _durations(book: Book) -> Iterator[Sample]:
    for key, s in book.series.items():
        yield from _histogram(_where(*key), s.durations, s.duration_s)


def _firsts(book: Book) -> Iterator[Sample]:
    for key, s in book.series.items():
        if any(s.firsts):
            yield from _histogram(_where(*key), s.firsts, s.first_s)


def _histogram(where: Mapping[str, str], counts: list[int], total_s: float) -> Iterator[Sample]:
    for bound, n in zip((*BOUNDS_S, "+Inf"), accumulate(counts), strict=True):
        yield f"_bucket{_labels(**where, le=str(bound))}", n
    yield f"_sum{_labels(**where)}", total_s
    yield f"_count{_labels(**where)}", sum(counts)


def _tokens(book: Book) -> Iterator[Sample]:
    for key, s in book.series.items():
        for kind, n in zip(KINDS, s.tokens, strict=True):
            if n:
                yield _labels(**_where(*key), kind=kind), n


def _costs(book: Book) -> Iterator[Sample]:
    for key, s in book.series.items():
        if s.cost_nusd:
            yield _labels(**_where(*key)), dollars(s.cost_nusd)


def _calls(book: Book) -> Iterator[Sample]:
    calls = dict(book.calls)
    for (_, served), s in book.series.items():
        if s.called:
            add(calls, (served, "ok"), s.called)
    for (served, outcome), n in calls.items():
        provider, _, model = served.partition("/")
        yield _labels(provider=provider, model=model, outcome=outcome), n


_SAMPLES: dict[str, Callable[[Book], Iterable[Sample]]] = {
    "lilliput_requests": _requests,
    "lilliput_request_duration_seconds": _durations,
    "lilliput_first_token_seconds": _firsts,
    "lilliput_tokens": _tokens,
    "lilliput_cost_dollars": _costs,
    "lilliput_upstream_calls": _calls,
    "lilliput_retries": lambda book: [("", book.retries)],
    "lilliput_failovers": lambda book: [("", book.failovers)],
    "lilliput_shed": lambda book: [(_labels(why=why, priority=p), n) for (why, p), n in book.shed.items()],
    "lilliput_cache": lambda book: [(_labels(result=result), n) for result, n in book.cache.items()],
    "lilliput_task_answers": lambda book: [(_labels(task=t, by=b, why=w), n) for (t, b, w), n in book.tasks.items()],
    "lilliput_task_events": lambda book: [(_labels(task=t, event=e), n) for (t, e), n in book.task_events.items()],
    "process_cpu_seconds": lambda book: [("", book.cpu_s)],
}


def _where(operation: str, served: str) -> dict[str, str]:
    provider, _, model = served.partition("/")
    return {"operation": operation, "provider": provider, "model": model}


def _labels(**pairs: str) -> str:
    return "{" + ",".join(f'{k}="{_ODD.sub(lambda m: _ESCAPES[m[0]], v)}"' for k, v in pairs.items()) + "}"


def _number(value: Value) -> str:
    return value if isinstance(value, str) else repr(value)
