"""The stage `distil`: a base model learns a task's examples by the recipe. Nothing is scored or exported here.

It leaves `model.safetensors` with `config.json` and the tokenizer's files (`adapter.safetensors` and its config where
the method is `lora`), and `train.json` with the loss of each step. Several ranks may run it on one directory: the
first writes. `taught` is for whoever trains a model of his own on the same examples (healing after pruning).
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import save_file
from torch import Tensor

from lilliput.loop.form import Form, form
from lilliput.neutral import Problem
from lilliput.studio import base, losses, training
from lilliput.studio.parts import ADAPTER, Example, Facts, Recipe, Tell, Work
from lilliput.studio.training import Item, Loss, Spot
from lilliput.studio.trunk import Trunk, Whole, padded

TRAIN = "train.json"
READING = 0.1
"""Share of the progress that computing the trunk's states takes."""
WIDE = 256
"""From this hidden size on, bfloat16 is worth its rounding."""


def distil(work: Work, out: Path, tell: Tell) -> Facts:
    """See `parts.Stage`. Raises Problem where no example is left to learn from, or the recipe does not fit them."""
    recipe = work.recipe
    if work.weights is None:
        raise Problem("client", f"training needs the weights of {recipe.base!r}: fetch them with `lilliput pull`")
    among = training.ranks()
    quiet: Tell = tell if among.rank == 0 else lambda done, say, **figures: None
    quiet(0.0, f"loading {recipe.base}")
    model, tokenizer = base.load(work.weights, recipe.seed)
    if recipe.method == "lora":
        model = adapted(model, recipe)
    facts = taught(work, model, tokenizer, out, quiet)
    if among.rank == 0:
        if recipe.method == "lora":
            save_adapter(model, out)
        else:
            base.save(model, tokenizer, out)
        (out / training.CHECKPOINT).unlink(missing_ok=True)
    among.wait()
    return facts


