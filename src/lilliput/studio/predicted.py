"""What others predicted, as `evaluate` reads it, and the task's scorer with its judge at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lilliput.loop import score
from lilliput.neutral import Problem
from lilliput.studio.measure import Agrees, Score
from lilliput.studio.parts import Example, Prediction, Work, read

JUDGE = """Do these two answers say the same? Reply with yes or no alone.

First answer:
{a}

Second answer:
{b}

The same:"""


def predictions(work: Work, splits: Mapping[str, Sequence[Example]]) -> dict[str, dict[str, list[Prediction]]]:
    """By who and split, in the order of the examples; Problem when some were not predicted."""
    found: dict[str, dict[str, list[Prediction]]] = {}
    for path in sorted(work.of("predict").glob("*.jsonl")):
        who, _, split = path.stem.rpartition(".")
        by_id = {p.id: p for p in read(path, Prediction)}
        if split in splits:
            missing = [e.id for e in splits[split] if e.id not in by_id]
            if missing:
                raise Problem(
                    "client",
                    f"{path.name} lacks {len(missing)} of {len(splits[split])} predictions, the first of "
                    f"{missing[0]!r}: run the stage 'predict' again",
                )
            found.setdefault(who, {})[split] = [by_id[e.id] for e in splits[split]]
        elif split == "swapped":
            found.setdefault(who, {})[split] = list(by_id.values())
    return found


def facts(work: Work) -> dict[str, dict[str, Any]]:
    """`predict/facts.json`, where it is: by who, `bytes` and `usd` of an answer."""
    path = work.of("predict") / "facts.json"
    return msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Any]]) if path.is_file() else {}


def scorers(work: Work) -> tuple[Score, Agrees]:
    """The task's scorer as a number and as a yes or no. A judge is asked by `work.ask`, once for a pair of answers."""
    task = work.task
    known: dict[tuple[str, str], float] = {}

    def judge(a: str, b: str) -> float:
        if score.plain(a) == score.plain(b):
            return 1.0
        if (a, b) not in known:
            known[a, b] = _asked(work, a, b)
        return known[a, b]

    ask = judge if work.ask is not None and task.scorer.by == "judge" else None
    return (
        lambda a, b: score.score(task.scorer, a, b, schema=task.schema, ask=ask),
        lambda a, b: score.agrees(task.scorer, a, b, schema=task.schema, ask=ask),
    )


def _asked(work: Work, a: str, b: str) -> float:
    assert work.ask is not None
    body = {
        "model": work.task.scorer.model,
        "messages": [{"role": "user", "content": JUDGE.format(a=a, b=b)}],
        "temperature": 0,
        "max_tokens": 3,
    }
    content = work.ask(body)["choices"][0]["message"]["content"] or ""
    return float(content.strip().lower().startswith("yes"))
