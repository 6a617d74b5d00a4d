"""What replicas share over Redis or Valkey: the counts of rate limits. Needs the extra `redis`.

The rules of a bucket are those of `store.counters`; here one script keeps them, by the server's clock. Nothing here
is durable, nor needs to be: a server that lost all has full buckets, and what is in flight tells it so again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from lilliput.limits_config import Buckets, Costs, Counters, Taken
from lilliput.neutral import Problem

LEASE_S = 60.0
"""How long a replica that died keeps its place in flight."""
PAUSE_S = 1.0
"""After a failure the server is left alone for this long, and then asked again by one request."""
CONNECTIONS = 8
"""A burst shares them: to open one for each of its requests takes longer than an answer may."""
TIMEOUT_S = 0.25
"""For an answer, connecting included."""

_NOW = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local function int(n) return string.format('%.0f', n) end
local function read(key, limit, ticks, tick_ms)
  local row = redis.call('HMGET', key, 'level', 'at', 'poured', 'back', 'due', 'born')
  for i = 1, 6 do row[i] = tonumber(row[i]) end
  local now = math.floor(now_ms / tick_ms)
  local r = {level = row[1] or 0, at = row[2] or now, poured = row[3], back = row[4], due = row[5], born = row[6]}
  if r.at > now + ticks then  -- the clock was put back: go on from what it says now
    r.at = now
    redis.call('HSET', key, 'at', int(now))
  end
  if r.at < now then
    r.level, r.at = math.max(0, r.level - (now - r.at) * limit), now
    if r.level == 0 then r.born = nil end
  end
  if not r.born then r.poured, r.back, r.due, r.born = 0, 0, 0, time[1] * 1000000 + time[2] end
  return r
end
local function write(key, limit, ticks, tick_ms, r)
  redis.call('HSET', key, 'level', int(r.level), 'at', int(r.at), 'poured', int(r.poured), 'back', int(r.back),
    'due', int(r.due), 'born', int(r.born))
  redis.call('PEXPIRE', key, int((math.floor(r.level / math.max(1, limit)) + 1 + ticks) * tick_ms))
end
"""

# First the lease's id and length. For each bucket: its limit, ticks (0: in flight), tick_ms and cost.
_TAKE = (
    _NOW
    + """
local lease, lease_ms = ARGV[1], tonumber(ARGV[2])
local rows, passed, answer = {}, 1, {}
for i, key in ipairs(KEYS) do
  local a = 4 * i - 1
  local limit, ticks, tick_ms, cost = tonumber(ARGV[a]), tonumber(ARGV[a+1]), tonumber(ARGV[a+2]), tonumber(ARGV[a+3])
  local r = {level = 0, poured = 0, born = 0, due = 0}
  if ticks == 0 then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', int(now_ms))
    r.level = redis.call('ZCARD', key)
  else
    r = read(key, limit, ticks, tick_ms)
  end
  r.more = cost * math.max(1, ticks)
  if r.level + r.more > limit * math.max(1, ticks) then passed = 0 end
  rows[i] = r
end
answer[1] = int(passed)
for i, key in ipairs(KEYS) do
  local a, r = 4 * i - 1, rows[i]
  local due = r.due
  if passed == 1 then
    r.level, r.poured, r.due = r.level + r.more, r.poured + r.more, due + r.more
    if ARGV[a+1] ~= '0' then
      write(key, tonumber(ARGV[a]), tonumber(ARGV[a+1]), tonumber(ARGV[a+2]), r)
    elseif r.more > 0 then
      redis.call('ZADD', key, int(now_ms + lease_ms), lease)
      redis.call('PEXPIRE', key, int(lease_ms))
    end
  end
  answer[4*i-2], answer[4*i-1], answer[4*i], answer[4*i+1] = int(r.level), int(r.poured), int(r.born), int(due)
end
return answer
"""
)

# First the lease's id. For each bucket: its limit, ticks, tick_ms, what was taken, what it should have been, mark,
# birth and due.
_SETTLE = (
    _NOW
    + """
for i, key in ipairs(KEYS) do
  local a = 8 * i - 6
  local limit, ticks, tick_ms, was = tonumber(ARGV[a]), tonumber(ARGV[a+1]), tonumber(ARGV[a+2]), tonumber(ARGV[a+3])
  local more = (tonumber(ARGV[a+4]) - was) * ticks
  if ticks == 0 then
    if ARGV[a+4] == '0' then redis.call('ZREM', key, ARGV[1]) end
  else
    local r = read(key, limit, ticks, tick_ms)
    if int(r.born) == ARGV[a+6] then
      r.due = r.due - was * ticks
      if more < 0 then
        local rest = tonumber(ARGV[a+5]) - (r.poured - r.level - r.back) - math.min(r.back, tonumber(ARGV[a+7]))
        local back = math.max(0, math.min(-more, rest))
        r.level, r.back, r.due = r.level - back, r.back + back, r.due + back
      end
    end
    if more > 0 then r.level, r.poured = r.level + more, r.poured + more end
    write(key, limit, ticks, tick_ms, r)
  end
end
"""
)

