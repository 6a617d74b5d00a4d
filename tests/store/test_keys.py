from __future__ import annotations

import asyncio
import random
import string
import zlib
from collections.abc import Callable

import pytest
from tests.store.fake import FakeStore

from lilliput.neutral import Key, Problem
from lilliput.store.keys import CACHED, TRUST_S, KeyRing, allows, mint, parse
from lilliput.store.port import KeyRow

PEPPER = bytes(range(32))
NOW = 1_800_000_000.0
GOOD = mint(random.Random(1).choice)[0].reveal()


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def a_ring() -> tuple[KeyRing, FakeStore, Clock]:
    store, clock = FakeStore(), Clock()
    return KeyRing(store, PEPPER, clock), store, clock


def checked(head: str) -> str:
    """`head` with the check it should have, computed here another way."""
    rest = zlib.crc32(head.encode("utf-8", "replace"))
    digits: list[str] = []
    while len(digits) < 6:
        digits.append((string.digits + string.ascii_uppercase + string.ascii_lowercase)[rest % 62])
        rest //= 62
    return f"{head}_{''.join(reversed(digits))}"


def test_a_minted_token_has_its_shape_and_its_check() -> None:
    for seed in range(300):
        token, key_id = mint(random.Random(seed).choice)
        text = token.reveal()
        assert parse(text) == key_id
        assert (len(text), text[:4], text[12], text[45]) == (52, "lil_", "_", "_")
        assert text == checked(text[:45])
    assert mint()[0] != mint()[0]
    assert "lil_" not in repr(mint()[0])


BAD_TOKENS = [
    ("empty", ""),
    ("the prefix alone", "lil_"),
    ("a character short", GOOD[:-1]),
    ("a character long", GOOD + "0"),
    ("another prefix", "sk-_" + GOOD[4:]),
    ("upper prefix", "LIL_" + GOOD[4:]),
    ("another check", GOOD[:-1] + ("0" if GOOD[-1] != "0" else "1")),
    ("an id changed", GOOD[:5] + ("0" if GOOD[5] != "0" else "1") + GOOD[6:]),
    ("a secret changed", GOOD[:20] + ("0" if GOOD[20] != "0" else "1") + GOOD[21:]),
    ("cases swapped", GOOD.swapcase()),
    ("a scheme before", "Bearer " + GOOD),
    ("space around", f" {GOOD} "),
    ("a line after", GOOD + "\n"),
    ("right check, a quote in the id", checked("lil_aaaa'aaa_" + "a" * 32)),
    ("right check, a dash for the line", checked("lil_" + "a" * 8 + "-" + "a" * 32)),
    ("right check, not ASCII", checked("lil_aaaaaaa\u00e9_" + "a" * 32)),
    ("right check, other digits", checked("lil_aaaaaaa\u0663_" + "a" * 32)),
    ("right check, a zero byte", checked("lil_aaaa\0aaa_" + "a" * 32)),
    ("a lone surrogate", GOOD[:20] + "\ud800" + GOOD[21:]),
    ("check with a minus", GOOD[:46] + "-00001"),
]


@pytest.mark.parametrize(("name", "text"), BAD_TOKENS, ids=[n for n, _ in BAD_TOKENS])
def test_a_malformed_token_is_refused_without_the_store(name: str, text: str) -> None:
    ring, store, _ = a_ring()
    assert parse(text) is None
    assert ring.find(text) is None
    assert store.lookups == 0


