"""Answers that may be given again, kept in Redis or Valkey for all replicas. Needs the extra `redis`.

The rules are those of `store.replays`. Nothing here is durable, nor needs to be: what is lost is asked for again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from lilliput.store.replays import SWEPT, Room
from lilliput.store.shared import Shared

# KEYS: when each entry was used last, and the entry.
_FIND = """
local found = redis.call('HMGET', KEYS[2], 'answer', 'ends')
if not found[1] or tonumber(found[2]) <= tonumber(ARGV[2]) then return false end
redis.call('ZADD', KEYS[1], 'XX', ARGV[2], ARGV[1])
return found[1]
"""

# KEYS: a group of digests. ARGV: what their entries' names begin with, and how many are wanted.
_NEAR = """
local rows = {}
for _, digest in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, ARGV[2] - 1)) do
  local hex = string.gsub(digest, '.', function(c) return string.format('%02x', string.byte(c)) end)
  local vector = redis.call('HGET', ARGV[1] .. hex, 'vector')
  if vector then
    rows[#rows + 1] = digest
    rows[#rows + 1] = vector
  end
end
return rows
"""

# KEYS of the other scripts begin with four about all entries: when each was used last, when it expires, its size, and
# the sum of sizes; entries are found under ARGV[1] and their name. Scripts, so that no two processes count one twice.
_REMOVE = """
local used, due, sizes, total = unpack(KEYS)
local function int(n) return string.format('%.0f', n) end
local function remove(name)
  local size = redis.call('HGET', sizes, name)
  redis.call('UNLINK', ARGV[1] .. name)
  redis.call('ZREM', used, name)
  redis.call('ZREM', due, name)
  redis.call('HDEL', sizes, name)
  if size then redis.call('DECRBY', total, size) end
  return size and 1 or 0
end
"""

# Then the keys of the entry, of the tenants' names, and of the entry's group if it has one.
_KEEP = (
    _REMOVE
    + """
local entry, tenants, group = KEYS[5], KEYS[6], KEYS[7]
local name, now, ttl, tenant, digest, answer, vector = unpack(ARGV, 2, 8)
local size, most_entries, most_bytes, swept = unpack(ARGV, 9, 12)
local ends = int(now + ttl)
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, swept)) do remove(gone) end
remove(name)
redis.call('HSET', entry, 'answer', answer, 'vector', vector, 'ends', ends)
redis.call('PEXPIRE', entry, ttl)
redis.call('ZADD', used, now, name)
redis.call('ZADD', due, ends, name)
redis.call('HSET', sizes, name, size)
redis.call('INCRBY', total, size)
redis.call('HSET', tenants, string.sub(name, 1, 64), tenant)
if group then
  redis.call('ZADD', group, now, digest)
  redis.call('ZREMRANGEBYRANK', group, 0, -1025)
  redis.call('PEXPIRE', group, ttl)
end
while redis.call('ZCARD', used) > tonumber(most_entries)
    or tonumber(redis.call('GET', total)) > tonumber(most_bytes) do
  local oldest = redis.call('ZRANGE', used, 0, 0)[1]
  if not oldest then break end
  remove(oldest)
end
"""
)

# ARGV[2]: what the names to be removed begin with.
_CLEAR = (
    _REMOVE
    + """
local count = 0
for _, name in ipairs(redis.call('ZRANGE', used, 0, -1)) do
  if string.sub(name, 1, #ARGV[2]) == ARGV[2] then count = count + remove(name) end
end
return count
"""
)


class SharedAnswers:
    """`gateway.cache.Answers` over Redis; Problem (503) while it is out of reach."""

    def __init__(
        self,
        shared: Shared,
        room: Room,
        *,
        prefix: str = "lilliput",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._shared, self._room, self._clock = shared, room, clock
        self._prefix = f"{{{prefix}:cache}}:"  # in braces: one slot of a cluster, so that one script reaches all
        self._about = [self._prefix + name for name in ("used", "due", "sizes", "total")]
        self._tenants = self._prefix + "tenants"
        scripts = (_FIND, _KEEP, _NEAR, _CLEAR)
        self._find, self._keep, self._near, self._clear = map(shared.redis.register_script, scripts)

    async def find(self, tenant: str, digest: bytes) -> bytes | None:
        name = _name(tenant, digest)
        answer: bytes | None = await self._ask(
            self._find, [self._about[0], self._prefix + name], [name, self._now_ms()]
        )
        return answer

    async def keep(
        self, tenant: str, digest: bytes, answer: bytes, ttl_s: float, group: bytes = b"", vector: bytes = b""
    ) -> None:
        name, size = _name(tenant, digest), len(answer) + len(vector)
        keys = [*self._about, self._prefix + name, self._tenants]
        if group:
            keys.append(self._group(tenant, group))
        ttl_ms = max(1, int(ttl_s * 1000))
        about = (self._prefix, name, self._now_ms(), ttl_ms, tenant, digest, answer, vector, size)
        await self._ask(self._keep, keys, [*about, self._room.entries, self._room.size_bytes, SWEPT])

    async def near(self, tenant: str, group: bytes, most: int) -> list[tuple[bytes, bytes]]:
        begins = f"{self._prefix}{_hex(tenant.encode())}:"
        rows: list[bytes] = await self._ask(self._near, [self._group(tenant, group)], [begins, most])
        return list(zip(rows[::2], rows[1::2], strict=True))

    async def shelves(self) -> list[tuple[str, int, int]]:
        """Each tenant with its entries and bytes, the largest first."""
        redis = self._shared.redis
        live: list[bytes] = await self._ask(redis.zrangebyscore, self._about[1], f"({self._now_ms()}", "+inf")
        sizes: dict[bytes, bytes] = await self._ask(redis.hgetall, self._about[2])
        names: dict[bytes, bytes] = await self._ask(redis.hgetall, self._tenants)
        shelves: dict[str, tuple[int, int]] = {}
        for name in live:
            tenant = names[name[:64]].decode()
            entries, size = shelves.get(tenant, (0, 0))
            shelves[tenant] = (entries + 1, size + int(sizes.get(name, 0)))
        rows = [(tenant, entries, size) for tenant, (entries, size) in shelves.items()]
        return sorted(rows, key=lambda row: (-row[2], row[0]))

    async def clear(self, tenant: str | None = None) -> int:
        """Remove all that a tenant keeps, or all tenants; how many there were."""
        begins = "" if tenant is None else _hex(tenant.encode())
        return int(await self._ask(self._clear, self._about, [self._prefix, begins]))

    async def _ask(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return await self._shared.ask(call, *args, **options)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _group(self, tenant: str, group: bytes) -> str:
        return f"{self._prefix}near:{_hex(tenant.encode())}:{_hex(group)}"


def _name(tenant: str, digest: bytes) -> str:
    """Two digests, the first of fixed length, so that no pair of tenant and digest reads as another."""
    return f"{_hex(tenant.encode())}:{digest.hex()}"


def _hex(data: bytes) -> str:
    return sha256(data).hexdigest()