_RENEW = (
    _NOW
    + """
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], int(now_ms + ARGV[1]), ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""
)

T = TypeVar("T")


class Shared:
    """One Redis or Valkey server. `url` is as redis-py takes it: redis://, rediss:// or unix://."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, clock: Callable[[], float] = time.monotonic) -> None:
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 1),
            )
            self.redis = Redis.from_pool(pool)
        except ValueError as e:
            raise Problem("client", f"the address of the Redis server cannot be read: {e}") from None
        self.failures = 0
        self._timeout_s, self._clock, self._closed_until = timeout_s, clock, 0.0

    async def ask(self, call: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
        """What `call` gives; Problem (503) when it fails, or while the server is left alone after a failure."""
        now = self._clock()
        if now < self._closed_until:
            raise _away("it did not answer a moment ago")
        if self._closed_until:
            self._closed_until = now + PAUSE_S  # this one tries, the others wait for what it finds
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await call(*args, **options)
        except (RedisError, OSError, TimeoutError) as e:
            self.failures += 1
            self._closed_until = self._clock() + PAUSE_S
            raise _away(type(e).__name__) from None
        self._closed_until = 0.0
        return answer

    async def close(self) -> None:
        await self.redis.aclose()


def _away(why: str) -> Problem:
    say = f"the Redis server is out of reach ({why}): start it, or check its address and the network"
    return Problem("server", say, code="shared_unreachable", retry_after_s=PAUSE_S)


class SharedCounters:
    """`Counters` over Redis. While it is out of reach the `local` counters limit this process alone; without them
    nothing passes. What is in flight is leased for `lease_s` and the lease renewed, so a dead replica's ends."""

    def __init__(
        self, shared: Shared, *, local: Counters | None = None, prefix: str = "lilliput", lease_s: float = LEASE_S
    ) -> None:
        self._shared, self._local, self._lease_s = shared, local, lease_s
        self._prefix = f"{{{prefix}:limits}}:"  # in braces: one slot of a cluster, so that one script reaches all
        self._scripts = {source: shared.redis.register_script(source) for source in (_TAKE, _SETTLE, _RENEW)}
        self._me = os.urandom(9).hex()
        self._count = 0
        self._leases: dict[str, set[int]] = defaultdict(set)
        self._renewing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, buckets: Buckets, costs: Costs) -> Taken:
        """See `Counters`."""
        self._count = lease = self._count + 1
        argv = [f"{self._me}:{lease}", int(self._lease_s * 1000)]
        for bucket, cost in zip(buckets, costs, strict=True):
            argv += [bucket.limit, bucket.ticks if bucket.tick_ms else 0, bucket.tick_ms, cost]
        keys = [self._prefix + bucket.name for bucket in buckets]
        try:
            answer = await self._shared.ask(self._scripts[_TAKE], keys, argv)
        except Problem:
            if self._local is None:
                raise
            return await self._local.take(buckets, costs)
        except asyncio.CancelledError:  # it may have been counted all the same
            marks = [lease] * len(keys)
            ended = tuple(cost if bucket.tick_ms else 0 for bucket, cost in zip(buckets, costs, strict=True))
            self.settle(Taken(True, buckets, costs, [], marks, marks, marks, self), ended)
            raise
        numbers = [int(n) for n in answer]
        passed = bool(numbers[0])
        marks = numbers[2::4]
        for i, bucket in enumerate(buckets):
            if not bucket.tick_ms:
                marks[i] = lease
                if passed and costs[i]:
                    self._leases[keys[i]].add(lease)
                    if self._renewing is None:
                        self._renewing = asyncio.create_task(self._renew())
        return Taken(passed, buckets, costs, numbers[1::4], marks, numbers[3::4], numbers[4::4], self)

    def settle(self, taken: Taken, costs: Costs) -> None:
        """See `Counters`; when the server cannot be told, leases end by themselves and tokens stay as they were."""
        if taken.by is not self:
            if taken.by is not None:
                taken.by.settle(taken, costs)
            return
        if not taken.passed:
            return
        keys: list[str] = []
        argv: list[str | int] = [""]
        shares = zip(taken.buckets, taken.costs, costs, taken.marks, taken.births, taken.dues, strict=True)
        for bucket, was, cost, mark, born, due in shares:
            key = self._prefix + bucket.name
            if not bucket.tick_ms and not cost:
                argv[0] = f"{self._me}:{mark}"
                self._leases[key].discard(mark)
            keys.append(key)
            argv += [bucket.limit, bucket.ticks if bucket.tick_ms else 0, bucket.tick_ms, was, cost, mark, born, due]
        self._later(self._tell(self._scripts[_SETTLE], keys, argv))

    async def close(self) -> None:
        """Tell the server what is still to be told, and stop renewing. The connection is its owner's to close."""
        if self._renewing is not None:
            self._renewing.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            for key, leases in list(self._leases.items()):
                if not leases:
                    del self._leases[key]
                    continue
                renewed = [f"{self._me}:{lease}" for lease in leases]
                await self._tell(self._scripts[_RENEW], [key], [int(self._lease_s * 1000), *renewed])
                ended = set(renewed).difference(f"{self._me}:{lease}" for lease in leases)
                if ended:
                    await self._tell(self._shared.redis.zrem, key, *ended)

    async def _tell(self, call: Callable[..., Awaitable[Any]], *args: Any) -> None:
        try:
            await self._shared.ask(call, *args)
        except Problem:
            pass

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
