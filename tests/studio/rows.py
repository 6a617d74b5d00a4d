"""Rows and runs for the tests of collect and label: made up, seeded, in English that no model wrote."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, structs

from lilliput.studio import parts
from lilliput.studio.parts import Recipe, Work
from lilliput.tasks import Row, Task

LABELS = ("billing", "delivery", "account")
BILLING = "invoice charge refund card payment receipt amount fee bank price discount tax total bill"
DELIVERY = "parcel courier address late box driver tracking street door shipped warehouse van post depot"
ACCOUNT = "password login email profile settings username locked code phone security device reset name app"
WORDS = {label: words.split() for label, words in zip(LABELS, (BILLING, DELIVERY, ACCOUNT), strict=True)}
OTHERS = (
    "the my please about with yesterday order customer still again help question was is not for can today you and "
    "thanks hello morning really need want problem since week twice another because team asked told never always"
)
PLAIN = OTHERS.split()
HEAD = "Which team is this for?\n---\n"
TASK = Task(name="tickets", teacher="openai/gpt-5.4-mini", kind="label", labels=LABELS)


def sentence(label: str, dice: random.Random, words: int = 14) -> str:
    return " ".join(dice.choice(WORDS[label] if dice.random() < 0.45 else PLAIN) for _ in range(words))


def row(n: int, text: str, answer: str, **fields: Any) -> Row:
    messages = [{"role": "system", "content": "Answer with one word."}, {"role": "user", "content": HEAD + text}]
    base = Row(
        id=f"r{n:05}",
        task="tickets",
        at=1_700_000_000.0 + n * 60,
        key="k1",
        messages=Raw(msgspec.json.encode(messages)),
        answer=answer,
        teacher=TASK.teacher,
        consent="Support tickets may train our model.",
        terms="allowed",
    )
    return structs.replace(base, **fields)


def tickets(count: int, seed: int = 0) -> list[Row]:
    dice = random.Random(seed)
    labels = [LABELS[n % 3] for n in range(count)]
    return [row(n, sentence(label, dice), label) for n, label in enumerate(labels)]


def work(root: Path, rows: list[Row], task: Task = TASK, **recipe: Any) -> Work:
    root.mkdir(parents=True, exist_ok=True)
    parts.write(root / "rows.jsonl", rows)
    return Work(root=root, task=task, recipe=Recipe(**recipe), students=root / "students")


def silent(done: float, say: str, **figures: float) -> None:
    assert 0 <= done <= 1
