"""Losses against the definition, and a teacher's tokens against a student's."""

from __future__ import annotations

import math

import pytest
import torch
from tests.studio import made_models
from torch.nn import functional

from lilliput.neutral import Problem
from lilliput.studio import losses

torch.manual_seed(3)
STUDENT, TEACHER = torch.randn(5, 9) * 3, torch.randn(5, 9) * 3
WEIGHTS = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0])
EXACT = (
    functional.kl_div(STUDENT.log_softmax(-1), TEACHER.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    * WEIGHTS
).sum()


def test_full_is_exact_kl() -> None:
    assert torch.allclose(losses.full(STUDENT, TEACHER, WEIGHTS), EXACT, atol=1e-5)


def test_topk_at_the_whole_vocabulary_is_exact_kl() -> None:
    logprobs, ids = TEACHER.log_softmax(-1).sort(-1, descending=True)
    assert torch.allclose(losses.topk(STUDENT, ids, logprobs, WEIGHTS), EXACT, atol=1e-4)


def test_topk_puts_the_rest_into_one_bucket() -> None:
    logprobs, ids = TEACHER.log_softmax(-1).topk(3)
    ids, logprobs = ids.clone(), logprobs.clone()
    ids[2, 1:] = -1  # One position knows one token alone; the padding must not count, nor hide token 0.
    ids[0, 0], ids[0, 2] = 0, -1
    wanted = torch.tensor(0.0)
    for row in range(5):
        known = [(int(i), float(p)) for i, p in zip(ids[row], logprobs[row], strict=True) if i >= 0]
        p = [math.exp(q) for _, q in known]
        q = [float(STUDENT[row].softmax(-1)[i]) for i, _ in known]
        pairs = [*zip(p, q, strict=True), (1 - sum(p), 1 - sum(q))]
        wanted += WEIGHTS[row] * sum(a * math.log(a / b) for a, b in pairs)
    assert torch.allclose(losses.topk(STUDENT, ids, logprobs, WEIGHTS), wanted, atol=1e-4)


def test_topk_has_a_finite_gradient_without_a_tail() -> None:
    logits = STUDENT.clone().requires_grad_(True)
    losses.topk(logits, torch.tensor([[0, -1]] * 5), torch.zeros(5, 2), WEIGHTS).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    exact = STUDENT.clone().requires_grad_(True)
    losses.text(exact, torch.zeros(5, dtype=torch.long), WEIGHTS).backward()
    assert exact.grad is not None
    assert torch.allclose(logits.grad, exact.grad, atol=1e-5)


def test_other_vocabularies_are_named() -> None:
    losses.same_vocabulary(made_models.tokenizer(), made_models.tokenizer())
    with pytest.raises(Problem, match="22 differ, such as 'ĠA'"):
        losses.same_vocabulary(made_models.tokenizer(), made_models.tokenizer("lo"))


def test_teachers_tokens_find_the_students() -> None:
    spelled = made_models.tokenizer()
    table = losses.spelling(spelled)
    answer = spelled(" red sea").input_ids
    top = [[("red", -0.1), ("unheard", -2.0), ("blue", -3.0)], [(" sea", -0.2), (" sun", -2.0)]]
    found = losses.aligned(answer, top, spelled, table)
    red, blue, sea, sun = (table[f" {w}"] for w in ("red", "blue", "sea", "sun"))
    assert found == [[(red, -0.1), (blue, -3.0)], [(sea, -0.2), (sun, -2.0)]]
    assert (
        losses.aligned(answer, [[("re", -0.1)], [("d sea", -0.1)]], spelled, table)
        == "' red' where the teacher has 're'"
    )
    assert "2 tokens where the teacher has 1" in losses.aligned(answer, top[:1], spelled, table)


def test_a_label_gets_the_mass_of_the_tokens_that_mean_it() -> None:
    top = [("sci", math.log(0.5)), ("Sci", -9.0), (" science", math.log(0.2)), ("s", math.log(0.2)), ("g", -3.0)]
    found = dict(losses.of_labels(top, ["science", "sound", "games"], [7, 8, 9]))
    assert found.keys() == {7, 9}
    assert found[7] == pytest.approx(math.log(0.7))
