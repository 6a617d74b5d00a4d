"""The GGUF of a random llama and its whole-word tokenizer, as its makers would write it: a base for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType
from tests.studio import made_models

from lilliput.studio import base, export


def described(path: Path, config: Any, spelled: Any, arch: str = "llama") -> Path:
    """Metadata alone: what the exporter copies."""
    writer = GGUFWriter(path, arch)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    model = json.loads(spelled.backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(model["vocab"], key=model["vocab"].__getitem__))
    writer.add_token_types([TokenType.CONTROL, *[TokenType.NORMAL] * (config.vocab_size - 1)])
    writer.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in model["merges"]])
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def weights(folder: Path, layers: int = 2) -> Path:
    """A base in F16."""
    spelled = made_models.tokenizer()
    made = made_models.llama(len(spelled), layers)
    base.save(made, spelled, folder / "hf")
    export.model(folder / "hf", described(folder / "empty.gguf", made.config, spelled), "F16", folder / "base.gguf")
    return folder / "base.gguf"
