"""What in a text is somebody's: addresses, numbers, identities and secrets, each with its own proof where it has one.

Pure, standard library only. A recogniser is a regular expression that takes time linear in the text (counted or
possessive repeats, no start inside a word) and a test of what it found: check digits (Luhn; ISO 7064 mod 97 and mod
11,10; the national schemes), the rules of the form where there are none, or how random a value looks. Names of people
and street addresses are not found: they have no form to go by.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable
from re import Match

from msgspec import Struct

Check = Callable[[Match[str]], bool]
BETWEEN = "\x1e"
"""Stands between texts that are searched at once: nothing that is found reaches across it, but a name before it tells
of the value behind it, as in {"password": "..."}."""


class Recogniser(Struct, frozen=True):
    """`kind` names the placeholder. What is hidden is the group `v` where the expression has one, else all of it;
    a text without `needs` is not searched."""

    kind: str
    pattern: re.Pattern[str]
    check: Check | None = None
    needs: str = ""


def digits(text: str) -> str:
    """Its decimal digits, of whatever script, as ASCII."""
    return "".join(str(int(c)) for c in text if c.isdecimal())


def value(m: Match[str]) -> tuple[int, int]:
    """Where what is to be hidden stands."""
    return m.span("v" if "v" in m.re.groupindex else 0)


def _digits(m: Match[str]) -> str:
    start, end = value(m)
    return digits(m.string[start:end])


def luhn(number: str) -> bool:
    """Whether the last digit is right (ISO/IEC 7812-1 annex B)."""
    odd, even = number[-1::-2], number[-2::-2]
    return (sum(map(int, odd)) + sum(sum(divmod(2 * int(d), 10)) for d in even)) % 10 == 0


def _card(m: Match[str]) -> bool:
    """Of a known issuer's prefix and length, and with the right check digit."""
    n = digits(m[0])
    head2, head4 = int(n[:2]), int(n[:4])
    lengths: tuple[int, ...] = ()
    if n[0] == "4":
        lengths = (13, 16, 19)
    elif 51 <= head2 <= 55 or 2221 <= head4 <= 2720:
        lengths = (16,)
    elif head2 in (34, 37):
        lengths = (15,)
    elif head2 in (36, 38, 39) or 300 <= int(n[:3]) <= 305:
        lengths = (14,)
    elif n.startswith(("6011", "62", "64", "65", "35")):
        lengths = (16, 17, 18, 19)
    return len(n) in lengths and len(set(n)) > 1 and luhn(n)


IBAN_LENGTHS = {
    code: int(length)
    for code, length in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 "
        "FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 "
        "LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SD18 "
        "SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20",
    )
}
"""Characters of an IBAN by country (SWIFT's IBAN registry)."""


def _iban(m: Match[str]) -> bool:
    bare = re.sub(r"[ -]", "", m[0]).upper()
    if IBAN_LENGTHS.get(bare[:2]) != len(bare):
        return False
    return int("".join(str(int(c, 36)) for c in bare[4:] + bare[:4])) % 97 == 1


_IBAN_BODY = r"(?:[ -]?[A-Za-z0-9]){%d}+"
_IBAN = "|".join(
    f"(?:{'|'.join(c for c, n in IBAN_LENGTHS.items() if n == length)})" + r"\d\d" + _IBAN_BODY % (length - 4)
    for length in sorted(set(IBAN_LENGTHS.values()), reverse=True)
)


def _ssn(m: Match[str]) -> bool:
    """No area 000, 666 or 9xx, no group 00, no serial 0000 (SSA, 2011)."""
    n = _digits(m)
    return n[:3] not in ("000", "666") and n[0] != "9" and n[3:5] != "00" and n[5:] != "0000"


