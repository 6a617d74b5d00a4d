"""The task's own requests, changed in what should not change the answer: people, spelling, case, white space.

What a student or teacher then answers otherwise, it answers by prejudice or by accident. The lists are short and our
own: a probe, not a measure of all bias. English names and words; a text without any of them has no such twin.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from lilliput.studio.parts import Example
from lilliput.tasks import Kind

GENDER = (
    *(("he", "she"), ("him", "her"), ("his", "her"), ("himself", "herself"), ("man", "woman"), ("men", "women")),
    *(("boy", "girl"), ("father", "mother"), ("brother", "sister"), ("son", "daughter"), ("husband", "wife")),
    *(("mr", "mrs"), ("sir", "madam"), ("uncle", "aunt"), ("male", "female"), ("king", "queen")),
)
NAMES = (
    *(("john", "ayesha"), ("james", "wei"), ("michael", "mohammed"), ("david", "fatima"), ("robert", "nkechi")),
    *(("mary", "olga"), ("sarah", "priya"), ("emily", "yuki"), ("anna", "lakisha"), ("thomas", "jose")),
    *(("smith", "nguyen"), ("johnson", "okafor"), ("miller", "gonzalez"), ("brown", "khan"), ("jones", "kowalski")),
)
NATIONS = (
    *(("american", "nigerian"), ("british", "pakistani"), ("german", "turkish"), ("french", "moroccan")),
    *(("america", "nigeria"), ("germany", "turkey"), ("france", "morocco"), ("japanese", "vietnamese")),
    *(("christian", "muslim"), ("white", "black"), ("canadian", "mexican"), ("canada", "mexico")),
)
TYPO_SHARE = 0.05
"""Of the letters, at least one."""
WORD = re.compile(r"[^\W\d_]+")

Swap = Callable[[str, random.Random], str]


def _both_ways(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    ways: dict[str, str] = {}
    for a, b in pairs:
        ways.setdefault(a, b)
        ways.setdefault(b, a)
    return ways


def _words(pairs: Sequence[tuple[str, str]]) -> Swap:
    other = _both_ways(pairs)

    def swap(text: str, dice: random.Random) -> str:
        return WORD.sub(lambda found: _like(found[0], other.get(found[0].lower())), text)

    return swap


def _like(word: str, other: str | None) -> str:
    """`other` in the case of `word`, which stands where there is no other."""
    if other is None:
        return word
    return other.upper() if word.isupper() and len(word) > 1 else other.capitalize() if word[0].isupper() else other


def _typos(text: str, dice: random.Random) -> str:
    """Neighbouring letters of a word change places."""
    letters = list(text)
    places = [i for i in range(len(text) - 1) if text[i].isalpha() and text[i + 1].isalpha() and text[i] != text[i + 1]]
    for i in dice.sample(places, min(len(places), max(1, round(len(places) * TYPO_SHARE)))):
        letters[i], letters[i + 1] = letters[i + 1], letters[i]
    return "".join(letters)


def _space(text: str, dice: random.Random) -> str:
    return "  " + re.sub(r"[ \t]+", "  ", text) + "\n"


def _case(text: str, dice: random.Random) -> str:
    return text.lower() if text != text.lower() else text.upper()


SWAPS: Mapping[str, Swap] = {
    "gender": _words(GENDER),
    "names": _words(NAMES),
    "nationality": _words(NATIONS),
    "typos": _typos,
    "case": _case,
    "space": _space,
}
BIAS = frozenset({"gender", "names", "nationality"})
"""The rest is robustness."""


def swapped(examples: Sequence[Example], kind: Kind, seed: int = 0) -> list[Example]:
    """Each example's twins, where it has any, with the id `ID#swap`: to be predicted as a split of their own.

    A label stays what it was; an extraction or a text is expected to name the other person, and only swaps that leave
    no doubt what is expected are made.
    """
    twins = []
    for example in examples:
        for name, swap in SWAPS.items():
            dice = random.Random(f"{seed} {name} {example.id}")  # noqa: S311
            text = swap(example.text, dice)
            if text == example.text or (kind != "label" and name in ("typos", "case")):
                continue
            answer = swap(example.answer, dice) if kind != "label" and name in BIAS else example.answer
            twins.append(
                msgspec.structs.replace(example, id=f"{example.id}#{name}", text=text, answer=answer, gold=None)
            )
    return twins


def origin(id: str) -> tuple[str, str]:
    """The example's id and the swap's name."""
    of, _, name = id.rpartition("#")
    return of, name
