"""The stage that makes a data set of rows: filtered, consent carried, copies merged, split so that nothing leaks.

Reads `rows.jsonl` in the run's root, writes train, cal and test as examples, the frame, and the datasheet. The result
depends on the rows alone, not on their order. What is dropped is counted by reason, and a Problem says what is missing.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, structs

from lilliput.loop import frame
from lilliput.loop.score import fits, plain
from lilliput.neutral import Problem
from lilliput.studio import datasheet, near, poison
from lilliput.studio.parts import SPLITS, Example, Facts, Tell, Work, write
from lilliput.tasks import Frame, Row, Task

PER_LABEL, LABEL_ROWS, OTHER_ROWS = 8, 60, 100
"""The least that a student can be made and judged with."""
BROKEN_SHARE = 0.2
"""Of answers that are no answers of this task: more of them, and the task is wrong, or its teacher."""
OUTSIDE_SHARE = 0.5
PLANTED_SHARE = 0.05
TO_TRAIN = 0.05
"""A group that holds more than this share of all rows goes to train: it would make up a whole split elsewhere."""


def collect(work: Work, out: Path, tell: Tell) -> Facts:
    """Rows into examples. Suspects of the scan for planted rows are left out and listed, not trained on."""
    task = work.task
    rows = _read(work.root / "rows.jsonl")
    _permitted(rows, task)
    tell(0.1, f"{len(rows)} rows read", rows=len(rows))
    dropped: Counter[str] = Counter()
    rows = _judged(rows, dropped)
    shape = frame.fit([row.messages for row in rows])
    examples = _answered(_framed(rows, shape, dropped), task, dropped)
    told = _minds(examples)
    examples = _settled(examples, task, dropped)
    tell(0.4, f"{len(examples)} different rows", examples=len(examples))
    cluster = _groups(examples, {row.id: row for row in rows}, work.recipe.seed)
    suspects = poison.scan([e for e in examples if e.answer], cluster["near"])
    examples = _unplanted(examples, suspects, cluster["near"], dropped)
    enough(examples, task)
    tell(0.8, f"{len(suspects)} suspects; splitting", suspects=len(suspects))
    examples = [structs.replace(e, group=cluster["all"][e.id]) for e in examples]
    splits = split(examples, work.recipe.shares, by_time=work.recipe.by_time, seed=work.recipe.seed)
    leaks = leaked(splits, work.recipe.seed + 1)
    if leaks:
        raise Problem("server", f"{leaks} near copies stand on both sides of a split: this is a fault in collect")
    for name, part in splits.items():
        write(out / f"{name}.jsonl", part)
    (out / "frame.json").write_bytes(msgspec.json.encode(shape))
    facts: dict[str, Any] = {
        "data_sha256": digest(splits),
        "rows": sum(map(len, splits.values())),
        "splits": {name: len(part) for name, part in splits.items()},
        "unanswered": sum(not e.answer for e in examples),
        "dropped": dict(sorted((+dropped).items())),
        "leaks": leaks,
        **told,
        "suspects": [structs.asdict(s) for s in suspects],
    }
    datasheet.write(out, task, {row.id: row for row in rows}, splits, shape, facts)
    return facts


def _read(path: Path) -> list[Row]:
    """By time, then by id, each id once."""
    rows: dict[str, Row] = {}
    decode = msgspec.json.Decoder(Row).decode
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = decode(line)
                except msgspec.DecodeError as e:
                    raise Problem("client", f"{path.name}, line {number} is no row: {e}", code="bad_rows") from e
                rows[row.id] = row
    except FileNotFoundError as e:
        raise Problem("missing", f"there is no {path.name} in the run {path.parent.name}: capture or import") from e
    if not rows:
        raise Problem("client", f"{path.name} is empty: capture or import rows first", code="too_little_data")
    return sorted(rows.values(), key=lambda r: (r.at, r.id))


def _permitted(rows: Sequence[Row], task: Task) -> None:
    without = [row.id for row in rows if not row.consent]
    if without:
        raise Problem(
            "permission",
            f"{len(without)} of {len(rows)} rows carry no consent (the first is {without[0]!r}): erase them, or import "
            "them again with the text of the consent that was given",
            code="no_consent",
        )
    forbidden = sorted({row.teacher or "?" for row in rows if row.terms == "forbidden" and row.source != "label"})
    if forbidden and not task.override:
        raise Problem(
            "permission",
            f"the terms of {', '.join(map(repr, forbidden))} forbid training from its answers: choose another teacher, "
            "or set the task's 'override' to who decides otherwise, and why",
            code="terms_forbid",
        )


def _judged(rows: Sequence[Row], dropped: Counter[str]) -> list[Row]:
    kept = [row for row in rows if row.correction is not None or (row.feedback or 0) >= 0]
    if len(kept) < len(rows):
        dropped["judged wrong, without a correction"] = len(rows) - len(kept)
    return kept


def _framed(rows: Sequence[Row], shape: Frame, dropped: Counter[str]) -> list[Example]:
    examples = []
    for row in rows:
        text = frame.cut(shape, row.messages)
        if text is None:
            dropped["outside the frame"] += 1
            continue
        corrected = row.correction is not None
        examples.append(
            Example(
                id=row.id,
                text=text,
                answer=(row.correction if row.correction is not None else row.answer).strip(),
                gold=row.gold,
                group=row.group,
                at=row.at,
                key=row.key,
                subject=row.subject,
                source="correction" if corrected else row.source,
                top=None if corrected else _top(row.logprobs),
            )
        )
    if dropped["outside the frame"] > OUTSIDE_SHARE * len(rows):
        raise Problem(
            "client",
            f"{dropped['outside the frame']} of {len(rows)} requests do not have what the others have in common: a "
            "system text of their own, several turns, or no text; give each kind of request a task of its own",
            code="no_frame",
        )
    return examples


def _top(logprobs: Raw | None) -> tuple[tuple[tuple[str, float], ...], ...] | None:
    """OpenAI's `logprobs` object as an example keeps it; None where it is something else."""
    if logprobs is None:
        return None
    try:
        tokens = msgspec.json.decode(logprobs)["content"]
        return tuple(tuple((t["token"], float(t["logprob"])) for t in each["top_logprobs"]) for each in tokens) or None
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return None


