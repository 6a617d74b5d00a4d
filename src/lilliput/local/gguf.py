"""A check of a GGUF file's header before any engine reads it: counts, lengths and offsets against caps and the file.

The format: github.com/ggml-org/ggml, docs/gguf.md (checked 2026-11-22). Nothing is loaded and nothing is run: the
header is walked through a small window, so memory stays bounded whatever the file claims.
"""

from __future__ import annotations

from pathlib import Path
from struct import Struct as Pack
from typing import BinaryIO

from msgspec import Struct

from lilliput.neutral import Problem

MAX_TENSORS = 65_536
MAX_KEYS = 65_536
MAX_NAME_BYTES = 1_024
MAX_TENSOR_NAME_BYTES = 63
MAX_STRING_BYTES = 16 << 20
MAX_ITEMS = 1 << 24
MAX_HEADER_BYTES = 512 << 20
MAX_DIMS = 4
MAX_ALIGNMENT = 1 << 16
KEEP_BYTES = 256
WINDOW_BYTES = 1 << 18

U32, U64 = Pack("<I"), Pack("<Q")
STRING, ARRAY = 8, 9
SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
UNSIGNED = frozenset({0, 2, 4, 10})

# ggml type -> (weights per block, bytes per block), as ggml_blck_size and ggml_type_size of xllamacpp 2026.10 say.
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18), 42: (64, 18),
}  # fmt: skip


class Header(Struct, frozen=True):
    """What a checked file says about itself. `pooling` is set by models made for embeddings."""

    architecture: str
    tensors: int
    context_tokens: int | None
    pooling: int | None
    chat_template: bool


class _Broken(Exception):
    """What is wrong with the file; never leaves this module."""


