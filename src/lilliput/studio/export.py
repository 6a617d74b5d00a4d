"""From trained weights to GGUF, the files that the engine reads: whole models, and LoRA adapters beside their base.

Covers dense models of llama's build (Llama, SmolLM2 and their like) and refuses others. What a GGUF says of its
tokenizer is copied from the base's, never made anew. Which form is good enough is not decided here.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import xllamacpp
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from safetensors import safe_open

from lilliput.neutral import Problem
from lilliput.studio.parts import ADAPTER, MODEL

Floats = npt.NDArray[np.float32]
FORMS = {"F16": "F16", "Q8_0": "Q8_0", "Q5_1": "Q5_1", "Q5_0": "Q5_0", "Q4_K": "Q4_K_S", "Q4_1": "Q4_1", "Q4_0": "Q4_0"}
FORMS |= {"IQ4_NL": "IQ4_NL", "Q6_K": "Q6_K", "Q5_K": "Q5_K_S"}
"""Forms a model is written in, and what GGUF calls files of them."""
INSTEAD = {Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1, Type.Q6_K: Type.Q8_0}
"""For rows that are no multiple of 256 long, as llama.cpp's own quantiser does (src/llama-quant.cpp, 2026-11-23)."""
DENSE = ("token_embd.weight", "output.weight")
"""The table of tokens, which is the head too where they are tied: in eight bits at least, in every form."""
OTHERS = ("general.architecture", "general.file_type", "general.quantization_version", "general.size_label")
FACTORS = "rope_freqs.weight"
"""What some llamas stretch their positions with: no trained weight, copied."""


def model(
    folder: Path, source: Path, form: str, to: Path, importance: Mapping[str, Floats] | None = None
) -> dict[str, Any]:
    """Write the model in `folder` (as `base.save` leaves it) in `form`; how many tensors there are of each type.

    `source` is the GGUF of the base that it was trained from. `importance` holds the mean square of what each
    tensor, by its name in GGUF, is multiplied with: rounding is then finest where that is large.
    """
    if form not in FORMS:
        raise Problem("client", f"a model is not written as {form!r}; the forms are {', '.join(FORMS)}", param="forms")
    config = json.loads((folder / "config.json").read_bytes())
    reader = read(source)
    _same_build(config, reader)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    writer = GGUFWriter(to, "llama")
    _describe(writer, reader, config)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{FORMS[form]}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    with safe_open(folder / MODEL, framework="np") as file:
        found = {_named(names, key): key for key in file.keys()}  # noqa: SIM118
        order = sorted(found, key=_place)
        types = {name: _type(name, file.get_slice(found[name]).get_shape(), Type[form]) for name in order}
        extra = {t.name: t.data for t in reader.tensors if t.name == FACTORS}

        def tensors() -> Iterator[tuple[str, npt.NDArray[Any], Type]]:
            for name, data in extra.items():
                yield name, data, Type.F32
            for name in order:
                weights = _rotated(name, _floats(file, found[name]), config)
                yield name, packed(weights, types[name], (importance or {}).get(name)), types[name]

        shapes = {name: tuple(data.shape) for name, data in extra.items()}
        shapes |= {name: tuple(file.get_slice(found[name]).get_shape()) for name in order}
        _write(writer, shapes, types | dict.fromkeys(extra, Type.F32), tensors())
    used = [t.name for t in types.values()]
    return {"bytes": to.stat().st_size, "types": {t: used.count(t) for t in sorted(set(used))}}


def adapter(folder: Path, source: Path, to: Path) -> dict[str, Any]:
    """Write the adapters that peft left in `folder` for the engine to put over `source`; how many."""
    config = json.loads((folder / "adapter_config.json").read_bytes())
    odd = [
        k for k in ("use_dora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern") if config.get(k)
    ]
    if odd or config.get("bias", "none") != "none":
        raise Problem("client", f"this adapter is no plain LoRA ({', '.join(odd) or 'bias'}): train it without")
    reader = read(source)
    about = {
        k: _value(reader, f"llama.{k}") for k in ("attention.head_count", "attention.head_count_kv", "block_count")
    }
    heads = {"num_attention_heads": about["attention.head_count"]}
    heads["num_key_value_heads"] = about["attention.head_count_kv"] or about["attention.head_count"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, about["block_count"])
    writer = GGUFWriter(to, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    scale = config["r"] ** 0.5 if config.get("use_rslora") else 1.0
    writer.add_float32("adapter.lora.alpha", config["lora_alpha"] * scale)
    tensors: dict[str, Floats] = {}
    with safe_open(folder / ADAPTER, framework="np") as file:
        for key in sorted(file.keys()):
            module, _, which = key.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".lora_")
            name, weights = _named(names, f"{module}.weight"), _floats(file, key)
            # The rows of B are the rows of what is added to the base, and lie as its own do.
            tensors[f"{name}.lora_{which.lower()}"] = _rotated(name, weights, heads) if which == "B" else weights
    shapes = {name: data.shape for name, data in tensors.items()}
    _write(writer, shapes, dict.fromkeys(tensors, Type.F32), ((n, d, Type.F32) for n, d in tensors.items()))
    return {"bytes": to.stat().st_size, "tensors": len(tensors)}


