"""What every `Counters` keeps, as stories told to one whose clock is set by hand."""

from __future__ import annotations

from collections.abc import Awaitable
from fractions import Fraction
from typing import Literal, Protocol

from hypothesis import strategies as st

from lilliput.limits_config import DAY_S, MINUTE_S, Bucket, Counters, Taken

START_MS = 1_795_000_000_123


class World(Protocol):
    @property
    def counters(self) -> Counters: ...

    def at(self, now_ms: int) -> Awaitable[None]:
        """Set the clock."""

    def quiet(self) -> Awaitable[None]:
        """Until all that was settled is written down."""


def bucket(limit: int, period_s: int = MINUTE_S, name: str = "b") -> Bucket:
    return Bucket(name=name, limit=limit, unit="tokens" if period_s else "in_flight", period_s=period_s)


Op = tuple[int, Literal["take", "settle"], int, int]
"""After so many ticks: take a cost; or settle one of those under way (by its number) at a percentage of its cost."""

LIMITS = st.one_of(st.integers(0, 12), st.sampled_from([60, 7_919, 150_000_000, 10_000_000_000]))
PERIODS = st.sampled_from([MINUTE_S, DAY_S])
OPS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 40_000), st.just("take"), st.integers(0, 100), st.just(0)),
        st.tuples(st.integers(0, 40_000), st.just("settle"), st.integers(0, 50), st.integers(0, 100)),
        st.tuples(st.just(0), st.just("take"), st.sampled_from([1, 100]), st.just(0)),
        st.tuples(st.sampled_from([0, 12_000, 24_000]), st.just("take"), st.sampled_from([20, 40, 60]), st.just(0)),
        st.tuples(st.sampled_from([0, 6_000]), st.just("settle"), st.integers(0, 3), st.just(0)),
    ),
    max_size=40,
)
"""Costs are percentages of the limit, rounded up."""


