"""A seeded generator of texts with something of somebody's in them, and of texts that only look like it."""

from __future__ import annotations

import random
import string
import uuid
from collections.abc import Callable, Iterator

Dice = random.Random
BASE62 = string.ascii_letters + string.digits


def digits(d: Dice, n: int, first: str = string.digits) -> str:
    return d.choice(first) + "".join(d.choices(string.digits, k=n - 1))


def grouped(text: str, sep: str, *sizes: int) -> str:
    at, found = 0, []
    for size in sizes:
        found.append(text[at : at + size])
        at += size
    return sep.join(found)


def luhn(body: str) -> str:
    """With its check digit, by trying them all against the sum as the standard's text tells it."""
    for check in string.digits:
        total = 0
        for i, c in enumerate(reversed(body + check)):
            n = int(c) * (2 if i % 2 else 1)
            total += n - 9 if n > 9 else n
        if total % 10 == 0:
            return body + check
    raise AssertionError


def email(d: Dice) -> str:
    name = d.choice(("ana", "j.smith", "o_brien", "li+shop", "x", "maría", "bob-99"))
    return (
        f"{name}{d.choice(('', digits(d, 2)))}@{d.choice(('mail.', '', 'a-b.'))}{d.choice(('example', 'firma', 'z9'))}"
        + (d.choice((".com", ".co.uk", ".de", ".museum")))
    )


def phone(d: Dice) -> str:
    area, exchange, line = digits(d, 3, "23456789"), digits(d, 3, "23456789"), digits(d, 4)
    return d.choice(
        (
            f"({area}) {exchange}-{line}",
            f"{area}-{exchange}-{line}",
            f"{area}.{exchange}.{line}",
            f"+1 {area} {exchange} {line}",
            f"1-{area}-{exchange}-{line}",
            f"+44 20 {digits(d, 4)} {digits(d, 4)}",
            f"+49 (0) 30 {digits(d, 8)}",
            f"+33{digits(d, 9, '1234567')}",
            f"020 {digits(d, 4, '3789')} {digits(d, 4)}",
            grouped("0" + digits(d, 9, "12345679"), " ", 2, 2, 2, 2, 2),
            f"tel: {digits(d, 9)}",
        )
    )


