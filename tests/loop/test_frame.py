"""What requests have in common is found and taken away; a request that differs does not fit."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from lilliput.loop.frame import cut, fit
from lilliput.tasks import Frame

WORDS = "ant bee cat dog eel fox gnu hen ibis jay kite lark mole newt owl pig quail rat seal toad".split()  # noqa: SIM905
TEXTS = [f"{a} {b}" for a in WORDS for b in WORDS[:5]]


def asked(text: Any, system: str | None = "Be brief.", *more: dict[str, str]) -> Raw:
    before = [{"role": "system", "content": system}] if system is not None else []
    return Raw(msgspec.json.encode([*before, {"role": "user", "content": text}, *more]))


@pytest.mark.parametrize(
    ("head", "tail"),
    [("Sort this:\n", "\n---\nAnswer:"), ("", ""), ("<ticket>", "</ticket>"), ("Text: ", ""), ("", " -- which one?")],
)
def test_the_template_is_taken_away(head: str, tail: str) -> None:
    rows = [asked(f"{head}{text}{tail}") for text in TEXTS]
    frame = fit(rows)
    assert (frame.head, frame.tail) == (head, tail)
    assert [cut(frame, row) for row in rows] == TEXTS


def test_a_word_is_not_cut() -> None:
    frame = fit([asked(f"Is it pre{text}ing?") for text in TEXTS])
    assert (frame.head, frame.tail) == ("Is it ", "")


def test_a_few_outliers_do_not_fit_and_do_not_harm() -> None:
    rows = [asked(f"Sort: {text}") for text in TEXTS]
    frame = fit([*rows, asked("hello"), asked("x", "Another system.")])
    assert frame.head == "Sort: "
    assert cut(frame, asked("hello")) is None
    assert cut(frame, asked("Sort: x", "Another system.")) is None
    assert fit([*rows, *(asked(f"hello {n} there") for n in range(5))]).head == ""


NOT_FIT = [
    ("no system", asked("Sort: ant", None)),
    ("another system", asked("Sort: ant", "Be long.")),
    ("nothing left", asked("Sort: ")),
    (
        "two turns",
        asked("Sort: ant", "Be brief.", {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}),
    ),
    ("an image", asked([{"type": "text", "text": "Sort: ant"}, {"type": "image_url", "image_url": {"url": "x"}}])),
    ("no JSON", Raw(b"{")),
    ("no list", Raw(b"3")),
    ("a number for text", asked(3)),
]


@pytest.mark.parametrize(("name", "row"), NOT_FIT, ids=[name for name, _ in NOT_FIT])
def test_what_does_not_fit(name: str, row: Raw) -> None:
    frame = fit([asked(f"Sort: {text}") for text in TEXTS])
    assert cut(frame, asked("Sort: ant")) == "ant"
    assert cut(frame, asked([{"type": "text", "text": "Sort: ant"}])) == "ant"
    assert cut(frame, row) is None


def test_the_same_request_many_times_is_no_template() -> None:
    assert fit([asked("Sort: ant")] * 100).head == ""


def test_head_and_tail_do_not_share_a_word() -> None:
    frame = Frame(head="Is it ", tail=" it is")
    assert cut(frame, asked("Is it so it is", None)) == "so"
    assert cut(frame, asked("Is it is", None)) is None
