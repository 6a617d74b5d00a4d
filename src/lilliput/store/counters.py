"""Rate limits counted in memory, by one process or by workers that were forked from one.

The counts lie in one anonymous mapping that the workers inherit: no file remains and nothing is stale at the next
start. A file lock keeps a take whole; the system frees it when its holder dies, and what a dead worker had in flight
is forgotten when its successor attaches. The clock is the system's monotonic one, which its processes share.
"""

from __future__ import annotations

import fcntl
import mmap
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from lilliput.limits_config import Bucket, Buckets, Costs, Taken
from lilliput.neutral import Problem

ROWS = 1 << 16
"""Buckets that are not full at the same time; memory is touched only as they are used."""
REACH = 64
"""Rows after its own place among which a bucket is looked for."""

# A row: whose it is; since when it was never empty; when it last drained; what is in it; what was poured in since it
# was empty, what of that was given back, and what besides may still be; when it may go to another; then for each worker
# what it has in flight.
TAG, BORN, AT, LEVEL, POURED, BACK, DUE, FREE_AT, COUNTS = range(9)


class LocalCounters:
    """`Counters` of this machine. Made before the fork; each worker then calls `attach`. `clock` gives seconds."""

    def __init__(
        self, workers: int = 1, *, rows: int = ROWS, clock: Callable[[], float] = time.monotonic, wait_s: float = 1.0
    ) -> None:
        self._stride = COUNTS + workers
        self._view = memoryview(mmap.mmap(-1, (rows + REACH) * self._stride * 8)).cast("q")
        self._rows = rows
        self._known: dict[int, int] = {}
        self._clock = clock
        self._lock: AbstractContextManager[None] = nullcontext() if workers == 1 else _FileLock(wait_s)
        self._mine, self._workers = COUNTS, workers

    @property
    def worker(self) -> int:
        """This process's number."""
        return self._mine - COUNTS

    def attach(self, worker: int) -> None:
        """This process is worker number `worker` (from 0); what the last one of that number had in flight is freed."""
        if not 0 <= worker < self._workers:
            raise ValueError(f"worker {worker} of {self._workers}")
        self._mine = COUNTS + worker
        with self._lock:
            for row in range(0, len(self._view), self._stride):
                if self._view[row]:
                    self._view[row + self._mine] = 0

    async def take(self, buckets: Buckets, costs: Costs) -> Taken:
        """See `Counters`; the whole of it happens at once."""
        now_ms = int(self._clock() * 1000)
        view, known, passed, i = self._view, self._known, True, 0
        rows: list[int] = []
        levels: list[int] = []
        marks: list[int] = []
        births: list[int] = []
        dues: list[int] = []
        with self._lock:
            for bucket in buckets:
                row = known.get(bucket.tag, 0)
                if view[row] != bucket.tag:
                    row = self._find(bucket, now_ms, rows)
                level = self._level(row, bucket, now_ms)
                rows.append(row)
                levels.append(level)
                if level + costs[i] * bucket.ticks > bucket.capacity:
                    passed = False
                i += 1
            if passed:
                for i, row in enumerate(rows):
                    bucket, cost = buckets[i], costs[i]
                    if bucket.tick_ms:
                        levels[i] = self._pour(row, bucket, now_ms, levels[i], cost * bucket.ticks)
                    else:
                        view[row + self._mine] += cost
                        levels[i] += cost
                    marks.append(view[row + POURED])
                    births.append(view[row + BORN])
                    dues.append(view[row + DUE])
                    view[row + DUE] += cost * bucket.ticks
        return Taken(passed, buckets, costs, levels, marks, births, dues, self)

    def settle(self, taken: Taken, costs: Costs) -> None:
        """See `Counters`; tokens that cannot be put right because the lock is held for too long stay as taken."""
        if not taken.passed:
            return
        for bucket, was, cost in zip(taken.buckets, taken.costs, costs, strict=True):
            if not bucket.tick_ms and was:  # this worker's own number, in a row that stays while it is not 0: no lock
                self._view[self._find(bucket, 0, ()) + self._mine] += cost - was
        try:
            with self._lock:
                self._settle(taken, costs)
        except Problem:
            pass

    async def close(self) -> None:
        """Let go of the lock; the memory goes with the process."""
        if isinstance(self._lock, _FileLock):
            self._lock.close()

    def _settle(self, taken: Taken, costs: Costs) -> None:
        now_ms = int(self._clock() * 1000)
        view = self._view
        shares = zip(taken.buckets, taken.costs, costs, taken.marks, taken.births, taken.dues, strict=True)
        for bucket, was, cost, mark, born, due in shares:
            if not bucket.tick_ms:
                continue
            row = self._find(bucket, now_ms, ())
            level, more = self._level(row, bucket, now_ms), (cost - was) * bucket.ticks
            if more > 0:
                self._pour(row, bucket, now_ms, level, more)
            if born != view[row + BORN]:
                continue
            if more < 0:
                drained = view[row + POURED] - level - view[row + BACK]
                back = max(0, min(-more, mark - drained - min(view[row + BACK], due)))
                self._pour(row, bucket, now_ms, level - back, 0)
                view[row + BACK] += back
                view[row + DUE] += back
            view[row + DUE] -= was * bucket.ticks

    def _level(self, row: int, bucket: Bucket, now_ms: int) -> int:
        view = self._view
        if not bucket.tick_ms:
            return sum(view[row + COUNTS : row + self._stride])
        level, since = view[row + LEVEL], now_ms // bucket.tick_ms - view[row + AT]
        if since > 0 and level > 0:
            level -= since * bucket.limit
            if level <= 0:
                view[row + LEVEL] = level = 0
                view[row + BORN] = view[row + AT] = now_ms // bucket.tick_ms
                view[row + POURED] = view[row + BACK] = view[row + DUE] = 0
        return level

    def _pour(self, row: int, bucket: Bucket, now_ms: int, level: int, more: int) -> int:
        """Write a level of now and pour on it; in an order in which a death in between loses none of what is in it."""
        view, now = self._view, now_ms // bucket.tick_ms
        if now > view[row + AT]:
            view[row + AT] = now
        view[row + POURED] += more
        view[row + LEVEL] = level = level + more
        view[row + FREE_AT] = now_ms + (level // (bucket.limit or 1) + 2) * bucket.tick_ms
        return level

    def _find(self, bucket: Bucket, now_ms: int, taken: Iterable[int]) -> int:
        """The bucket's row, made where it has none; the rows `taken` stay whose they are."""
        view, stride, free = self._view, self._stride, -1
        first = bucket.tag % self._rows
        for row in range(first * stride, (first + REACH) * stride, stride):
            if view[row] == bucket.tag:
                break
            if free < 0 and row not in taken and self._is_free(row, now_ms):
                free = row
        else:
            if free < 0:
                say = f"more than {self._rows} limits are in use at once; share the counts over Redis, or set fewer"
                raise Problem("server", say, code="limits_full", retry_after_s=1.0)
            row = free
            view[row + TAG] = bucket.tag
            view[row + LEVEL] = view[row + POURED] = view[row + BACK] = view[row + DUE] = 0
            view[row + AT] = view[row + BORN] = now_ms // (bucket.tick_ms or 1)
            view[row + FREE_AT] = now_ms
        if len(self._known) > self._rows:
            self._known.clear()
        self._known[bucket.tag] = row
        return row

    def _is_free(self, row: int, now_ms: int) -> bool:
        view = self._view
        return not view[row] or (view[row + FREE_AT] < now_ms and not any(view[row + COUNTS : row + self._stride]))


class _FileLock:
    """A lock between processes that share the file by fork; Problem when it is not to be had in `wait_s`."""

    def __init__(self, wait_s: float) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the lock
        self._wait_s = wait_s

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> None:
        until = 0.0
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except (BlockingIOError, PermissionError):
                now = time.monotonic()
                until = until or now + self._wait_s
                if now > until:
                    say = f"another worker has held the rate limits for {self._wait_s:g} s: is it stopped? End it"
                    raise Problem("server", say, code="limits_locked", retry_after_s=1.0) from None
                time.sleep(0.00002)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)
