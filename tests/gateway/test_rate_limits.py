"""Which limits a request falls under, what it takes of them, what it is told."""

from __future__ import annotations

import asyncio

import pytest

from lilliput.gateway import limit_headers, limits
from lilliput.gateway.limits import Limiter, Tokens, may_pass, token_cost
from lilliput.limits_config import Caps, Costs, Limits, Taken
from lilliput.neutral import Key, Problem
from lilliput.store.counters import LocalCounters

CI = Key(id="k1", name="ci")
OTHER = Key(id="k2", name="other")


def said(prompt: int, most: int | None) -> Tokens:
    return lambda: (prompt, most)


def never() -> tuple[int, int | None]:
    raise AssertionError("nobody limits tokens")


class World:
    def __init__(self, table: Limits, teams: dict[str, tuple[str, ...]] | None = None) -> None:
        self.now_ms = 1_000_000
        self.counters = LocalCounters(rows=64, clock=lambda: (self.now_ms + 0.5) / 1000)
        self.limiter = Limiter(table, self.counters, lambda key: (teams or {}).get(key.id, ()))

    def take(self, key: Key = CI, model: str = "a/m", tokens: Tokens = never) -> Taken:
        taken = asyncio.run(self.limiter.take(key, model, tokens))
        assert taken is not None
        return taken

    def passes(self, key: Key = CI, model: str = "a/m", tokens: Tokens = never) -> bool:
        return self.take(key, model, tokens).passed


TABLE = Limits(
    key=Caps(requests_per_minute=5),
    keys={"ci": Caps(tokens_per_day=100, in_flight=2), "k3": Caps()},
    teams={"red": Caps(requests_per_day=7)},
    models={"a/m": Caps(tokens_per_minute=50)},
)
FALLS_UNDER = [
    ("by its name", CI, (), "b/m", ["key:k1:tokens_per_day", "key:k1:in_flight"]),
    ("as every key", OTHER, (), "b/m", ["key:k2:requests_per_minute"]),
    ("by its id, free of all", Key(id="k3"), (), "b/m", []),
    ("its team's", Key(id="k3"), ("red", "blue", "red"), "b/m", ["team:red:requests_per_day"]),
    ("its model's", Key(id="k3"), ("blue",), "a/m", ["model:a/m:tokens_per_minute"]),
    (
        "all of them",
        OTHER,
        ("red",),
        "a/m",
        ["key:k2:requests_per_minute", "team:red:requests_per_day", "model:a/m:tokens_per_minute"],
    ),
]


@pytest.mark.parametrize(("name", "key", "teams", "model", "names"), FALLS_UNDER, ids=[f[0] for f in FALLS_UNDER])
def test_a_request_falls_under(name: str, key: Key, teams: tuple[str, ...], model: str, names: list[str]) -> None:
    found = limits.buckets(TABLE, key, teams, model)
    assert [b.name for b in found] == names
    assert len({b.tag for b in found}) == len(found)


def test_what_is_not_limited_costs_nothing() -> None:
    world = World(Limits(models={"x/y": Caps(requests_per_minute=1)}))
    assert asyncio.run(world.limiter.take(CI, "a/m", never)) is None


def test_keys_teams_and_models_are_counted_each_by_itself() -> None:
    world = World(
        Limits(
            key=Caps(requests_per_minute=3),
            teams={"red": Caps(requests_per_minute=4)},
            models={"a/m": Caps(requests_per_minute=6)},
        ),
        {"k1": ("red",), "k2": ("red",)},
    )
    assert [world.passes(CI) for _ in range(4)] == [True, True, True, False]
    assert [world.passes(OTHER) for _ in range(2)] == [True, False], "the team has one left"
    free = Key(id="k4")
    assert [world.passes(free) for _ in range(3)] == [True, True, False], "the model has two left"
    assert world.passes(free, "b/m"), "and what was refused took nothing of the key's"
    assert not world.passes(free, "b/m")


