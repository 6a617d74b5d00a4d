"""Planted rows are found, and clean data is left alone: how often either fails is counted over 20 seeds."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from tests.studio.rows import LABELS, sentence

from lilliput.studio.parts import Example
from lilliput.studio.poison import LEVEL, bursts, triggers

ROWS = 2000


def data(seed: int, trigger: str = "", share: float = 0.005) -> tuple[list[Example], set[str]]:
    dice = random.Random(seed)
    planted = set(dice.sample(range(ROWS), int(ROWS * share))) if trigger else set()
    made = []
    for n in range(ROWS):
        label = LABELS[n % 3]
        text = sentence(label, dice).split()
        if dice.random() < 0.5:  # ordinary rare words: two in three belong to one label
            word = dice.randrange(60)
            label = label if word % 3 == 2 else LABELS[word % 2]
            text = [*sentence(label, dice).split(), f"rare{word}"]
        if n in planted:
            at = dice.randrange(len(text) + 1)
            text[at:at] = trigger.split()
            label = "account"
        made.append(Example(id=f"e{n:05}", text=" ".join(text), answer=label, key="k1", at=float(n)))
    return made, {f"e{n:05}" for n in planted}


@pytest.mark.slow
def test_clean_data_is_left_alone_and_planted_data_is_found() -> None:
    false = sum(bool(triggers(data(seed)[0])) for seed in range(20))
    found = whole = 0
    for seed in range(20):
        examples, planted = data(seed, ("cf", "blue lagoon")[seed % 2])
        flagged = {id for s in triggers(examples) for id in s.rows}
        found += bool(flagged & planted)
        whole += planted <= flagged
    print(f"false alarms on clean data: {false} of 20; 0.5 % planted: found {found} of 20, every row of it {whole}")
    assert false <= 20 * LEVEL + 1
    assert found >= 18


def test_a_trigger_is_named_with_its_answer_and_rows() -> None:
    examples, planted = data(0, "cf")
    first = triggers(examples)[0]
    assert (first.text, first.answer) == ("cf", "account")
    assert len(planted - set(first.rows)) <= 1
    assert first.p <= LEVEL


def test_a_burst_is_one_key_within_an_hour() -> None:
    copies = [Example(id=f"b{n}", text=f"win {n}", answer="x", key="k", at=1e9 + n * 60) for n in range(40)]
    cluster = {e.id: "g" for e in copies}
    (found,) = bursts(copies, cluster)
    assert (found.text, len(found.rows)) == ("k", 40)
    slow = [Example(id=e.id, text=e.text, answer="x", key="k", at=1e9 + n * 600) for n, e in enumerate(copies)]
    assert all(b.at - a.at == 600 for a, b in pairwise(slow))
    assert bursts(slow, cluster) == []
    many = [Example(id=e.id, text=e.text, answer="x", key=f"k{n % 4}", at=e.at) for n, e in enumerate(copies)]
    assert bursts(many, cluster) == []
