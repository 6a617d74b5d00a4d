"""Receipts on disk: a line for each, chained by hash and signed, in a file for each worker and day.

A line is `{"record":{...},"hash":H,"signature":S}`: H the SHA-256 of the record's bytes as they stand, which hold the
number `n` of the record and the hash `prev` of the one before it; S the Ed25519 signature of H, and so of all before,
or empty: in a burst only one in `SIGN_EVERY` is signed, for that costs more than all else here. The first record of a
file is its `genesis`, with the public key and how far the same worker's file before it had come; the last one is its
`end`, unless the process was killed. What a receipt says is not decided here (see `gateway.receipts`).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, field

from lilliput.neutral import Problem
from lilliput.store import faults, secretfile

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

VERSION = 1
NOTHING = "0" * 64
"""`prev` of the first record of a file that comes after none."""
SIGN_EVERY, SIGN_S = 64, 1.0
"""Records, and seconds, that one signature covers at most; what comes after both is signed at once."""
MOST_LINE_BYTES = 64 * 1024
MOST_FAULTS = 20
"""Told of one file; one that is damaged throughout is told of no longer."""

_DOMAIN = b"lilliput receipt\n"
"""Before what is signed, so that no signature of ours can be taken for one of another kind."""
_LINE = re.compile(rb'\{"record":(\{.*\}),"hash":"([0-9a-f]{64})","signature":"([0-9a-f]{128}|)"\}')
_UNSIGNED = (b'"signature":""}', b'"signature":""}\n')
_NAME = re.compile(r"(\d{4}-\d\d-\d\d)-[0-9a-f]+-(\d+)\.jsonl")
_json = msgspec.json.Encoder().encode


class After(Struct, frozen=True):
    """How far a file had come: its last record's number and hash."""

    file: str
    n: int
    hash: str


class Link(Struct, frozen=True):
    """What chains a record, of whatever kind, to the others."""

    n: int
    prev: str
    kind: str
    id: str = ""
    at: float = 0.0
    public_key: str = ""
    after: After | None = None


class Verdict(Struct):
    """What a file proved to be: `faults` are damage or deceit, `notes` what cannot be known from it."""

    file: str
    receipts: int = 0
    public_key: str = ""
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def blame(self, fault: str) -> None:
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(fault)


