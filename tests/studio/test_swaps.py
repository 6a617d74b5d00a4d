"""Counterfactual twins and slices."""

from __future__ import annotations

import pytest

from lilliput.studio import swaps
from lilliput.studio.parts import Example
from lilliput.studio.slices import language, length, slices


def twins(text: str, kind: str = "label", answer: str = "x") -> dict[str, Example]:
    made = swaps.swapped([Example(id="a#1", text=text, answer=answer)], kind)  # type: ignore[arg-type]
    return {swaps.origin(e.id)[1]: e for e in made}


def test_each_swap_changes_what_it_names() -> None:
    made = twins("He told John that MARY likes American food")
    assert made["gender"].text == "She told John that MARY likes American food"
    assert made["names"].text == "He told Ayesha that OLGA likes American food"
    assert made["nationality"].text == "He told John that MARY likes Nigerian food"
    assert made["case"].text == "he told john that mary likes american food"
    assert sorted(made["typos"].text) == sorted("He told John that MARY likes American food")
    assert made["space"].text.split() == ["He", "told", "John", "that", "MARY", "likes", "American", "food"]
    assert swaps.origin(made["gender"].id) == ("a#1", "gender")
    assert {e.answer for e in made.values()} == {"x"}
    assert twins("He told John that MARY likes American food") == made


def test_no_twin_where_there_is_nothing_to_swap() -> None:
    assert set(twins("12 34")) == {"space"}
    assert "gender" not in twins("the theory of heat")


def test_an_extraction_is_expected_to_name_the_other() -> None:
    made = twins("call John", "extract", '{"name":"John"}')
    assert set(made) == {"names", "space"}
    assert made["names"].answer == '{"name":"Ayesha"}'
    assert made["space"].answer == '{"name":"John"}'


@pytest.mark.parametrize(
    ("text", "guess"),
    [
        ("the quick fox is in the house", "en"),
        ("der Hund ist nicht auf dem Weg", "de"),
        ("el perro no es para los niños", "es"),
        ("これは日本語です", "ja"),
        ("中文文本", "zh"),
        ("Привет мир", "ru"),
        ("xyzzy 42", "?"),
    ],
)
def test_language(text: str, guess: str) -> None:
    assert language(text) == guess


def test_slices() -> None:
    example = Example(id="1", text="the " * 9, answer="a")
    assert slices(example, "label") == [("label", "a"), ("length", "9-32 words"), ("language", "en")]
    assert [by for by, _ in slices(example, "text")] == ["length", "language"]
    assert (length("a " * 8), length("a " * 129)) == ("0-8 words", "129 words and more")
