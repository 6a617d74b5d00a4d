"""The header check: what it tells, what it refuses, and that no mutation gets anything but a Problem out of it."""

from __future__ import annotations

import random
import struct
import tracemalloc
from pathlib import Path

import pytest
from tests.local import made

from lilliput.local import gguf
from lilliput.neutral import Problem

MUTATIONS = 2_000
EXTREMES = (0, 1, 7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


def check(directory: Path, raw: bytes) -> gguf.Header:
    path = directory / "w.gguf"
    path.write_bytes(raw)
    return gguf.check(path)


def test_a_sound_file_tells_about_itself(tmp_path: Path) -> None:
    assert check(tmp_path, made.gguf()) == gguf.Header("alien", 3, 64, None, True)
    embedder = {"general.architecture": "alien", "alien.pooling_type": 2}
    assert check(tmp_path, made.gguf(embedder, (), version=2)) == gguf.Header("alien", 0, None, 2, False)


def head(tensors: int = 0, keys: int = 0, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    return struct.pack("<4sIQQ", magic, version, tensors, keys)


def keyed(**keys: object) -> bytes:
    return made.gguf({"general.architecture": "alien", **keys}, ())


ARCH = made.text("general.architecture") + made.typed("alien")
KEY = head(0, 1) + made.text("k")
DIMS = made.text("t") + struct.pack("<I", 1)
BROKEN = [
    ("empty", b"", "ends inside its header"),
    ("three bytes", b"GGU", "ends inside its header"),
    ("another format", b"PK\3\4" + bytes(64), "not with b'GGUF'"),
    ("version 1", head(version=1), "format version is 1"),
    ("big-endian", struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "little-endian"),
    ("tensors beyond the cap", head(tensors=2**40), "at most 65536"),
    ("keys beyond the cap", head(keys=2**63), "at most 65536"),
    ("no keys", head() + bytes(64), "does not name its architecture"),
    ("a key of 2**60 bytes", head(0, 1) + struct.pack("<Q", 2**60), "claims 1152921504606846976 bytes"),
    ("an unknown value type", KEY + struct.pack("<I", 99), "unknown type 99"),
    ("a string past the end", KEY + struct.pack("<IQ", 8, 5000), "runs past its end|ends inside"),
    ("a string of 2**40 bytes", KEY + struct.pack("<IQ", 8, 2**40), "at most 16777216"),
    ("an array of 2**62 items", KEY + struct.pack("<IIQ", 9, 0, 2**62), "claims 4611686018427387904 items"),
    ("an array past the end", KEY + struct.pack("<IIQ", 9, 10, 2**20), "runs past its end"),
    ("an array of arrays", KEY + struct.pack("<IIQ", 9, 9, 1) + bytes(64), "numbers and strings are taken"),
    ("an array of long strings", KEY + struct.pack("<IIQQ", 9, 8, 2, 2**50), "at most 16777216"),
    ("a key twice", head(0, 2) + ARCH + ARCH, "given twice"),
    ("an alignment of 0", keyed(**{"general.alignment": 0}), "not a power of two"),
    ("an alignment of 48", keyed(**{"general.alignment": 48}), "not a power of two"),
    ("an alignment of 2**31", keyed(**{"general.alignment": 2**31}), "not a power of two"),
    ("an alignment in words", keyed(**{"general.alignment": "32"}), "not a power of two"),
    ("a number for an architecture", made.gguf({"general.architecture": 5}, ()), "does not name its architecture"),
    ("no dimensions", head(1, 1) + ARCH + made.text("t") + struct.pack("<I", 0), "has 0 dimensions"),
    ("2**31 dimensions", head(1, 1) + ARCH + made.text("t") + struct.pack("<I", 2**31), "dimensions"),
    ("a name of 64 bytes", head(1, 1) + ARCH + made.text("t" * 64), "at most 63"),
    ("an unknown tensor type", head(1, 1) + ARCH + DIMS + struct.pack("<QIQ", 32, 4, 0), "unknown type 4"),
    ("a size that overflows", made.gguf(tensors=[("t", (2**40, 2**40), 0, 32)]), "which its type 0 cannot hold"),
    ("a row that is no block", made.gguf(tensors=[("t", (33,), 8, 64)]), "which its type 8 cannot hold"),
    ("a dimension of 0", made.gguf(tensors=[("t", (0, 4), 0, 32)]), "which its type 0 cannot hold"),
    ("an odd offset", head(1, 1) + ARCH + DIMS + struct.pack("<QIQ", 32, 0, 7) + bytes(512), "not a multiple of 32"),
    ("a tensor twice", made.gguf(tensors=[("t", (8,), 0, 32), ("t", (8,), 0, 32)]), "given twice"),
    ("tensors on each other", made.gguf(tensors=[("t", (64,), 0, 32), ("u", (8,), 0, 320)]), "lies on the one before"),
    ("cut short", made.gguf()[:-200], "past the end of the file"),
    ("an offset of 2**63", head(1, 1) + ARCH + DIMS + struct.pack("<QIQ", 32, 0, 2**63), "past the end of the file"),
]


@pytest.mark.parametrize(("raw", "says"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_broken_file_is_refused_with_its_fault(tmp_path: Path, raw: bytes, says: str) -> None:
    with pytest.raises(Problem, match=says) as caught:
        check(tmp_path, raw)
    assert (caught.value.status, caught.value.code) == (503, "engine_unavailable")
    assert caught.value.say.startswith("w.gguf")


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"none\.gguf cannot be read: No such file"):
        gguf.check(tmp_path / "none.gguf")


def test_every_cut_is_refused(tmp_path: Path) -> None:
    raw = made.gguf()
    for n in range(0, len(raw) - 32, 5):
        with pytest.raises(Problem):
            check(tmp_path, raw[:n])


def mutated(raw: bytes, dice: random.Random) -> bytes:
    out = bytearray(raw)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(out) - 8)
        kind = dice.randrange(5)
        if kind == 0:
            out[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            out[at : at + 8] = struct.pack("<Q", dice.choice(EXTREMES))
        elif kind == 2:
            out[at : at + 4] = struct.pack("<I", dice.choice(EXTREMES) & 0xFFFFFFFF)
        elif kind == 3:
            out[at:at] = dice.randbytes(dice.randint(1, 16))
        else:
            del out[at : at + dice.randint(1, 16)]
    return bytes(out)


def test_no_mutation_gets_anything_but_a_problem_out(tmp_path: Path) -> None:
    raw = made.gguf()
    refused = 0
    tracemalloc.start()
    try:
        for seed in range(MUTATIONS):
            try:
                check(tmp_path, mutated(raw, random.Random(seed)))
            except Problem:
                refused += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused > MUTATIONS // 3
    assert peak < 4 << 20