_link = msgspec.json.Decoder(Link).decode


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The key in the file, made at its first use; raises Problem without the library, or for a file that is none."""
    ed25519 = _library()
    seed = secretfile.read(path)
    if seed is None:
        secretfile.publish(path, os.urandom(32))
        seed = secretfile.read(path)
    if seed is None or len(seed) != 32:
        say = f"{path} holds no signing key: restore it, or remove it so that a new one is made"
        raise Problem("server", say, code="secret_unusable")
    key: Ed25519PrivateKey = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    return key


def public_hex(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


class Chain:
    """The chain that one worker writes, into the file of the day; `clock` tells Unix seconds.

    `add` has the line in the system's hands when it returns: it outlives a killed process, not a power cut.
    """

    def __init__(
        self,
        folder: Path,
        key: Ed25519PrivateKey,
        *,
        boot: str,
        worker: int,
        keep_days: int,
        clock: Callable[[], float],
    ) -> None:
        self._folder, self._key = folder, key
        self._boot, self._worker, self._keep_days, self._clock = boot, worker, keep_days, clock
        self._fd: int | None = None
        self._day = ""
        self._size = self._n = self._unsigned = 0
        self._signed_at = 0.0
        self._prev = NOTHING
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._turn(_day(clock()))

    def add(self, fields: Mapping[str, object]) -> None:
        """Append a receipt; raises Problem (server, 503) when it cannot be written, and then nothing of it is there."""
        day = _day(self._clock())
        if day > self._day or self._fd is None:  # a clock that jumps back opens no file anew
            self._turn(max(day, self._day))
        self._append({"kind": "receipt", **fields})

    def close(self) -> None:
        """End the file; calling it again does nothing."""
        if self._fd is not None:
            self._append({"kind": "end", "at": self._clock()})
            os.close(self._fd)
            self._fd = None

    def _turn(self, day: str) -> None:
        """Ends the file in hand and begins that of `day`, which names the one before it; old ones go."""
        self.close()
        path = self._folder / f"{day}-{self._boot}-{self._worker}.jsonl"
        after = _latest(self._folder, self._worker)
        try:
            self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY, 0o600)
        except OSError as e:
            raise faults.no_access(e, path) from None
        self._day, self._size, self._n = day, 0, 0
        self._prev = NOTHING if after is None else after.hash
        try:
            self._append(
                {
                    "kind": "genesis",
                    "version": VERSION,
                    "at": self._clock(),
                    "worker": self._worker,
                    "public_key": public_hex(self._key),
                    "after": after,
                }
            )
        except Problem:
            os.close(self._fd)
            self._fd = None
            path.unlink()
            raise
        self._prune(day)

    def _append(self, fields: Mapping[str, object]) -> None:
        assert self._fd is not None
        record = _json({"n": self._n, "prev": self._prev, **fields})
        digest = hashlib.sha256(record)
        now, signature = self._clock(), b""
        late = self._unsigned + 1 >= SIGN_EVERY or not 0 <= now - self._signed_at < SIGN_S
        if late or fields["kind"] != "receipt":
            signature = self._key.sign(_DOMAIN + digest.digest()).hex().encode()
        line = b'{"record":%b,"hash":"%b","signature":"%b"}\n' % (record, digest.hexdigest().encode(), signature)
        try:
            if os.write(self._fd, line) != len(line):
                raise OSError(0, "the disk is full")
        except OSError as e:
            os.ftruncate(self._fd, self._size)
            raise faults.no_access(e, self._folder) from None
        self._size += len(line)
        self._n += 1
        self._unsigned = 0 if signature else self._unsigned + 1
        if signature:
            self._signed_at = now
        self._prev = digest.hexdigest()

    def _prune(self, day: str) -> None:
        if not self._keep_days:
            return
        oldest = (datetime.fromisoformat(day) - timedelta(days=self._keep_days)).date().isoformat()
        for path in self._folder.iterdir():
            name = _NAME.fullmatch(path.name)
            if name is not None and name[1] < oldest:
                path.unlink(missing_ok=True)


# -- reading


def files(folder: Path) -> list[Path]:
    """The files of receipts in the folder, the oldest first."""
    found = [p for p in folder.iterdir() if _NAME.fullmatch(p.name)] if folder.is_dir() else []
    return sorted(found, key=_begun)


def _begun(path: Path) -> tuple[str, float]:
    genesis = _first(path)
    return path.name[:10], 0.0 if genesis is None else genesis.at


def receipts(path: Path) -> Iterator[bytes]:
    """The lines of receipts in the file, unverified, without what is no whole line."""
    with path.open("rb") as f:
        for line in f:
            match = _LINE.fullmatch(line.rstrip(b"\n"))
            if match is not None and b'"kind":"receipt"' in match[1]:
                yield match[0]


def record_of(line: bytes) -> dict[str, object]:
    """What a line of a receipt says."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise Problem("client", "this is no line of a receipt")
    return msgspec.json.decode(match[1], type=dict[str, object])


def find(paths: Sequence[Path], id: str) -> tuple[Path, bytes]:
    """The file and the line of the receipt; raises Problem when none of the files has it."""
    needle = b'"id":%b,' % _json(id)
    for path in reversed(paths):
        for line in receipts(path):
            if needle in line and record_of(line)["id"] == id:
                return path, line
    raise Problem("missing", f"receipt {id!r} is in none of {len(paths)} files; `lilliput receipts list` lists them")


def verify(paths: Sequence[Path], public_key: str | None = None) -> list[Verdict]:
    """Every file, line by line: hashes, numbers, signatures, and what each file says of the one before it.

    With `public_key` all must be signed by it; else each by the key in its own genesis, which proves that nothing was
    changed by whoever lacks that key, and not whose it is.
    """
    wanted: dict[str, list[tuple[After, str]]] = {}
    for path in paths:
        genesis = _first(path)
        if genesis is not None and genesis.after is not None:
            wanted.setdefault(genesis.after.file, []).append((genesis.after, path.name))
    given = {p.name for p in paths}
    return [_verified(path, public_key, given, wanted.get(path.name, [])) for path in paths]


