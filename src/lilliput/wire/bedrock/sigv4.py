"""AWS Signature Version 4: the headers that sign one call (AWS IAM, "Signature Version 4", checked 2026-11-22).

For every service but S3, whose rules for paths differ. Only the host, the content type and `x-amz-*` are signed, so a
proxy may touch the other headers.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from hmac import digest
from urllib.parse import quote, urlsplit

from lilliput.neutral import Aws

Headers = tuple[tuple[str, str], ...]

_PORTS = {"http": 80, "https": 443}


def sign(
    method: str, url: str, headers: Iterable[tuple[str, str]], body: bytes, aws: Aws, service: str, now_s: float
) -> Headers:
    """The headers to add to a call that has `headers` and `body`; `now_s` is Unix seconds.

    `url` is as it goes out, percent-encoded; a `host` among the headers wins over the URL's.
    """
    time = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    added = [("x-amz-date", time)]
    if aws.session:
        added.append(("x-amz-security-token", aws.session.reveal()))
    parts = urlsplit(url)
    signed: dict[str, list[str]] = {}
    for name, value in (*headers, *added):
        name = name.lower().strip()
        if name in ("host", "content-type") or name.startswith("x-amz-"):
            signed.setdefault(name, []).append(" ".join(value.split()))
    if "host" not in signed:
        port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
        signed["host"] = [f"{parts.hostname or ''}{port}"]
    names = ";".join(sorted(signed))
    asked = [
        method.upper(),
        quote(_path(parts.path), safe="/~"),
        "&".join("=".join(pair) for pair in sorted(_pairs(parts.query))),
        *(f"{name}:{','.join(signed[name])}" for name in sorted(signed)),
        "",
        names,
        sha256(body).hexdigest(),
    ]
    scope = f"{time[:8]}/{aws.region}/{service}/aws4_request"
    to_sign = "\n".join(("AWS4-HMAC-SHA256", time, scope, sha256("\n".join(asked).encode()).hexdigest()))
    key = f"AWS4{aws.secret.reveal()}".encode()
    for word in (*scope.split("/"), to_sign):
        key = digest(key, word.encode(), "sha256")
    credential = f"Credential={aws.access_key}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    return ("authorization", f"AWS4-HMAC-SHA256 {credential}"), *added


def _path(path: str) -> str:
    """`path` without empty and dot segments (RFC 3986, 5.2.4); it is encoded a second time after this."""
    out: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del out[-1:]
        elif segment not in ("", "."):
            out.append(segment)
    return "/" + "/".join(out) + ("/" if out and path.endswith("/") else "")


def _pairs(query: str) -> list[tuple[str, str]]:
    pairs = [pair.partition("=") for pair in query.split("&")] if query else []
    return [(name, value) for name, _, value in pairs]
