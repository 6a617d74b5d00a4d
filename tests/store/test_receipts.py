"""Receipts on disk: any change of what was written is found, a killed writer loses no line, a full disk no order."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.command import environment

from lilliput.neutral import Problem
from lilliput.store import receipts as stored
from lilliput.store.receipts import Chain, Verdict

DAY_S = 86_400


def forged(given: list[bytes], at: int) -> list[bytes]:
    """The lines with record `at` changed, and all that follows chained anew by one who has no key."""
    out, prev = given[:at], ""
    for line in given[at:]:
        record = json.loads(line)["record"] | ({"prev": prev} if prev else {"account": "another"})
        text = json.dumps(record, separators=(",", ":")).encode()
        prev = hashlib.sha256(text).hexdigest()
        out.append(b'{"record":%b,"hash":"%b","signature":""}\n' % (text, prev.encode()))
    return out


def test_in_a_burst_one_signature_covers_many(tmp_path: Path) -> None:
    path = written(tmp_path, 150)
    signed = [n for n, line in enumerate(lines(path)) if b'"signature":""' not in line]
    assert signed == [0, 64, 128, 151]
    assert faults(path) == []
    given = lines(path)
    path.write_bytes(b"".join(forged(given, 70)))
    assert any("signature is missing" in f for f in faults(path))
    path.write_bytes(b"".join([*forged(given[:128], 70), *given[128:]]))
    assert any("does not follow" in f for f in faults(path))


class Clock:
    def __init__(self, later_s: float = 0.0) -> None:
        self.now = 10.0 * DAY_S + later_s

    def __call__(self) -> float:
        return self.now


def chain(home: Path, clock: Clock | None = None, boot: str = "a0", keep_days: int = 0, worker: int = 0) -> Chain:
    key = stored.signing_key(home / "keys" / "receipts.key")
    return Chain(
        home / "receipts", key, boot=boot, worker=worker, keep_days=keep_days, clock=clock or Clock()
    )  # fmt: skip


def written(home: Path, count: int = 3, **more: object) -> Path:
    """The only file of a chain that was closed."""
    c = chain(home)
    for n in range(count):
        c.add({"id": f"r{n}", "at": float(n), "model": 'm"{}', **more})
    c.close()
    (path,) = stored.files(home / "receipts")
    return path


def faults(path: Path, *, key: str | None = None) -> list[str]:
    (verdict,) = stored.verify([path], key)
    return verdict.faults


def test_a_chain_is_sound_and_says_who_signed_it(tmp_path: Path) -> None:
    path = written(tmp_path)
    mine = stored.public_hex(stored.signing_key(tmp_path / "keys" / "receipts.key"))
    assert stored.verify([path], mine) == [Verdict(path.name, 3, mine)]
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [stored.record_of(line)["id"] for line in stored.receipts(path)] == ["r0", "r1", "r2"]
    assert "another key" in faults(path, key="ab" * 32)[0]


def test_any_byte_that_is_changed_is_found(tmp_path: Path) -> None:
    chain(tmp_path).add({"id": "r0", "at": 0.0})
    (path,) = stored.files(tmp_path / "receipts")
    good = path.read_bytes()
    assert faults(path) == []
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 if at % 2 else 0x20)]) + good[at + 1 :])
        assert faults(path), f"byte {at}, {good[at - 9 : at + 9]!r}"


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


TAMPERED: list[tuple[str, Callable[[list[bytes]], list[bytes]], str]] = [
    ("one is missing", lambda x: [*x[:2], *x[3:]], "missing, doubled or out of order"),
    ("two change places", lambda x: [x[0], x[2], x[1], *x[3:]], "out of order"),
    ("one is doubled", lambda x: [*x[:2], x[1], *x[2:]], "doubled"),
    ("the beginning is gone", lambda x: x[1:], "beginning was cut off"),
    ("all is gone", lambda x: [], "nothing can be verified"),
    ("something follows the end", lambda x: [*x, x[1]], "after the end"),
    ("a line is cut in the middle", lambda x: [*x[:2], x[2][:40] + b"\n", *x[3:]], "damaged"),
]


@pytest.mark.parametrize(("name", "tamper", "say"), TAMPERED)
def test_lines_that_go_come_or_move_are_found(
    tmp_path: Path, name: str, tamper: Callable[[list[bytes]], list[bytes]], say: str
) -> None:
    path = written(tmp_path)
    path.write_bytes(b"".join(tamper(lines(path))))
    assert say in " ".join(faults(path))


def test_a_file_made_anew_by_who_lacks_the_key_is_found(tmp_path: Path) -> None:
    mine = stored.public_hex(stored.signing_key(tmp_path / "a" / "keys" / "receipts.key"))
    forged = written(tmp_path / "b")
    assert faults(forged) == []
    assert faults(forged, key=mine)
    true = written(tmp_path / "a")
    mixed = [*lines(true)[:2], *lines(forged)[2:]]
    chain(tmp_path / "a", Clock(1), boot="b0").add({"id": "r0", "at": 0.0})
    other = stored.files(tmp_path / "a" / "receipts")[-1]
    assert other != true
    moved = [lines(true)[0], lines(other)[1], *lines(true)[2:]]
    true.write_bytes(b"".join(mixed))
    assert any("not by this key" in f for f in faults(true))
    true.write_bytes(b"".join(moved))
    assert all("does not follow" in f for f in faults(true))
    assert len(faults(true)) == 2, "one that is signed by the same key, from another place"


def test_a_tail_that_is_cut_off_shows_once_the_worker_s_next_file_is_there(tmp_path: Path) -> None:
    clock = Clock()
    killed = chain(tmp_path, clock)
    for n in range(3):
        killed.add({"id": f"r{n}", "at": 0.0})
    (first,) = stored.files(tmp_path / "receipts")
    whole = first.read_bytes()
    first.write_bytes(b"".join(lines(first)[:-1]))
    (verdict,) = stored.verify([first])
    assert (verdict.faults, verdict.receipts) == ([], 2)
    assert "cut off" in verdict.notes[-1], "alone it cannot be told"
    first.write_bytes(whole + b'{"record":{"n":4,')
    clock.now += 1
    chain(tmp_path, clock, "b0").close()
    one, two = stored.verify(stored.files(tmp_path / "receipts"))
    assert (one.faults, two.faults) == ([], [])
    assert "half a line" in one.notes[0]
    assert "so none is missing" in one.notes[-1]
    first.write_bytes(b"".join(lines(first)[:-2]))
    found = {v.file: v.faults for v in stored.verify(stored.files(tmp_path / "receipts"))}
    assert "not here: cut off" in found[first.name][0]


def test_each_day_has_its_file_and_old_ones_go(tmp_path: Path) -> None:
    clock = Clock()
    c = chain(tmp_path, clock, keep_days=2)
    other = chain(tmp_path, clock, "b0", worker=1)
    for _ in range(4):
        c.add({"id": "x", "at": 0.0})
        clock.now += DAY_S
    clock.now -= 3 * DAY_S  # a clock that jumps back
    c.add({"id": "y", "at": 0.0})
    c.close()
    other.close()
    left = stored.files(tmp_path / "receipts")
    assert [p.name for p in left] == ["1970-01-12-a0-0.jsonl", "1970-01-13-a0-0.jsonl", "1970-01-14-a0-0.jsonl"]
    verdicts = stored.verify(left)
    assert [v.faults for v in verdicts] == [[], [], []]
    assert verdicts[-1].receipts == 2
    assert verdicts[0].notes == ["1970-01-11-a0-0.jsonl, the file before it, was not looked at"]


def test_a_disk_that_is_full_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    c = chain(tmp_path)
    c.add({"id": "r0", "at": 0.0})
    write = os.write
    with monkeypatch.context() as m:  # the system's own port
        m.setattr(os, "write", lambda fd, data: write(fd, data[:50]))
        with pytest.raises(Problem) as e:
            c.add({"id": "r1", "at": 0.0})
        assert e.value.status == 503
    c.add({"id": "r1", "at": 0.0})
    c.close()
    (path,) = stored.files(tmp_path / "receipts")
    assert faults(path) == []
    assert len(list(stored.receipts(path))) == 2


WRITER = """
import sys, time
from pathlib import Path
from lilliput.store import receipts
home = Path(sys.argv[1])
key = receipts.signing_key(home / "keys" / "receipts.key")
c = receipts.Chain(home / "receipts", key, boot="a0", worker=0, keep_days=0, clock=time.time)
n = 0
while True:
    c.add({"id": f"r{n}", "at": 0.0})
    n += 1
    print(n, flush=True)
"""


def test_what_was_added_outlives_a_kill(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, env=environment(tmp_path)
    )
    assert writer.stdout is not None
    told = 0
    while told < 200:
        told = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    told = int((writer.stdout.read().split() or [b"%d" % told])[-1])
    writer.wait()
    writer.stdout.close()
    (verdict,) = stored.verify(stored.files(tmp_path / "receipts"))
    assert verdict.faults == []
    assert told <= verdict.receipts <= told + 1


@pytest.mark.parametrize("seed", [b"", b"short", b"x" * 33])
def test_a_key_file_that_is_none_is_a_problem(tmp_path: Path, seed: bytes) -> None:
    path = tmp_path / "k"
    path.write_bytes(seed)
    path.chmod(0o600)
    with pytest.raises(Problem, match="no signing key"):
        stored.signing_key(path)
