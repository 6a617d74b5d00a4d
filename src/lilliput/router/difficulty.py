"""How hard a prompt is, guessed from its text alone: no model, no network, and every part of the guess can be shown.

A score from 0 to 1 by a logistic sum of plain features. Its error on `tests/router/prompts.tsv`, split by half, is in
docs/routing.md: a rough sieve for `policy = "auto"`, not a judge.
"""

from __future__ import annotations

import math
import re

from msgspec import Struct

READ_CHARACTERS = 20_000
"""As much of a prompt as is looked at: its end, where the question stands."""

_HARD = re.compile(
    r"\b(prove|proof|derive|deriv\w+|theorem|optimi[sz]e|refactor|debug|race condition|deadlock|concurren\w+|"
    r"architect\w*|design|implement|algorithm|complexity|trade-?offs?|compare|contrast|critique|evaluate|analy[sz]e|diagnose|"
    r"root cause|step by step|justify|negotiat\w+|strategy|migrat\w+|formal\w*|probabilit\w+|integral|eigen\w*|"
    r"schema|distributed|proposal|simulate|counterexample|legal|clause|regress\w+|explain why|edge cases)\b",
    re.I,
)
_EASY = re.compile(
    r"\b(translate|capital of|spell\w*|synonyms?|antonym|define|hello|hi|thanks|thank you|what time|convert|"
    r"capitali[sz]e|uppercase|lowercase|rhymes?|greeting|list (?:three|five|3|5)|one word|yes or no|extract|classify|"
    r"sentiment|fix the (?:typo|spelling)|plural|past tense|who (?:wrote|is|was|painted)|when (?:did|was|is)|"
    r"where is|how many|in one sentence|summari[sz]e|title for)\b",
    re.I,
)
_CONDITION = re.compile(
    r"\b(but|unless|except|without|must|should|at least|at most|given that|such that|while|assuming|each|every)\b", re.I
)
_CODE = re.compile(r"```|\bdef \w+\(|\bclass \w+|[{};]\s*$|=>|\bSELECT\b|Traceback|\w+\(\)", re.M)
_MATH = re.compile(r"[∑∫√≤≥≠π]|\^|\b\w\s*=\s*\w|\d\s*[*/+]\s*\d|\bO\(|\bmod\b")
_NUMBERED = re.compile(r"^\s*(?:\d+[.)]|[-*])\s", re.M)

WEIGHTS = {
    "length": 0.45,
    "hard words": 1.4,
    "easy words": -1.6,
    "conditions": 0.35,
    "code": 0.8,
    "mathematics": 0.6,
    "steps": 0.4,
    "tools": 0.5,
    "turns": 0.2,
}
BIAS = -0.5


class Guess(Struct, frozen=True):
    """`score` is 0 (easy) to 1 (hard); `parts` is what each feature added before the logistic, `BIAS` apart."""

    score: float
    parts: dict[str, float]


def guess(text: str, turns: int = 1, tools: int = 0) -> Guess:
    """How hard the last thing said is, by its own words."""
    text = text[-READ_CHARACTERS:]
    found = {
        "length": math.log2(1 + len(text.split()) / 12),
        "hard words": min(3, len(_HARD.findall(text))),
        "easy words": min(2, len(_EASY.findall(text))),
        "conditions": min(5, len(_CONDITION.findall(text))),
        "code": min(2, len(_CODE.findall(text))),
        "mathematics": min(3, len(_MATH.findall(text))),
        "steps": min(4, len(_NUMBERED.findall(text))),
        "tools": min(4, tools),
        "turns": math.log2(max(1, turns)),
    }
    parts = {name: WEIGHTS[name] * value for name, value in found.items() if value}
    return Guess(1 / (1 + math.exp(-(BIAS + sum(parts.values())))), parts)
