"""`lilliput receipts`: the signed records of requests in this home: made, listed, shown and verified."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from msgspec import to_builtins

from lilliput import __version__
from lilliput import config as configuration
from lilliput.cli.output import one_line, show_json, show_table
from lilliput.config import Config, Home
from lilliput.gateway.receipts import Receipts
from lilliput.neutral import Problem
from lilliput.store import faults
from lilliput.store import receipts as stored
from lilliput.store.counters import LocalCounters
from lilliput.wire.sse import PING


@contextlib.contextmanager
def kept(place: Home, config: Config, counters: LocalCounters | None) -> Iterator[Receipts | None]:
    """The receipts of one worker, None where they are off; raises Problem when they cannot be kept."""
    if not config.receipts.on:
        yield None
        return
    key = stored.signing_key(place.receipts_key_file)
    try:
        book = stored.Chain(
            place.receipts,
            key,
            boot=os.urandom(6).hex(),
            worker=0 if counters is None else counters.worker,
            keep_days=config.receipts.keep_days,
            clock=time.time,
        )
    except OSError as e:
        raise faults.no_access(e, place.receipts) from None
    receipts = Receipts(book, f"lilliput {__version__}")
    try:
        yield receipts
    finally:
        receipts.close()


def listing(env: Mapping[str, str], most: int, as_json: bool) -> None:
    """Print the newest receipts, the last one last; nothing is verified."""
    folder = configuration.home(env).receipts
    newest: list[dict[str, object]] = []
    for path in reversed(stored.files(folder)):
        newest = [stored.record_of(line) for line in stored.receipts(path)] + newest
        if len(newest) >= most:
            break
    newest = sorted(newest, key=lambda r: float(str(r["at"])))[-most:]
    if as_json:
        show_json(newest, sys.stdout)
        return
    head = ["id", "at", "account", "model", "served", "tries", "status", "cost_nusd"]
    cells = [[_cell(name, record.get(name)) for name in head] for record in newest]
    show_table(head, cells, sys.stdout)


def show(env: Mapping[str, str], id: str, as_json: bool) -> None:
    """Print one receipt; as JSON with its hash and signature, as it stands in its file."""
    _, line = stored.find(_files(env, ()), id)
    if as_json:
        print(line.decode())
        return
    show_table(["field", "value"], [[k, one_line(str(v))] for k, v in stored.record_of(line).items()], sys.stdout)


def verify(
    env: Mapping[str, str],
    given: tuple[Path, ...],
    public_key: str | None,
    answer: tuple[Path, str] | None,
    as_json: bool,
) -> int:
    """Print what the files prove to be; 1 when anything in them was changed, or the answer is not the receipt's."""
    paths = _files(env, given)
    if answer is not None:
        found, line = stored.find(paths, answer[1])
        paths = [found]
    verdicts = stored.verify(paths, _public(env, public_key, given))
    said = None if answer is None else _compared(answer[0], line)
    if as_json:
        told = {"files": to_builtins(verdicts)} | ({} if said is None else {"answer": said})
        show_json(told, sys.stdout)
    else:
        for v in verdicts:
            state = "DAMAGED" if v.faults else "sound"
            print(f"{v.file}: {state}, {v.receipts} receipts, signed by {v.public_key or 'nobody known'}")
            for text in (*v.faults, *v.notes):
                print(f"  {one_line(text)}")
        if said is not None:
            print(said or "the answer is the one that was delivered")
    return 1 if said or any(v.faults for v in verdicts) else 0


def _compared(file: Path, line: bytes) -> str:
    """What is wrong with a delivered body that a client kept, by its receipt; empty when nothing is."""
    body = file.read_bytes()
    told = stored.record_of(line)["delivered"]
    for data in (body, body.replace(PING, b"")):
        if told == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}:
            return ""
    return f"{file} is not what was delivered: it has {len(body)} bytes, the receipt tells of {one_line(str(told))}"


def _files(env: Mapping[str, str], given: tuple[Path, ...]) -> list[Path]:
    """The files that are meant: those given, else this home's; Problem where there are none."""
    if given:
        return list(given)
    folder = configuration.home(env).receipts
    found = stored.files(folder)
    if not found:
        say = f"there are no receipts in {folder}: set `on = true` under [receipts] in the configuration, or name files"
        raise Problem("client", say)
    return found


def _public(env: Mapping[str, str], given: str | None, files: tuple[Path, ...]) -> str | None:
    """The key that all must be signed by: the one given, in hex or in a file, else this home's for its own files."""
    if given is None:
        key_file = configuration.home(env).receipts_key_file
        return stored.public_hex(stored.signing_key(key_file)) if not files and key_file.exists() else None
    text = given
    if len(given) != 64 and Path(given).is_file():
        text = Path(given).read_text(errors="replace").strip()
    try:
        if len(bytes.fromhex(text)) == 32:
            return text.lower()
    except ValueError:
        pass
    raise Problem("client", f"--public-key {given!r} is neither 64 hex digits nor a file with them", code="usage")


def _cell(name: str, value: object) -> str:
    if name == "at" and isinstance(value, float):
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S}"
    return "-" if value in (None, "") else str(value)
