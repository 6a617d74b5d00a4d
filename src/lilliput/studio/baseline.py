"""The baseline: TF-IDF and logistic regression, fitted in seconds. A student of its own, and the bar for all others.

Strength and n-grams are chosen by cross-validation within train, so that cal stays fresh for calibration and bound.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from lilliput.loop import linear
from lilliput.neutral import Problem
from lilliput.studio.parts import Example, Facts, Prediction, Tell, Work, write

FILE = "baseline.bin"
STRENGTHS = (1.0, 4.0, 16.0, 64.0)
CHARS = ((0, 0), (3, 5))
FOLDS = 3
MAX_TERMS = 200_000


def baseline(work: Work, out: Path, tell: Tell) -> Facts:
    """Fits on train, writes `baseline.bin`, and predicts cal and test. Of other kinds than labels there is none."""
    if work.task.kind != "label":
        return {"skipped": f"a baseline tells labels apart, and this task is of the kind {work.task.kind}"}
    train = work.examples("train")
    labels = [e.answer for e in train]
    if len(set(labels)) < 2:
        say = f"all {len(train)} rows to learn from have the label {labels[0]!r}" if labels else "there are no rows"
        raise Problem("client", f"{say}; a student needs rows of at least two labels: capture more", code="one_class")
    chars, strength, agreement = _chosen(train, tell, work.recipe.seed)
    (out / FILE).write_bytes(_fit(train, chars, strength))
    model = linear.load(out / FILE)
    counts = {}
    for split in ("cal", "test"):
        found = [_predicted(model, e) for e in work.examples(split)]
        path = work.of("predict") / f"baseline.{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, found)
        counts[split] = len(found)
    tell(1.0, "the baseline is fitted", agreement=agreement)
    return {"C": strength, "chars": list(chars), "agreement_in_train": agreement, "terms": model.size, **counts}


def _predicted(model: linear.Linear, example: Example) -> Prediction:
    began = time.perf_counter()
    scores = model.scores(example.text)
    ms = (time.perf_counter() - began) * 1e3
    answer = max(scores, key=scores.__getitem__)
    return Prediction(id=example.id, answer=answer, raw=scores[answer], scores=scores, ms=ms)


def _chosen(train: Sequence[Example], tell: Tell, seed: int) -> tuple[tuple[int, int], float, float]:
    """N-grams and strength with the best agreement over the folds (of equals the first, the cheapest), and it."""
    groups = [e.group or e.id for e in train]
    folds = min(FOLDS, len(set(groups)))
    if folds < 2:
        return CHARS[0], STRENGTHS[1], 0.0
    splits = list(GroupKFold(folds, shuffle=True, random_state=seed).split(train, groups=groups))
    best: tuple[tuple[int, int], float, float] = (CHARS[0], STRENGTHS[1], -1.0)
    for i, chars in enumerate(CHARS):
        right = dict.fromkeys(STRENGTHS, 0.0)
        for j, (fit, held) in enumerate(splits):
            tell((i * folds + j) / (len(CHARS) * folds + 1), f"fitting the baseline, n-grams {i + 1}, fold {j + 1}")
            rows, held_rows = [train[k] for k in fit], [train[k] for k in held]
            if len({e.answer for e in rows}) < 2:
                continue
            vectors = _vectors(chars)
            x = vectors.fit_transform([e.text for e in rows])
            x_held = vectors.transform([e.text for e in held_rows])
            for strength in STRENGTHS:
                told = _regression(x, rows, strength).predict(x_held)
                right[strength] += sum(e.weight for e, t in zip(held_rows, told, strict=True) if e.answer == t)
        for strength in STRENGTHS:
            share = right[strength] / sum(e.weight for e in train)
            if share > best[2]:
                best = (chars, strength, share)
    return best


def _vectors(chars: tuple[int, int]) -> Any:
    return TfidfVectorizer(analyzer=partial(linear.terms, chars=chars), sublinear_tf=True, max_features=MAX_TERMS)


def _regression(x: Any, rows: Sequence[Example], strength: float) -> Any:
    model = LogisticRegression(C=strength, max_iter=300, tol=1e-3)
    with threadpool_limits(1, user_api="blas"):  # vectors this short: more threads wait for each other, and burn cores
        return model.fit(x, [e.answer for e in rows], sample_weight=[e.weight for e in rows])


def _fit(train: Sequence[Example], chars: tuple[int, int], strength: float) -> bytes:
    """Of two labels scikit-learn keeps one row of coefficients: half of it, once against and once for."""
    vectors = _vectors(chars)
    model = _regression(vectors.fit_transform([e.text for e in train]), train, strength)
    weights, intercepts = model.coef_, model.intercept_
    if len(weights) == 1:
        weights, intercepts = np.vstack([-weights, weights]) / 2, np.concatenate([-intercepts, intercepts]) / 2
    names = sorted(vectors.vocabulary_, key=vectors.vocabulary_.__getitem__)
    return linear.pack(model.classes_.tolist(), names, vectors.idf_, weights.T.ravel(), intercepts, chars)
