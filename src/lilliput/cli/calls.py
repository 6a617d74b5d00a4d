"""Calls to a gateway as any client makes them: JSON over one connection that is kept."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from lilliput.neutral import Fault, Problem

SILENCE_S = 300.0


class Reply(Struct, frozen=True, kw_only=True):
    """`headers` have small letters; `ms` is from the request to the last byte."""

    body: dict[str, Any]
    headers: Mapping[str, str]
    ms: float

    @property
    def text(self) -> str:
        """Of a chat: what was answered."""
        return str(self.body["choices"][0]["message"]["content"])


class Caller:
    """Not for several threads: each makes its own."""

    def __init__(self, base: str, key: str) -> None:
        url = urlsplit(base)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(url.hostname or "", url.port, timeout=SILENCE_S)
        self._path, self._key = url.path.rstrip("/"), key

    def chat(self, body: Mapping[str, Any]) -> Reply:
        return self.call("POST", "/chat/completions", body)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Reply:
        """Raises Problem for what is no answer, with the gateway's own words."""
        data = None if body is None else msgspec.json.encode(body)
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        began = time.perf_counter()
        try:
            self._connection.request(method, self._path + path, data, headers)
            response = self._connection.getresponse()
            read = response.read()
            answer = msgspec.json.decode(read)
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            self._connection.close()
            raise Problem("server", f"the gateway gave no answer: {str(error) or type(error).__name__}") from None
        if response.status != 200:
            told = answer.get("error") if isinstance(answer, dict) else None
            say = told.get("message", "") if isinstance(told, dict) else ""
            fault: Fault = "limit" if response.status == 429 else "provider" if response.status >= 500 else "client"
            raise Problem(fault, f"the gateway refused ({response.status}): {say}", response.status)
        ms = (time.perf_counter() - began) * 1e3
        return Reply(body=answer, headers={k.lower(): v for k, v in response.getheaders()}, ms=ms)

    def close(self) -> None:
        self._connection.close()
