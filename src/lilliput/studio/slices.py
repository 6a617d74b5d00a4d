"""Into which slices a request falls: by its label, its length and a guess at its language."""

from __future__ import annotations

import re

from lilliput.studio.parts import Example
from lilliput.tasks import Kind

LENGTHS = (8, 32, 128)
"""Words at most, by bucket."""
SCRIPTS = (
    *(("ja", 0x3040, 0x30FF), ("zh", 0x4E00, 0x9FFF), ("ko", 0xAC00, 0xD7AF), ("ar", 0x0600, 0x06FF)),
    *(("he", 0x0590, 0x05FF), ("el", 0x0370, 0x03FF), ("ru", 0x0400, 0x04FF), ("hi", 0x0900, 0x097F)),
    ("th", 0x0E00, 0x0E7F),
)
"""The best known language of each script; kana before Chinese characters, which Japanese uses too."""
STOPWORDS = {
    "en": "the of and to is for with that this on are it you in",
    "de": "der die das und ist nicht ein eine mit für auf den zu ich",
    "fr": "le la les des et est une pour dans que pas sur vous je",
    "es": "el los las una que para con por no es del se yo",
    "it": "il gli che una per con non sono della di è mi",
    "pt": "os as uma que para com não por do da em eu",
    "nl": "het een van en niet voor met dat op is de ik",
}
FREQUENT = {language: frozenset(words.split()) for language, words in STOPWORDS.items()}
WORD = re.compile(r"\w+")


def language(text: str) -> str:
    """A guess: by script, then by frequent words; `?` where neither tells."""
    letters = [ord(c) for c in text if c.isalpha()]
    for name, first, last in SCRIPTS:
        if sum(first <= c <= last for c in letters) * 5 > len(letters):
            return name
    found = WORD.findall(text.lower())
    hits = {name: sum(word in words for word in found) for name, words in FREQUENT.items()}
    best = max(hits, key=lambda name: hits[name])
    return best if hits[best] else "?"


def length(text: str) -> str:
    words = len(WORD.findall(text))
    least = 0
    for most in LENGTHS:
        if words <= most:
            return f"{least}-{most} words"
        least = most + 1
    return f"{least} words and more"


def slices(example: Example, kind: Kind) -> list[tuple[str, str]]:
    """By what, and which."""
    found = [("length", length(example.text)), ("language", language(example.text))]
    return [("label", example.answer), *found] if kind == "label" else found
