"""Arithmetic on what was measured: medians over rounds, ratios and differences of neighbours in one round. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median

from msgspec import Struct

from benchmarks.measure import Sample


class Record(Struct, frozen=True):
    """One window of one target: rounds count from 1."""

    round: int
    target: str
    metric: str
    sample: Sample


class Figure(Struct, frozen=True):
    """The median over rounds with the smallest and the largest."""

    median: float
    low: float
    high: float
    rounds: int


Value = Callable[[Sample], float]


def cpu_us(sample: Sample) -> float:
    return sample.cpu_us


def per_s(sample: Sample) -> float:
    return sample.load.per_s


def chunks_per_s(sample: Sample) -> float:
    return sample.load.chunks_per_s


def p50_us(sample: Sample) -> float:
    return sample.load.p50_us


def p99_us(sample: Sample) -> float:
    return sample.load.p99_us


def delay_p50_us(sample: Sample) -> float:
    return sample.load.delay_p50_us


def delay_p99_us(sample: Sample) -> float:
    return sample.load.delay_p99_us


def figure(values: Iterable[float]) -> Figure | None:
    seen = sorted(values)
    return Figure(median(seen), seen[0], seen[-1], len(seen)) if seen else None


def by_round(records: Iterable[Record], target: str, metric: str, value: Value) -> dict[int, float]:
    """Round -> value, without the windows in which nothing was answered."""
    found = {r.round: value(r.sample) for r in records if (r.target, r.metric) == (target, metric)}
    return {number: v for number, v in found.items() if v > 0}


def over_rounds(records: Iterable[Record], target: str, metric: str, value: Value) -> Figure | None:
    return figure(by_round(records, target, metric, value).values())


def ratio(records: list[Record], over: str, under: str, metric: str, value: Value) -> Figure | None:
    """`over` divided by `under`, each pair from one round: what slows the whole machine for a while cancels out."""
    top, bottom = by_round(records, over, metric, value), by_round(records, under, metric, value)
    return figure(top[n] / bottom[n] for n in top.keys() & bottom.keys())


def added(records: list[Record], target: str, metric: str, value: Value, bare: str = "direct") -> Figure | None:
    """What `target` adds to the bare call, each pair from one round; may be negative where noise is larger."""
    with_it, without = by_round(records, target, metric, value), by_round(records, bare, metric, value)
    return figure(with_it[n] - without[n] for n in with_it.keys() & without.keys())


def added_ratio(records: list[Record], over: str, under: str, metric: str, value: Value) -> Figure | None:
    """How many times what `under` adds `over` adds; rounds in which `under` seems to add nothing are left out."""
    bare = by_round(records, "direct", metric, value)
    top, bottom = by_round(records, over, metric, value), by_round(records, under, metric, value)
    rounds = [n for n in top.keys() & bottom.keys() & bare.keys() if bottom[n] > bare[n]]
    return figure((top[n] - bare[n]) / (bottom[n] - bare[n]) for n in rounds)
