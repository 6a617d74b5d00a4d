"""Files and batches: the paths, who is asked, and what is sent."""

from __future__ import annotations

import pytest

from lilliput.neutral import Problem, Secret, Target
from lilliput.wire.operations import files, multipart
from lilliput.wire.operations.multipart import Part

READ = [
    ("POST", "/files", "provider=openai", None, ("openai", "/files", "", True)),
    ("GET", "/files", "limit=2&provider=groq&after=a%20b", None, ("groq", "/files", "limit=2&after=a+b", False)),
    ("GET", "/files/file-1", "", "openai", ("openai", "/files/file-1", "", False)),
    ("GET", "/files/openai/file-1", "", None, ("openai", "/files/file-1", "", False)),
    ("GET", "/files/openai/file-1", "", "groq", ("groq", "/files/file-1", "", False)),
    ("DELETE", "/files/openai/file-1", "", None, ("openai", "/files/file-1", "", False)),
    ("GET", "/files/file-1/content", "", "openai", ("openai", "/files/file-1/content", "", False)),
    ("GET", "/files/openai/file-1/content", "", None, ("openai", "/files/file-1/content", "", False)),
    ("POST", "/batches", "", "openai", ("openai", "/batches", "", False)),
    ("POST", "/batches/openai/b/cancel", "", None, ("openai", "/batches/b/cancel", "", False)),
    ("GET", "/batches/openai/a b?", "", None, ("openai", "/batches/a%20b%3F", "", False)),
]


@pytest.mark.parametrize(("method", "path", "query", "named", "want"), READ)
def test_read(method: str, path: str, query: str, named: str | None, want: tuple[str, str, str, bool]) -> None:
    call = files.read(method, path, query, named)
    assert call is not None
    assert (call.provider, call.path, call.query, call.uploads, call.method) == (*want, method)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/files"),
        ("GET", "/files/a/b/c"),
        ("POST", "/files/a"),
        ("GET", "/models"),
        ("GET", "/files/.."),
        ("GET", "/files/a/.."),
    ],
)
def test_no_such_call(method: str, path: str) -> None:
    assert files.read(method, path, "", "openai") is None


def test_a_provider_must_be_named() -> None:
    with pytest.raises(Problem, match="x-lilliput-provider") as caught:
        files.read("GET", "/files/file-1")
    assert (caught.value.status, caught.value.param) == (400, "provider")


def _target(**more: str) -> Target:
    return Target(**{"provider": "p", "model": "m", "base": "https://p.test/v1", "key": Secret("k")} | more)  # type: ignore[arg-type]


def test_endpoint() -> None:
    call = files.Call("p", "GET", "/files", "limit=2")
    url, headers = files.endpoint(_target(), call)
    assert url == "https://p.test/v1/files?limit=2"
    assert ("authorization", "Bearer k") in headers
    azure = _target(dialect="azure", base="https://r.openai.azure.com")
    url, _ = files.endpoint(azure, call)
    assert url == "https://r.openai.azure.com/openai/files?api-version=2024-10-21&limit=2"
    with pytest.raises(Problem, match="files and batches"):
        files.endpoint(_target(dialect="cohere"), call)


def test_upload() -> None:
    parts = [Part("purpose", memoryview(b"batch")), Part("file", memoryview(b"{}\n"), "a.jsonl")]
    body, kind = multipart.write(parts, b"x"), multipart.content_type(b"x")
    assert files.upload(body, kind) == body
    for missing in (0, 1):
        with pytest.raises(Problem, match="missing"):
            files.upload(multipart.write(parts[:missing] + parts[missing + 1 :], b"x"), kind)
