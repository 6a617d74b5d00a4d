"""A random llama of two layers and a tokenizer of whole words, made in a second: what the tests of training train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as Decoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lilliput.studio import base
from lilliput.studio.parts import Example, Recipe, Work, write
from lilliput.tasks import Kind, Task

WORDS = ("red", "blue", "sun", "sea", "big", "dog")


def tokenizer(*words: str) -> Any:
    """Byte-level BPE: all bytes, and each of `words` (those of WORDS by default) as one token behind a space."""
    alphabet = sorted(ByteLevel.alphabet())
    vocabulary = {"<end>": 0} | {c: i + 1 for i, c in enumerate(alphabet)}
    merges = []
    for word in [*(words or WORDS), "A", "B", "C"]:
        piece = "Ġ"
        for letter in word:
            merges.append((piece, letter))
            piece += letter
            vocabulary.setdefault(piece, len(vocabulary))
    raw = Tokenizer(BPE(vocabulary, list(dict.fromkeys(merges))))
    raw.pre_tokenizer, raw.decoder = ByteLevel(add_prefix_space=False), Decoder()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>", pad_token="<end>")


def llama(size: int, layers: int = 2, seed: int = 0) -> Any:
    """Random weights, far enough from zero that layers and positions matter."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, initializer_range=0.2, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).requires_grad_(False).eval()


def weights(folder: Path, layers: int = 2) -> Path:
    """The base's folder, as `base.load` reads it."""
    spelled = tokenizer()
    base.save(llama(len(spelled), layers), spelled, folder)
    return folder


def work(root: Path, examples: list[Example], kind: Kind = "label", **recipe: Any) -> Work:
    """A run whose examples are all for learning, and its base."""
    (root / "collect").mkdir(parents=True)
    (root / "distil").mkdir()
    write(root / "collect" / "train.jsonl", examples)
    settings = {"steps": 12, "batch": 4, "layers": 1, "rate": 0.01, "threads": 1} | recipe
    task = Task(name="colours", teacher="big", kind=kind, labels=("warm", "cold") if kind == "label" else ())
    made = Recipe(**settings)
    return Work(root=root, task=task, recipe=made, students=root / "students", weights=weights(root / "base"))


def colours(times: int = 4) -> list[Example]:
    """Warm and cold, told by the first word; texts of unlike lengths."""
    pairs = [("red sun", "warm"), ("blue sea", "cold"), ("red", "warm"), ("blue dog big", "cold"), ("red dog", "warm")]
    return [Example(id=f"{n}-{i}", text=t, answer=a) for n in range(times) for i, (t, a) in enumerate(pairs)]
