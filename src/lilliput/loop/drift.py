"""Whether the requests still look like those that the student was measured on; where not, more of them are audited.

Three cheap yes-or-no questions of each request, none of which needs the teacher: was it deferred, does it hold
unusually many unknown words, is its length unusual. Each has a rate that held-out requests showed; bets that it is now
higher (`audit.Rising`) are averaged into one wealth, and the wealth is the factor. Without drift a factor of f is ever
reached with probability at most 1 / f (Ville), so doubling the audits by mistake happens to one student in two at
worst, and eightfold to one in eight. A sign, not a verdict: only the audit demotes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct, field

from lilliput.loop.audit import Rising
from lilliput.loop.bound import upper

MOST_FACTOR = 8.0
MOST_WORDS = 20_000
RARE = 0.05
"""The share of held-out requests that count as unusual, by each of the features."""
SURE = 0.05
"""One minus the confidence of the upper bound that stands for a rate."""
WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Lower case; every number is the same word."""
    return ["0" if word.isdigit() else word for word in WORD.findall(text.lower())]


class Reference(Struct, frozen=True, kw_only=True):
    """What requests were like: `rates` are upper bounds on the share that is deferred, strange, short or long."""

    known: frozenset[str]
    strange: float
    shortest: int
    longest: int
    rates: tuple[float, float, float]


class Drift(Struct):
    """`see` every request that fits the frame, deferred or served."""

    reference: Reference
    bets: list[Rising] = field(default_factory=list)

    def see(self, text: str, served: bool) -> float:
        """By how much the audit share is to be multiplied: 1 to 8. It falls again when the strangeness passes."""
        self.bets = self.bets or [Rising(rate) for rate in self.reference.rates]
        signs = (not served, *unusual(self.reference, text))
        wealth = [bet.see(sign) for bet, sign in zip(self.bets, signs, strict=True)]
        return min(MOST_FACTOR, max(1.0, sum(wealth) / len(wealth)))


def unusual(reference: Reference, text: str) -> tuple[bool, bool]:
    """Whether its words, and whether its length."""
    found = words(text)
    length = len(found)
    return (
        unknown(reference.known, found) > reference.strange,
        not reference.shortest <= length <= reference.longest,
    )


def unknown(known: frozenset[str], found: Sequence[str]) -> float:
    """Share of words that are not known; 0 of no words."""
    return sum(word not in known for word in found) / len(found) if found else 0.0


def fit(train: Sequence[str], held_out: Sequence[str], served: Sequence[bool]) -> Reference:
    """Known are the words of `train`; the rest is measured on `held_out`, `served` where it was sure enough."""
    counts = Counter(word for text in train for word in set(words(text)))
    known = frozenset(sorted(counts, key=lambda word: (-counts[word], word))[:MOST_WORDS])
    found = [words(text) for text in held_out]
    shares = sorted(unknown(known, each) for each in found) or [1.0]
    lengths = sorted(len(each) for each in found) or [0]
    cut = int(len(lengths) * RARE / 2)
    reference = Reference(
        known=known,
        strange=shares[min(len(shares) - 1, int(len(shares) * (1.0 - RARE)))],
        shortest=lengths[cut],
        longest=lengths[len(lengths) - 1 - cut],
        rates=(0.0, 0.0, 0.0),
    )
    signs = [unusual(reference, text) for text in held_out]
    events = (len(served) - sum(served), sum(s for s, _ in signs), sum(n for _, n in signs))
    most = 1.0 - 1e-6  # a rate of one cannot rise
    deferred, strange, length = (min(upper(count, max(len(held_out), 1), SURE), most) for count in events)
    return Reference(
        known=known,
        strange=reference.strange,
        shortest=reference.shortest,
        longest=reference.longest,
        rates=(deferred, strange, length),
    )