class _Cursor:
    """Reads a file forwards through one window of at most `WINDOW_BYTES`."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self.window, self.at, self.start = b"", 0, 0

    @property
    def pos(self) -> int:
        return self.start + self.at

    def need(self, n: int) -> None:
        """Make the next `n` bytes (at most a window) readable at `window[at:]`."""
        if len(self.window) - self.at >= n:
            return
        pos = self.pos
        self.file.seek(pos)
        self.window, self.at, self.start = self.file.read(WINDOW_BYTES), 0, pos
        if len(self.window) < n:
            raise _Broken(f"it ends inside its header, at byte {self.size}")

    def skip(self, n: int) -> None:
        if n > self.size - self.pos:
            raise _Broken(f"a value of {n} bytes at byte {self.pos} runs past its end at byte {self.size}")
        if self.pos + n > MAX_HEADER_BYTES:
            raise _Broken(f"its header is longer than {MAX_HEADER_BYTES} bytes")
        self.at += n
        if self.at > len(self.window):
            self.start, self.at, self.window = self.pos, 0, b""

    def u32(self) -> int:
        self.need(4)
        value: int = U32.unpack_from(self.window, self.at)[0]
        self.at += 4
        return value

    def u64(self) -> int:
        self.need(8)
        value: int = U64.unpack_from(self.window, self.at)[0]
        self.at += 8
        return value

    def text(self, cap: int, what: str) -> bytes:
        """A string of at most `cap` bytes; of a longer one than `KEEP_BYTES` only that much is kept."""
        n = self.u64()
        if n > cap:
            raise _Broken(f"{what} at byte {self.pos} claims {n} bytes; at most {cap} are taken")
        keep = min(n, MAX_NAME_BYTES)
        self.need(keep)
        value = self.window[self.at : self.at + keep]
        self.skip(n)
        return value


def check(path: Path) -> Header:
    """The header of the weights at `path`, once it is found sound; raises Problem (503, `engine_unavailable`)."""
    try:
        with path.open("rb") as file:
            return _walk(_Cursor(file, path.stat().st_size))
    except _Broken as e:
        said = f"{path.name} is no usable GGUF file: {e}; fetch it again with `lilliput pull`, or name another file"
    except OSError as e:
        said = f"{path.name} cannot be read: {e.strerror or e}; check that the file is there and readable"
    raise Problem("server", said, code="engine_unavailable")


def _walk(c: _Cursor) -> Header:
    c.need(4)
    magic, c.at = c.window[:4], 4
    if magic != b"GGUF":
        raise _Broken(f"it begins with {magic!r}, not with b'GGUF'")
    version = c.u32()
    if version not in (2, 3):
        raise _Broken(f"its format version is {version}; 2 and 3 are read, in little-endian order")
    tensors, keys = c.u64(), c.u64()
    if tensors > MAX_TENSORS or keys > MAX_KEYS:
        raise _Broken(f"it claims {tensors} tensors and {keys} keys; at most {MAX_TENSORS} and {MAX_KEYS} are taken")
    facts = _keys(c, keys)
    alignment = facts.get(b"general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise _Broken(f"its alignment is {alignment!r}, not a power of two up to {MAX_ALIGNMENT}")
    name = facts.get(b"general.architecture")
    if not isinstance(name, bytes) or not name.isascii() or not name:
        raise _Broken("it does not name its architecture")
    spans = _tensors(c, tensors, alignment)
    _fit(spans, c.size - -(-c.pos // alignment) * alignment)
    return Header(
        architecture=name.decode(),
        tensors=tensors,
        context_tokens=_count(facts.get(name + b".context_length")),
        pooling=_count(facts.get(name + b".pooling_type")),
        chat_template=b"tokenizer.chat_template" in facts,
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _keys(c: _Cursor, count: int) -> dict[bytes, bytes | int | None]:
    """Every key once; the value is kept when it is a short string or an unsigned number."""
    facts: dict[bytes, bytes | int | None] = {}
    for _ in range(count):
        key = c.text(MAX_NAME_BYTES, "a key")
        if not key or key in facts:
            raise _Broken(f"its key {key!r} is empty or given twice")
        kind = c.u32()
        if kind == ARRAY:
            _skip_array(c)
            facts[key] = None
        elif kind == STRING:
            facts[key] = c.text(MAX_STRING_BYTES, "a string")[:KEEP_BYTES]
        elif kind in SCALAR_BYTES:
            n = SCALAR_BYTES[kind]
            c.need(n)
            facts[key] = int.from_bytes(c.window[c.at : c.at + n], "little") if kind in UNSIGNED else None
            c.at += n
        else:
            raise _Broken(f"its key {key!r} has the unknown type {kind}")
    return facts


def _skip_array(c: _Cursor) -> None:
    kind, items = c.u32(), c.u64()
    if items > MAX_ITEMS:
        raise _Broken(f"an array at byte {c.pos} claims {items} items; at most {MAX_ITEMS} are taken")
    if kind in SCALAR_BYTES:
        c.skip(items * SCALAR_BYTES[kind])
        return
    if kind != STRING:
        raise _Broken(f"an array at byte {c.pos} has items of the type {kind}; numbers and strings are taken")
    for _ in range(items):
        n = c.u64()
        if n > MAX_STRING_BYTES:
            raise _Broken(f"a string at byte {c.pos} claims {n} bytes; at most {MAX_STRING_BYTES} are taken")
        c.skip(n)


def _tensors(c: _Cursor, count: int, alignment: int) -> list[tuple[int, int, bytes]]:
    """(offset, bytes, name) of every tensor."""
    spans: list[tuple[int, int, bytes]] = []
    names: set[bytes] = set()
    for _ in range(count):
        name = c.text(MAX_TENSOR_NAME_BYTES, "a tensor's name")
        if not name or name in names:
            raise _Broken(f"its tensor {name!r} is empty or given twice")
        names.add(name)
        dims = c.u32()
        if not 1 <= dims <= MAX_DIMS:
            raise _Broken(f"its tensor {name!r} has {dims} dimensions; 1 to {MAX_DIMS} are taken")
        shape = [c.u64() for _ in range(dims)]
        kind, offset = c.u32(), c.u64()
        if kind not in BLOCKS:
            raise _Broken(f"its tensor {name!r} has the unknown type {kind}")
        block, block_bytes = BLOCKS[kind]
        items = 1
        for n in shape:
            items *= n
        if not 0 < items < 1 << 63 or shape[0] % block:
            raise _Broken(f"its tensor {name!r} has the shape {shape}, which its type {kind} cannot hold")
        if offset % alignment:
            raise _Broken(f"its tensor {name!r} begins at {offset}, which is not a multiple of {alignment}")
        spans.append((offset, items // block * block_bytes, name))
    return spans


def _fit(spans: list[tuple[int, int, bytes]], room: int) -> None:
    """Every tensor lies inside the `room` bytes of data, and none on another."""
    end = 0
    for offset, length, name in sorted(spans):
        if offset < end:
            raise _Broken(f"its tensor {name!r} lies on the one before it")
        end = offset + length
        if end > room:
            raise _Broken(f"its tensor {name!r} ends {end - room} bytes past the end of the file: it may be cut short")
