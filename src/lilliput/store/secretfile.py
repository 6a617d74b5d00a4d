"""Small secret files: made whole and readable by their owner alone, refused when others can read them."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from lilliput.neutral import Problem
from lilliput.store import faults

_MOST_BYTES = 4096


def publish(path: Path, value: bytes) -> bool:
    """Put `value` at `path` with mode 0600, whole or not at all; False when something is there, which stays.

    Of several processes that try at once, one gets True and the others find its file complete.
    """
    temp = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with open(os.open(temp, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as f:
                f.write(value)
                f.flush()
                os.fsync(f.fileno())
            os.link(temp, path)
        finally:
            temp.unlink(missing_ok=True)
    except FileExistsError:
        return False
    except OSError as e:
        raise faults.no_access(e, path) from None
    return True


def read(path: Path) -> bytes | None:
    """What the file holds, None where there is none; Problem when others than its owner may read or write it."""
    try:
        # Not blocking: opening a pipe that somebody put there would wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                raise Problem("server", f"{path} is not a regular file: remove it", code="secret_unusable")
            if mode & 0o077:
                say = f"{path} holds a secret that others may use (mode {mode & 0o777:04o}): chmod 600 {path}"
                raise Problem("server", say, code="secret_exposed")
            return os.read(fd, _MOST_BYTES)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise faults.no_access(e, path) from None
