"""API keys: the token a client sends, what is stored of it, and the ring that answers "whose is this?".

A token is `lil_<id>_<secret>_<check>`: 8, 32 and 6 base62 characters. The check, CRC-32 of all before it, lets a typo
or a foreign key be refused without a look at the database, and lets scanners tell a leaked key from noise. Stored is
the HMAC-SHA256 of the whole token under a pepper that is kept outside the database; a slow hash would add nothing to
190 random bits. HTTP headers do not belong here: `find` takes the bare token.
"""

from __future__ import annotations

import hmac
import math
import secrets
import string
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from msgspec import Struct, structs

from lilliput.neutral import Key, Problem, Secret
from lilliput.store import secretfile
from lilliput.store.port import KeyRow, Store

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID, _SECRET, _CHECK = 8, 32, 6
_PREFIX = "lil_"
_ID_END = len(_PREFIX) + _ID
_SECRET_END = _ID_END + 1 + _SECRET
_LENGTH = _SECRET_END + 1 + _CHECK

PEPPER_BYTES = 32
_PEPPER_NOTE = "pepper"
_PEPPER_PROOF = b"which pepper: lilliput 1"  # no token starts like this, so it shares no digest with one

CACHED = 4096
"""Keys kept in memory by one ring; tokens that are no key of ours are never kept."""
TRUST_S = 1.0
"""How long a kept key is believed without a look at the store, should the epoch's signal be lost."""
_NAME_LENGTH = 64
_SUGGEST_FROM = 5000


def mint(pick: Callable[[str], str] = secrets.choice) -> tuple[Secret, str]:
    """A new token and its id; `pick` chooses one character, unpredictably."""
    key_id = "".join(pick(_BASE62) for _ in range(_ID))
    head = f"{_PREFIX}{key_id}_{''.join(pick(_BASE62) for _ in range(_SECRET))}"
    return Secret(f"{head}_{_check(head)}"), key_id


def parse(token: str) -> str | None:
    """The id in a well-formed token, None for any other text; never raises."""
    if len(token) != _LENGTH or not token.isascii() or not token.startswith(_PREFIX):
        return None
    key_id, secret, check = token[len(_PREFIX) : _ID_END], token[_ID_END + 1 : _SECRET_END], token[_SECRET_END + 1 :]
    if token[_ID_END] != "_" or token[_SECRET_END] != "_" or not (key_id + secret).isalnum():
        return None
    return key_id if check == _check(token[:_SECRET_END]) else None


