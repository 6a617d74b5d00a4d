"""The live audit's test: rarely wrong over long streams, and how soon it notices."""

from __future__ import annotations

import random

import msgspec
import pytest

from lilliput.loop.audit import Audit, Rising
from lilliput.neutral import Problem


def until(rate: float, seed: int, most: int, before: int = 0) -> int | None:
    """After how many audited answers the bound is broken, `before` of them with 3 % of disagreement."""
    dice, audit = random.Random(seed), Audit(0.05, 0.1)
    for i in range(before):
        assert not audit.see(dice.random() >= 0.03), i
    return next((i for i in range(1, most + 1) if audit.see(dice.random() >= rate)), None)


@pytest.mark.parametrize("rate", [0.05, 0.03])
def test_false_demotions_are_rarer_than_delta(rate: float) -> None:
    broken = sum(until(rate, seed, 1000) is not None for seed in range(100))
    assert broken <= 0.1 * 100, broken


@pytest.mark.parametrize(("rate", "median", "later"), [(0.1, 150, 290), (0.2, 25, 60), (0.5, 6, 14)])
def test_breaches_are_noticed(rate: float, median: int, later: int) -> None:
    """The table in docs/deferral.md: at once, and after 100 good answers."""
    at_once = sorted(until(rate, seed, 5000) or 5000 for seed in range(101))
    assert at_once[50] <= median
    after = sorted(until(rate, seed, 5000, before=100) or 5000 for seed in range(101))
    assert after[50] <= later


def test_wealth_is_fair_at_the_bound_and_worse_below() -> None:
    """The mean over all streams of eight events, exactly: a martingale at the rate, a supermartingale below it."""
    for true, mean in [(0.05, 1.0), (0.02, None)]:
        total = 0.0
        for stream in range(2**8):
            bets, chance = Rising(0.05), 1.0
            for i in range(8):
                event = bool(stream >> i & 1)
                bets.see(event)
                chance *= true if event else 1 - true
            total += chance * bets.now()
        assert total == pytest.approx(mean) if mean else total < 1.0


def test_state_is_stored_and_taken_up() -> None:
    dice, audit = random.Random(5), Audit(0.05, 0.1)
    for _ in range(40):
        audit.see(dice.random() >= 0.04)
    other = msgspec.json.decode(msgspec.json.encode(audit), type=Audit)
    answers = [dice.random() >= 0.4 for _ in range(40)]
    assert [audit.see(a) for a in answers] == [other.see(a) for a in answers]
    assert audit.broken
    assert audit.why() == f"{audit.differ} of 80 audited answers differ, where 0.05 of them may"


def test_once_broken_it_stays_so_and_numbers_stay_finite() -> None:
    audit = Audit(0.05, 0.1)
    for _ in range(2000):
        audit.see(False)
    assert audit.broken
    for _ in range(2000):
        assert audit.see(True)
    assert audit.bets is not None
    assert audit.bets.now() < 1
    for _ in range(2000):
        audit.see(False)
    assert msgspec.json.decode(msgspec.json.encode(audit), type=Audit) == audit


def test_two_audits_share_nothing() -> None:
    a, b = Audit(0.05, 0.1), Audit(0.05, 0.1)
    a.see(False)
    assert (a.seen, b.seen) == (1, 0)
    assert b.see(True) is False


def test_what_is_no_share_is_refused() -> None:
    with pytest.raises(Problem, match="between 0 and 1"):
        Audit(0.0, 0.1)
