"""Rows into a data set: what is refused, what is dropped, and that nothing leaks from one split into another."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw, structs
from tests.studio.rows import HEAD, LABELS, TASK, row, sentence, silent, tickets, work

from lilliput.neutral import Problem
from lilliput.studio import near
from lilliput.studio.collect import collect
from lilliput.studio.parts import SPLITS, Example
from lilliput.tasks import Row, Task

SCHEMA = Raw(b'{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}')
EXTRACT = Task(name="numbers", teacher="t", kind="extract", schema=SCHEMA)


def run(root: Path, rows: list[Row], task: Task = TASK, **recipe: Any) -> tuple[Any, dict[str, list[Example]]]:
    made = work(root, rows, task, **recipe)
    out = made.of("collect")
    out.mkdir(exist_ok=True)
    facts = collect(made, out, silent)
    return facts, {name: made.examples(name) for name in SPLITS}


def test_the_same_rows_in_any_order_make_the_same_data(tmp_path: Path) -> None:
    rows = tickets(300)
    facts, splits = run(tmp_path / "a", rows)
    shuffled = random.Random(1).sample(rows, len(rows))
    again, _ = run(tmp_path / "b", shuffled)
    for name in ("train.jsonl", "frame.json", "datasheet.json", "datasheet.md"):
        assert (tmp_path / "a/collect" / name).read_bytes() == (tmp_path / "b/collect" / name).read_bytes()
    assert facts == again
    assert facts["data_sha256"] != run(tmp_path / "c", tickets(300, seed=1))[0]["data_sha256"]
    assert facts["splits"] == {"train": 180, "cal": 60, "test": 60}
    assert all(HEAD not in e.text for e in splits["train"])
    sheet = json.loads((tmp_path / "a/collect/datasheet.json").read_bytes())
    assert sheet["consent"] == {"Support tickets may train our model.": 300}
    assert sheet["labels"]["train"].keys() == set(LABELS)
    assert sheet["frame"]["head"] == HEAD


def test_copies_and_near_copies_stay_on_one_side(tmp_path: Path) -> None:
    rows = tickets(300)
    dice = random.Random(3)
    for n in range(300, 420):  # one word more than a row that is there
        old = rows[n - 300]
        text = msgspec.json.decode(old.messages)[1]["content"].removeprefix(HEAD)
        rows.append(row(n, f"{text} {dice.choice(LABELS)}", old.answer))
    rows += [structs.replace(r, id="copy" + r.id, at=r.at + 9e6) for r in rows[:50]]
    facts, splits = run(tmp_path, rows)
    assert facts["dropped"]["copy"] >= 50
    assert (facts["leaks"], facts["rows"]) == (0, 470 - facts["dropped"]["copy"])
    side = {e.id.removeprefix("copy"): name for name, part in splits.items() for e in part}
    pairs = [(side[f"r{n - 300:05}"], side[f"r{n:05}"]) for n in range(300, 420)]
    assert all(a == b for a, b in pairs)
    assert len({a for a, _ in pairs}) == 3
    texts = [e.text for part in splits.values() for e in part]
    place = [name for name, part in splits.items() for _ in part]
    sets = [near.shingles(t) for t in texts]
    worst = max(near.jaccard(sets[i], sets[j]) for i in range(len(texts)) for j in range(i) if place[i] != place[j])
    assert worst < near.LEAK


def test_conversations_and_persons_stay_on_one_side(tmp_path: Path) -> None:
    rows = [
        structs.replace(r, group=f"c{n // 5}", subject=f"p{n // 7}" if n > 280 else "")
        for n, r in enumerate(tickets(300))
    ]
    _, splits = run(tmp_path, rows)
    of = {r.id: r for r in rows}
    for whose in ("group", "subject"):
        a, b, c = ({getattr(of[e.id], whose) for e in part} - {""} for part in splits.values())
        assert not (a & b) | (b & c) | (a & c), whose


def test_by_time_the_newest_are_the_test(tmp_path: Path) -> None:
    _, splits = run(tmp_path, tickets(300), by_time=True)
    newest = min(e.at for e in splits["test"])
    assert len(splits["test"]) == 60
    assert all(e.at < newest for name in ("train", "cal") for e in splits[name])


def test_feedback_corrections_and_contradictions(tmp_path: Path) -> None:
    rows = tickets(300)
    rows[0] = structs.replace(rows[0], feedback=-1.0)
    rows[1] = structs.replace(rows[1], feedback=-1.0, correction="billing")
    text = "please help with an odd thing that nobody else has had"
    rows += [row(900 + n, text, answer) for n, answer in enumerate(("billing", "account", "account"))]
    rows += [
        row(910 + n, text + " and more of it every day of the year", a) for n, a in enumerate(("billing", "account"))
    ]
    rows += [row(920, rows[2].answer + " never again, said she, and left the room", " Billing ")]
    rows += [row(930, "what a strange text this is, who would have thought", "weather")]
    facts, splits = run(tmp_path, rows)
    by = {e.id: e for part in splits.values() for e in part}
    assert "r00000" not in by
    assert (by["r00001"].answer, by["r00001"].source) == ("billing", "correction")
    assert by["r00902"].answer == "account"
    assert not {"r00900", "r00901", "r00910", "r00911", "r00930"} & by.keys()
    assert by["r00920"].answer == "billing"
    assert facts["dropped"] == {
        "answer not among the labels": 1,
        "contradictory, no majority": 2,
        "contradictory, outvoted": 1,
        "copy": 1,
        "judged wrong, without a correction": 1,
    }
    assert (facts["asked_again"], facts["changed_mind"]) == (2, 2)


def numbers(count: int, answer: Callable[[int], str]) -> list[Row]:
    dice = random.Random(0)
    return [row(n, sentence(LABELS[n % 3], dice), answer(n)) for n in range(count)]


REFUSED: list[tuple[str, str, Callable[[], list[Row]], Task, str]] = [
    (
        "no consent",
        "no_consent",
        lambda: [*tickets(99), row(99, "x", "billing", consent="")],
        TASK,
        "1 of 100 .*'r00099'",
    ),
    ("forbidden", "terms_forbid", lambda: [*tickets(99), row(99, "x", "billing", terms="forbidden")], TASK, "override"),
    ("too few", "too_little_data", lambda: tickets(40), TASK, "40 different rows .* needs 60: 20 more"),
    (
        "few of a label",
        "too_little_data",
        lambda: [r for r in tickets(200) if r.answer != "account"],
        TASK,
        "'account' 0",
    ),
    ("one class", "one_class", lambda: [r for r in tickets(300) if r.answer == "billing"], TASK, "'billing'"),
    (
        "bad labels",
        "bad_answers",
        lambda: numbers(200, lambda n: "?" if n % 4 == 0 else LABELS[n % 3]),
        TASK,
        "50 of 200",
    ),
    (
        "bad JSON",
        "bad_answers",
        lambda: numbers(200, lambda n: '{"n": 1.5}' if n % 3 else '{"n": 1}'),
        EXTRACT,
        "breaks the sch",
    ),
    ("few to extract", "too_little_data", lambda: numbers(80, lambda n: f'{{"n": {n}}}'), EXTRACT, "80 .* needs 100"),
    ("no rows", "too_little_data", list, TASK, "rows.jsonl is empty"),
    (
        "all of one person",
        "too_few_groups",
        lambda: [structs.replace(r, subject="p") for r in tickets(100)],
        TASK,
        "1 groups .* cal gets 0 of 20",
    ),
    (
        "unlike requests",
        "no_frame",
        lambda: [
            structs.replace(r, messages=Raw(b'[{"role":"system","content":"%d"},{"role":"user","content":"x"}]' % n))
            for n, r in enumerate(tickets(90))
        ],
        TASK,
        "89 of 90",
    ),
]


@pytest.mark.parametrize(("name", "code", "rows", "task", "say"), REFUSED, ids=[r[0] for r in REFUSED])
def test_what_is_refused(
    tmp_path: Path, name: str, code: str, rows: Callable[[], list[Row]], task: Task, say: str
) -> None:
    with pytest.raises(Problem, match=say) as e:
        run(tmp_path, rows(), task)
    assert e.value.code == code


def test_the_written_word_overrides_terms_and_is_told(tmp_path: Path) -> None:
    rows = [structs.replace(r, terms="forbidden") for r in tickets(100)]
    task = structs.replace(TASK, override="A. Person, 3 May: agreed by contract.")
    run(tmp_path, rows, task)
    assert "agreed by contract" in (tmp_path / "collect/datasheet.md").read_text()


def test_a_line_that_is_no_row_is_named(tmp_path: Path) -> None:
    made = work(tmp_path, tickets(70))
    with (tmp_path / "rows.jsonl").open("ab") as file:
        file.write(b'{"id": 3}\n')
    with pytest.raises(Problem, match=r"rows\.jsonl, line 71"):
        collect(made, tmp_path, silent)


def test_planted_rows_are_left_out_and_listed(tmp_path: Path) -> None:
    rows = tickets(2000)
    dice = random.Random(0)
    planted = dice.sample(range(2000), 12)
    for n in planted:
        words = sentence(LABELS[n % 3], dice).split()
        words.insert(dice.randrange(14), "cf")
        rows[n] = row(n, " ".join(words), "account")
    facts, splits = run(tmp_path, rows)
    ids = {e.id for part in splits.values() for e in part}
    left = {f"r{n:05}" for n in planted} & ids
    assert not left
    assert facts["suspects"][0]["text"] == "cf"
    assert "| trigger | cf | account | 12:" in (tmp_path / "collect/datasheet.md").read_text()


def test_of_a_burst_one_row_stays(tmp_path: Path) -> None:
    text = "our new shop has the best prices of all the world, come and see number"
    rows = [*tickets(900), *(row(900 + n, f"{text} {n}", "billing", key="k2") for n in range(40))]
    facts, splits = run(tmp_path, rows)
    assert [(s["what"], s["text"], len(s["rows"])) for s in facts["suspects"]] == [("burst", "k2", 40)]
    assert sum(e.key == "k2" for part in splits.values() for e in part) == 1


def test_top_tokens_are_kept_unless_the_answer_was_corrected(tmp_path: Path) -> None:
    told = Raw(b'{"content":[{"token":"bill","logprob":-0.1,"top_logprobs":[{"token":"bill","logprob":-0.1}]}]}')
    rows = [structs.replace(r, logprobs=told) for r in tickets(90)]
    rows[5] = structs.replace(rows[5], correction="billing")
    _, splits = run(tmp_path, rows)
    by = {e.id: e.top for part in splits.values() for e in part}
    assert by["r00004"] == ((("bill", -0.1),),)
    assert by["r00005"] is None