def _check(head: str) -> str:
    rest, digits = zlib.crc32(head.encode()), ""
    for _ in range(_CHECK):
        rest, digit = divmod(rest, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits


def allows(key: Key, model_id: str) -> bool:
    """Whether `key` may call the model: it names none, names this one, or has a `provider/*` that covers it."""
    if not key.models or model_id in key.models:
        return True
    return any(m.endswith("/*") and model_id.startswith(m[:-1]) for m in key.models)


class KeyRing:
    """Whose token it is, by the keys in `store`; `clock` gives Unix seconds. Made by `open_ring`. One that
    `trusts_kept` goes by the keys in memory while the store cannot answer."""

    def __init__(
        self, store: Store, pepper: bytes, clock: Callable[[], float] = time.time, *, trusts_kept: bool = False
    ) -> None:
        self._store = store
        self._trusts_kept = trusts_kept
        self._pepper = pepper
        self._clock = clock
        self._kept: dict[str, tuple[int, float, Key]] = {}

    def find(self, token: str) -> Key | None:
        """The live key of this token; None when it is malformed, unknown, revoked or expired.

        A key revoked by any process is refused from the next call on. Raises Problem (server, 503) when the store
        cannot answer.
        """
        now = self._clock()
        kept = self._kept.get(token)
        if kept is not None and kept[0] == self._store.epoch() and 0 <= now - kept[1] < TRUST_S:
            key = kept[2]
        else:
            try:
                found = self._look(token, now)
            except Problem:
                if kept is None or not self._trusts_kept:
                    raise
                found = kept[2]
            if found is None:
                return None
            key = found
        if key.revoked_at is not None or (key.expires_at is not None and now >= key.expires_at):
            return None
        return key

    def _look(self, token: str, now: float) -> Key | None:
        """The key of this token by the store, revoked or expired ones too; kept for the next call."""
        if parse(token) is None:
            return None
        epoch = self._store.epoch()
        digest = self._digest(token)
        row = self._store.find_key(digest)
        self._kept.pop(token, None)
        if row is None or not hmac.compare_digest(row.digest, digest):
            return None
        if not epoch & 1:
            if len(self._kept) >= CACHED:
                del self._kept[next(iter(self._kept))]
            self._kept[token] = (epoch, now, row.key)
        return row.key

    def state(self, token: str) -> Key | None:
        """The key of this token whatever its state; None when it is malformed or unknown."""
        return self._look(token, self._clock())

    async def create(
        self,
        name: str = "",
        models: Sequence[str] = (),
        expires_at: float | None = None,
        *,
        team: str = "",
        local: bool = False,
    ) -> tuple[Key, Secret]:
        """A new key and its token, which cannot be had again; Problem (client, 400) for what no key may have."""
        now = self._clock()
        key = Key(
            id="",
            name=_name(name),
            team=_name(team),
            models=tuple(_model(m) for m in models),
            expires_at=_expiry(expires_at, now),
            created_at=now,
            local=local,
        )
        for _ in range(3):
            token, key_id = mint()
            key = structs.replace(key, id=key_id)
            if await self._store.add_key(KeyRow(key, self._digest(token.reveal()))):
                return key, token
        raise Problem("server", "three new key ids in a row were taken: the system's randomness is broken", 500)

    async def revoke(self, who: str) -> Key:
        """Revoke the key with this id, or this name where one live key has it, or this token; the key as it is now.

        Revoking a revoked key changes nothing. Raises Problem "missing" (404) with the nearest ids and names, and
        "client" (409) when several live keys share the name.
        """
        key = chosen(await self.listing(), who)
        if key.revoked_at is None:
            now = self._clock()
            if await self._store.revoke_key(key.id, now):
                key = structs.replace(key, revoked_at=now)
        return key

    async def listing(self) -> list[Key]:
        """Every key, oldest first, revoked and expired ones too."""
        return await self._store.keys()

    def _digest(self, token: str) -> bytes:
        return hmac.digest(self._pepper, token.encode(), "sha256")


async def open_ring(
    store: Store, pepper_file: Path, clock: Callable[[], float] = time.time, *, trusts_kept: bool = False
) -> KeyRing:
    """The ring over `store` with the pepper in `pepper_file`, which a new database gets on its first start.

    Raises Problem (server, 503) when the pepper is readable by others, has the wrong length, is missing though the
    database has keys made under it, or is another than theirs.
    """
    proof = await store.noted(_PEPPER_NOTE)
    pepper = secretfile.read(pepper_file)
    if pepper is None:
        if proof is not None:
            say = f"the pepper {pepper_file} is missing, and the database's keys were made under it: restore it from a "
            say += "backup, or move the database away and make new keys"
            raise Problem("server", say, code="pepper_missing")
        secretfile.publish(pepper_file, secrets.token_bytes(PEPPER_BYTES))
        pepper = secretfile.read(pepper_file)
    if pepper is None or len(pepper) != PEPPER_BYTES:
        say = f"the pepper {pepper_file} holds {len(pepper or b'')} bytes, not {PEPPER_BYTES}: restore it from a backup"
        raise Problem("server", say, code="pepper_invalid")
    mine = hmac.digest(pepper, _PEPPER_PROOF, "sha256")
    if not hmac.compare_digest(proof or await store.note(_PEPPER_NOTE, mine), mine):
        say = f"the database's keys were made under another pepper than {pepper_file} holds: restore the one that "
        say += "belongs to it, or move the database away and make new keys"
        raise Problem("server", say, code="pepper_other")
    return KeyRing(store, pepper, clock, trusts_kept=trusts_kept)


class LocalKey(Struct, frozen=True):
    """The key of whoever owns this machine's lilliput: `token` is None when the file's does not work, `say` why."""

    token: Secret | None
    made: bool = False
    say: str = ""


async def local_key(ring: KeyRing, path: Path) -> LocalKey:
    """The token in the file at `path`, made with its key when the file is missing.

    A file that is there is never written again: a key that somebody revoked does not come back by itself.
    Raises Problem (server, 503) when others may read the file.
    """
    made = False
    if (held := secretfile.read(path)) is None:
        key, token = await ring.create("local", local=True)
        made = secretfile.publish(path, f"{token.reveal()}\n".encode())
        if not made:  # another process was first
            await ring.revoke(key.id)
        held = secretfile.read(path) or b""
    text = held.decode("ascii", "replace").strip()
    if ring.find(text) is not None:
        return LocalKey(Secret(text), made)
    known = ring.state(text)
    if parse(text) is None:
        why = "does not hold a key"
    elif known is None:
        why = "holds a key that this database does not know"
    else:
        why = f"holds a key that was revoked or expired (id {known.id})"
    return LocalKey(None, say=f"{path} {why}: delete the file and start again for a new one")


def chosen(keys: list[Key], who: str) -> Key:
    wanted = parse(who) or who
    for key in keys:
        if key.id == wanted:
            return key
    named = [k for k in keys if k.name == who and who]
    live = [k for k in named if k.revoked_at is None]
    if len(live) > 1:
        ids = ", ".join(k.id for k in live[:5])
        raise Problem("client", f"{len(live)} keys are named {who!r}: revoke by id ({ids})", 409, code="key_ambiguous")
    if named:
        return (live or named)[-1]
    # What looks like a token is cut short: an error text is no place for a secret.
    shown = f"{who[:12]}..." if len(who) > _NAME_LENGTH or who.startswith(_PREFIX) else who
    near = get_close_matches(shown, list(_names(keys)), n=3)
    hint = f"nearest: {', '.join(near)}" if near else "list them with `lilliput key list`"
    raise Problem("missing", f"no key has the id or name {shown!r}; {hint}", code="key_not_found")


def _names(keys: Iterable[Key]) -> Iterable[str]:
    return islice((n for k in keys for n in (k.id, k.name) if n), _SUGGEST_FROM)


def _name(name: str) -> str:
    if len(name) > _NAME_LENGTH or not name.isprintable() or name.startswith(_PREFIX):
        say = f"a key's name is up to {_NAME_LENGTH} printable characters and does not start with {_PREFIX!r}"
        raise Problem("client", f"{say}: {name[:12]!r} is not that", code="key_name", param="name")
    return name


def _model(model: str) -> str:
    body = model.removesuffix("/*")
    if not body or not model.isprintable() or any(c in body for c in "* ") or len(model) > 256:
        say = f"{model[:80]!r} is not a model a key can be limited to: write `provider/model` or `provider/*`"
        raise Problem("client", say, code="key_models", param="models")
    return model


def _expiry(at: float | None, now: float) -> float | None:
    if at is not None and not (math.isfinite(at) and at > now):
        say = f"expires_at {at!r} is not a time to come (Unix seconds, now {now:.0f})"
        raise Problem("client", say, code="key_expiry", param="expires_at")
    return at
