"""TF-IDF and multinomial logistic regression, served in pure Python from one file. The studio fits it (`baseline`).

The file: `MAGIC`, the header's length (uint32, little-endian), the header (JSON, `Header`), then float32: the idf of
each term, the coefficients (terms x labels), the intercepts. Terms, idf, norm and softmax are scikit-learn's.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import mul
from pathlib import Path

import msgspec
from msgspec import Struct

from lilliput.neutral import Problem

MAGIC = b"lilliput-linear1"
MAX_BYTES = 512 << 20
MAX_CHARS = 8192
"""Of a text, so that no text holds up the event loop for long."""
WORD = re.compile(r"\b\w\w+\b")
INSIDE = "\0"
"""Marks what is inside a word, apart from a word of the same letters."""


class Header(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`chars` are the shortest and longest character n-grams within words, (0, 0) for none; `sha256` is of the
    float32 values."""

    labels: list[str]
    terms: list[str]
    chars: tuple[int, int] = (0, 0)
    sha256: str


def terms(text: str, chars: tuple[int, int] = (0, 0)) -> list[str]:
    """Words and pairs of words of two letters or more, and character n-grams within words, each as often as it
    occurs: scikit-learn's analyzers `word` (1, 2) and `char_wb`."""
    text = text[:MAX_CHARS].lower()
    words = WORD.findall(text)
    found = words + [f"{a} {b}" for a, b in pairwise(words)]
    if not chars[1]:
        return found
    for word in text.split():
        padded = f" {word} "
        for n in range(chars[0], chars[1] + 1):
            if n >= len(padded):
                found.append(INSIDE + padded)
                break
            found += [INSIDE + padded[i : i + n] for i in range(len(padded) - n + 1)]
    return found


class Linear:
    """A fitted model. Safe to share: nothing changes after it is made."""

    def __init__(self, header: Header, values: array[float]) -> None:
        n, wide = len(header.terms), len(header.labels)
        self.labels = tuple(header.labels)
        self.chars = header.chars
        self._index = {term: i for i, term in enumerate(header.terms)}
        self._idf = values[:n]
        self._rows = [tuple(values[i : i + wide]) for i in range(n, n + n * wide, wide)]
        self._intercept = values[n + n * wide :]

    @property
    def size(self) -> int:
        """How many terms it knows."""
        return len(self._rows)

    def scores(self, text: str) -> dict[str, float]:
        """The probability of each label."""
        index = self._index
        counts = Counter([index[term] for term in terms(text, self.chars) if term in index])
        weights = [(1.0 + math.log(n)) * self._idf[i] for i, n in counts.items()]
        norm = math.sqrt(math.fsum(w * w for w in weights)) or 1.0
        logits = list(self._intercept)
        if weights:
            columns = zip(*[self._rows[i] for i in counts], strict=True)
            logits = [b + sum(map(mul, weights, c)) / norm for b, c in zip(logits, columns, strict=True)]
        top = max(logits)
        odds = [math.exp(z - top) for z in logits]
        whole = sum(odds)
        return {label: o / whole for label, o in zip(self.labels, odds, strict=True)}


def load(path: Path) -> Linear:
    """Raises Problem where the file is not there or not whole."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _broken(path, f"is larger than {MAX_BYTES >> 20} MiB")
        data = path.read_bytes()
    except OSError as e:
        raise _broken(path, f"cannot be read: {e.strerror or e}") from None
    start = len(MAGIC) + 4
    if len(data) < start or not data.startswith(MAGIC):
        raise _broken(path, "is no file of a baseline")
    end = start + struct.unpack_from("<I", data, len(MAGIC))[0]
    try:
        header = msgspec.json.decode(data[start:end], type=Header)
    except msgspec.DecodeError as e:
        raise _broken(path, f"has a header that cannot be read: {e}") from None
    n, wide = len(header.terms), len(header.labels)
    if wide < 2 or len(set(header.labels)) < wide or len(set(header.terms)) < n:
        raise _broken(path, "names too few labels, or something twice")
    low, high = header.chars
    if not (0 < low <= high <= 16 or low == high == 0):
        raise _broken(path, f"asks for character n-grams of {low} to {high}")
    rest = data[end:]
    if len(rest) != 4 * (n + n * wide + wide):
        raise _broken(path, f"holds {len(rest)} bytes of numbers where {4 * (n + n * wide + wide)} belong")
    if hashlib.sha256(rest).hexdigest() != header.sha256:
        raise _broken(path, "does not have the SHA-256 that it names")
    values = array("f", rest)
    if sys.byteorder == "big":
        values.byteswap()
    if not all(map(math.isfinite, values)):
        raise _broken(path, "holds numbers that are not finite")
    return Linear(header, values)


def pack(
    labels: Sequence[str],
    terms: Sequence[str],
    idf: Iterable[float],
    coefficients: Iterable[float],
    intercepts: Iterable[float],
    chars: tuple[int, int] = (0, 0),
) -> bytes:
    """The file of a fitted model; coefficients are label by label for one term after the other."""
    values = array("f", [*idf, *coefficients, *intercepts])
    if sys.byteorder == "big":
        values.byteswap()
    rest = values.tobytes()
    sha256 = hashlib.sha256(rest).hexdigest()
    header = msgspec.json.encode(Header(labels=list(labels), terms=list(terms), chars=chars, sha256=sha256))
    return MAGIC + struct.pack("<I", len(header)) + header + rest


def _broken(path: Path, why: str) -> Problem:
    return Problem("server", f"the baseline {path.name} {why}; publish the student again", code="student_broken")
