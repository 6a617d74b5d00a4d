"""The same terms and probabilities as scikit-learn's, and a file that is refused wherever it is not whole."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from lilliput.loop import linear
from lilliput.neutral import Problem

TEXTS = ["A fast 3D game, a fast one!", "ÉTÉ à la mer\n  l'eau", "x", "", "to be  or not to be", "İstanbul ß straße"]
GOOD = linear.pack(["games", "mail"], ["chess", "post"], [1.0, 1.0], [2.0, -2.0, -2.0, 2.0], [0.0, 0.0])


def test_its_terms_are_scikit_learns() -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text")
    words = text.TfidfVectorizer(ngram_range=(1, 2)).build_analyzer()
    inside = text.TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5)).build_analyzer()
    for each in TEXTS:
        found = linear.terms(each, (3, 5))
        assert sorted(t for t in found if t[0] != linear.INSIDE) == sorted(words(each))
        assert sorted(t[1:] for t in found if t[0] == linear.INSIDE) == sorted(inside(each))


def test_what_is_not_known_leaves_the_intercepts(tmp_path: Path) -> None:
    path = tmp_path / "b"
    path.write_bytes(linear.pack(["a", "b"], ["x"], [1.0], [1.0, 0.0], [1.0, 1.0]))
    assert linear.load(path).scores("nothing of it") == {"a": 0.5, "b": 0.5}


def put(raw: bytes, at: int, new: bytes) -> bytes:
    return raw[:at] + new + raw[at + len(new) :]


def headed(**changes: Any) -> bytes:
    given: dict[str, Any] = {"labels": ["a", "b"], "terms": ["x", "y"], "idf": [1.0] * 2, "coefficients": [1.0] * 4}
    return linear.pack(**{**given, "intercepts": [0.0, 0.0], **changes})


BROKEN = [
    ("empty", b"", "no file of a baseline"),
    ("another file", b"GGUF" * 20, "no file of a baseline"),
    ("a header longer than the file", put(GOOD, 16, struct.pack("<I", 1 << 31)), "cannot be read"),
    ("no JSON", put(GOOD, 20, b"["), "cannot be read"),
    ("cut short", GOOD[:-4], "bytes of numbers"),
    ("longer", GOOD + b"\0\0\0\0", "bytes of numbers"),
    ("a flipped bit", GOOD[:-1] + b"\1", "SHA-256"),
    ("not finite", headed(intercepts=[0.0, float("nan")]), "not finite"),
    ("one label", headed(labels=["a"], coefficients=[1.0] * 2, intercepts=[0.0]), "too few labels"),
    ("a term twice", headed(terms=["x", "x"]), "twice"),
    ("n-grams of nothing", headed(chars=(0, 3)), "n-grams"),
    ("n-grams without end", headed(chars=(3, 1 << 40)), "n-grams"),
]


@pytest.mark.parametrize(("name", "raw", "say"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, name: str, raw: bytes, say: str) -> None:
    path = tmp_path / "baseline.bin"
    path.write_bytes(GOOD)
    assert linear.load(path).scores("chess")["games"] > 0.9
    path.write_bytes(raw)
    with pytest.raises(Problem, match=say):
        linear.load(path)


def test_no_file_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="No such file"):
        linear.load(tmp_path / "none")
