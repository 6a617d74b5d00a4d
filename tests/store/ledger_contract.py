"""What every ledger keeps, as stories: `CONTRACT` is to be run over each store, each story on an empty ledger.

A story is handed the ledger and the clock that the ledger was made with; `keeps` runs one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

import pytest

from lilliput.money import Account, Hold, Ledger, Settlement, UsageQuery
from lilliput.neutral import Problem, Usage

DAY = 86_400.0
MONDAY = datetime(2026, 11, 23, tzinfo=UTC).timestamp()


class Clock:
    """Unix seconds that stand still until they are set. It starts at noon of Monday, 2026-11-23."""

    def __init__(self) -> None:
        self.now = MONDAY + DAY / 2

    def __call__(self) -> float:
        return self.now


Make = Callable[[Clock], AbstractAsyncContextManager[Ledger]]
"""Opens an empty ledger."""
Story = Callable[[Ledger, Clock], Awaitable[None]]


def keeps(make: Make, story: Story) -> None:
    """Run the story; whatever it did, every sum is right at its end."""

    async def whole() -> None:
        clock = Clock()
        async with make(clock) as ledger:
            await story(ledger, clock)
            assert await ledger.check() == []

    asyncio.run(whole())


def hold(id: str, amount_nusd: int = 10, account: str = "k", **more: object) -> Hold:
    values: dict[str, object] = {"lease_s": 600.0, "operation": "chat", "model": "gpt-x", **more}
    return Hold(id=id, account=account, amount_nusd=amount_nusd, **values)  # type: ignore[arg-type]


def cost(nusd: int | None, **more: object) -> Settlement:
    values: dict[str, object] = {"usage": None, "served": "openai/gpt-x", "price": "2026-11-01", "tries": 1}
    values |= {"status": 200, "latency_ms": 12, **more}
    return Settlement(cost_nusd=nusd, **values)  # type: ignore[arg-type]


NOTHING = cost(0, status=502)


async def put_aside(ledger: Ledger, h: Hold) -> None:
    """Hold as the till does: at once where that can be."""
    if not ledger.hold_now(h):
        await ledger.hold(h)


async def sums(ledger: Ledger, account: str = "k") -> tuple[int | None, int, int]:
    """Credit, spent, held."""
    a = await ledger.account(account)
    assert a is not None
    return a.credit_nusd, a.spent_nusd, a.held_nusd


async def refused(ledger: Ledger, h: Hold) -> tuple[int, str | None, float | None]:
    with pytest.raises(Problem) as e:
        await ledger.hold(h)
    assert e.value.fault == "limit"
    return e.value.status, e.value.code, e.value.retry_after_s


async def a_hold_is_settled_once(ledger: Ledger, clock: Clock) -> None:
    await ledger.hold(hold("r1", 10))
    assert await sums(ledger) == (None, 0, 10)
    assert await ledger.settle("r1", cost(7))
    assert await sums(ledger) == (None, 7, 0)
    assert not await ledger.settle("r1", cost(7))
    assert not await ledger.release("r1", NOTHING)
    assert not await ledger.settle("never held", cost(7))
    assert await ledger.sweep() == 0
    assert await sums(ledger) == (None, 7, 0)


async def a_hold_is_released_once_and_stays_on_record(ledger: Ledger, clock: Clock) -> None:
    await ledger.hold(hold("r1", 10))
    assert await ledger.release("r1", cost(5, status=502))
    assert not await ledger.release("r1", NOTHING)
    assert not await ledger.settle("r1", cost(7))
    assert await sums(ledger) == (None, 0, 0)
    (row,) = await ledger.usage(UsageQuery())
    assert (row.requests, row.problems, row.cost_nusd, row.unpriced) == (1, 1, 0, 0)


async def an_id_is_held_once(ledger: Ledger, clock: Clock) -> None:
    await ledger.hold(hold("r1", 10))
    for _ in range(2):
        with pytest.raises(Problem):
            await ledger.hold(hold("r1", 10))
        assert await sums(ledger) in [(None, 0, 10), (None, 7, 0)]
        await ledger.settle("r1", cost(7))
    twins = await asyncio.gather(*(ledger.hold(hold("r2", 1)) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(t, Problem) for t in twins) == 4
    assert await sums(ledger) == (None, 7, 1)


async def an_unknown_account_has_no_limits_and_is_made(ledger: Ledger, clock: Clock) -> None:
    assert await ledger.account("k") is None
    await ledger.hold(hold("r1", 10**12))
    a = await ledger.account("k")
    assert a == Account(id="k", kind="key", held_nusd=10**12)
    assert await ledger.accounts() == [a]


async def a_limit_for_ever_is_402(ledger: Ledger, clock: Clock) -> None:
    await ledger.put_account(Account(id="k", kind="key", limit_nusd=100))
    await ledger.hold(hold("r1", 60))
    assert await refused(ledger, hold("r2", 41)) == (402, "budget_exceeded", 1.0), "when the first has ended, perhaps"
    await ledger.hold(hold("r3", 40))
    await ledger.settle("r1", cost(60))
    await ledger.settle("r3", cost(30))
    assert await refused(ledger, hold("r4", 11)) == (402, "budget_exceeded", None)
    await ledger.hold(hold("r5", 10))
    assert await sums(ledger) == (None, 90, 10)


PERIODS = [("day", MONDAY + DAY), ("week", MONDAY + 7 * DAY), ("month", datetime(2026, 12, 1, tzinfo=UTC).timestamp())]


async def a_period_ends_and_its_spending_with_it(ledger: Ledger, clock: Clock) -> None:
    for period, end in PERIODS:
        noon = clock.now
        await ledger.put_account(Account(id=period, kind="key", limit_nusd=100, period=period))  # type: ignore[arg-type]
        await ledger.hold(hold(f"{period}1", 90, period))
        await ledger.settle(f"{period}1", cost(80))
        await ledger.hold(hold(f"{period}2", 20, period))
        assert await refused(ledger, hold(f"{period}3", 90, period)) == (429, "budget_exceeded", end - noon)
        clock.now = end - 0.5
        assert await refused(ledger, hold(f"{period}3", 90, period)) == (429, "budget_exceeded", 1.0)
        clock.now = end
        assert await sums(ledger, period) == (None, 0, 20)
        await ledger.hold(hold(f"{period}3", 80, period))
        await ledger.settle(f"{period}2", cost(20))
        a = await ledger.account(period)
        assert a is not None
        assert (a.spent_nusd, a.held_nusd, a.period_began) == (20, 80, end), "what ends now is spent now"
        clock.now = noon


async def a_clock_that_jumps_back_starts_no_period_anew(ledger: Ledger, clock: Clock) -> None:
    await ledger.put_account(Account(id="k", kind="key", limit_nusd=100, period="day"))
    await ledger.hold(hold("r1", 90))
    await ledger.settle("r1", cost(90))
    clock.now -= 3 * DAY
    assert (await refused(ledger, hold("r2", 11)))[:2] == (429, "budget_exceeded")
    await ledger.hold(hold("r3", 10))
    assert await ledger.sweep() == 0
    clock.now += 3 * DAY
    await ledger.settle("r3", cost(10))
    assert await sums(ledger) == (None, 100, 0)


async def credits_are_held_and_spent(ledger: Ledger, clock: Clock) -> None:
    a = await ledger.grant("k", 100, "welcome")
    assert (a.id, a.credit_nusd) == ("k", 100)
    await ledger.hold(hold("r1", 60))
    assert await sums(ledger) == (40, 0, 60)
    assert await refused(ledger, hold("r2", 41)) == (402, "insufficient_credits", 1.0)
    await ledger.settle("r1", cost(50))
    assert await sums(ledger) == (50, 50, 0)
    assert await refused(ledger, hold("r2", 51)) == (402, "insufficient_credits", None)
    await ledger.hold(hold("r3", 50))
    await ledger.release("r3", NOTHING)
    assert (await ledger.grant("k", 7, "")).credit_nusd == 57
    assert (await ledger.grant("k", -50, "mistake")).credit_nusd == 7
    assert (await ledger.grant("k", -50, "all of it")).credit_nusd == 0
    await ledger.hold(hold("free", 0))


async def first_credits_pay_what_is_held_but_not_what_was_spent(ledger: Ledger, clock: Clock) -> None:
    await ledger.hold(hold("r1", 10))
    await ledger.settle("r1", cost(10))
    await ledger.hold(hold("r2", 30))
    assert (await ledger.grant("k", 100, "")).credit_nusd == 70
    await ledger.settle("r2", cost(20))
    assert await sums(ledger) == (80, 30, 0)


async def a_cost_above_its_hold_is_owed(ledger: Ledger, clock: Clock) -> None:
    await ledger.put_account(Account(id="team", kind="team", limit_nusd=25))
    await ledger.put_account(Account(id="k", kind="key", parent="team"))
    await ledger.grant("k", 20, "")
    await ledger.hold(hold("r1", 20))
    await ledger.settle("r1", cost(30))
    assert await sums(ledger) == (-10, 30, 0)
    assert (await refused(ledger, hold("r2", 1)))[1] == "insufficient_credits"
    assert (await ledger.grant("k", -5, "there is nothing to take")).credit_nusd == -10
    assert (await ledger.grant("k", 15, "")).credit_nusd == 5
    assert (await refused(ledger, hold("r2", 1)))[1] == "budget_exceeded", "the team's"
    await ledger.hold(hold("free", 0))


async def above(ledger: Ledger) -> None:
    await ledger.put_account(Account(id="org", kind="organisation", limit_nusd=100, period="day"))
    await ledger.put_account(Account(id="team", kind="team", parent="org", limit_nusd=50))
    await ledger.put_account(Account(id="k", kind="key", parent="team", name="laptop"))
    await ledger.put_account(Account(id="j", kind="key", parent="org"))


async def a_hold_is_one_on_all_above_or_on_none(ledger: Ledger, clock: Clock) -> None:
    await above(ledger)
    assert [a.id for a in await ledger.accounts()] == ["org", "j", "team", "k"]
    await ledger.hold(hold("r1", 50))
    assert (await refused(ledger, hold("r2", 1)))[0] == 402, "the team's, which has no period"
    await ledger.hold(hold("r3", 50, "j"))
    assert (await refused(ledger, hold("r4", 1, "j")))[0] == 429, "the organisation's, of the day"
    assert [a.held_nusd for a in await ledger.accounts()] == [100, 50, 50, 50]
    await ledger.settle("r1", cost(20))
    assert [(a.spent_nusd, a.held_nusd) for a in await ledger.accounts()] == [(20, 50), (0, 50), (20, 0), (20, 0)]
    await ledger.grant("org", 5, "so little is left that nobody may call")
    assert (await refused(ledger, hold("r5", 1)))[:2] == (402, "insufficient_credits")
    assert (await sums(ledger, "team"))[2] == 0


async def an_account_is_changed_and_its_sums_stay(ledger: Ledger, clock: Clock) -> None:
    await above(ledger)
    await ledger.hold(hold("r1", 20))
    await ledger.hold(hold("r2", 10))
    await ledger.settle("r2", cost(10))
    await ledger.grant("k", 70, "")
    await ledger.put_account(Account(id="k", kind="key", parent="org", name="desk", limit_nusd=30, credit_nusd=9))
    a = await ledger.account("k")
    assert a is not None
    assert (a.parent, a.name, a.limit_nusd) == ("org", "desk", 30)
    assert await sums(ledger) == (50, 10, 20)
    await ledger.settle("r1", cost(15))
    assert await sums(ledger, "team") == (None, 25, 0), "it was held there"
    (row,) = await ledger.usage(UsageQuery(account="team"))
    assert (row.requests, row.cost_nusd) == (2, 25)
    await ledger.hold(hold("r3", 1))
    assert (await sums(ledger, "team"))[2] == 0


async def a_new_period_counts_what_was_spent_in_it(ledger: Ledger, clock: Clock) -> None:
    await ledger.hold(hold("r1", 30))
    await ledger.settle("r1", cost(30))
    clock.now += DAY
    await ledger.hold(hold("r2", 5))
    await ledger.settle("r2", cost(5))
    for period, spent in [("day", 5), ("week", 35), ("day", 5), ("total", 35), ("month", 35)]:
        await ledger.put_account(Account(id="k", kind="key", period=period))  # type: ignore[arg-type]
        assert await sums(ledger) == (None, spent, 0)


async def what_is_above_must_be_there_and_not_below(ledger: Ledger, clock: Clock) -> None:
    await above(ledger)
    before = await ledger.accounts()
    for account in [
        Account(id="new", kind="key", parent="nobody"),
        Account(id="k", kind="key", parent="k"),
        Account(id="org", kind="organisation", parent="team"),
        Account(id="alone", kind="key", parent="alone"),
    ]:
        with pytest.raises(Problem) as e:
            await ledger.put_account(account)
        assert e.value.fault == "client"
    assert await ledger.accounts() == before


async def a_lease_that_runs_out_is_settled_at_the_hold(ledger: Ledger, clock: Clock) -> None:
    await ledger.grant("k", 100, "")
    await ledger.hold(hold("r1", 10, lease_s=60.0))
    await ledger.hold(hold("r2", 20, lease_s=120.0))
    clock.now += 59
    assert await ledger.sweep() == 0
    clock.now += 1
    assert await ledger.sweep() == 1
    assert await ledger.sweep() == 0
    assert not await ledger.settle("r1", cost(3))
    assert await sums(ledger) == (70, 10, 20)
    (row,) = await ledger.usage(UsageQuery())
    assert (row.requests, row.problems, row.cost_nusd, row.unpriced) == (1, 1, 10, 0)
    assert await ledger.settle("r2", cost(20))


async def a_sweep_ends_all_however_many(ledger: Ledger, clock: Clock) -> None:
    await asyncio.gather(*(ledger.hold(hold(f"r{n}", 1, lease_s=1.0)) for n in range(1203)))
    clock.now += 2
    assert await ledger.sweep() == 1203
    assert await sums(ledger) == (None, 1203, 0)


async def usage_is_added_up(ledger: Ledger, clock: Clock) -> None:
    await above(ledger)
    tokens = Usage(input=1, cache_read=2, cache_write_5m=3, cache_write_1h=4, audio_in=5, image_in=6, output=7)
    more = Usage(output=10, reasoning=20, audio_out=30, image_out=40)
    start = clock.now
    calls = [
        ("k", "a", "x/a", ("ci", "night"), cost(10, usage=tokens, served="x/a")),
        ("k", "b", "x/b", ("ci",), cost(5, usage=more, served="x/b")),
        ("j", "a", "y/a", (), cost(None, usage=tokens, served="y/a", status=500)),
    ]
    for n, (account, model, _, tags, settlement) in enumerate(calls):
        await ledger.hold(hold(f"r{n}", 10, account, model=model, tags=tags, operation="chat" if n else "embed"))
        await ledger.settle(f"r{n}", settlement)
        clock.now += DAY

    async def told(**query: object) -> list[tuple[object, ...]]:
        rows = await ledger.usage(UsageQuery(**query))  # type: ignore[arg-type]
        return [
            (*r.group, r.requests, r.problems, r.prompt_tokens, r.completion_tokens, r.cost_nusd, r.unpriced)
            for r in rows
        ]

    assert await told() == [("a", 2, 1, 42, 14, 10, 1), ("b", 1, 0, 0, 100, 5, 0)], "dearest first"
    assert await told(by=("served", "model")) == [
        ("x/a", "a", 1, 0, 21, 7, 10, 0),
        ("x/b", "b", 1, 0, 0, 100, 5, 0),
        ("y/a", "a", 1, 1, 21, 7, 0, 1),
    ]
    assert await told(by=("day",)) == [
        ("2026-11-23", 1, 0, 21, 7, 10, 0),
        ("2026-11-24", 1, 0, 0, 100, 5, 0),
        ("2026-11-25", 1, 1, 21, 7, 0, 1),
    ]
    assert await told(by=("tag",)) == [
        ("ci", 2, 0, 21, 107, 15, 0),
        ("night", 1, 0, 21, 7, 10, 0),
        ("", 1, 1, 21, 7, 0, 1),
    ]
    assert await told(by=("account", "operation")) == [
        ("k", "embed", 1, 0, 21, 7, 10, 0),
        ("k", "chat", 1, 0, 0, 100, 5, 0),
        ("j", "chat", 1, 1, 21, 7, 0, 1),
    ]
    assert await told(by=()) == [(3, 1, 42, 114, 15, 1)]
    assert await told(by=(), account="team") == [(2, 0, 21, 107, 15, 0)]
    assert await told(by=(), account="nobody") == []
    assert await told(by=(), since=start + DAY) == [(2, 1, 21, 107, 5, 1)], "its first second too"
    assert await told(by=(), since=start, until=start + DAY) == [(1, 0, 21, 7, 10, 0)], "and not its last"
    assert await told(limit=1) == [("a", 2, 1, 42, 14, 10, 1)]


async def odd_values_are_kept_or_refused_alone(ledger: Ledger, clock: Clock) -> None:
    odd = 'o\'hara; -- "€" \U0001f600\n\x7f'
    huge = cost(1, usage=Usage(input=2**80))
    answers = await asyncio.gather(
        ledger.hold(hold("fine", 1)),
        ledger.hold(hold("odd " + odd, 1, odd, model=odd, tags=(odd, ""))),
        ledger.hold(hold("surrogate", 1, model="\ud800")),
        ledger.hold(hold("too much", 2**70)),
        ledger.hold(hold("negative", -1)),
        ledger.hold(hold("fine too", 1)),
        return_exceptions=True,
    )
    assert [isinstance(a, Problem) for a in answers] == [False, False, True, True, True, False]
    assert await sums(ledger) == (None, 0, 2)
    settled = await asyncio.gather(
        ledger.settle("fine", huge), ledger.settle("fine too", cost(1)), return_exceptions=True
    )
    assert settled[1] is True
    assert await ledger.settle("odd " + odd, cost(1, served=odd))
    assert [r.group for r in await ledger.usage(UsageQuery(by=("tag", "model"), account=odd))] == [
        ("", odd),
        (odd, odd),
    ]
    assert await sums(ledger, odd) == (None, 1, 0)


async def a_caller_that_leaves_while_it_waits_holds_nothing(ledger: Ledger, clock: Clock) -> None:
    for turns in range(6):
        task = asyncio.create_task(ledger.hold(hold(f"r{turns}", 10)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled() or await ledger.release(f"r{turns}", NOTHING), "it had not left yet"
    await ledger.hold(hold("after", 1))
    await ledger.settle("after", cost(1))
    assert await sums(ledger) == (None, 1, 0)


async def two_hundred_at_once_take_no_more_than_there_is(ledger: Ledger, clock: Clock) -> None:
    await ledger.put_account(Account(id="org", kind="organisation", limit_nusd=50))
    for n in range(10):
        await ledger.put_account(Account(id=f"k{n}", kind="key", parent="org"))
    holds = [hold(f"r{n}", 10, f"k{n % 10}") for n in range(200)]
    answers = await asyncio.gather(*(ledger.hold(h) for h in holds), return_exceptions=True)
    admitted = [h.id for h, a in zip(holds, answers, strict=True) if a is None]
    assert len(admitted) == 5
    assert all(await asyncio.gather(*(ledger.settle(id, cost(10)) for id in admitted)))
    assert await sums(ledger, "org") == (None, 50, 0)


CONTRACT: list[Story] = [
    a_hold_is_settled_once,
    a_hold_is_released_once_and_stays_on_record,
    an_id_is_held_once,
    an_unknown_account_has_no_limits_and_is_made,
    a_limit_for_ever_is_402,
    a_period_ends_and_its_spending_with_it,
    a_clock_that_jumps_back_starts_no_period_anew,
    credits_are_held_and_spent,
    first_credits_pay_what_is_held_but_not_what_was_spent,
    a_cost_above_its_hold_is_owed,
    a_hold_is_one_on_all_above_or_on_none,
    an_account_is_changed_and_its_sums_stay,
    a_new_period_counts_what_was_spent_in_it,
    what_is_above_must_be_there_and_not_below,
    a_lease_that_runs_out_is_settled_at_the_hold,
    a_sweep_ends_all_however_many,
    usage_is_added_up,
    odd_values_are_kept_or_refused_alone,
    a_caller_that_leaves_while_it_waits_holds_nothing,
    two_hundred_at_once_take_no_more_than_there_is,
]
