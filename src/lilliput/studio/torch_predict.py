"""What a student in torch answers, for comparisons with the one that is served. The loop serves GGUF, never this."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from lilliput.loop import confidence
from lilliput.loop.form import Form, form
from lilliput.studio import base
from lilliput.studio.distil import code_ids, lora, prompt_ids
from lilliput.studio.parts import ADAPTER, Example, Facts, Prediction, Tell, Work, write
from lilliput.studio.trunk import padded, portions

FOLDER = "predict"


def predict(work: Work, split: str, tell: Tell, model: Any = None, tokenizer: Any = None) -> Facts:
    """Answer the examples of a split by `model` (by default what `distil` left) into `predict/torch.<split>.jsonl`.

    An answer that is not well formed is "" with a raw confidence of 0, and so is that to a text that is too long.
    """
    torch.set_num_threads(work.recipe.threads)
    if model is None:
        model, tokenizer = student(work)
    examples = work.examples(split)
    shape = form(work.task.kind, work.task.labels, work.task.schema)
    started = time.monotonic()
    found = list(predictions(examples, shape, model, tokenizer, work, tell))
    folder = work.root / FOLDER
    folder.mkdir(exist_ok=True)
    write(folder / f"torch.{split}.jsonl", found)
    return {"rows": len(found), "seconds": round(time.monotonic() - started, 1)}


def student(work: Work, stage: str = "") -> tuple[Any, Any]:
    """What the stage left (by default the last that trained), with its adapter merged into the base."""
    folder = work.of(stage) if stage else work.trained()
    if not (folder / ADAPTER).is_file():
        return base.load(folder)
    assert work.weights is not None
    from peft import LoraConfig, set_peft_model_state_dict  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    model, tokenizer = base.load(work.weights)
    model = lora(model, LoraConfig.from_pretrained(str(folder)))
    set_peft_model_state_dict(model, load_file(folder / ADAPTER))
    return model.merge_and_unload().eval(), tokenizer


def predictions(
    examples: Sequence[Example], shape: Form, model: Any, tokenizer: Any, work: Work, tell: Tell
) -> Iterator[Prediction]:
    """In the order of the examples."""
    recipe = work.recipe
    prompts = [prompt_ids(e.text, shape, tokenizer, recipe.max_text_tokens) or [] for e in examples]
    order = sorted((i for i, p in enumerate(prompts) if p), key=lambda i: len(prompts[i]))
    room = 0 if shape.kind == "label" else recipe.max_answer_tokens
    found: dict[int, Prediction] = {}
    for items in portions(order, [len(p) + room for p in prompts], 8192):
        started = time.monotonic()
        if shape.kind == "label":
            answers = [_labelled(p, shape) for p in _codes([prompts[i] for i in items], shape, model, tokenizer)]
        else:
            written = greedy([prompts[i] for i in items], model, tokenizer, room)
            answers = [_written(w, shape, tokenizer) for w in written]
        ms = 1000 * (time.monotonic() - started) / len(items)
        for i, (answer, raw, scores) in zip(items, answers, strict=True):
            found[i] = Prediction(id=examples[i].id, answer=answer, raw=raw, scores=scores, ms=ms)
        tell(len(found) / len(examples), f"{len(found)} of {len(examples)} answered")
    yield from (found.get(i, Prediction(id=e.id, answer="")) for i, e in enumerate(examples))


@torch.inference_mode()
def _codes(prompts: Sequence[Sequence[int]], shape: Form, model: Any, tokenizer: Any) -> list[list[float]]:
    """The probability of each label, by the codes alone."""
    codes = list(code_ids(shape, tokenizer).values())
    states = model.get_decoder()(input_ids=padded(prompts), use_cache=False).last_hidden_state
    last = states[torch.arange(len(prompts)), torch.tensor([len(p) - 1 for p in prompts])]
    chances: list[list[float]] = model.get_output_embeddings()(last)[:, codes].float().softmax(-1).tolist()
    return chances


def _labelled(chances: Sequence[float], shape: Form) -> tuple[str, float, dict[str, float]]:
    best = max(range(len(chances)), key=chances.__getitem__)
    tokens = [(shape.codes()[best], chances[best])]
    return shape.labels[best], confidence.raw("label", tokens), dict(zip(shape.labels, chances, strict=True))


@torch.inference_mode()
def greedy(prompts: Sequence[Sequence[int]], model: Any, tokenizer: Any, most: int) -> list[list[tuple[int, float]]]:
    """The likeliest token after the other with its probability: up to the end token, or one more than `most`."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    written: list[list[tuple[int, float]]] = [[] for _ in prompts]
    open_ = set(range(len(prompts)))
    cache = None
    for _ in range(most + 1):
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        found = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        chances, tokens = found.logits[:, -1].float().softmax(-1).max(-1)
        cache, ids = found.past_key_values, tokens[:, None]
        mask = torch.cat([mask, torch.ones_like(ids)], -1)
        for row in sorted(open_):
            written[row].append((int(tokens[row]), float(chances[row])))
            if int(tokens[row]) == tokenizer.eos_token_id:
                open_.discard(row)
        if not open_:
            break
    return written


def _written(tokens: Sequence[tuple[int, float]], shape: Form, tokenizer: Any) -> tuple[str, float, dict[str, float]]:
    """The end token's probability counts, as it does in the engine."""
    ids = [t for t, _ in tokens]
    text = tokenizer.decode(ids[:-1], clean_up_tokenization_spaces=False)
    answer = shape.answer(text) if ids[-1] == tokenizer.eos_token_id else None
    if answer is None:
        return "", 0.0, {}
    texts = tokenizer.batch_decode([[t] for t in ids])
    return answer, confidence.raw(shape.kind, [(s, p) for s, (_, p) in zip(texts, tokens, strict=True)]), {}