def hostile(dice: random.Random) -> str:
    """One thing that somebody may send as a token."""
    injections = ["' OR 1=1 --", "'; DROP TABLE api_key; --", "\0", "%s%n", "{{7*7}}", "../../etc/passwd", "\r\nX: y"]
    kinds: list[Callable[[], str]] = [
        lambda: "".join(chr(dice.randrange(0x110000)) for _ in range(dice.randrange(80))),
        lambda: "".join(chr(dice.randrange(1, 128)) for _ in range(52)),
        lambda: dice.choice(injections) * dice.randrange(1, 9),
        lambda: "Bearer " + GOOD,
        lambda: GOOD[: dice.randrange(52)],
        lambda: GOOD + "".join(dice.choices(string.printable, k=dice.randrange(1, 20))),
        lambda: GOOD.replace(GOOD[dice.randrange(52)], dice.choice(["", "\u0660", "-", "'", "\ud800"])),
        lambda: "lil_" + "".join(dice.choices(string.ascii_letters + "_", k=48)),
        lambda: "lil_" * dice.randrange(2, 14),
        lambda: checked("lil_" + "".join(dice.choices(string.punctuation, k=8)) + "_" + "a" * 32),
        lambda: "A" * dice.randrange(1, 32768) if dice.random() < 0.05 else "Basic bGlsOmxpbA==",
    ]
    return dice.choice(kinds)()


def test_ten_thousand_hostile_tokens_are_none_and_reach_no_store() -> None:
    ring, store, _ = a_ring()
    dice = random.Random(1726)
    for _ in range(10_000):
        text = hostile(dice)
        assert ring.find(text) is None, text
    assert store.lookups == 0


LIVES = [
    ("never ends", None, None, NOW, True),
    ("a second to go", NOW + 1, None, NOW, True),
    ("ends now", NOW, None, NOW, False),
    ("ended", NOW - 1, None, NOW, False),
    ("revoked", None, NOW - 5, NOW, False),
    ("revoked by a clock ahead of ours", None, NOW + 5, NOW, False),
]


@pytest.mark.parametrize(("name", "expires_at", "revoked_at", "now", "live"), LIVES, ids=[r[0] for r in LIVES])
def test_a_key_is_found_while_it_lives(
    name: str, expires_at: float | None, revoked_at: float | None, now: float, live: bool
) -> None:
    ring, store, clock = a_ring()
    clock.now = NOW - 100
    key, token = asyncio.run(ring.create("k"))
    (digest,) = store.rows
    store.rows[digest] = KeyRow(Key(id=key.id, expires_at=expires_at, revoked_at=revoked_at), digest)
    clock.now = now
    for _ in range(2):  # from the store, then from memory
        found = ring.find(token.reveal())
        assert (found is not None) is live
    assert store.lookups == 1


def test_a_kept_key_expires_on_time() -> None:
    ring, _, clock = a_ring()
    _, token = asyncio.run(ring.create("k", expires_at=NOW + 0.5))
    assert ring.find(token.reveal())
    clock.now += 0.5
    assert ring.find(token.reveal()) is None


def test_a_key_is_kept_until_the_epoch_moves_or_a_second_passes() -> None:
    ring, store, clock = a_ring()
    _, token = asyncio.run(ring.create("k"))
    text, steps = token.reveal(), []

    def look(what: str) -> None:
        before = store.lookups
        assert ring.find(text) is not None
        steps.append((what, store.lookups - before))

    look("first")
    look("again")
    store.number += 2
    look("keys changed")
    look("again")
    clock.now += TRUST_S * 0.9
    look("soon after")
    clock.now += TRUST_S * 0.2
    look("a second later")
    clock.now -= 3600
    look("clock set back")
    store.number += 1
    look("while keys change")
    look("while keys change still")
    store.number += 1
    look("changed")
    look("again")
    assert steps == [
        ("first", 1),
        ("again", 0),
        ("keys changed", 1),
        ("again", 0),
        ("soon after", 0),
        ("a second later", 1),
        ("clock set back", 1),
        ("while keys change", 1),
        ("while keys change still", 1),
        ("changed", 1),
        ("again", 0),
    ]


class Away(FakeStore):
    """A store that can go away."""

    is_away = False

    def find_key(self, digest: bytes) -> KeyRow | None:
        if self.is_away:
            raise Problem("server", "the database cannot be reached", code="store_unreachable")
        return super().find_key(digest)