def _verified(path: Path, public_key: str | None, given: set[str], wanted: list[tuple[After, str]]) -> Verdict:
    verdict = Verdict(path.name)
    named = {(after.n, after.hash) for after, _ in wanted}
    n, prev, kind, key, unsigned = -1, "", "", None, 0
    with path.open("rb") as f:
        for number, line in enumerate(f, 1):
            where = f"line {number}"
            link, hash, fault = _read(line)
            if link is None:
                if fault:
                    verdict.blame(f"{where}: {fault}")
                    n, prev = n + 1, ""
                else:
                    verdict.notes.append(f"{where}: half a line, as a killed process leaves it: ignored")
                continue
            if number == 1:
                key = _opened(verdict, link, public_key, given)
            elif link.kind == "genesis":
                verdict.blame(f"{where}: a second genesis")
            elif kind == "end":
                verdict.blame(f"{where}: a record after the end")
            if link.n != n + 1:
                verdict.blame(f"{where}: record {link.n} where {n + 1} belongs: missing, doubled or out of order")
            elif number > 1 and prev and link.prev != prev:
                verdict.blame(f"{where}: it does not follow from the record before it")
            unsigned = unsigned + 1 if line.endswith(_UNSIGNED) else 0
            if unsigned >= SIGN_EVERY or (unsigned and link.kind != "receipt"):
                verdict.blame(f"{where}: its signature is missing")
            if key is not None and not unsigned and not _signed(key, line):
                verdict.blame(f"{where}: its signature is not by this key")
            n, prev, kind = link.n, hash, link.kind
            verdict.receipts += link.kind == "receipt"
            named.discard((n, hash))
    if not verdict.public_key:
        verdict.blame("no whole genesis is left: nothing can be verified")
    for after, by in wanted:
        if (after.n, after.hash) in named:
            verdict.blame(f"{by} was begun after its record {after.n}, which is not here: cut off, or another")
    if unsigned:
        verdict.notes.append(f"the last {unsigned} receipts are chained and not yet signed for")
    following = [by for after, by in wanted if (after.n, after.hash) == (n, prev)]
    if kind != "end" and following:
        verdict.notes.append(f"no end: its process was killed; {following[0]} follows, so none is missing")
    elif kind != "end":
        say = "no end: it is still written, its process was killed, or records were cut off after it"
        verdict.notes.append(f"{say}; none before record {n} is missing")
    return verdict


def _opened(verdict: Verdict, link: Link, public_key: str | None, given: set[str]) -> Ed25519PublicKey | None:
    """The key that a file is signed with, by its genesis."""
    if link.kind != "genesis":
        verdict.blame("line 1: no genesis: the beginning was cut off")
    if link.after is not None and link.after.file not in given:
        verdict.notes.append(f"{link.after.file}, the file before it, was not looked at")
    if link.prev != (NOTHING if link.after is None else link.after.hash):
        verdict.blame("line 1: it does not follow from the file that it names")
    verdict.public_key = link.public_key
    if public_key is not None and link.public_key != public_key:
        verdict.blame(f"line 1: signed with another key: {link.public_key}")
    try:
        key: Ed25519PublicKey = _library().Ed25519PublicKey.from_public_bytes(bytes.fromhex(link.public_key))
    except ValueError:
        verdict.blame("line 1: its public key is none")
        return None
    return key


def _read(line: bytes) -> tuple[Link | None, str, str]:
    """A line's link and hash, or what is wrong with it: nothing, where it merely breaks off."""
    is_whole = line.endswith(b"\n")
    text = line[:-1] if is_whole else line
    match = _LINE.fullmatch(text)
    if match is None:
        return None, "", "it is damaged" if is_whole or _LINE.match(text) else ""
    if hashlib.sha256(match[1]).hexdigest().encode() != match[2]:
        return None, "", "its hash is not that of its record: one of them was changed"
    try:
        return _link(match[1]), match[2].decode(), ""
    except msgspec.MsgspecError:
        return None, "", "its record is none of ours"


def _signed(key: Ed25519PublicKey, line: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  (optional)

    match = _LINE.match(line)
    assert match is not None
    try:
        key.verify(bytes.fromhex(match[3].decode()), _DOMAIN + bytes.fromhex(match[2].decode()))
    except InvalidSignature:
        return False
    return True


def _first(path: Path) -> Link | None:
    with path.open("rb") as f:
        return _read(f.readline())[0]


def _latest(folder: Path, worker: int) -> After | None:
    """How far the latest file of the worker's number came, as far as its lines are whole."""
    for path in reversed(files(folder)):
        name = _NAME.fullmatch(path.name)
        if name is None or int(name[2]) != worker:
            continue
        with path.open("rb") as f:
            f.seek(max(0, path.stat().st_size - 2 * MOST_LINE_BYTES))
            for line in reversed(f.read().splitlines(keepends=True)):
                link, hash, _ = _read(line)
                if link is not None:
                    return After(path.name, link.n, hash)
    return None


def _day(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).date().isoformat()


def _library() -> ModuleType:
    """cryptography's Ed25519; raises Problem where it is not installed."""
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415  (optional)
    except ImportError:
        raise Problem("client", "receipts need cryptography: pip install 'lilliput[receipts]'") from None
    return ed25519