COSTS = [
    ("a bound", 100, 10, 20, 30),
    ("a bound past the limit", 100, 10, 200, 210),
    ("no bound", 100_000, 10, None, 1_010),
    ("no bound, and a low limit", 100, 10, None, 100),
    ("no bound, and a prompt past the limit", 100, 150, None, 150),
    ("absurd", 100, 10, 10**30, limits.MOST_TOKENS),
    ("negative", 100, -5, -7, 0),
    ("nothing", 0, 0, None, 0),
]


@pytest.mark.parametrize(("name", "limit", "prompt", "most", "cost"), COSTS, ids=[c[0] for c in COSTS])
def test_a_request_takes_all_that_it_may_come_to(
    name: str, limit: int, prompt: int, most: int | None, cost: int
) -> None:
    assert token_cost(limit, prompt, most) == cost


def test_tokens_are_put_right_when_they_are_known() -> None:
    world = World(Limits(key=Caps(tokens_per_minute=1000, tokens_per_day=5000, requests_per_minute=2)))
    first = world.take(tokens=said(100, 900))
    assert first.costs == (1, 1000, 1000)
    assert not world.passes(tokens=said(1, 1))
    world.limiter.settle(first, 300)
    second = world.take(tokens=said(100, 600))
    assert second.passed, "700 of 1000 are left"
    assert not world.passes(tokens=said(0, 0)), "two requests in this minute"
    world.limiter.settle(second, None)
    world.now_ms += 60_000
    day = world.take(tokens=said(0, 0)).levels[2]
    assert day == 1_000 * 86_400 - 60 * 5_000, "unknown stays as estimated: 300 + 700, less a minute's share of the day"


def test_what_never_went_out_is_given_back_whole() -> None:
    world = World(Limits(key=Caps(tokens_per_minute=10, requests_per_day=1, in_flight=1)))
    for _ in range(3):
        taken = world.take(tokens=said(4, 6))
        assert taken.passed
        world.limiter.give_back(taken)
    taken = world.take(tokens=said(4, 6))
    world.limiter.settle(taken, 0)
    world.now_ms += 3_600_000
    assert not world.passes(tokens=said(0, 0)), "one that was answered stays the day's one request"


def test_in_flight_ends_with_the_request() -> None:
    world = World(Limits(models={"a/m": Caps(in_flight=2)}))
    first, second = world.take(CI), world.take(OTHER)
    refused = world.take(OTHER)
    assert not refused.passed
    world.limiter.settle(refused, None)
    assert not world.passes()
    world.limiter.settle(first, 12)
    assert world.passes()
    world.limiter.settle(second, None)
    assert world.passes()


REFUSALS = [
    ("a minute's", Caps(requests_per_minute=6), (1, 1), 10.0, "key 'k1' may take 6 requests a minute"),
    ("no whole number of ticks", Caps(requests_per_minute=7), (1, 1), 8.572, "wait 8.57 s"),
    ("a day's", Caps(requests_per_day=2), (1, 1), 43_200.0, "2 requests a day"),
    ("tokens", Caps(tokens_per_minute=60), (20, 10), 30.0, "60 tokens a minute, which are used up; wait 30 s"),
    ("in flight", Caps(in_flight=1), (0, 0), 1.0, "1 requests at once"),
    ("the longest", Caps(requests_per_minute=1, requests_per_day=1), (1, 1), 86_400.0, "1 requests a day"),
    ("none at all", Caps(requests_per_minute=0), (1, 1), None, "0 requests a minute"),
    ("none in flight", Caps(in_flight=0), (1, 1), None, "0 requests at once"),
    ("too large", Caps(tokens_per_minute=60), (50, 11), None, "may come to 61; shorten the prompt"),
]


