"""The training loop: a fixed plan of batches, AdamW, a checkpoint now and then; on one device or on several ranks.

The plan depends on the seed alone, and a step on the plan and the step before, so that a run that was killed goes on
to the same weights. Every rank computes its share of each batch, and the sums are what all of them step by: two ranks
learn what one learns from the same batch. What is learned is in `losses`, how states come about in `trunk`.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, distributed, nn

from lilliput.studio.parts import Tell
from lilliput.studio.trunk import TOKENS, Learner, portions, precision

BUCKET = 8
"""Batches that are sorted by length together, so that each holds sequences of about one length."""
WARM = 0.1
"""Share of the steps in which the rate rises; after them it falls to nothing along a cosine."""
CLIP = 1.0
DECAY = 0.01
CHECKPOINT = "checkpoint.safetensors"


class Item(Struct, frozen=True, kw_only=True):
    """One example as tokens: from `start` on they are the answer. `top` holds the teacher's ids and log probabilities
    at each position of the answer, where they are known."""

    ids: tuple[int, ...]
    start: int
    weight: float = 1.0
    top: tuple[tuple[tuple[int, float], ...], ...] | None = None


class Spot(Struct, frozen=True):
    """The positions of one portion that predict a token of an answer: item, its place in the answer, the token."""

    items: list[int]
    mask: Tensor
    targets: Tensor
    weights: Tensor


Loss = Callable[[Tensor, Spot, Sequence[Item]], Tensor]
"""The weighted sum over the positions of their logits (N, V)."""


class Ranks(Struct, frozen=True):
    """This process among those that train together."""

    rank: int = 0
    of: int = 1

    def sum(self, tensor: Tensor) -> None:
        """Over all ranks, in place."""
        if self.of > 1:
            distributed.all_reduce(tensor)

    def wait(self) -> None:
        if self.of > 1:
            distributed.barrier()


def ranks() -> Ranks:
    """As torchrun (or `accelerate launch`) set them in the environment; joins the others on the first call."""
    of = int(os.environ.get("WORLD_SIZE", "1"))
    if of == 1:
        return Ranks()
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Ranks(distributed.get_rank(), of)


def device() -> torch.device:
    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def chosen_steps(rows: int, batch: int) -> int:
    """About three passes, 60 steps at least and 400 at most."""
    return min(max(60, math.ceil(3 * rows / batch)), 400)


def plan(lengths: Sequence[int], steps: int, batch: int, seed: int) -> list[list[int]]:
    """Which items each step learns from: passes in random order, batches of like lengths."""
    dice, batches = random.Random(seed), list[list[int]]()  # noqa: S311
    pool: list[int] = []
    while len(batches) < steps:
        while len(pool) < batch * BUCKET:
            more = list(range(len(lengths)))
            dice.shuffle(more)
            pool += more
        bucket, pool = sorted(pool[: batch * BUCKET], key=lambda i: (lengths[i], i)), pool[batch * BUCKET :]
        cut = [bucket[i : i + batch] for i in range(0, len(bucket), batch)]
        dice.shuffle(cut)
        batches += cut
    return batches[:steps]


def rate_at(step: int, steps: int) -> float:
    """The share of the full rate at a step (counted from 0)."""
    warm = max(1, round(steps * WARM))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def fit(
    learner: Learner,
    head: nn.Module,
    items: Sequence[Item],
    batches: Sequence[Sequence[int]],
    loss: Loss,
    *,
    rate: float,
    out: Path,
    mark: str,
    every: int,
    tell: Tell,
    among: Ranks | None = None,
    bf16: bool = False,
) -> list[float]:
    """Train `learner` in place; the mean loss of each step, in nats a token of an answer.

    A checkpoint is written to `out` every `every` steps; one with the same `mark` is where training goes on.
    """
    among = among or Ranks()
    parameters = learner.parameters()
    optimiser = torch.optim.AdamW(parameters.values(), lr=rate, weight_decay=DECAY, betas=(0.9, 0.99))
    where = next(iter(parameters.values())).device
    lengths = [len(i.ids) for i in items]
    history = thawed(out / CHECKPOINT, mark, parameters, optimiser)
    started, tokens, first = time.monotonic(), 0, len(history)
    for step in range(first, len(batches)):
        batch = batches[step]
        total = sum(items[i].weight * (lengths[i] - items[i].start) for i in batch)
        seen = torch.zeros(1, device=where)
        for portion in portions(batch[among.rank :: among.of], lengths, TOKENS):
            spot = spots(portion, items, where)
            with precision(where, bf16):
                logits = head(learner.states(portion)[spot.mask])
            each = loss(logits, spot, items) / total
            each.backward()
            seen += each.detach()
        _share(among, parameters, seen)
        nn.utils.clip_grad_norm_(parameters.values(), CLIP)
        for group in optimiser.param_groups:
            group["lr"] = rate * rate_at(step, len(batches))
        optimiser.step()
        optimiser.zero_grad()
        history.append(float(seen))
        tokens += sum(lengths[i] for i in batch)
        if (step + 1) % every == 0 and step + 1 < len(batches):
            if among.rank == 0:
                freeze(out / CHECKPOINT, mark, parameters, optimiser, history)
            among.wait()
        spent_s = time.monotonic() - started
        speed, left = tokens / spent_s, (len(batches) - step - 1) * spent_s / (step + 1 - first)
        say = f"step {step + 1} of {len(batches)}, loss {history[-1]:.3f}, {speed:.0f} tokens/s, {left:.0f} s left"
        tell((step + 1) / len(batches), say, loss=history[-1], tokens_per_s=speed, eta_s=left)
    return history


def spots(portion: list[int], items: Sequence[Item], where: torch.device) -> Spot:
    """Where the answers of a portion are predicted, row by row."""
    longest = max(len(items[i].ids) for i in portion)
    mask = torch.zeros(len(portion), longest, dtype=torch.bool)
    targets, weights = list[int](), list[float]()
    for row, i in enumerate(portion):
        item = items[i]
        mask[row, item.start - 1 : len(item.ids) - 1] = True
        targets += item.ids[item.start :]
        weights += [item.weight] * (len(item.ids) - item.start)
    return Spot(portion, mask.to(where), torch.tensor(targets, device=where), torch.tensor(weights, device=where))


def _share(among: Ranks, parameters: dict[str, nn.Parameter], seen: Tensor) -> None:
    """Sum the gradients and the loss over the ranks; a rank that had nothing of this batch brings zeros."""
    if among.of == 1:
        return
    for parameter in parameters.values():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    grads = [p.grad for p in parameters.values() if p.grad is not None]
    flat = torch.cat([seen, *(g.flatten() for g in grads)])
    among.sum(flat)
    parts = torch.split(flat, [1, *(g.numel() for g in grads)])
    seen.copy_(parts[0])
    for grad, part in zip(grads, parts[1:], strict=True):
        grad.copy_(part.view_as(grad))


def freeze(
    path: Path, mark: str, parameters: dict[str, nn.Parameter], optimiser: torch.optim.Optimizer, history: list[float]
) -> None:
    """Write what a later process needs to go on, whole or not at all."""
    tensors = {}
    for name, parameter in parameters.items():
        state = optimiser.state[parameter]
        tensors[f"{name}/value"] = parameter.detach()
        tensors |= {f"{name}/{k}": state[k] for k in ("exp_avg", "exp_avg_sq")}
    new = path.with_suffix(".new")
    save_file(tensors, new, {"mark": mark, "history": json.dumps(history)})
    new.replace(path)


def thawed(path: Path, mark: str, parameters: dict[str, nn.Parameter], optimiser: torch.optim.Optimizer) -> list[float]:
    """Put back what `freeze` wrote, if it is of this very run: the losses so far."""
    if not path.is_file():
        return []
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
            if about["mark"] != mark:
                return []
            history: list[float] = json.loads(about["history"])
            for name, parameter in parameters.items():
                parameter.data.copy_(file.get_tensor(f"{name}/value"))
                state: dict[str, Any] = {k: file.get_tensor(f"{name}/{k}") for k in ("exp_avg", "exp_avg_sq")}
                state = {k: v.to(parameter.device) for k, v in state.items()}
                optimiser.state[parameter] = state | {"step": torch.tensor(float(len(history)))}
    except (SafetensorError, KeyError):
        return []
    return history
