"""Fetching from a hub: a server on loopback plays it, with its habits and its faults."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.local import made

from lilliput.local import weights
from lilliput.neutral import Problem

BODY = made.gguf(fill=3 << 20)
NAME = "hf:owner/repo/sub/tiny.gguf"
FILE = "owner--repo--sub--tiny.gguf"


class Hub(ThreadingHTTPServer):
    """Serves `body` under any path; the fields are what goes wrong."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.body = BODY
        self.etag = '"one"'
        self.status = 200
        self.to = ""
        self.breaks_at = 0
        self.breaks_left = 0
        self.claims = 0
        self.asked: list[tuple[str, str | None]] = []

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that breaks off is no news."""


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        hub = self.server
        span = self.headers.get("Range")
        hub.asked.append((self.path, span))
        if hub.status != 200:
            self.send_response(hub.status)
            if hub.to:
                self.send_header("Location", hub.to)
                hub.status = 200
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        at = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
        if self.headers.get("If-Range") != hub.etag:
            at = 0
        if at >= len(hub.body):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if at else 200)
        if at:
            self.send_header("Content-Range", f"bytes {at}-{len(hub.body) - 1}/{len(hub.body)}")
        self.send_header("ETag", hub.etag)
        self.send_header("Content-Length", str(hub.claims or len(hub.body) - at))
        self.end_headers()
        if hub.breaks_left:
            hub.breaks_left -= 1
            self.wfile.write(hub.body[at : at + hub.breaks_at])
            return
        self.wfile.write(hub.body[at:])

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def pull(hub: Hub, folder: Path, name: str = NAME, **more: object) -> Path:
    return weights.pull(name, folder, hub_base=hub.base, known={}, **more)  # type: ignore[arg-type]


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock")


def test_a_file_comes_whole_and_is_pinned_at_the_first_fetch(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = pull(hub, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert path == tmp_path / FILE
    assert path.read_bytes() == BODY
    assert hub.asked == [("/owner/repo/resolve/main/sub/tiny.gguf", None)]
    assert seen == sorted(seen)
    assert seen[-1] == (len(BODY), len(BODY))
    assert weights.pinned(NAME, tmp_path) == made.sha256(BODY)
    assert pull(hub, tmp_path) == path
    assert len(hub.asked) == 1
    assert left(tmp_path) == [FILE, FILE + ".sha256"]


def test_a_change_at_the_hub_is_refused_once_pinned(hub: Hub, tmp_path: Path) -> None:
    pull(hub, tmp_path).unlink()
    hub.body = made.gguf(fill=1 << 20)
    with pytest.raises(Problem, match=f"not the pinned {made.sha256(BODY)}") as caught:
        pull(hub, tmp_path)
    assert caught.value.code == "hash_mismatch"
    assert left(tmp_path) == [FILE + ".sha256"]


def test_a_hash_in_the_name_holds(hub: Hub, tmp_path: Path) -> None:
    assert pull(hub, tmp_path, f"{NAME}@sha256:{made.sha256(BODY)}").is_file()
    with pytest.raises(Problem, match="not the pinned 0000"):
        pull(hub, tmp_path, f"{NAME}@sha256:{'0' * 64}")
    assert not (tmp_path / FILE).exists()


def test_a_lost_connection_is_taken_up_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    hub.breaks_at, hub.breaks_left = 1 << 20, 2
    assert pull(hub, tmp_path).read_bytes() == BODY
    assert [span for _, span in hub.asked] == [None, "bytes=1048576-", "bytes=2097152-"]


def test_what_an_earlier_pull_left_is_used(hub: Hub, tmp_path: Path) -> None:
    hub.breaks_at, hub.breaks_left = 300_000, 4
    with pytest.raises(Problem, match="broke off 4 times"):
        pull(hub, tmp_path)
    assert left(tmp_path) == [FILE + ".part", FILE + ".part.etag"]
    assert pull(hub, tmp_path).read_bytes() == BODY
    assert hub.asked[-1][1] == "bytes=1200000-"
    assert left(tmp_path) == [FILE, FILE + ".sha256"]


def test_a_part_of_another_version_is_dropped(hub: Hub, tmp_path: Path) -> None:
    hub.breaks_at, hub.breaks_left = 300_000, 4
    with pytest.raises(Problem, match="broke off"):
        pull(hub, tmp_path)
    hub.body, hub.etag = made.gguf(fill=2 << 20), '"two"'
    assert pull(hub, tmp_path).read_bytes() == hub.body


def test_a_part_longer_than_the_file_is_dropped(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / (FILE + ".part")).write_bytes(bytes(len(BODY) + 5))
    (tmp_path / (FILE + ".part.etag")).write_text(hub.etag)
    assert pull(hub, tmp_path).read_bytes() == BODY


REFUSED = [
    ("not found", {"status": 404}, "does not exist"),
    ("gated", {"status": 403}, "without an account"),
    ("in trouble", {"status": 500}, "answered 500"),
    ("no GGUF", {"body": b"<html>" + bytes(4096)}, "not with b'GGUF'"),
    ("cut GGUF", {"body": BODY[: 1 << 9]}, "past the end"),
    ("sent to another host", {"status": 302, "to": "http://192.0.2.1/x.gguf"}, "not followed"),
    ("sent to another scheme", {"status": 302, "to": "file:///etc/passwd"}, "not followed"),
    ("sent to a hub without TLS", {"status": 302, "to": "http://cdn.hf.co/x.gguf"}, "not followed"),
    ("sent to a name that ends alike", {"status": 302, "to": "https://evilhf.co/x.gguf"}, "not followed"),
]


@pytest.mark.parametrize(("faults", "says"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_refused_fetch_leaves_nothing(hub: Hub, tmp_path: Path, faults: dict[str, object], says: str) -> None:
    for name, value in faults.items():
        setattr(hub, name, value)
    with pytest.raises(Problem, match=says):
        pull(hub, tmp_path)
    assert left(tmp_path) == []


def test_a_redirect_within_the_host_is_followed(hub: Hub, tmp_path: Path) -> None:
    hub.status, hub.to = 302, "/elsewhere"
    assert pull(hub, tmp_path).read_bytes() == BODY
    assert [path for path, _ in hub.asked] == ["/owner/repo/resolve/main/sub/tiny.gguf", "/elsewhere"]


def test_a_row_says_how_long_the_file_is(hub: Hub, tmp_path: Path) -> None:
    row = weights.Weights(kind="hub", repo="owner/repo", file="tiny.gguf", sha256=made.sha256(BODY), size_bytes=7)
    with pytest.raises(Problem, match=f"is {len(BODY)} bytes, where 7 was due"):
        weights.pull("tiny", tmp_path, known={"tiny": row}, hub_base=hub.base)
    assert left(tmp_path) == []
