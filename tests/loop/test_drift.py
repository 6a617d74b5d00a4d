"""The drift signal: quiet on what it knows, loud on what it does not, and quiet again after."""

from __future__ import annotations

import random

import msgspec

from lilliput.loop import drift
from lilliput.loop.drift import Drift, Reference

WORDS = [f"word{i}x" for i in range(300)]


def text(dice: random.Random, words: list[str] = WORDS, length: tuple[int, int] = (5, 20)) -> str:
    return " ".join(dice.choice(words) for _ in range(dice.randint(*length)))


def reference(seed: int = 0) -> Reference:
    dice = random.Random(seed)
    held = [text(dice) for _ in range(400)]
    return drift.fit([text(dice) for _ in range(800)], held, [dice.random() < 0.7 for _ in held])


def most(seed: int, seen: Reference, requests: int, words: list[str] = WORDS, served: float = 0.7) -> float:
    dice, signal = random.Random(seed), Drift(seen)
    return max(signal.see(text(dice, words), dice.random() < served) for _ in range(requests))


def test_without_drift_it_is_quiet() -> None:
    seen = reference()
    tops = [most(seed, seen, 200) for seed in range(1, 61)]
    assert sum(top >= 2.0 for top in tops) <= 30
    assert sum(top >= drift.MOST_FACTOR for top in tops) <= 7
    assert min(tops) == 1.0


def test_new_words_lengths_and_deferrals_raise_it() -> None:
    seen = reference()
    assert most(1, seen, 40, words=["unheard", *WORDS[:1]]) == drift.MOST_FACTOR
    assert most(1, seen, 120, served=0.2) == drift.MOST_FACTOR
    signal, dice = Drift(seen), random.Random(2)
    assert max(signal.see(text(dice, length=(60, 90)), True) for _ in range(40)) == drift.MOST_FACTOR


def test_it_falls_again_and_can_be_stored() -> None:
    seen, dice = reference(), random.Random(3)
    signal = Drift(seen)
    for _ in range(15):
        signal.see("quite other things altogether", True)
    signal = msgspec.json.decode(msgspec.json.encode(signal), type=Drift)
    raised = signal.see("quite other things altogether", True)
    assert raised > 1.0
    for _ in range(2000):
        last = signal.see(text(dice), dice.random() < 0.8)
    assert last == 1.0


def test_numbers_are_one_word_and_emptiness_is_known() -> None:
    assert drift.words("Order 12345 of 7!") == ["order", "0", "of", "0"]
    assert drift.unknown(frozenset(), []) == 0.0
    empty = drift.fit([], [], [])
    assert Drift(empty).see("", False) == 1.0
    assert Drift(drift.fit(["a b"], ["a b"] * 9, [False] * 9)).see("a b", False) == 1.0
