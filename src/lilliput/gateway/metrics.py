"""What one worker counts while it serves, as plain numbers: each request costs a look-up and a few additions.

How it is shown is `metrics_page`. Names of models come from callers, so only so many are told apart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable
from typing import TypeVar

from msgspec import Struct, field, msgpack

from lilliput.gateway.observe import Record
from lilliput.neutral import Problem, Target

K = TypeVar("K", bound=Hashable)
BOUNDS_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Upper bounds of the buckets of both histograms, those of OpenTelemetry's gen_ai.client.operation.duration
(opentelemetry.io, semantic conventions for generative AI metrics)."""
KINDS = (
    *("input", "output", "cache_read", "cache_write", "reasoning"),
    *("audio_in", "image_in", "audio_out", "image_out"),
)
"""Of tokens: disjoint, so that they may be added up."""
OTHER, NONE = "other", "none"
MODELS = 100
"""Models with series of their own; each has two histograms for each operation it is called by."""


def _buckets() -> list[int]:
    return [0] * (len(BOUNDS_S) + 1)


class Series(Struct):
    """All requests of one operation that one deployment served.

    `ends` counts those that were no plain success, by outcome and class of status; `called` the calls upstream that
    went well; `durations` and `firsts` have a count for each bound, and one for what is above.
    """

    ok: int = 0
    called: int = 0
    ends: dict[tuple[str, str], int] = field(default_factory=dict)
    durations: list[int] = field(default_factory=_buckets)
    duration_s: float = 0.0
    firsts: list[int] = field(default_factory=_buckets)
    first_s: float = 0.0
    tokens: list[int] = field(default_factory=lambda: [0] * len(KINDS))
    cost_nusd: int = 0


class Book(Struct):
    """The numbers of a worker: what only grows, and `gauges` (by family and labels) as they last stood.

    `series` is by operation and deployment, `calls` by deployment and outcome, `refused` by outcome and class of
    status, `shed` by reason and priority.
    """

    series: dict[tuple[str, str], Series] = field(default_factory=dict)
    calls: dict[tuple[str, str], int] = field(default_factory=dict)
    refused: dict[tuple[str, str], int] = field(default_factory=dict)
    shed: dict[tuple[str, str], int] = field(default_factory=dict)
    cache: dict[str, int] = field(default_factory=dict)
    tasks: dict[tuple[str, str, str], int] = field(default_factory=dict)
    task_events: dict[tuple[str, str], int] = field(default_factory=dict)
    retries: int = 0
    failovers: int = 0
    cpu_s: float = 0.0
    gauges: dict[str, dict[str, float]] = field(default_factory=dict)


encode = msgpack.Encoder().encode
decode = msgpack.Decoder(Book).decode


class Meter:
    """The book of this worker, and the few ways to write in it; `models` is how many are told apart."""

    def __init__(self, models: int = MODELS) -> None:
        self.book = Book()
        self.models = models
        self.served: set[str] = set()

    def go_on(self, book: Book) -> None:
        """Counts on from where a worker that died stood."""
        book.gauges = {}
        self.book = book
        self.served = {served for _, served in book.series if not served.endswith((f"/{OTHER}", f"/{NONE}"))}

    def note(self, record: Record) -> None:
        """A request is over."""
        series = self.book.series.get((record.operation, record.served_by))
        if series is None:
            series = self._series(record)
        took_s = record.ended_at - record.began_at
        series.durations[bisect_left(BOUNDS_S, took_s)] += 1
        series.duration_s += took_s if took_s > 0.0 else 0.0
        if record.first_at is not None:
            first_s = record.first_at - record.began_at
            series.firsts[bisect_left(BOUNDS_S, first_s)] += 1
            series.first_s += first_s if first_s > 0.0 else 0.0
        if record.cost_nusd is not None:
            series.cost_nusd += record.cost_nusd
        if record.cache:
            add(self.book.cache, record.cache)
        if (usage := record.usage) is not None:
            tokens = series.tokens
            tokens[0] += usage.input
            tokens[1] += usage.output
            tokens[2] += usage.cache_read
            tokens[4] += usage.reasoning
            written = usage.cache_write_5m + usage.cache_write_1h
            if written or usage.audio_in or usage.image_in or usage.audio_out or usage.image_out:
                rare = (written, 0, usage.audio_in, usage.image_in, usage.audio_out, usage.image_out)
                for i, n in enumerate(rare, 3):
                    tokens[i] += n
        if record.problem is None and not record.left_early:
            series.ok += 1
            if record.tries:
                series.called += 1
        elif record.problem is None:
            add(series.ends, ("left", NONE))
            if record.tries:
                add(self.book.calls, (self.shown(record.served_by), "left"))
        else:
            add(series.ends, _end(record.problem))  # its calls were noted as they failed

    def failed(self, target: Target, problem: Problem) -> None:
        """A call to `target` came to nothing."""
        add(self.book.calls, (self.shown(target.id), problem.fault))

    def again(self, before: Target, after: Target) -> None:
        """A request that failed at one target is sent on: to the same one, or over to another."""
        if before.id == after.id:
            self.book.retries += 1
        else:
            self.book.failovers += 1

    def refuse(self, problem: Problem) -> None:
        """A request was refused at its headers; those that were shed are counted as such."""
        if problem.code != "overloaded":
            add(self.book.refused, _end(problem))

    def shown(self, served: str) -> str:
        """The deployment under the name that it is counted by."""
        if served in self.served:
            return served
        return f"{served.partition('/')[0]}/{OTHER}" if served else f"{NONE}/{NONE}"

    def _series(self, record: Record) -> Series:
        """A model has its own series from its first success on, as long as there is room."""
        served = record.served_by
        is_good = record.problem is None and not record.left_early and served
        if is_good and served not in self.served and len(self.served) < self.models:
            self.served.add(served)
        return self.book.series.setdefault((record.operation, self.shown(served)), Series())


def add(counts: dict[K, int], key: K, n: int = 1) -> None:
    counts[key] = counts.get(key, 0) + n


def _end(problem: Problem) -> tuple[str, str]:
    return problem.fault, f"{problem.status // 100}xx"


def summed(books: list[Book], greatest: frozenset[str], least: frozenset[str]) -> Book:
    """The numbers of several workers as those of one; gauges add up, but for families whose greatest or least
    stands."""
    all = Book()
    for book in books:
        for key, s in book.series.items():
            into = all.series.setdefault(key, Series())
            into.ok += s.ok
            into.called += s.called
            into.duration_s += s.duration_s
            into.first_s += s.first_s
            into.cost_nusd += s.cost_nusd
            _merge(into.ends, s.ends)
            for mine, theirs in ((into.durations, s.durations), (into.firsts, s.firsts), (into.tokens, s.tokens)):
                mine[:] = [a + b for a, b in zip(mine, theirs, strict=True)]
        _merge(all.calls, book.calls)
        _merge(all.refused, book.refused)
        _merge(all.shed, book.shed)
        _merge(all.cache, book.cache)
        _merge(all.tasks, book.tasks)
        _merge(all.task_events, book.task_events)
        all.retries += book.retries
        all.failovers += book.failovers
        all.cpu_s += book.cpu_s
        for family, values in book.gauges.items():
            known = all.gauges.setdefault(family, {})
            join = max if family in greatest else min if family in least else float.__add__
            for labels, value in values.items():
                known[labels] = join(known[labels], value) if labels in known else value
    return all


def _merge(into: dict[K, int], more: dict[K, int]) -> None:
    for key, n in more.items():
        add(into, key, n)
