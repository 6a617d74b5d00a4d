"""Rows that look planted: a rare phrase that alone decides the answer, or a burst of copies from one key.

The scan for phrases asks of each rare run of one to three words that (nearly) always goes with one answer: without
it, would the rest of its rows have led somewhere else? A word that belongs to its answer stands among others that do;
a trigger stands in the midst of rows that belong elsewhere. The rest is judged by naive Bayes, leaving the row itself
out. A phrase with a word that goes with the answer elsewhere too is passed over. How often an ordinary phrase is
contradicted by its rest is taken from the data (a beta-binomial over all others that were tested), and a phrase is
flagged where its count is too high for that, corrected for all of them (Bonferroni). It sees words: a trigger in
spacing, case or style is not found, nor one among texts so short that a single word decides them anyway.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from lilliput.studio.parts import Example

LEVEL = 0.05
"""The chance that anything at all is flagged in clean data, where the null holds."""
LEAST, MOST = 4, 0.03
"""A rare phrase is in so many rows at least, and in this share of all at most."""
PURE = 0.9
"""The share of its rows with the same answer."""
AGAINST = 6.0
"""Log odds from which on the rest of a row speaks for another answer."""
ANSWERS = 50
BURST_ROWS, BURST_SHARE, BURST_S = 20, 0.01, 3600.0
"""A burst is so many near copies, and this share of all rows, from one key within an hour."""
_WORD = re.compile(r"\w+|[^\w\s]+")
_SMOOTH = 5.0
"""Rows of the common kind that every answer is given beforehand."""


class Suspect(Struct, frozen=True, kw_only=True):
    """What looks planted: a phrase with the answer it goes with, or the key that a burst came from; `against` of its
    rows are contradicted by their rest, and `p` is corrected for all that were tested."""

    what: str
    text: str
    answer: str
    rows: tuple[str, ...]
    against: int = 0
    p: float = 0.0


class _Bayes:
    """Naive Bayes on which words a row has, each answer smoothed towards all rows."""

    def __init__(self, rows: Sequence[frozenset[str]], classes: NDArray[np.int64], count: int) -> None:
        self._place = place = dict[str, int]()
        self._rows = [{w: place.setdefault(w, len(place)) for w in sorted(row)} for row in rows]
        self._classes = classes
        self._seen = np.zeros((len(place), count))
        for row, c in zip(self._rows, classes, strict=True):
            self._seen[list(row.values()), c] += 1
        self._size = np.bincount(classes, minlength=count).astype(float)

    def explains(self, word: str, answer: int, rows: Sequence[int]) -> bool:
        """Whether a word goes with the answer in other rows too, so that no phrase around it is needed."""
        counts = self._seen[self._place[word]]
        other = counts[answer] - len(rows)
        return bool(other >= 2 and other >= 0.5 * (counts.sum() - len(rows)))

    def against(self, i: int, phrase: tuple[str, ...]) -> bool:
        """Whether the rest of the row speaks for another answer than the row's, by the other rows."""
        own = self._classes[i]
        words = [at for w, at in self._rows[i].items() if w not in phrase]
        seen, size = self._seen[words], self._size.copy()
        seen[:, own] -= 1
        size[own] -= 1
        common = seen.sum(axis=1, keepdims=True)
        seen = (seen + _SMOOTH * common / size.sum())[common[:, 0] > 0]
        odds = np.log(size + _SMOOTH) + np.log(seen / (size + _SMOOTH)).sum(axis=0)
        mine = odds[own]
        odds[own] = -np.inf
        return bool(odds.max() - mine >= AGAINST)