@pytest.mark.parametrize("trusts_kept", [True, False])
def test_a_key_in_memory_is_believed_while_the_store_is_away_where_that_is_asked_for(trusts_kept: bool) -> None:
    store, clock = Away(), Clock()
    ring = KeyRing(store, PEPPER, clock, trusts_kept=trusts_kept)
    key, token = asyncio.run(ring.create("a", expires_at=NOW + 3600))
    _, unseen = asyncio.run(ring.create("b"))
    assert ring.find(token.reveal()) == key
    store.is_away = True
    clock.now += 60 * TRUST_S
    if trusts_kept:
        assert ring.find(token.reveal()) == key
        clock.now += 3600
        assert ring.find(token.reveal()) is None
    for unknown in (unseen,) if trusts_kept else (unseen, token):
        with pytest.raises(Problem, match="reached"):
            ring.find(unknown.reveal())
    store.is_away = False
    asyncio.run(ring.revoke("b"))
    assert ring.find(unseen.reveal()) is None


def test_a_revoked_key_is_refused_at_the_next_call() -> None:
    ring, _, _ = a_ring()
    key, token = asyncio.run(ring.create("k"))
    assert ring.find(token.reveal()) == key
    gone = asyncio.run(ring.revoke(key.id))
    assert gone.revoked_at == NOW
    assert ring.find(token.reveal()) is None
    assert ring.state(token.reveal()) == gone


def test_memory_is_bounded_and_unknown_tokens_take_none() -> None:
    ring, store, _ = a_ring()
    dice = random.Random(2)
    tokens = [asyncio.run(_create(ring, dice)) for _ in range(3)]
    for text in tokens * 2:
        assert ring.find(text) is not None
    assert store.lookups == 3
    unknown = [mint(dice.choice)[0].reveal() for _ in range(CACHED)]
    for text in unknown * 2:
        assert ring.find(text) is None
    assert store.lookups == 3 + 2 * CACHED, "an unknown token is asked for each time: nothing is kept of it"
    for text in tokens:
        assert ring.find(text) is not None
    assert store.lookups == 3 + 2 * CACHED, "and it pushes no known key out"


async def _create(ring: KeyRing, dice: random.Random) -> str:
    return (await ring.create(f"k{dice.random()}"))[1].reveal()


def test_the_oldest_of_too_many_keys_is_let_go() -> None:
    ring, store, _ = a_ring()

    async def many() -> list[str]:
        return [(await ring.create())[1].reveal() for _ in range(CACHED + 10)]

    tokens = asyncio.run(many())
    for text in tokens:
        ring.find(text)
    before = store.lookups
    for text in tokens[10:]:
        ring.find(text)
    assert store.lookups == before
    ring.find(tokens[0])
    assert store.lookups == before + 1


def test_a_row_with_another_digest_opens_nothing() -> None:
    ring, store, _ = a_ring()
    key, _ = asyncio.run(ring.create("k"))
    store.impostor = KeyRow(key, bytes(32))
    assert ring.find(GOOD) is None


def test_a_store_that_is_down_says_so() -> None:
    ring, store, _ = a_ring()
    store.down = True
    with pytest.raises(Problem) as e:
        ring.find(GOOD)
    assert e.value.status == 503
    assert ring.find("lil_nonsense") is None


ALLOWED = [
    ((), "openai/gpt", True),
    (("openai/gpt",), "openai/gpt", True),
    (("openai/gpt",), "openai/gpt-2", False),
    (("openai/*",), "openai/gpt-2", True),
    (("openai/*",), "openaix/gpt", False),
    (("openai/*",), "openai", False),
    (("hub/meta/*",), "hub/meta/llama", True),
    (("hub/meta/*",), "hub/other", False),
    (("a/b", "lilliput/*"), "lilliput/smollm2-135m", True),
    (("fast",), "fast", True),
    (("fast",), "faster", False),
]


@pytest.mark.parametrize(("models", "model", "allowed"), ALLOWED)
def test_allows(models: tuple[str, ...], model: str, allowed: bool) -> None:
    assert allows(Key(id="x", models=models), model) is allowed