def _answered(examples: Sequence[Example], task: Task, dropped: Counter[str]) -> list[Example]:
    """Those whose answer is one of this task's, as it is written there, and those that wait for one."""
    kept: list[Example] = []
    broken: list[str] = []
    for e in examples:
        answer = of_task(e.answer, task) if e.answer else ""
        if answer is None:
            broken.append(e.answer)
        else:
            kept.append(e if answer == e.answer else structs.replace(e, answer=answer, top=None))
    if broken:
        what = "not among the labels" if task.kind == "label" else "breaks the schema"
        dropped[f"answer {what}"] = len(broken)
        if len(broken) > BROKEN_SHARE * len(examples):
            often = Counter(broken).most_common(1)[0][0][:80]
            raise Problem(
                "client",
                f"{len(broken)} of {len(examples)} answers are unusable: {what}, as in {often!r}; at most "
                f"{BROKEN_SHARE:.0%} may be: mend the task's labels or schema, or its prompt",
                code="bad_answers",
            )
    return kept


def of_task(answer: str, task: Task) -> str | None:
    """The answer as the task writes it (a label in its own case); None where it is none of the task's."""
    if task.kind == "label":
        if answer in task.labels:
            return answer
        like = [label for label in task.labels if plain(label).casefold() == plain(answer).casefold()]
        return like[0] if len(like) == 1 else None
    if task.kind == "text" or task.schema is None:
        return answer
    try:
        fit = fits(msgspec.json.decode(answer), msgspec.json.decode(task.schema))
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None
    return answer if fit else None


def _asked(text: str) -> str:
    return plain(text).casefold()


