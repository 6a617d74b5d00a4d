"""Checks on what a configuration says about an endpoint: its URL, its headers, the variables they name.

Syntax only: which addresses may be reached is the connector's rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from lilliput.neutral import Problem

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PLAIN_URL = re.compile(r"[!-\[\]-~]+")  # printable ASCII without space and backslash, on which parsers disagree
OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"})


def unset(texts: Iterable[str], env: Mapping[str, str]) -> str | None:
    """The first variable that `texts` name and `env` lacks or leaves empty."""
    return next((name for text in texts for name in variables(text) if not env.get(name, "").strip()), None)


def filled(text: str, env: Mapping[str, str]) -> str:
    """`text` with every `${NAME}` replaced from `env`, which has them all.

    A variable that holds a whole URL where the text already gives the scheme stands for its host.
    """

    def value(m: re.Match[str]) -> str:
        found = env[m[1]].strip()
        if text[: m.start()].endswith("://"):
            found = found.partition("://")[2] or found
        return found.rstrip("/")

    return _VARIABLE.sub(value, text)


def variables(text: str) -> list[str]:
    return _VARIABLE.findall(text)


def checked_base(base: str, whose: str) -> str:
    """`base` without a slash at its end; `Problem` naming `whose` it is when it is no plain http(s) URL."""
    ends = "; it is a URL such as https://host/v1, ending before the dialect's own path"
    if not _PLAIN_URL.fullmatch(base):
        raise Problem("client", f"{whose} has a base with characters that no URL has, or none{ends}")
    try:
        parts = urlsplit(base)
        port = parts.port
    except ValueError as e:
        raise Problem("client", f"{whose} has a base that is no URL ({e}){ends}") from e
    if parts.username is not None:
        raise Problem(
            "client", f"{whose} has credentials in its base; put the key in a variable and name it in key_env"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise Problem("client", f"{whose} has the base {base!r}, which has no http or https scheme, or no host{ends}")
    if parts.query or parts.fragment or "?" in base or "#" in base:
        raise Problem(
            "client", f"{whose} has the base {base!r}, which has a query or fragment; `query` is a key of its own"
        )
    return base.rstrip("/")


def checked_headers(headers: Mapping[str, str], env: Mapping[str, str], whose: str) -> dict[str, str]:
    """The headers, variables filled in, names in lower case; `Problem` for one that we may not send."""
    out: dict[str, str] = {}
    for name, text in headers.items():
        if not _TOKEN.fullmatch(name) or name.lower() in OURS:
            raise Problem("client", f"{whose} has the header {name!r}, which is not a header a row may set")
        value = filled(text, env)
        if not plain(value):
            raise Problem("client", f"{whose} has a header {name!r} whose value has a line break or control character")
        out[name.lower()] = value
    return out


def checked_name(header: str, whose: str) -> str:
    if not _TOKEN.fullmatch(header) or header.lower() in OURS:
        raise Problem("client", f"{whose} sends its key in {header!r}, which is not a header that can carry one")
    return header.lower()


def plain(value: str) -> bool:
    """Whether a header may carry it: latin-1 without control characters."""
    return all(" " <= c <= "~" or "\xa0" <= c <= "\xff" for c in value)