REFUSED: list[tuple[str, str, list[str], float | None, str]] = [
    ("a long name", "n" * 65, [], None, "name"),
    ("a line in the name", "a\nb", [], None, "name"),
    ("an escape in the name", "a\x1b[2J", [], None, "name"),
    ("a surrogate in the name", "\ud800", [], None, "name"),
    ("a token as the name", GOOD[:40], [], None, "name"),
    ("an empty model", "n", [""], None, "models"),
    ("a star alone", "n", ["*"], None, "models"),
    ("a star inside", "n", ["a/*/b"], None, "models"),
    ("a star after letters", "n", ["a/b*"], None, "models"),
    ("no provider", "n", ["/*"], None, "models"),
    ("a space", "n", ["a b"], None, "models"),
    ("in the past", "n", [], NOW - 1, "expires_at"),
    ("now", "n", [], NOW, "expires_at"),
    ("never by infinity", "n", [], float("inf"), "expires_at"),
    ("not a number", "n", [], float("nan"), "expires_at"),
]


@pytest.mark.parametrize(("why", "name", "models", "expires_at", "param"), REFUSED, ids=[r[0] for r in REFUSED])
def test_create_refuses(why: str, name: str, models: list[str], expires_at: float | None, param: str) -> None:
    ring, store, _ = a_ring()
    with pytest.raises(Problem) as e:
        asyncio.run(ring.create(name, models, expires_at))
    assert (e.value.fault, e.value.status, e.value.param) == ("client", 400, param)
    assert not store.rows


def test_create_stores_a_digest_and_what_was_asked() -> None:
    ring, store, _ = a_ring()
    key, token = asyncio.run(ring.create("büro", ["openai/*", "a/b"], NOW + 9))
    assert key == Key(
        id=parse(token.reveal()) or "", name="büro", models=("openai/*", "a/b"), created_at=NOW, expires_at=NOW + 9
    )
    (row,) = store.rows.values()
    assert row.key == key
    assert len(row.digest) == 32
    assert ring.find(token.reveal()) == key
    other = KeyRing(store, bytes(32), lambda: NOW)
    assert other.find(token.reveal()) is None, "another pepper gives another digest"


def test_create_gives_up_when_every_id_is_taken() -> None:
    ring, store, _ = a_ring()
    store.full = True
    with pytest.raises(Problem, match="randomness"):
        asyncio.run(ring.create("k"))


def test_revoke_by_id_name_or_token() -> None:
    ring, _, clock = a_ring()

    async def story() -> None:
        first, _ = await ring.create("ci")
        assert (await ring.revoke("ci")).id == first.id
        second, token = await ring.create("ci")
        assert (await ring.revoke("ci")).id == second.id, "the live one of the name"
        clock.now += 5
        assert (await ring.revoke("ci")).revoked_at == NOW, "revoking again changes nothing"
        third, token = await ring.create("leaked")
        assert (await ring.revoke(token.reveal())).id == third.id
        await ring.create("twin")
        await ring.create("twin")
        with pytest.raises(Problem) as e:
            await ring.revoke("twin")
        assert (e.value.status, e.value.code) == (409, "key_ambiguous")
        assert [k.name for k in await ring.listing() if k.revoked_at is None] == ["twin", "twin"]

    asyncio.run(story())


@pytest.mark.parametrize("who", ["", "laptpo", "zzz", "x" * 500, GOOD, GOOD[:-1], "a\x1b[2Jb"])
def test_revoking_an_unknown_key_says_what_is_near_and_no_secret(who: str) -> None:
    ring, _, _ = a_ring()

    async def story() -> None:
        await ring.create("laptop")
        await ring.create("")
        await ring.revoke(who)

    with pytest.raises(Problem) as e:
        asyncio.run(story())
    assert (e.value.fault, e.value.status, e.value.code) == ("missing", 404, "key_not_found")
    assert ("laptop" in e.value.say) is (who == "laptpo")
    assert GOOD[13:40] not in e.value.say
    assert "\x1b" not in e.value.say
    assert len(e.value.say) < 300