def _same(answer: str, task: Task) -> str:
    """The answer with what makes no difference taken away."""
    if task.kind != "extract":
        return plain(answer)
    try:
        return msgspec.json.encode(msgspec.json.decode(answer), order="deterministic").decode()
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return plain(answer)


def _minds(examples: Sequence[Example]) -> dict[str, float | int]:
    """How often a text that was asked again got another answer of the teacher."""
    asked: dict[str, list[str]] = defaultdict(list)
    for e in examples:
        if e.answer and e.source != "correction":
            asked[_asked(e.text)].append(plain(e.answer))
    again = [answers for answers in asked.values() if len(answers) > 1]
    changed = sum(len(set(answers)) > 1 for answers in again)
    return {"asked_again": len(again), "changed_mind": changed, "changed_mind_rate": changed / max(len(again), 1)}


def _settled(examples: Sequence[Example], task: Task, dropped: Counter[str]) -> list[Example]:
    """Each text once, with the answer of the majority; corrections outvote the teacher. Of a label or JSON without a
    majority none is kept; free text may be said in many ways, and the newest stays."""
    asked: dict[str, list[Example]] = defaultdict(list)
    for e in examples:
        asked[_asked(e.text)].append(e)
    kept = []
    for rows in asked.values():
        voters = [e for e in rows if e.source == "correction"] or [e for e in rows if e.answer] or rows
        votes = Counter(_same(e.answer, task) for e in voters).most_common()
        if len(votes) > 1 and task.kind != "text":
            if votes[0][1] * 2 <= len(voters):
                dropped["contradictory, no majority"] += len(rows)
                continue
            dropped["contradictory, outvoted"] += len(voters) - votes[0][1]
            voters = [e for e in voters if _same(e.answer, task) == votes[0][0]]
            dropped["copy"] += len(rows) - sum(n for _, n in votes[1:]) - 1
        else:
            dropped["copy"] += len(rows) - 1
        kept.append(max(voters, key=lambda e: (e.at, e.id)))
    return sorted(kept, key=lambda e: (e.at, e.id))


def _groups(examples: Sequence[Example], rows: Mapping[str, Row], seed: int) -> dict[str, dict[str, str]]:
    """By id, the group that shares a conversation, a person or nearly the text (`all`), and the text alone (`near`)."""
    found: dict[str, dict[str, str]] = {}
    copies, all_ = near.Union(len(examples)), near.Union(len(examples))
    for i, j in near.pairs([e.text for e in examples], seed=seed):
        copies.join(i, j)
        all_.join(i, j)
    first: dict[tuple[str, str], int] = {}
    for i, e in enumerate(examples):
        for whose in (("group", e.group), ("subject", e.subject)):
            if whose[1]:
                all_.join(first.setdefault(whose, i), i)
    for name, union in (("near", copies), ("all", all_)):
        least: dict[int, str] = {}
        for i, e in enumerate(examples):
            least[union.find(i)] = min(e.id, least.get(union.find(i), e.id))
        found[name] = {
            e.id: "g_" + hashlib.sha256(least[union.find(i)].encode()).hexdigest()[:16] for i, e in enumerate(examples)
        }
    return found


def _unplanted(
    examples: Sequence[Example], suspects: Sequence[poison.Suspect], cluster: Mapping[str, str], dropped: Counter[str]
) -> list[Example]:
    """Without the rows of triggers, and with one row of each burst."""
    out: set[str] = set()
    for s in suspects:
        out.update(s.rows if s.what == "trigger" else s.rows[1:])
    if len(out) > PLANTED_SHARE * len(examples):
        raise Problem(
            "client",
            f"{len(out)} of {len(examples)} rows look planted, the first by {suspects[0].what} "
            f"{suspects[0].text!r} with the answer {suspects[0].answer!r}: look at them (`datasheet`), and erase the "
            "key or the rows they came from",
            code="planted",
        )
    if out:
        dropped["suspected of being planted"] = len(out)
    return [e for e in examples if e.id not in out]


