"""The guess at a prompt's difficulty, against labelled prompts: its error is printed, and may not grow.

`e` is what a model of a few hundred million parameters should answer, `h` what it should not be trusted with; the
labels are one writer's judgement, who also wrote the words of the guess. The bias was set on the odd lines alone.
"""

from __future__ import annotations

from pathlib import Path

from lilliput.router.difficulty import READ_CHARACTERS, guess

ROWS = [line.split("\t", 1) for line in (Path(__file__).parent / "prompts.tsv").read_text().splitlines()]
ODD, EVEN = ROWS[::2], ROWS[1::2]


def errors(rows: list[list[str]], cut: float = 0.5) -> tuple[int, int]:
    """Hard prompts taken for easy, easy ones taken for hard."""
    scored = [(label, guess(text).score) for label, text in rows]
    return sum(k == "h" and s < cut for k, s in scored), sum(k == "e" and s >= cut for k, s in scored)


def report() -> list[str]:
    lines = ["| prompts | hard | taken for easy | easy | taken for hard | wrong |", "|---|---|---|---|---|---|"]
    for name, rows in (("odd lines", ODD), ("even lines", EVEN)):
        for cut in (0.5, 0.3):
            hard = sum(label == "h" for label, _ in rows)
            missed, alarmed = errors(rows, cut)
            share = 100 * (missed + alarmed) / len(rows)
            lines.append(f"| {name}, cut {cut} | {hard} | {missed} | {len(rows) - hard} | {alarmed} | {share:.0f} % |")
    return lines


def test_there_are_enough_prompts_each_once() -> None:
    assert len(ROWS) >= 200
    assert len({text for _, text in ROWS}) == len(ROWS)
    assert {label for label, _ in ROWS} == {"e", "h"}


def test_it_is_better_than_a_guess_and_says_why() -> None:
    assert sum(errors(EVEN)) <= 0.2 * len(EVEN)
    made = guess("Prove that the square root of 2 is irrational.")
    assert made.parts["hard words"] > 0
    assert 0 < guess("").score < made.score < 1


def test_a_huge_prompt_is_read_in_part() -> None:
    assert guess("prove " * 1_000_000).score == guess(("prove " * 1_000_000)[-READ_CHARACTERS:]).score


if __name__ == "__main__":
    print("\n".join(report()))
