"""What workers of one gateway tell each other for `/metrics`, as files in a folder of theirs, and what they use."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from msgspec import Struct

from lilliput.config import Config
from lilliput.gateway.metrics import Meter, decode
from lilliput.gateway.metrics_page import AGE_S, Page

PROC = Path("/proc/self")
_STARTED = time.time()


class Shelf(Struct, frozen=True):
    """`metrics_page.Shelf` of worker `number`: one file for each worker, which its successor goes on with, so that what
    was counted is not lost with a process. The folder is made anew at each start of the gateway."""

    folder: Path
    number: int

    def put(self, book: bytes) -> None:
        """The file changes whole, or not at all (a full disk)."""
        new = self.folder / f"{self.number}.new"
        with suppress(OSError):
            new.write_bytes(book)
            new.replace(self._file(self.number))

    def others(self) -> Iterator[bytes]:
        for path in sorted(self.folder.glob("*.book")):
            if path != self._file(self.number):
                yield path.read_bytes()

    def mine(self) -> bytes | None:
        """What the last worker of this number left."""
        file = self._file(self.number)
        return file.read_bytes() if file.exists() else None

    def _file(self, number: int) -> Path:
        return self.folder / f"{number}.book"


def meter(config: Config, shelf: Shelf | None) -> Meter:
    """The worker's meter, which goes on from where the last worker of its number stood."""
    made = Meter(config.metrics.models)
    left = shelf.mine() if shelf is not None else None
    if left is not None:
        made.go_on(decode(left))
    return made


@asynccontextmanager
async def published(page: Page, shelf: Shelf | None) -> AsyncIterator[None]:
    """Where there are several workers, the numbers of this one are left for the others each second."""
    if shelf is None:
        yield
        return

    async def publish() -> None:
        while True:
            page.publish()
            await asyncio.sleep(AGE_S)

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        task.cancel()
        page.publish()


def used() -> dict[str, float]:
    """The process's memory, file descriptors and start, as far as the system tells."""
    found = {"process_start_time_seconds": _STARTED}
    with suppress(OSError):  # there is no /proc but on Linux
        pages = int((PROC / "statm").read_text().split()[1])
        found["process_resident_memory_bytes"] = float(pages * os.sysconf("SC_PAGE_SIZE"))
        found["process_open_fds"] = float(len(os.listdir(PROC / "fd")))
    return found