async def never_more_than_the_limit_in_any_window(world: World, limit: int, period_s: int, ops: list[Op]) -> None:
    """Of what passed at what it came to be, no window of T ticks holds over `limit * (1 + T / ticks)`; and a request
    is kept out only when what is in the bucket, at the estimates, leaves no room."""
    one = bucket(limit, period_s)
    now_ms, passed, under_way = START_MS, list[tuple[int, int]](), list[tuple[int, Taken]]()
    level, settled, drained_at = Fraction(0), False, now_ms // one.tick_ms
    for after, what, cost_percent, real_percent in ops:
        now_ms += after * one.tick_ms
        await world.at(now_ms)
        tick = now_ms // one.tick_ms
        if what == "take":
            cost = -(-limit * cost_percent // 100)
            taken = await world.counters.take((one,), (cost,))
            level = max(Fraction(0), level - Fraction((tick - drained_at) * limit, one.ticks))
            drained_at = tick
            if not settled:
                assert taken.passed == (level + cost <= limit), "neither more nor less than an exact bucket"
            if taken.passed:
                level += cost
                under_way.append((len(passed), taken))
                passed.append((tick, cost))
        elif under_way:
            place, taken = under_way.pop(cost_percent % len(under_way))
            at, cost = passed[place]
            passed[place] = (at, cost * real_percent // 100)
            world.counters.settle(taken, (passed[place][1],))
            await world.quiet()
            settled = True
    for i, (began, _) in enumerate(passed):
        total = 0
        for ended, cost in passed[i:]:
            total += cost
            assert total * one.ticks <= limit * (one.ticks + ended - began)


async def tokens_that_came_back_by_time_do_not_come_back_twice(world: World) -> None:
    one = bucket(100)
    await world.at(START_MS)
    first = await world.counters.take((one,), (100,))
    await world.at(START_MS + 60_000)
    assert (await world.counters.take((one,), (100,))).passed, "a minute later all is back"
    world.counters.settle(first, (0,))
    await world.quiet()
    assert not (await world.counters.take((one,), (1,))).passed


async def what_is_given_back_can_be_taken_again(world: World) -> None:
    one = bucket(100)
    await world.at(START_MS)
    several = [await world.counters.take((one,), (25,)) for _ in range(4)]
    assert not (await world.counters.take((one,), (1,))).passed
    for taken in several:
        world.counters.settle(taken, (5,))
        await world.quiet()
    last = await world.counters.take((one,), (80,))
    assert last.passed
    assert last.levels == [one.capacity]
    world.counters.settle(last, (0,))
    await world.quiet()
    assert (await world.counters.take((one,), (80,))).passed


async def only_what_has_not_drained_is_given_back(world: World) -> None:
    one = bucket(100)
    await world.at(START_MS)
    first = await world.counters.take((one,), (60,))
    await world.at(START_MS + 30 * 600)
    second = await world.counters.take((one,), (70,))
    assert second.passed
    world.counters.settle(first, (0,))
    await world.quiet()
    assert not (await world.counters.take((one,), (31,))).passed, "30 of the 60 had drained"
    world.counters.settle(second, (0,))
    await world.quiet()
    assert (await world.counters.take((one,), (100,))).passed
    assert not (await world.counters.take((one,), (1,))).passed


async def what_was_given_back_before_makes_later_shares_drain_sooner(world: World) -> None:
    one = bucket(100)
    await world.at(START_MS)
    first, second = await world.counters.take((one,), (60,)), await world.counters.take((one,), (40,))
    await world.at(START_MS + 30 * 600)
    world.counters.settle(first, (0,))
    await world.quiet()
    await world.at(START_MS + 48 * 600)
    assert (await world.counters.take((one,), (0,))).levels == [22 * one.ticks]
    world.counters.settle(second, (0,))
    await world.quiet()
    assert (await world.counters.take((one,), (100,))).passed
    assert not (await world.counters.take((one,), (1,))).passed


async def more_than_was_taken_is_owed(world: World) -> None:
    one = bucket(60)
    await world.at(START_MS)
    taken = await world.counters.take((one,), (10,))
    world.counters.settle(taken, (130,))
    await world.quiet()
    for ms, passes in [(0, False), (70_000, False), (70_999, False), (71_000, True)]:
        await world.at(START_MS + ms)
        assert (await world.counters.take((one,), (1,))).passed is passes, ms


async def a_take_is_all_or_nothing(world: World) -> None:
    wide, narrow, flight = bucket(10, name="wide"), bucket(3, DAY_S, "narrow"), bucket(5, 0, "flight")
    await world.at(START_MS)
    for n in range(3):
        assert (await world.counters.take((wide, narrow, flight), (1, 1, 1))).passed, n
    for order in [(wide, narrow, flight), (flight, narrow, wide)]:
        refused = await world.counters.take(order, (1, 1, 1))
        assert not refused.passed
        world.counters.settle(refused, (0, 0, 0))
        await world.quiet()
    seen = await world.counters.take((wide, narrow, flight), (0, 0, 0))
    assert seen.passed
    assert seen.levels == [3 * wide.ticks, 3 * narrow.ticks, 3]


async def in_flight_is_a_count(world: World) -> None:
    one = bucket(2, 0)
    await world.at(START_MS)
    first, second = await world.counters.take((one,), (1,)), await world.counters.take((one,), (1,))
    assert first.passed
    assert second.passed
    assert not (await world.counters.take((one,), (1,))).passed
    world.counters.settle(first, (0,))
    await world.quiet()
    assert (await world.counters.take((one,), (1,))).passed
    assert not (await world.counters.take((one,), (1,))).passed


async def zero_lets_nothing_by(world: World) -> None:
    for period_s in (MINUTE_S, DAY_S, 0):
        one = bucket(0, period_s, f"zero {period_s}")
        for ms in (0, 10**9):
            await world.at(START_MS + ms)
            assert not (await world.counters.take((one,), (1,))).passed


async def a_limit_that_changes_holds_at_once(world: World) -> None:
    await world.at(START_MS)
    assert (await world.counters.take((bucket(10),), (8,))).passed
    assert not (await world.counters.take((bucket(5),), (1,))).passed
    assert not (await world.counters.take((bucket(0),), (1,))).passed
    assert (await world.counters.take((bucket(20),), (12,))).passed


STORIES = [
    tokens_that_came_back_by_time_do_not_come_back_twice,
    only_what_has_not_drained_is_given_back,
    what_was_given_back_before_makes_later_shares_drain_sooner,
    what_is_given_back_can_be_taken_again,
    more_than_was_taken_is_owed,
    a_take_is_all_or_nothing,
    in_flight_is_a_count,
    zero_lets_nothing_by,
    a_limit_that_changes_holds_at_once,
]