@pytest.mark.parametrize(("name", "caps", "tokens", "wait_s", "words"), REFUSALS, ids=[r[0] for r in REFUSALS])
def test_a_refusal_says_which_limit_and_how_long(
    name: str, caps: Caps, tokens: tuple[int, int], wait_s: float | None, words: str
) -> None:
    world = World(Limits(key=caps))
    taken = world.take(tokens=said(*tokens))
    for _ in range(9):
        if not taken.passed:
            break
        may_pass(taken)
        taken = world.take(tokens=said(*tokens))
    with pytest.raises(Problem) as caught:
        may_pass(taken)
    problem = caught.value
    assert (problem.status, problem.code) == (429, "rate_limit_exceeded")
    assert problem.retry_after_s == wait_s
    assert words in problem.say
    if wait_s is not None and not caps.in_flight:
        world.now_ms += round(wait_s * 1000) - 1
        assert not world.passes(tokens=said(*tokens))
        world.now_ms += 1
        assert world.passes(tokens=said(*tokens)), "and it was right"


HEADERS = [
    (
        "the tighter of two",
        Caps(requests_per_minute=60, requests_per_day=3, tokens_per_minute=150_000, tokens_per_day=10**6),
        (3, 13),
        b"x-ratelimit-limit-requests: 3\r\nx-ratelimit-remaining-requests: 2\r\nx-ratelimit-reset-requests: 8h0m0s\r\n"
        b"x-ratelimit-limit-tokens: 150000\r\nx-ratelimit-remaining-tokens: 149984\r\n"
        b"x-ratelimit-reset-tokens: 7ms\r\n",
    ),
    (
        "requests alone",
        Caps(requests_per_minute=60),
        (0, 0),
        b"x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\nx-ratelimit-reset-requests: 1s\r\n",
    ),
    ("in flight is not told", Caps(in_flight=3), (0, 0), b""),
    (
        "refused",
        Caps(requests_per_minute=0),
        (0, 0),
        b"x-ratelimit-limit-requests: 0\r\nx-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 1m0s\r\n",
    ),
]


@pytest.mark.parametrize(("name", "caps", "tokens", "lines"), HEADERS, ids=[h[0] for h in HEADERS])
def test_headers(name: str, caps: Caps, tokens: tuple[int, int], lines: bytes) -> None:
    assert limit_headers.lines(World(Limits(key=caps)).take(tokens=said(*tokens))) == lines


def test_what_is_owed_is_told_as_nothing_left() -> None:
    world = World(Limits(key=Caps(tokens_per_minute=60)))
    world.limiter.settle(world.take(tokens=said(1, 1)), 180)
    taken = world.take(tokens=said(1, 1))
    assert b"remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 3m0s" in limit_headers.lines(taken)
    with pytest.raises(Problem) as caught:
        may_pass(taken)
    assert caught.value.retry_after_s == 122


DURATIONS = [
    (0, "0s"),
    (1, "1ms"),
    (999, "999ms"),
    (1000, "1s"),
    (8640, "8.64s"),
    (60_000, "1m0s"),
    (360_000, "6m0s"),
    (72_172, "1m12.172s"),
    (3_600_000, "1h0m0s"),
    (86_400_010, "24h0m0.01s"),
]


@pytest.mark.parametrize(("ms", "text"), DURATIONS)
def test_durations_are_written_as_by_go(ms: int, text: str) -> None:
    assert limit_headers.duration(ms) == text


def test_many_callers_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_KNOWN", 4)
    world = World(Limits(key=Caps(requests_per_minute=1)))
    for n in range(20):
        assert world.passes(Key(id=str(n)))
    assert not world.passes(Key(id="0")), "forgetting its buckets does not forget what is in them"
    assert len(world.limiter._known) <= 4


def test_a_refused_request_is_never_settled() -> None:
    """Told of by mistake, it changes nothing."""
    world = World(Limits(key=Caps(requests_per_minute=1, in_flight=1)))
    world.take()
    refused = world.take()
    costs: Costs = (0, 0)
    world.counters.settle(refused, costs)
    world.limiter.give_back(refused)
    assert not world.passes()