def triggers(examples: Sequence[Example]) -> list[Suspect]:
    """Phrases that decide an answer against the rest of their rows, most striking first."""
    counted = Counter(e.answer for e in examples)
    names = [answer for answer, n in counted.most_common(ANSWERS) if n >= LEAST]
    number = {answer: i for i, answer in enumerate(names)}
    classes = np.array([number.get(e.answer, len(names)) for e in examples], dtype=np.int64)
    words = [_WORD.findall(e.text.casefold()) for e in examples]
    bayes = _Bayes([frozenset(row) for row in words], classes, len(names) + 1)
    tested: list[tuple[tuple[str, ...], list[int], int]] = []
    for phrase, rows in _rare(words, max(LEAST, int(MOST * len(examples)))):
        answer, n = Counter(int(classes[i]) for i in rows).most_common(1)[0]
        if n >= LEAST and n >= PURE * len(rows) and answer < len(names):
            kept = [i for i in rows if classes[i] == answer]
            if any(bayes.explains(word, answer, kept) for word in phrase if len(phrase) > 1):
                continue
            tested.append((phrase, kept, sum(bayes.against(i, phrase) for i in kept)))
    counts = [(k, len(rows)) for _, rows, k in tested]
    ranked = []
    for at, (phrase, rows, k) in enumerate(tested):
        if 2 * k >= len(rows):
            null = _null(counts[:at] + counts[at + 1 :])
            ranked.append((_tail(k, len(rows), *null) * len(tested), phrase, rows, k))
    ranked.sort()
    found: list[Suspect] = []
    taken: set[int] = set()
    for p, phrase, rows, k in ranked:
        if p <= LEVEL and not taken.issuperset(rows):
            taken.update(rows)
            ids = tuple(sorted(examples[i].id for i in rows))
            answer_text = examples[rows[0]].answer
            found.append(Suspect(what="trigger", text=" ".join(phrase), answer=answer_text, rows=ids, against=k, p=p))
    return found


def bursts(examples: Sequence[Example], cluster: Mapping[str, str]) -> list[Suspect]:
    """Near copies (rows of one `cluster`, by id) that one key sent within an hour; rows of no known time are passed
    over."""
    least = max(BURST_ROWS, BURST_SHARE * len(examples))
    found = []
    sent: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for e in examples:
        if e.at and e.id in cluster:
            sent[e.key, cluster[e.id]].append(e)
    for (key, _), rows in sorted(sent.items()):
        rows.sort(key=lambda e: (e.at, e.id))
        inside: set[str] = set()
        start = 0
        for end, e in enumerate(rows):
            while e.at - rows[start].at > BURST_S:
                start += 1
            if end - start + 1 >= least:
                inside.update(x.id for x in rows[start : end + 1])
        if inside:
            answer = Counter(e.answer for e in rows if e.id in inside).most_common(1)[0][0]
            found.append(Suspect(what="burst", text=key, answer=answer, rows=tuple(sorted(inside))))
    return found


def _rare(rows: Sequence[Sequence[str]], most: int) -> Iterator[tuple[tuple[str, ...], list[int]]]:
    """Runs of one to three words with the rows they are in, those in few enough rows."""
    where: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        for phrase in {tuple(row[at : at + n]) for n in (1, 2, 3) for at in range(len(row) - n + 1)}:
            where[phrase].append(i)
    seen: set[tuple[int, ...]] = set()
    for phrase, places in sorted(where.items()):
        key = tuple(places)
        if LEAST <= len(places) <= most and key not in seen:
            seen.add(key)
            yield phrase, places


def _null(counts: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """The beta of the share that is contradicted, by moments; where the shares spread no more than chance has it, a
    narrow one."""
    total = sum(n for _, n in counts)
    mean = (sum(k for k, _ in counts) + 1.0) / (total + 2.0)
    spread = sum(n * (k / n - mean) ** 2 for k, n in counts) / (mean * (1 - mean))
    excess = (spread - len(counts)) / max(total - len(counts), 1)
    rho = min(max(excess, 0.02), 0.9)
    return mean * (1 - rho) / rho, (1 - mean) * (1 - rho) / rho


def _tail(k: int, n: int, a: float, b: float) -> float:
    """P(K >= k) of a beta-binomial."""
    whole = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return math.fsum(
        math.comb(n, j) * math.exp(math.lgamma(j + a) + math.lgamma(n - j + b) - math.lgamma(n + a + b) - whole)
        for j in range(k, n + 1)
    )


def scan(examples: Sequence[Example], cluster: Mapping[str, str]) -> list[Suspect]:
    """All that looks planted."""
    return [*triggers(examples), *bursts(examples, cluster)]