def taught(work: Work, model: Any, tokenizer: Any, out: Path, tell: Tell, recipe: Recipe | None = None) -> Facts:
    """Train `model` in place on the run's examples; writes `train.json` and checkpoints to `out`."""
    recipe, among = recipe or work.recipe, training.ranks()
    torch.set_num_threads(recipe.threads)
    examples = work.examples("train")
    shape = form(work.task.kind, work.task.labels, work.task.schema)
    items, left_out = encoded(examples, shape, tokenizer, recipe)
    model.to(training.device())
    loss = objective(recipe, tokenizer, model)
    steps = recipe.steps or training.chosen_steps(len(items), recipe.batch)
    batches = training.plan([len(i.ids) for i in items], steps, recipe.batch, recipe.seed)
    sequences, bf16 = [i.ids for i in items], quick(model)
    learner: Trunk | Whole
    if recipe.method == "trunk":
        used = {i for batch in batches for i in batch[among.rank :: among.of]}
        learner = Trunk(
            model, recipe.layers, sequences, used=used, folder=out, bf16=bf16,
            tell=lambda done: tell(READING * done, f"reading {len(used)} examples"),
        )  # fmt: skip
        start = READING
    else:
        if recipe.method == "full":
            model.requires_grad_(True)
        learner, start = Whole(model, sequences), 0.0
    mark = hashlib.sha256(msgspec.json.encode([recipe, items, str(work.weights), among.of])).hexdigest()
    history = training.fit(
        learner, model.get_output_embeddings(), items, batches, loss, rate=recipe.rate, out=out, mark=mark,
        every=max(20, steps // 5), among=among, bf16=bf16,
        tell=lambda done, say, **figures: tell(start + (1 - start) * done, say, **figures),
    )  # fmt: skip
    if not math.isfinite(history[-1]):
        raise Problem("client", f"the loss is {history[-1]} after {steps} steps; try a lower `rate` than {recipe.rate}")
    facts = {
        "rows": len(items),
        **left_out,
        "steps": steps,
        "tokens": sum(len(items[i].ids) for batch in batches for i in batch),
        "trained_parameters": sum(p.numel() for p in learner.parameters().values()),
        "loss": sum(history[-10:]) / len(history[-10:]),
    }
    if among.rank == 0:
        (out / TRAIN).write_text(json.dumps({**facts, "by_step": [round(x, 6) for x in history]}) + "\n")
    return facts


def encoded(examples: Sequence[Example], shape: Form, tokenizer: Any, recipe: Recipe) -> tuple[list[Item], Facts]:
    """The examples as tokens, and how many were left out and why.

    Raises Problem where none is left, or where the teacher's tokens are asked for and do not fit the student's.
    """
    codes = code_ids(shape, tokenizer)
    spelled = losses.spelling(tokenizer) if recipe.loss == "topk" and shape.kind == "text" else {}
    items: list[Item] = []
    long, unfit, odd = 0, 0, list[str]()
    for example in (e for e in examples if e.weight > 0):
        try:
            target = shape.target(example.answer)
        except Problem:
            unfit += 1
            continue
        prompt = prompt_ids(example.text, shape, tokenizer, recipe.max_text_tokens)
        answer = [codes[target]] if codes else tokenizer(target, add_special_tokens=False).input_ids
        if prompt is None or len(answer) > recipe.max_answer_tokens:
            long += 1
            continue
        top: Any = None
        if recipe.loss == "topk" and example.top:
            if shape.kind == "label":
                top = [losses.of_labels(example.top[0], shape.labels, list(codes.values()))]
            elif isinstance(top := losses.aligned(answer, example.top, tokenizer, spelled), str):
                odd.append(top)
                top = None
        end = [] if codes else [tokenizer.eos_token_id]
        kept = None if top is None else tuple(map(tuple, top))
        ids = (*prompt, *answer, *end)
        items.append(Item(ids=ids, start=len(prompt), weight=example.weight, top=kept))
    if not items:
        raise Problem(
            "client",
            f"of {len(examples)} examples none is left to learn from: {long} are longer than {recipe.max_text_tokens} "
            f"tokens of text or {recipe.max_answer_tokens} of answer, {unfit} do not fit the task's form",
            code="nothing_to_learn",
        )
    if recipe.loss == "topk":
        _check_top(items, odd, shape, recipe)
    return items, {"too_long": long, "unfit": unfit, "unaligned": len(odd)}


def _check_top(items: Sequence[Item], odd: Sequence[str], shape: Form, recipe: Recipe) -> None:
    """Raises Problem where the teacher's likeliest tokens cannot be learned from and text was not asked for instead."""
    if recipe.text_instead:
        return
    say = ""
    if shape.kind == "extract":
        say = "a student's extractions are written in a form of their own, which the teacher's tokens do not follow"
    elif odd:
        say = f"{len(odd)} answers are cut into other tokens by the teacher, such as {'; '.join(odd[: losses.SHOWN])}"
    elif not any(item.top for item in items):
        say = "no example carries the teacher's likeliest tokens (it was not asked for logprobs, or gives none)"
    if say:
        end = "set `text_instead` to learn those from their text, or `loss` to 'text'"
        raise Problem("client", f"the loss 'topk' does not fit: {say}; {end}", code="tokenizer_mismatch")


def code_ids(shape: Form, tokenizer: Any) -> dict[str, int]:
    """Each label's code as a token; empty where the task is none of labels."""
    ids = {code: tokenizer(code, add_special_tokens=False).input_ids for code in shape.codes()}
    if odd := [code for code, tokens in ids.items() if len(tokens) != 1]:
        raise Problem("client", f"this base's tokenizer writes {odd[0]!r} as several tokens; take another base")
    return {code: tokens[0] for code, tokens in ids.items()}


def prompt_ids(text: str, shape: Form, tokenizer: Any, most: int) -> list[int] | None:
    """What the student reads. A text of more than `most` tokens is cut where a label is asked for, else it is None:
    what was cut away might be what is to be written."""
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    if len(found.input_ids) > most:
        if shape.kind != "label":
            return None
        text = text[: found.offset_mapping[most - 1][1]]
    ids: list[int] = tokenizer(shape.prompt(text), add_special_tokens=False).input_ids
    return ids


def objective(recipe: Recipe, tokenizer: Any, model: Any) -> Loss:
    """The recipe's loss. Raises Problem where a local teacher's vocabulary is another."""
    if recipe.loss == "text":
        return lambda logits, spot, items: losses.text(logits, spot.targets, spot.weights)
    if recipe.loss == "topk":
        return _topk
    if not recipe.teacher:
        say = "the loss 'logits' needs the weights of a local teacher: set `teacher` in the recipe, or another loss"
        raise Problem("client", say, param="teacher")
    teacher, theirs = base.load(Path(recipe.teacher), recipe.seed)
    losses.same_vocabulary(tokenizer, theirs)
    teacher.to(model.device)

    def full(logits: Tensor, spot: Spot, items: Sequence[Item]) -> Tensor:
        with torch.no_grad():
            ids = padded([items[i].ids for i in spot.items]).to(model.device)
            states = teacher.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[spot.mask]
            wanted = teacher.get_output_embeddings()(states)
        return losses.full(logits, wanted, spot.weights)

    return full


def _topk(logits: Tensor, spot: Spot, items: Sequence[Item]) -> Tensor:
    """The teacher's distribution where it is known, the text's token elsewhere (the end token, at least)."""
    rows: list[Sequence[tuple[int, float]]] = []
    for i in spot.items:
        size = len(items[i].ids) - items[i].start
        top = items[i].top or ()
        rows += [*top, *[()] * (size - len(top))]
    widest = max(1, *map(len, rows))
    ids = torch.tensor([[t for t, _ in r] + [-1] * (widest - len(r)) for r in rows], device=logits.device)
    logprobs = torch.tensor([[p for _, p in r] + [0.0] * (widest - len(r)) for r in rows], device=logits.device)
    known = ids[:, 0] >= 0
    return losses.text(logits[~known], spot.targets[~known], spot.weights[~known]) + losses.topk(
        logits[known], ids[known], logprobs[known], spot.weights[known]
    )


def quick(model: Any) -> bool:
    """Whether bfloat16 is quicker here: a wide model on a device that multiplies it."""
    if model.config.hidden_size < WIDE:
        return False
    return model.device.type == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def adapted(model: Any, recipe: Recipe) -> Any:
    """The model with LoRA adapters on all linear layers but the head."""
    from peft import LoraConfig  # noqa: PLC0415

    config = LoraConfig(r=recipe.rank, lora_alpha=2 * recipe.rank, target_modules="all-linear", task_type="CAUSAL_LM")
    return lora(model, config)


def lora(model: Any, config: Any) -> Any:
    """The model with the adapters of a peft config."""
    from peft import get_peft_model  # noqa: PLC0415

    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for an attribute by its old name (2026-11-23).
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(model, config)


def save_adapter(model: Any, out: Path) -> None:
    """The adapters alone, by peft's names, and peft's config."""
    from peft import get_peft_model_state_dict  # noqa: PLC0415

    tensors = {k: v.detach().contiguous().cpu() for k, v in get_peft_model_state_dict(model).items()}
    save_file(tensors, out / ADAPTER, {"format": "pt"})
    config = model.peft_config["default"].to_dict()
    config |= {"base_model_name_or_path": None, "inference_mode": True}
    sets = {k: sorted(v) for k, v in config.items() if isinstance(v, set)}
    (out / "adapter_config.json").write_text(json.dumps(config | sets, indent=2, sort_keys=True, default=str) + "\n")
