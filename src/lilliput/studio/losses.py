"""What training makes small: text, a teacher's likeliest tokens, or all of its logits. Sums, so that ranks can add up.

All take `logits` (N, V) at the N positions that predict a token of an answer and `weights` (N,), and give the weighted
sum over positions in nats. Dividing by the sum of the weights is the caller's, who knows those of the other ranks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lilliput.neutral import Problem

SHOWN = 5
"""How many of the tokens that do not fit a Problem names."""
Top = Sequence[tuple[str, float]]
"""A teacher's likeliest tokens at one position, as text with their log probabilities."""


def text(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy; targets (N,) are token ids."""
    return (functional.cross_entropy(logits.float(), targets, reduction="none") * weights).sum()


def topk(logits: Tensor, ids: Tensor, logprobs: Tensor, weights: Tensor) -> Tensor:
    """KL(teacher || student) over the teacher's K likeliest tokens, and one bucket with the rest of the mass.

    ids (N, K) are token ids, -1 where a position has fewer; logprobs (N, K) the teacher's. At K = V this is exact KL.
    """
    known = ids >= 0
    logits = logits.float()
    everything = logits.logsumexp(-1)
    student = logits.gather(-1, ids.clamp(min=0)) - everything[:, None]
    taken = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, ids.clamp(min=0), known)
    # Padded ids scatter False onto token 0, perhaps over a True of the same row: set those again.
    rows, columns = known.nonzero(as_tuple=True)
    taken[rows, ids[rows, columns]] = True
    mass = torch.where(known, logprobs.exp(), 0.0)
    tail = (1.0 - mass.sum(-1)).clamp(min=0.0)
    listed = torch.where(known, mass * (logprobs - student), 0.0).sum(-1)
    left = ~taken.all(-1) & (tail > 1e-6)
    rest = logits.masked_fill(taken, -math.inf).logsumexp(-1) - everything
    rest = torch.where(left, rest, 0.0)
    other = torch.where(left, tail * (tail.clamp(min=1e-12).log() - rest), 0.0)
    return ((listed + other) * weights).sum()


def full(logits: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """KL(teacher || student) over the whole vocabulary; teacher (N, V) are logits."""
    wanted = functional.log_softmax(teacher.float(), -1)
    got = functional.log_softmax(logits.float(), -1)
    return ((wanted.exp() * (wanted - got)).sum(-1) * weights).sum()


def same_vocabulary(student: Any, teacher: Any) -> None:
    """Raises Problem where two tokenizers differ, so that their logits cannot be compared."""
    mine, theirs = student.get_vocab(), teacher.get_vocab()
    if mine == theirs:
        return
    odd = sorted({token for token in mine.keys() | theirs.keys() if mine.get(token) != theirs.get(token)})
    raise Problem(
        "client",
        f"the teacher's vocabulary ({len(theirs)} tokens) is not the student's ({len(mine)}): {len(odd)} differ, such "
        f"as {', '.join(map(repr, odd[:SHOWN]))}; take a teacher of the same family, or the loss 'text'",
        code="tokenizer_mismatch",
    )


def spelling(tokenizer: Any) -> dict[str, int]:
    """Each text that is one token of the student's. Tokens that are a part of a character have none."""
    ids = range(len(tokenizer))
    texts = tokenizer.batch_decode([[i] for i in ids], clean_up_tokenization_spaces=False)
    return {t: i for i, t in zip(reversed(ids), reversed(texts), strict=True) if t and "�" not in t}


def aligned(
    answer: Sequence[int], top: Sequence[Top], tokenizer: Any, spelled: Mapping[str, int]
) -> list[list[tuple[int, float]]] | str:
    """The teacher's tokens at each position of the student's answer as the student's ids, those it has not left to the
    tail; or, where the teacher cut the answer into other tokens, the first that does not fit."""
    mine = tokenizer.batch_decode([[i] for i in answer], clean_up_tokenization_spaces=False)
    found: list[list[tuple[int, float]]] = []
    for position, (own, teacher) in enumerate(zip(mine, top, strict=False)):
        texts = [token for token, _ in teacher]
        # The student's answers begin with a space that the teacher's do not have.
        strip = position == 0 and own.startswith(" ") and own not in texts
        if (own[1:] if strip else own) not in texts:
            return f"{own!r} where the teacher has {''.join(texts[:1])!r:.20}"
        pairs = {spelled[t]: p for t, p in ((" " + t if strip else t, p) for t, p in teacher) if t in spelled}
        found.append(list(pairs.items()))
    return found if len(mine) == len(top) else f"{len(mine)} tokens where the teacher has {len(top)}"


def of_labels(top: Top, labels: Sequence[str], codes: Sequence[int]) -> list[tuple[int, float]]:
    """The teacher's distribution over a label's first token as one over the labels' codes: each token counts for the
    one label that begins with it; what fits none or several is left to the tail."""
    mass: dict[int, float] = {}
    for token, logprob in top:
        fits = [i for i, label in enumerate(labels) if token.strip() and label.startswith(token.strip())]
        if len(fits) == 1:
            mass[codes[fits[0]]] = mass.get(codes[fits[0]], 0.0) + math.exp(logprob)
    return [(code, math.log(p)) for code, p in mass.items() if p > 0.0]
