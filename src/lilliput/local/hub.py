"""Weights from a model hub over HTTPS: one file, resumable, hashed while it arrives.

Only the base it is given is asked; a redirect is followed to the base's own host or to a host of the hub's.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.parse import quote, urljoin, urlsplit

from lilliput.local import gguf
from lilliput.local.wheel import settle
from lilliput.neutral import Problem

BASE = "https://huggingface.co"
# Where the hub stores large files (checked 2026-11-22).
TRUSTED_SUFFIXES = (".huggingface.co", ".hf.co")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_BYTES = 256 << 30
MAX_HOPS = 4
TRIES = 4
CHUNK_BYTES = 1 << 20
TIMEOUT_S = 60.0


class _Stay(urllib.request.HTTPRedirectHandler):
    """Redirects come back as answers: where they lead is decided here."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def url(base: str, repo: str, file: str) -> str:
    return f"{base.rstrip('/')}/{quote(repo)}/resolve/main/{quote(file)}"


def fetch(address: str, path: Path, sha256: str | None, size_bytes: int, progress: Callable[[int, int], None]) -> str:
    """Bring the file at `address` to `path` and give its sha256; goes on from what an earlier try left.

    `sha256` None = not known yet, `size_bytes` 0 = not known. Raises Problem and OSError. After a lost connection the
    part stays for the next try; after a wrong hash or size nothing stays.
    """
    part, mark = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.etag")
    why = ""
    for _ in range(TRIES):
        try:
            _more(address, part, mark, size_bytes, progress)
            break
        except (http.client.HTTPException, TimeoutError, ConnectionError, urllib.error.URLError) as e:
            why = str(e)
        except (OSError, Problem):
            part.unlink(missing_ok=True)
            mark.unlink(missing_ok=True)
            raise
    else:
        raise Problem(
            "provider", f"{address} broke off {TRIES} times ({why}); pull again to go on from where it stopped"
        )
    try:
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        if sha256 is not None and digest != sha256:
            raise Problem(
                "provider", f"{address} has the sha256 {digest}, not the pinned {sha256}", code="hash_mismatch"
            )
        gguf.check(part)
        settle(part, path)
    finally:
        part.unlink(missing_ok=True)
        mark.unlink(missing_ok=True)
    return digest


def _more(address: str, part: Path, mark: Path, size_bytes: int, progress: Callable[[int, int], None]) -> None:
    """Append to `part` until it is whole. The ETag in `mark` says which version of the file the part is of."""
    etag = mark.read_text() if mark.is_file() else ""
    have = part.stat().st_size if etag and part.is_file() else 0
    if have and have == size_bytes:
        return
    headers = {"Range": f"bytes={have}-", "If-Range": etag} if have else {}
    with _open(address, headers) as answer:
        if answer.status != 206 or not (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            have = 0
        length = answer.headers.get("Content-Length") or ""
        total = have + int(length) if length.isdigit() else 0
        if not 0 < total <= MAX_BYTES or total != (size_bytes or total):
            raise Problem(
                "provider", f"{address} is {total} bytes, where {size_bytes or 'a length'} was due; check the name"
            )
        mark.write_text(answer.headers.get("ETag") or "")
        with part.open("ab" if have else "wb") as out:
            while have < total:
                chunk = answer.read(min(CHUNK_BYTES, total - have))
                if not chunk:
                    raise http.client.IncompleteRead(b"", total - have)
                out.write(chunk)
                have += len(chunk)
                progress(have, total)


def _open(address: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    """The final answer after at most `MAX_HOPS` redirects to hosts that may serve the hub's files."""
    home = urlsplit(address).hostname or ""
    # A proxy is for the world outside: what the system sets is used for it, never for loopback.
    proxies = urllib.request.ProxyHandler({} if home in LOOPBACK else None)
    opener = urllib.request.build_opener(_Stay, proxies)
    for _ in range(MAX_HOPS):
        _allowed(address, home)
        request = urllib.request.Request(address, headers={"User-Agent": "lilliput", **headers})  # noqa: S310 - _allowed
        try:
            answer: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT_S)
            return answer
        except urllib.error.HTTPError as e:
            with e:
                target = e.headers.get("Location")
            if e.code == 416 and headers:
                headers = {}
                continue
            if e.code not in (301, 302, 303, 307, 308) or not target:
                raise _refused(address, e.code) from None
            address = urljoin(address, target)
    raise Problem("provider", f"{address} redirects more than {MAX_HOPS} times")


def _allowed(address: str, home: str) -> None:
    parts = urlsplit(address)
    host = parts.hostname or ""
    trusted = host == home or (parts.scheme == "https" and host.endswith(TRUSTED_SUFFIXES))
    if not trusted or (parts.scheme != "https" and host not in LOOPBACK):
        raise Problem("provider", f"{home} sends on to {parts.scheme}://{host}, which is not followed")


def _refused(address: str, status: int) -> Problem:
    name = re.sub(r"\?.*", "", address)
    if status == 404:
        return Problem("missing", f"{name} does not exist; check owner, repository and file")
    if status in (401, 403):
        return Problem("permission", f"{name} may not be fetched without an account ({status}); take an open one")
    return Problem("provider", f"{name} answered {status}; try again later")