def enough(examples: Sequence[Example], task: Task) -> None:
    """Refuse, with a Problem that counts, what is too little to make and judge a student with."""
    total = len(examples)
    need = LABEL_ROWS if task.kind == "label" else OTHER_ROWS
    counts = Counter(e.answer for e in examples if e.answer)
    waiting = total - sum(counts.values())
    if task.kind == "label" and not waiting and len(counts) == 1 and len(task.labels) > 1:
        raise Problem(
            "client",
            f"all {total} rows have the answer {next(iter(counts))!r}: there is nothing to learn; capture rows of the "
            "other labels",
            code="one_class",
        )
    if total < need:
        raise Problem(
            "client",
            f"{total} different rows are left, and a {task.kind} task needs {need}: {need - total} more",
            code="too_little_data",
        )
    few = [f"{label!r} {counts[label]}" for label in task.labels if counts[label] < PER_LABEL]
    if task.kind == "label" and few and not waiting:
        raise Problem(
            "client",
            f"each label needs {PER_LABEL} rows, and there are: {', '.join(few)}; capture more, or take the label "
            "from the task",
            code="too_little_data",
        )


def split(
    examples: Sequence[Example], shares: tuple[float, float, float], *, by_time: bool, seed: int
) -> dict[str, list[Example]]:
    """Whole groups into train, cal and test, in the order of a seeded hash; by time, test gets the newest."""
    groups: dict[str, list[Example]] = defaultdict(list)
    for e in examples:
        groups[e.group].append(e)
    have: dict[str, list[Example]] = {name: [] for name in SPLITS}
    wanted = {name: share * len(examples) / sum(shares) for name, share in zip(SPLITS, shares, strict=True)}
    open_ = [name for name in SPLITS if wanted[name] > 0]
    rest = sorted(groups, key=lambda g: hashlib.sha256(f"{seed}/{g}".encode()).digest())
    if by_time:
        rest.sort(key=lambda g: max(e.at for e in groups[g]), reverse=True)
        newest = 0
        while newest < len(rest) and len(have["test"]) + len(groups[rest[newest]]) / 2 <= wanted["test"]:
            have["test"] += groups[rest[newest]]
            newest += 1
        rest, open_ = sorted(rest[newest:], key=lambda g: hashlib.sha256(f"{seed}/{g}".encode()).digest()), open_[:2]
    for g in rest:
        large = len(groups[g]) > max(TO_TRAIN * len(examples), 8)
        name = SPLITS[0] if large else max(open_, key=lambda s: (wanted[s] - len(have[s])) / wanted[s])
        have[name] += groups[g]
    short = [name for name in SPLITS if len(have[name]) * 2 < wanted[name]]
    if short:
        raise Problem(
            "client",
            f"the rows hang together in {len(groups)} groups (conversations, persons, near copies), too few or too "
            f"large to split: {', '.join(f'{s} gets {len(have[s])} of {wanted[s]:.0f}' for s in short)}; capture more "
            "different ones",
            code="too_few_groups",
        )
    return {name: sorted(part, key=lambda e: (e.at, e.id)) for name, part in have.items()}


def leaked(splits: Mapping[str, Sequence[Example]], seed: int) -> int:
    """Ids, groups and near copies that stand in two splits, found with other hashes than those that made the groups."""
    place = [(name, e) for name, part in splits.items() for e in part]
    where: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name, e in place:
        where["id", e.id].add(name)
        where["group", e.group].add(name)
    crossing = sum(len(names) > 1 for names in where.values())
    found = near.pairs([e.text for _, e in place], near.LEAK, seed)
    return crossing + sum(place[i][0] != place[j][0] for i, j in found)


def digest(splits: Mapping[str, Sequence[Example]]) -> str:
    """One hash over what is in each split."""
    encode = msgspec.json.Encoder(order="deterministic").encode
    total = hashlib.sha256()
    for name in SPLITS:
        for each in sorted(encode(e) for e in splits[name]):
            total.update(name.encode() + b"\0" + each + b"\n")
    return total.hexdigest()