def card(d: Dice) -> str:
    prefix, length = d.choice((("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("34", 15), ("6011", 16), ("3056", 14)))
    number = luhn(prefix + digits(d, length - 1 - len(prefix)))
    sizes = {16: (4, 4, 4, 4), 15: (4, 6, 5), 14: (4, 6, 4)}[length]
    return d.choice((number, grouped(number, " ", *sizes), grouped(number, "-", *sizes)))


def iban(d: Dice) -> str:
    country, body = d.choice(
        (("DE", digits(d, 18)), ("GB", "WEST" + digits(d, 14)), ("FR", digits(d, 10) + "A1" + digits(d, 11)))
    )
    rest = int("".join(str(int(c, 36)) for c in body + country + "00")) % 97
    whole = f"{country}{98 - rest:02}{body}"
    return d.choice((whole, " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))))


def ip(d: Dice) -> str:
    groups = [f"{d.randrange(1, 65536):x}" for _ in range(8)]
    v4 = f"{d.choice((10, 52, 83, 192, 203))}." + ".".join(str(d.randrange(256)) for _ in range(3))
    return d.choice((v4, v4, ":".join(groups), f"2001:db8::{groups[0]}", "fe80::1ff:fe23:" + groups[1]))


def identity(d: Dice) -> str:
    return d.choice((_ssn, _dni, _cpf, _nino, _nir, _tax))(d)


def _ssn(d: Dice) -> str:
    return f"{d.randrange(1, 666):03}-{d.randrange(1, 100):02}-{d.randrange(1, 10000):04}"


def _dni(d: Dice) -> str:
    n = d.randrange(10**8)
    return f"{n:08}{d.choice(('', '-'))}{'TRWAGMYFPDXBNJZSQVHLCKE'[n % 23]}"


def _cpf(d: Dice) -> str:
    n = [int(c) for c in digits(d, 9)]
    for weights in (range(10, 1, -1), range(11, 1, -1)):
        rest = sum(a * b for a, b in zip(n, weights, strict=True)) % 11
        n.append(0 if rest < 2 else 11 - rest)
    text = "".join(map(str, n))
    return f"{text[:3]}.{text[3:6]}.{text[6:9]}-{text[9:]}"


def _nino(d: Dice) -> str:
    return (
        d.choice(("AB", "JY", "CE"))
        + d.choice(("{0}{1}{2}", " {0} {1} {2} ")).format(digits(d, 2), digits(d, 2), digits(d, 2))
        + d.choice("ABCD")
    )


def _nir(d: Dice) -> str:
    body = f"{d.choice('12')}{digits(d, 2)}{d.randrange(1, 13):02}{d.randrange(1, 96):02}{digits(d, 6)}"
    return f"{body}{97 - int(body) % 97:02}"


def _tax(d: Dice) -> str:
    while True:
        ten = d.sample(string.digits, 9)
        ten.insert(d.randrange(10), d.choice(ten))
        if ten[0] != "0":
            break
    product = 10
    for c in ten:
        total = (int(c) + product) % 10 or 10
        product = total * 2 % 11
    return "".join(ten) + str((11 - product) % 10)


def secret(d: Dice) -> str:
    def r(n: int) -> str:
        return "".join(d.choices(BASE62, k=n))

    return d.choice(
        (
            f"lil_{r(8)}_{r(32)}_{r(6)}",
            f"sk-proj-{r(40)}",
            f"ghp_{r(36)}",
            "AKIA" + "".join(d.choices("ABCDEFGHJKLMNPQRSTUVWXYZ234567", k=16)),
            f"eyJ{r(20)}.eyJ{r(40)}.{r(43)}",
            f"-----BEGIN RSA PRIVATE KEY-----\n{r(64)}\n{r(64)}==\n-----END RSA PRIVATE KEY-----",
            f"password={r(6)}{digits(d, 2)}",
            f"api_key: 'x{r(30)}7'",
            f"https://bob:{r(12)}@db.example.org/x",
        )
    )


KINDS: dict[str, Callable[[Dice], str]] = {
    "EMAIL": email,
    "PHONE": phone,
    "CARD": card,
    "IBAN": iban,
    "IP": ip,
    "ID": identity,
    "SECRET": secret,
}


def lookalike(d: Dice) -> str:
    """Order numbers, versions, dates, times, hashes, amounts, paths, code; and all kinds with a wrong check digit."""
    return d.choice(
        (
            lambda: f"order {digits(d, 3)}-{digits(d, 7)}-{digits(d, 7)}",
            lambda: f"invoice INV-{digits(d, 8)}",
            lambda: f"ticket #{digits(d, 7)}",
            lambda: f"version {d.randrange(9)}.{d.randrange(20)}.{d.randrange(20)}.{d.randrange(99)}",
            lambda: f"v{d.randrange(9)}.{d.randrange(20)}.{d.randrange(20)}",
            lambda: f"2024-{d.randrange(1, 13):02}-{d.randrange(1, 29):02}T12:{d.randrange(60):02}:07Z",
            lambda: f"{d.randrange(1, 29):02}.{d.randrange(1, 13):02}.2023",
            lambda: f"1{digits(d, 9)} seconds since 1970",
            lambda: f"sha256 {''.join(d.choices('0123456789abcdef', k=64))}",
            lambda: f"commit {''.join(d.choices('0123456789abcdef', k=40))}",
            lambda: str(uuid.UUID(int=d.getrandbits(128))),
            lambda: f"${d.randrange(1000)},{digits(d, 3)},{digits(d, 3)}.00",
            lambda: f"ISBN 978-3-16-{digits(d, 6)}-0",
            lambda: f"tracking 1Z{digits(d, 16)}",
            lambda: f"id {digits(d, 19)}0",
            lambda: f"card {_wrong(card(d))}",
            lambda: f"iban {_wrong(iban(d))}",
            lambda: f"cpf {_wrong(_cpf(d))}",
            lambda: f"ssn 9{digits(d, 2)}-{digits(d, 2)}-{digits(d, 4)}",
            lambda: "std::vector<ab::cd> at 12:34:56, git@github.com:a/b.git, icon@2x.png, npm a@1.2.3",
            lambda: "the password: please choose one; token: max_tokens; password=${DB_PASSWORD}",
            lambda: f"{digits(d, 3)} x {digits(d, 3)} x {digits(d, 4)} mm, 3.14159265358979, 127.0.0.1",
        )
    )()


def _wrong(text: str) -> str:
    """With another last digit."""
    at = max(i for i, c in enumerate(text) if c.isdigit())
    return f"{text[:at]}{(int(text[at]) + 1) % 10}{text[at + 1 :]}"


def labelled(count: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """(kind, what is to be hidden, the text), half of them of no kind."""
    d = random.Random(seed)
    frames = (
        "Hello, {} is what I have.",
        "{}",
        "My one: {}, please check",
        "see <b>{}</b> ok",
        'say "{}"!',
        "a\n{}\nb",
    )
    for n in range(count):
        kind = list(KINDS)[n // 2 % len(KINDS)] if n % 2 else ""
        found = KINDS[kind](d) if kind else lookalike(d)
        yield kind, found, d.choice(frames).format(found)
