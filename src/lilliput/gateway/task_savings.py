"""What a task's student saved against asking the teacher each time: from the ledger and the audits, to be checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from msgspec import Struct, structs

from lilliput.catalogue.price import cost_nusd
from lilliput.catalogue.rows import Price
from lilliput.gateway.usage_table import usd
from lilliput.money import Ledger, UsageQuery, UsageRow
from lilliput.neutral import Usage
from lilliput.tasks import PREFIX, Audited, Task, served_by

Z_95 = 1.959963984540054


class Share(Struct, frozen=True, kw_only=True):
    """A share of `items` with its 95 % interval (Wilson 1927); None of none."""

    items: int
    share: float | None = None
    low: float = 0.0
    high: float = 1.0


class Savings(Struct, frozen=True, kw_only=True):
    """Money is dollars as text, to the last digit; None where nobody knows: no ledger, no price, nothing audited.

    `spent_usd` is what all requests of the task did cost, with `audits_usd` for holding answers against the teacher's;
    `all_teacher_usd` what they would have: the teacher's price (of the catalogue, today) for the tokens of the
    student's answers, and the rest as it was.
    """

    task: str
    teacher: str
    student: str | None
    requests: int | None = None
    local: int | None = None
    local_share: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    spent_usd: str | None = None
    audits_usd: str | None = None
    all_teacher_usd: str | None = None
    saved_usd: str | None = None
    agreement: Share = Share(items=0)
    """Of the answers that the student in place gave and that were held against the teacher's."""
    shadow: Share = Share(items=0)
    """The same of all that it would have answered in silence, sure or not."""
    student_ms: float | None = None
    teacher_ms: float | None = None
    saved_ms: float | None = None
    """Medians over the audits, and what is between them."""
    notes: tuple[str, ...] = ()


def wilson(events: int, items: int) -> Share:
    if not items:
        return Share(items=0)
    share, z2 = events / items, Z_95 * Z_95
    centre = share + z2 / (2 * items)
    reach = Z_95 * math.sqrt(share * (1 - share) / items + z2 / (4 * items * items))
    low, high = (centre - reach) / (1 + z2 / items), (centre + reach) / (1 + z2 / items)
    return Share(items=items, share=share, low=max(0.0, low), high=min(1.0, high))


async def savings(
    task: Task, ledger: Ledger | None, audits: Sequence[Audited], price: Price | None, now: float
) -> Savings:
    notes = []
    rows: list[UsageRow] | None = None
    audited = 0
    if ledger is None:
        notes.append("no ledger is kept, so neither requests nor money are known: `on = true` under [ledger]")
    else:
        found = await ledger.usage(UsageQuery(by=("model", "served"), limit=10_000))
        rows = [row for row in found if row.group[0] == PREFIX + task.name]
        audited = sum(r.cost_nusd for r in await ledger.usage(UsageQuery(by=(), account=PREFIX + task.name)))
    if price is None:
        notes.append(f"the catalogue has no price of {task.teacher!r}: name one under [models]")
    mine = [a for a in audits if a.student == task.student]
    served = [a for a in mine if a.served]
    shadow = [a for a in mine if a.mode == "shadow"]
    if task.student is not None and not served:
        notes.append("none of its served answers has been audited yet")
    timed = [(a.student_ms, a.teacher_ms) for a in mine if a.student_ms and a.teacher_ms]
    fast = round(median(s for s, _ in timed), 3) if timed else None
    slow = round(median(t for _, t in timed), 3) if timed else None
    return Savings(
        task=task.name,
        teacher=task.teacher,
        student=task.student,
        **_money(rows, task.name, audited, price, now),
        agreement=wilson(sum(a.agrees for a in served), len(served)),
        shadow=wilson(sum(a.agrees for a in shadow), len(shadow)),
        student_ms=fast,
        teacher_ms=slow,
        saved_ms=None if fast is None or slow is None else round(slow - fast, 3),
        notes=tuple(notes),
    )


def _money(rows: Sequence[UsageRow] | None, name: str, audited: int, price: Price | None, now: float) -> dict[str, Any]:
    """`audited` is what asking the teacher for audits did cost; the price is that of short prompts."""
    if rows is None:
        return {}
    here = [row for row in rows if row.group[1].startswith(served_by(name, ""))]
    requests, local = sum(r.requests for r in rows), sum(r.requests for r in here)
    usage = Usage(input=sum(r.prompt_tokens for r in here), output=sum(r.completion_tokens for r in here))
    found: dict[str, Any] = {
        "requests": requests,
        "local": local,
        "local_share": local / requests if requests else None,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
    }
    if any(row.unpriced for row in rows if row not in here):
        return found
    asked = sum(row.cost_nusd for row in rows)
    found |= {"spent_usd": usd(asked + audited), "audits_usd": usd(audited)}
    if price is not None:
        flat = structs.replace(price, tiers=(), per_request=0)
        instead = cost_nusd(flat, usage, now) + price.per_request * local
        saved = instead - sum(row.cost_nusd for row in here)
        found |= {"all_teacher_usd": usd(asked + saved), "saved_usd": usd(saved - audited)}
    return found
