"""Where the gateway connects to: to what its configuration names, whatever a request says, on any route.

What a provider's own base may be is in `tests/gateway/test_egress.py`. Here the network port notes every look-up and
every connection that is asked for, and lets only those to the provider through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import structs
from tests.gateway import calls
from tests.gateway.rig import Rig, read_one, request, rig, run
from tests.gateway.test_egress import FORBIDDEN_V4, FORBIDDEN_V6, ODD_URLS, PUBLIC, SPELLINGS
from tests.security import provider

from lilliput.gateway.routes import TABLE, Route
from lilliput.neutral import Key

HOSTS = [*FORBIDDEN_V4, *SPELLINGS, *(f"[{text}]" for text in FORBIDDEN_V6), *PUBLIC[:4], "evil.test", "localhost"]
URLS = [*(f"http://{host}/x" for host in HOSTS), *(url for url in ODD_URLS if url.isprintable() and url)]
NAMES = [
    "base_url", "api_base", "base", "endpoint", "url", "image_url", "file_url", "audio_url", "callback", "webhook",
    "webhook_url", "proxy", "host", "input_audio", "callback_url", "azure_endpoint", "server_url", "mcp_server_url",
    "api_url", "organization", "provider_url", "upstream",
]  # fmt: skip
HEADERS = [
    "X-Forwarded-Host", "X-Base-Url", "X-Api-Base", "X-Portkey-Custom-Host", "X-Lilliput-Provider", "X-Lilliput-Base",
    "X-Upstream", "X-Original-URL", "X-Rewrite-URL", "Forwarded", "Referer", "Origin", "Helicone-Target-Url",
    "X-Real-Ip", "Api-Base", "OpenAI-Base-Url",
]  # fmt: skip


class Noted:
    """The loop as the connector sees it: every connection asked for is noted."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.connected: set[tuple[str, int]] = set()
        self.looked_up: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)

    async def create_connection(self, factory: Any, host: str, port: int, **more: Any) -> Any:
        self.connected.add((host, port))
        return await self.loop.create_connection(factory, host, port, **more)

    async def lookup(self, host: str, port: int) -> list[str]:
        self.looked_up.add(host)
        raise OSError("no name is looked up in this test")


def watched(r: Rig) -> Noted:
    """Puts the note-taker at the rig's network port."""
    noted = Noted(r.gate.upstream.loop)
    r.gate.upstream.loop = noted  # type: ignore[assignment]
    r.gate.upstream.lookup = noted.lookup
    return noted


def laden(url: str) -> Iterator[tuple[Route, bytes]]:
    """A good request for every route with the URL wherever one might be believed."""
    for route, path, body, more in calls.calls():
        if isinstance(body, dict):
            body = {**_media(route, body, url), **dict.fromkeys(NAMES, url)}
        elif isinstance(body, bytes):
            fields = b"".join(
                b'--b\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), url.encode())
                for name in NAMES
            )
            body = fields + body
        mark = "&" if "?" in path else "?"
        seen = url.replace("%", "%25").replace(" ", "%20").replace("#", "%23")
        target = f"{path}{mark}base_url={seen}&url={seen}&endpoint={seen}"
        headers = {**more, **{name: url for name in HEADERS if name != "X-Lilliput-Provider" or "files" not in path}}
        yield route, request(route.method, target, body, headers)
    yield TABLE[0], request("POST", f"http://{HOSTS[len(url) % 50]}{TABLE[0].path}", calls.BODIES["chat"])


def _media(route: Route, body: dict[str, Any], url: str) -> dict[str, Any]:
    """The body with the URL as a picture, a file or a sound, in the form of the route."""
    name = route.operation.name if route.operation is not None else ""
    if name == "chat":
        parts = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": url}}]
        parts.append({"type": "file", "file": {"file_data": url, "filename": "x"}})
        return {**body, "messages": [{"role": "user", "content": parts}]}
    if name == "responses":
        parts = [{"type": "input_image", "image_url": url}, {"type": "input_file", "file_url": url}]
        return {**body, "input": [{"role": "user", "content": parts}]}
    if name in ("messages", "count_tokens"):
        source = {"type": "url", "url": url}
        parts = [{"type": "image", "source": source}, {"type": "document", "source": source}]
        return {**body, "messages": [{"role": "user", "content": parts}]}
    if name in ("generate", "count_generate"):
        parts = [{"fileData": {"fileUri": url, "mimeType": "image/png"}}, {"text": "x"}]
        return {**body, "contents": [{"role": "user", "parts": parts}]}
    if name == "moderation":
        return {**body, "input": [{"type": "image_url", "image_url": {"url": url}}]}
    return body


def storm(urls: list[str], **target: Any) -> None:
    """Every route with each URL: nothing but the provider is connected to, and no name is ever looked up."""

    async def main() -> None:
        async with provider.Provider() as up, rig(base=f"http://127.0.0.1:{up.port}/v1", **target) as r:
            noted = watched(r)
            reader, writer = await r.connect()
            statuses: set[int] = set()
            for url in urls:
                for route, data in laden(url):
                    writer.write(data)
                    got = await read_one(reader)
                    statuses.add(got.status)
                    assert got.status < 500 or route.path == "/readyz", f"{route.path} {url!r} {got.body[:300]!r}"
                    if got.headers.get("connection") == "close":
                        writer.close()
                        reader, writer = await r.connect()
            assert 200 in statuses, "some of it reached the provider"
            assert noted.connected == {("127.0.0.1", up.port)}
            assert noted.looked_up == set()

    run(main(), 300)


def test_two_hundred_urls() -> None:
    assert len(set(URLS)) >= 200


def test_no_request_names_a_destination() -> None:
    storm(URLS[:: len(URLS) // 8])


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "anthropic", "gemini"])
def test_no_request_names_a_destination_with_any_url(dialect: str) -> None:
    storm(URLS, dialect=dialect)


@pytest.mark.parametrize("url", URLS[::7])
def test_a_model_named_like_a_url_is_no_destination(url: str) -> None:
    async def main() -> None:
        async with rig() as r:
            noted = watched(r)
            for name in (url, f"{url}/m", f"openai/{url}"):
                got = await r.chat(model=name)
                assert 400 <= got.status < 500, got.body
            assert not noted.connected
            assert not noted.looked_up

    run(main())


def test_a_key_for_local_models_alone_opens_no_socket() -> None:
    """The scope of a key is kept before anything is opened, on every route that names a model."""

    async def main() -> None:
        async with rig() as r:
            noted = watched(r)
            r.gate.find_key = lambda token: Key(id="k1", models=("lilliput/*",))
            r.gate.allows = lambda key, model: model.startswith("lilliput/")
            refused = 0
            for route, path, body, more in calls.calls():
                got = await r.ask(route.method, path, body, more)
                if route.operation is not None:
                    assert got.status == 403, f"{route.path} {got.status} {got.body[:200]!r}"
                    refused += 1
            assert refused > 40
            assert not noted.connected
            assert r.provider.connections == 0

    run(main())


def test_the_note_taker_sees_a_connection() -> None:
    """What the tests above rest on: a provider elsewhere, in the configuration, is noted."""

    async def main() -> None:
        async with rig() as r:
            noted = watched(r)
            known = r.gate.target("p/m")
            r.gate.target = lambda name: structs.replace(known, base="http://elsewhere.test/v1", allow_private=False)
            assert (await r.chat()).status == 502
            assert noted.looked_up == {"elsewhere.test"}
            r.gate.ways.clear()
            r.gate.target = lambda name: known
            assert (await r.chat()).status == 200
            assert noted.connected == {("127.0.0.1", r.provider.port)}

    run(main())