def read(path: Path) -> GGUFReader:
    """The GGUF of a base; Problem where it is none, or of a build that is not covered."""
    try:
        reader = GGUFReader(path)
    except (OSError, ValueError) as e:
        raise Problem("client", f"{path.name} cannot be read as GGUF: {e}", code="bad_weights") from None
    if (build := _value(reader, "general.architecture")) != "llama":
        say = f"{path.name} is of the build {build!r}; students are written of llama's build alone: take such a base"
        raise Problem("client", say, code="unknown_architecture")
    return reader


def packed(weights: Floats, type: Type, importance: Floats | None = None) -> npt.NDArray[Any]:
    """A matrix (or vector) in a type's own bytes, rounded by ggml itself."""
    if type == Type.F32:
        return weights
    if type == Type.F16:
        if np.abs(weights).max(initial=0) > np.finfo(np.float16).max:
            raise Problem("client", "the weights hold values that F16 cannot; train with a lower `rate`")
        return weights.astype(np.float16)
    block, size = gguf.GGML_QUANT_SIZES[type]
    rows = weights.reshape(-1, weights.shape[-1])
    made = np.empty((*weights.shape[:-1], weights.shape[-1] // block * size), np.uint8)
    given = None if importance is None else _pointer(np.ascontiguousarray(importance, np.float32))
    _quantise()(type, _pointer(rows), made.ctypes.data, 0, *rows.shape, given)
    return made


def _quantise() -> Callable[..., int]:
    """The engine's own `ggml_quantize_chunk` (ggml.h): type, from, to, first, rows, length of a row, importance."""
    try:
        call = ctypes.CDLL(xllamacpp.xllamacpp.__file__).ggml_quantize_chunk
    except (OSError, AttributeError):
        say = "this build of xllamacpp does not offer ggml's quantiser; set `forms` to 'F16', or to 'base+lora'"
        raise Problem("server", say, code="no_quantiser") from None
    floats, count = ctypes.POINTER(ctypes.c_float), ctypes.c_int64
    call.argtypes = [ctypes.c_int, floats, ctypes.c_void_p, count, count, count, floats]
    call.restype = ctypes.c_size_t
    return call


def _pointer(values: Floats) -> Any:
    return values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def _type(name: str, shape: list[int], form: Type) -> Type:
    """What a tensor is written as: vectors whole, matrices in the form where their rows allow it."""
    if len(shape) == 1:
        return Type.F32
    if name in DENSE and form != Type.F16:
        form = Type.Q8_0
    for type in (form, INSTEAD.get(form, Type.F16)):
        if shape[-1] % gguf.GGML_QUANT_SIZES[type][0] == 0:
            return type
    return Type.F16


def _same_build(config: Mapping[str, Any], reader: GGUFReader) -> None:
    """Raises Problem where the trained model is none of llama's build, or not of this base."""
    if (build := config.get("model_type")) != "llama" or config.get("attention_bias") or config.get("mlp_bias"):
        raise Problem("client", f"the trained model is of the build {build!r}, with biases or another than llama's")
    pairs = {"hidden_size": "embedding_length", "num_attention_heads": "attention.head_count"}
    for key, name in (pairs | {"num_key_value_heads": "attention.head_count_kv"}).items():
        if config[key] != (theirs := _value(reader, f"llama.{name}")) and theirs is not None:
            say = f"the trained model has {key} {config[key]} and its base's GGUF {theirs}: give the base it came from"
            raise Problem("client", say, code="other_base")


def _describe(writer: GGUFWriter, reader: GGUFReader, config: Mapping[str, Any]) -> None:
    """All that the base's file says of itself, with the counts of this model."""
    counts = {"block_count": "num_hidden_layers", "feed_forward_length": "intermediate_size"}
    own = {f"llama.{name}": config[key] for name, key in (counts | {"vocab_size": "vocab_size"}).items()}
    for key, field in reader.fields.items():
        if key.startswith(("GGUF.", "split.", "quantize.")) or key in OTHERS:
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(key, own.get(key, field.contents()), field.types[0], inner)


def _write(
    writer: GGUFWriter,
    shapes: Mapping[str, tuple[int, ...]],
    types: Mapping[str, Type],
    tensors: Iterator[tuple[str, npt.NDArray[Any], Type]],
) -> None:
    """Header first, then one tensor at a time: no more than that is held in memory."""
    try:
        for name, shape in shapes.items():
            block, size = gguf.GGML_QUANT_SIZES[types[name]]
            writer.add_tensor_info(name, shape, np.dtype(np.float32), int(np.prod(shape)) // block * size, types[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, data, _ in tensors:
            writer.write_tensor_data(data)
    finally:
        writer.close()


def _value(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _named(names: gguf.TensorNameMap, key: str) -> str:
    name = names.get_name(key, try_suffixes=(".weight",))
    if name is None:
        raise Problem("client", f"the weights hold {key!r}, which llama's build has no place for")
    return name


def _place(name: str) -> tuple[int, str]:
    """Tensors in the order they are used, so that the same model is the same file."""
    parts = name.split(".")
    return (int(parts[1]) if parts[0] == "blk" else -1 if parts[0] == "token_embd" else 1 << 30), name


def _floats(file: Any, key: str) -> Floats:
    return np.ascontiguousarray(file.get_tensor(key), np.float32)


def _rotated(name: str, weights: Floats, config: Mapping[str, Any]) -> Floats:
    """Rows of queries and keys as llama.cpp turns them: neighbours together, where transformers has halves."""
    heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}.get(name.split(".")[-2])
    if heads is None:
        return weights
    n = config[heads]
    halves = weights.reshape(n, 2, len(weights) // n // 2, *weights.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weights.shape))