def _dni(m: Match[str]) -> bool:
    n = m[0].replace("-", "").replace(" ", "")
    number = n[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == n[-1]


def _cpf(m: Match[str]) -> bool:
    n = [int(d) for d in _digits(m)]
    if len(set(n)) == 1:
        return False
    return all(sum(d * (at + 1 - i) for i, d in enumerate(n[:at])) * 10 % 11 % 10 == n[at] for at in (9, 10))


def _nino(m: Match[str]) -> bool:
    return m[0][:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def _nir(m: Match[str]) -> bool:
    """The key is 97 less the number mod 97; Corsica's 2A and 2B count as 19 and 18 (INSEE)."""
    n = m[0].replace(" ", "").replace("2A", "19").replace("2B", "18")
    return 97 - int(n[:13]) % 97 == int(n[13:])


def _de_tax(m: Match[str]) -> bool:
    """One digit of the first ten comes twice or three times and no other twice; the last is ISO 7064 mod 11,10."""
    n = digits(m[0])
    if len(n) != 11 or sorted(Counter(n[:10]).values())[-2:] not in ([1, 2], [1, 3]):
        return False
    product = 10
    for d in n[:10]:
        product = ((int(d) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(n[10])


def _it_code(m: Match[str]) -> bool:
    odd = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
    ranks = [int(c) if c.isdigit() else ord(c) - 65 for c in m[0][:15]]
    return sum(r if i % 2 else odd[r] for i, r in enumerate(ranks)) % 26 == ord(m[0][15]) - 65


def _cn_id(m: Match[str]) -> bool:
    total = sum(int(d) * pow(2, 17 - i, 11) for i, d in enumerate(m[0][:17]))
    return "10X98765432"[total % 11] == m[0][17]


def _phone(m: Match[str]) -> bool:
    """As many digits as ITU-T E.164 allows, and no fewer than people have."""
    return 8 <= len(_digits(m)) <= 15


_VERSION = re.compile(r"(?:\bv|\bver\.?|version|release|build|firmware|section|chapter|§)[ :=]?\Z", re.I)


def _ipv4(m: Match[str]) -> bool:
    """Not a version's number, and nobody's address: loopback, broadcast, 0.0.0.0/8."""
    parts = [int(n) for n in m[0].split(".")]
    if max(parts) > 255 or parts[0] in (0, 127) or parts[:2] == [255, 255]:
        return False
    return not _VERSION.search(m.string[: m.start()][-12:])


def _ipv6(m: Match[str]) -> bool:
    """At least three groups, or a full first one, and a digit: `ab::cd` may be a path in somebody's code."""
    groups = [g for g in m[0].split(":") if g]
    if not any(c.isdigit() for c in m[0]) or (len(groups) < 3 and len(groups[0] if groups else "") < 4):
        return False
    try:
        address = ipaddress.IPv6Address(m[0])
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def entropy(text: str) -> float:
    """Bits a character, as the text's own letters are spread."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def _password(m: Match[str]) -> bool:
    """A value of its own, not a variable or a word of prose: after ":" it has to look like a password."""
    value = m["v"]
    if value.startswith(("$", "{", "<", "%", "os.", "process.", "env")):
        return False
    mixed = any(c.isdigit() for c in value) or any(not c.isalnum() and c not in "_-.()[]!?" for c in value)
    return "=" in m["sep"] or (mixed and any(c.isalpha() for c in value))


def _token(m: Match[str]) -> bool:
    value = m["v"]
    return any(c.isdigit() for c in value) and any(c.isalpha() for c in value) and entropy(value) >= 3.0


def _r(
    kind: str, pattern: str, check: Check | None = None, needs: str = "", flags: re.RegexFlag = re.NOFLAG
) -> Recogniser:
    return Recogniser(kind, re.compile(pattern, flags), check, needs)


_SEP = r"[\"']?[ \t]{0,4}(?P<sep>[:=]{1,2}|\x1e)[ \t]{0,4}[\"']?"
_KEYS = "|".join(
    (
        r"lil_[0-9A-Za-z]{8}_[0-9A-Za-z]{32}_[0-9A-Za-z]{6}",
        r"sk-[A-Za-z0-9_-]{20,256}+",
        r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,128}+",
        r"gh[pousr]_[A-Za-z0-9]{36,255}+",
        r"github_pat_\w{22,255}+",
        r"glpat-[\w-]{20,64}+",
        r"xox[abeprs]-[\w-]{10,255}+",
        r"(?:AKIA|ASIA)[A-Z2-7]{16}\b",
        r"AIza[\w-]{35}",
        r"ya29\.[\w-]{20,512}+",
        r"(?:hf|gsk|npm)_[A-Za-z0-9]{30,128}+",
        r"xai-[A-Za-z0-9]{40,128}+",
        r"pypi-[\w-]{50,512}+",
        r"SG\.[\w-]{22}\.[\w-]{43}",
    )
)

RECOGNISERS: tuple[Recogniser, ...] = (
    _r(
        "SECRET",
        r"-----BEGIN [A-Z ]{0,24}PRIVATE KEY-----(?:[^-\x1e]|-(?!----)){0,16384}+"
        r"(?:-----END [A-Z ]{0,24}PRIVATE KEY-----)?",
        needs="PRIVATE KEY",
    ),
    _r("SECRET", r"\beyJ[\w-]{8,4096}+\.eyJ[\w-]{4,8192}+\.[\w-]{8,1024}+", needs="eyJ"),
    _r("SECRET", rf"\b(?:{_KEYS})"),
    _r("SECRET", r"://[^\s:/@]{1,64}+:(?P<v>[^\s:/@]{3,128}+)@", needs="://"),
    _r("SECRET", rf"(?i:pass(?:word|wd|phrase)|\bpwd){_SEP}(?P<v>[^\s\"'&;,<]{{6,128}}+)", _password),
    _r(
        "SECRET",
        rf"(?i:token|secret|(?:api|access|account|private)[_-]?key|credential){_SEP}(?P<v>[A-Za-z0-9+/_.=~-]{{16,512}}+)",
        _token,
    ),
    _r("SECRET", r"\b(?i:bearer|basic)[ \t]{1,4}(?P<v>[A-Za-z0-9+/_.=~-]{16,2048}+)", _token),
    _r(
        "EMAIL",
        r"(?<![\w.%+-])(?!git@)[\w%+-][\w.%+-]{0,63}+@(?:[\w-]{1,63}+\.){1,8}(?!(?i:png|jpe?g|gif|svg|webp)\b)[^\W\d_]{2,24}+(?![\w-])",
        needs="@",
    ),
    _r("IBAN", rf"\b(?=[A-Za-z]{{2}}\d\d)(?i:{_IBAN})(?![A-Za-z0-9])", _iban),
    _r(
        "CARD",
        r"[2-6](?<![\w.]\d)(?<!\d-\d)"
        r"(?:\d{12,18}|\d{3}([ -])(?:\d{4}\1\d{4}\1\d{4}|\d{6}\1\d{5}|\d{6}\1\d{4}))(?!\w|-\d)",
        _card,
    ),
    _r(
        "ID",
        r"[12](?<!\w\d) ?\d\d ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d\d|2A|2B) ?\d{3} ?\d{3} ?\d\d(?!\w)",
        _nir,
    ),
    _r("ID", r"[1-9](?<!\w\d)\d{5}(?:19|20)\d\d(?:0[1-9]|1[0-2])[0-3]\d{4}[\dX](?!\w)", _cn_id),
    _r("ID", r"\b(?:\d{8}|[XYZ]-?\d{7})-?[A-HJ-NP-TV-Z]\b", _dni),
    _r("ID", r"\d(?<![\w.-]\d)\d\d\.\d{3}\.\d{3}-\d\d(?!\w)", _cpf, "-"),
    _r("ID", r"\b(?i:cpf)\W{0,4}(?:n[ºo°.]{0,2}\W{0,2})?(?P<v>\d{11})(?!\w)", _cpf),
    _r("ID", r"\d(?<![\w.-]\d)\d\d([ -])\d\d\1\d{4}(?!\w|-\d)", _ssn),
    _r("ID", r"\b(?i:ssn|social security)(?i: number| no\.?)?(?: is)?[ :=#]{0,3}(?P<v>\d{9})(?!\w)", _ssn),
    _r("ID", r"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]\b", _nino),
    _r("ID", r"\b[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]\b", _it_code),
    _r("PHONE", r"\+(?<![\w+]\+)[1-9](?:[ .\-/()]{0,2}\d){7,14}+(?!\d)", _phone, "+"),
    _r("PHONE", r"\([2-9]\d\d\)[ -]?[2-9]\d\d[ .-]\d{4}(?!\w|-\d)", needs="("),
    _r("PHONE", r"[2-9](?<![\w.+/-]\d)(?<!\d \d)\d\d([ .-])[2-9]\d\d\1\d{4}(?!\w|[-./]\d)"),
    _r("PHONE", r"1(?<![\w.+/-]1)([ .-])[2-9]\d\d\1[2-9]\d\d\1\d{4}(?!\w|[-./]\d)"),
    _r(
        "PHONE", r"0(?<![\w.+/-]0)(?<!\d 0)[1-9](?:([ .-])\d\d\1\d\d\1\d\d\1\d\d|\d{1,3} \d{3,4} \d{3,4})(?!\w|[-./]\d)"
    ),
    _r(
        "PHONE",
        r"\b(?i:tel(?:ephone|efon|éfono)?|tél|phone|mobile|cell|call|fax|whatsapp)\.?(?i: number| no\.?)?(?: is| at)?"
        r"[ :=]{0,3}(?P<v>\(?\d(?:[ .\-/()]{0,2}\d){7,14}+)(?!\w)",
        _phone,
    ),
    _r("ID", r"[1-9](?<![\w.-]\d)(?:\d{10}|\d \d{3} \d{3} \d{3})(?!\w|[.-]\d)", _de_tax),
    _r("IP", r"\d(?<![\w.]\d)\d{0,2}(?:\.\d{1,3}){3}(?!\w|\.\d)", _ipv4, "."),
    _r("IP", r"(?<![\w:.])[0-9A-Fa-f:]{3,39}+(?![\w:])", _ipv6, ":"),
)
"""In the order in which they are asked: what one has taken the later ones do not see."""
