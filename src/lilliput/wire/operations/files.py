"""Files and batches: which of OpenAI's paths there are, and which provider a call is for.

Nothing is translated: bodies and answers pass, ids and all, to the provider that the caller names, since no model
does. An upload is multipart/form-data, the rest JSON, and `/files/{id}/content` answers with the file's own bytes.
"""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import parse_qsl, quote, urlencode

from msgspec import Struct, structs

from lilliput.neutral import Problem, Target
from lilliput.wire.openai import address as openai_endpoint
from lilliput.wire.openai.types import missing
from lilliput.wire.operations import modality, multipart
from lilliput.wire.port import Headers

PATHS: tuple[tuple[Literal["GET", "POST", "DELETE"], str], ...] = (
    ("POST", "/files"),
    ("GET", "/files"),
    ("GET", "/files/{id}/content"),
    ("GET", "/files/{id}"),
    ("DELETE", "/files/{id}"),
    ("POST", "/batches"),
    ("GET", "/batches"),
    ("POST", "/batches/{id}/cancel"),
    ("GET", "/batches/{id}"),
)
"""Method and path of each call (OpenAI API reference, checked 2026-11-22)."""

HEADER = b"x-lilliput-provider"
"""The request header that names a provider."""

_ID = r"(?:(?P<provider>[^/]+)/)?(?P<id>(?!\.{1,2}(?:/|$))[^/]+)"
"""An id, and whose it is; one of dots alone would lead to another path."""
_SHAPES = [(method, path, re.compile(re.escape(path).replace(r"\{id\}", _ID))) for method, path in PATHS]


class Call(Struct, frozen=True):
    """One call: whom it is for, the path and query that they get, percent-encoded, and whether it brings a file."""

    provider: str
    method: str
    path: str
    query: str = ""
    uploads: bool = False


def read(method: str, path: str, query: str = "", named: str | None = None) -> Call | None:
    """The call that a request is, None where it is none of PATHS.

    `path` is decoded and begins after /v1; `named` is what HEADER says, which wins over `?provider=` and over a
    prefix of the id (openai/file-abc). Raises Problem (400) where no provider is named.
    """
    for its_method, shape, pattern in _SHAPES:
        found = pattern.fullmatch(path) if its_method == method else None
        if found is None:
            continue
        ids = found.groupdict()
        pairs = parse_qsl(query, keep_blank_values=True)
        provider = named or dict(pairs).get("provider") or ids.get("provider")
        if not provider:
            say = f"name the provider: send the header {HEADER.decode()}, or add ?provider=NAME"
            raise Problem("client", say, code="missing_provider", param="provider")
        rest = urlencode([(name, value) for name, value in pairs if name != "provider"])
        path = shape.replace("{id}", quote(ids.get("id") or "", safe="", errors="replace"))
        return Call(provider, method, path, rest, uploads=(method, shape) == PATHS[0])
    return None


def endpoint(target: Target, call: Call, content_type: str = modality.JSON) -> tuple[str, Headers]:
    """The URL and headers of `call` at any target of its provider; raises Problem (400) where it keeps no files."""
    if target.dialect not in modality.OPENAI_FORM:
        raise modality.unable(target, "files and batches", "provider")
    path = call.path
    if target.dialect == "azure":
        version = target.query or openai_endpoint.AZURE_VERSION
        target, path = structs.replace(target, dialect="openai_chat", query=version), f"/openai{path}"
    query = "&".join(filter(None, (target.query, call.query)))
    return modality.endpoint(structs.replace(target, query=query), path, content_type, accept="*/*")


def upload(body: bytes, content_type: str) -> bytes:
    """An upload's body as it goes to the provider, under the same content type; raises Problem (400) for none."""
    form = multipart.parse(body, content_type)
    for name in ("file", "purpose"):
        if form.first(name) is None:
            missing(name)
    return multipart.write(form.parts, form.boundary)
