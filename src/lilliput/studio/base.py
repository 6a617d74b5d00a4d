"""Base models for training: from a GGUF or a folder of safetensors into torch, and back onto the disk. Never pickle.

Reading a GGUF means dequantising it, which takes half a minute for 135 M parameters; so the first load leaves a copy in
safetensors beside the file, named by the file's hash, and later ones take two seconds.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from lilliput.neutral import Problem
from lilliput.studio.parts import atomically

UNPACKED = "unpacked"
"""The folder beside the weights where their copies in safetensors live."""


def load(weights: Path, seed: int = 0, *, cache: Path | None = None) -> tuple[Any, Any]:
    """The model (fp32, in evaluation mode, nothing to be trained yet) and its tokenizer.

    `weights` is a GGUF, or a folder that `save` wrote. `cache` is where the unpacked copy of a GGUF goes (by default
    beside it). Raises Problem where the file is none that transformers can read, and OSError.
    """
    torch.manual_seed(seed)
    logging.disable_progress_bar()
    folder = weights if weights.is_dir() else unpacked(weights, cache)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as e:
        raise Problem("client", f"the weights in {folder.name!r} cannot be loaded: {e}", code="bad_weights") from None
    model.requires_grad_(False)
    model.train(False)
    return model, tokenizer


def unpacked(weights: Path, cache: Path | None = None) -> Path:
    """The folder with the safetensors of a GGUF; the first call makes it."""
    if not weights.is_file():
        raise Problem("client", f"there are no weights {weights}; fetch them with `lilliput pull`", 404)
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = (cache or weights.parent / UNPACKED) / f"{weights.stem}-{digest[:16]}"
    if not (folder / "config.json").is_file():
        try:
            where = {"gguf_file": weights.name, "local_files_only": True}
            model = AutoModelForCausalLM.from_pretrained(weights.parent, dtype=torch.float32, **where)
            tokenizer = AutoTokenizer.from_pretrained(weights.parent, **where)
        except (ValueError, KeyError, NotImplementedError, struct.error) as e:
            raise Problem("client", f"{weights.name} cannot be trained from: {e}", code="bad_weights") from None
        atomically(folder, lambda new: save(model, tokenizer, new))
    return folder


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """`model.safetensors`, `config.json` and the tokenizer's files."""
    logging.disable_progress_bar()
    # transformers refuses to save a model that still knows that it came from a GGUF.
    for owner, name in ((model, "hf_quantizer"), (model.config, "quantization_config")):
        if hasattr(owner, name):
            delattr(owner, name)
    model.save_pretrained(folder, max_shard_size="1000GB")
    tokenizer.save_pretrained(folder)
