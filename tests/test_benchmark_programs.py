"""The benchmark's two C programs and its process accounts, each run for a fraction of a second."""

from __future__ import annotations

import json
import re
import shutil
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from benchmarks import peers
from benchmarks.__main__ import TARGETS
from benchmarks.checks import sent_until_answered
from benchmarks.measure import ANTHROPIC, METRICS, OPENAI, Door, Sample, cpu_s, load_command, memory, window
from benchmarks.prepare import Setting, body_path, build, write_bodies
from benchmarks.processes import Failed, free_port, running, tree, wait_for_line, wait_for_port
from benchmarks.run import ask, measured


class Upstream(msgspec.Struct, frozen=True):
    work: Path
    door: Door
    pid: int

    def load(self, kind: str, connections: int, *options: str) -> Sample:
        body = body_path(self.work, kind, self.door)
        return window(load_command(self.work / "bin/load", self.door, body, connections, *options), self.pid)

    def body(self, kind: str) -> bytes:
        return body_path(self.work, kind, self.door).read_bytes()

    def speaking(self, dialect: str) -> Upstream:
        return msgspec.structs.replace(self, door=Door(port=self.door.port, dialect=dialect))


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    if not shutil.which("cc") or not shutil.which("taskset"):
        pytest.skip("needs a C compiler and taskset")
    work, port = tmp_path_factory.mktemp("bench"), free_port()
    build(work)
    with running([work / "bin/mock", str(port)], work / "mock.log") as process:
        wait_for_port(port, process, work / "mock.log")
        found = Upstream(work, Door(port=port), process.pid)
        for one in (found, found.speaking(ANTHROPIC)):
            write_bodies(work, one.door)
        yield found


def test_mock_answers_whole(upstream: Upstream) -> None:
    status, said = ask(upstream.door, upstream.body("chat"))
    answer = json.loads(said)
    assert status == 200
    assert 900 <= len(said) <= 1300
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]


def test_mock_streams_a_hundred_chunks_and_usage(upstream: Upstream) -> None:
    status, said = ask(upstream.door, upstream.body("stream"))
    events = [json.loads(line[6:]) for line in said.splitlines() if line.startswith(b"data: {")]
    texts = [e["choices"][0]["delta"].get("content") for e in events if e["choices"]]
    assert status == 200
    assert texts.count("@" + "0" * 19) == 100
    assert events[-1]["usage"]["completion_tokens"] == 100
    assert said.endswith(b"data: [DONE]\n\n")


def test_mock_speaks_anthropic(upstream: Upstream) -> None:
    anthropic = upstream.speaking(ANTHROPIC)
    status, said = ask(anthropic.door, anthropic.body("chat"))
    answer = json.loads(said)
    assert status == 200
    assert 900 <= len(said) <= 1300
    assert "reminder for Thursday" in answer["content"][0]["text"]
    status, said = ask(anthropic.door, anthropic.body("stream"))
    named = re.findall(rb"event: (\w+)\ndata: (.+)\n\n", said)
    events = [json.loads(data) for _, data in named]
    assert status == 200
    assert [e["type"].encode() for e in events] == [name for name, _ in named]
    assert [e["delta"]["text"] for e in events if e["type"] == "content_block_delta"] == ["@" + "0" * 19] * 100
    assert (events[0]["type"], events[-1]["type"]) == ("message_start", "message_stop")


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC])
def test_mock_paces_and_stamps(upstream: Upstream, dialect: str) -> None:
    upstream = upstream.speaking(dialect)
    body = upstream.body("paced").replace(b"pace_us=20000", b"pace_us=100")
    said = ask(upstream.door, body)[1]
    stamps = [int(digits) for digits in re.findall(rb"@(\d{19})", said)]
    assert len(stamps) == 100
    assert 0 < stamps[0] < stamps[-1] <= time.monotonic_ns()


def test_mock_reads_chunked_and_pipelined_requests(upstream: Upstream) -> None:
    chunked = b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    listed = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
    said = b""
    with socket.create_connection(("127.0.0.1", upstream.door.port), 5) as link:
        for byte in chunked + listed:
            link.send(bytes([byte]))
        while b"owned_by" not in said:
            said += link.recv(65536)
    assert said.count(b"HTTP/1.1 200 OK") == 2
    assert said.index(b"chat.completion") < said.index(b'up-model","object":"model')


LOADS = [
    *((OPENAI, kind, n) for kind, n in (("chat", 1), ("chat", 16), ("chat20k", 4), ("chat500k", 2), ("stream", 4))),
    *((ANTHROPIC, kind, n) for kind, n in (("chat", 4), ("stream", 4))),
]


@pytest.mark.parametrize(("dialect", "kind", "connections"), LOADS)
def test_load_measures_without_failures(upstream: Upstream, dialect: str, kind: str, connections: int) -> None:
    got = upstream.speaking(dialect).load(kind, connections, "-w", "0.01", "-d", "0.1")
    load = got.load
    assert load.ok > 0
    assert (load.failed, load.bad_status, load.reopened) == (0, 0, 0)
    assert 0 < load.p50_us <= load.p90_us <= load.p99_us
    assert load.p99_us <= load.max_us * 1.01  # a step of the histogram
    assert load.connections == connections
    assert got.cpu_share > 0
    assert (load.chunks_per_s > 0) is (kind == "stream")


@pytest.mark.parametrize(("name", "pace_us"), [("microseconds", 0), ("a twentieth of a second", 500)])
def test_quantiles_are_true_to_their_histogram(upstream: Upstream, tmp_path: Path, name: str, pace_us: int) -> None:
    body = tmp_path / "body.json"
    body.write_bytes(upstream.body("paced").replace(b"pace_us=20000", b"pace_us=%d" % pace_us))
    options = ("-w", "0", "-d", "5", "-n", "1")
    load = window(load_command(upstream.work / "bin/load", upstream.door, body, 1, *options), None).load
    assert load.ok == 1
    for quantile_us in (load.p50_us, load.p90_us, load.p99_us):
        assert quantile_us == pytest.approx(load.max_us, rel=1 / 256, abs=0.1)


def test_load_reads_the_delay_off_paced_chunks(upstream: Upstream) -> None:
    load = upstream.load("paced", 10, "-w", "0.05", "-d", "0.2", "-s", "20").load
    assert load.chunks_per_s > 0
    assert 0 < load.delay_p50_us <= load.delay_p99_us


def test_load_stops_after_so_many(upstream: Upstream) -> None:
    load = upstream.load("chat", 8, "-w", "0", "-d", "20", "-n", "1000").load
    assert 1000 <= load.ok <= 1008
    assert load.seconds < 20


def test_open_loop_asks_at_its_rate(upstream: Upstream) -> None:
    load = upstream.load("chat", 8, "-w", "0", "-d", "0.2", "-r", "500").load
    assert 90 <= load.ok <= 101


def answering(answer: bytes) -> tuple[socketserver.TCPServer, threading.Thread]:
    """A server that gives each connection one canned answer and closes it."""

    class Canned(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(answer)

    server = socketserver.TCPServer(("127.0.0.1", 0), Canned)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    return server, thread


ANSWERS = [
    ("a refusal counts as failed", b"HTTP/1.1 429 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno", False, 429),
    ("a body cut short counts as failed", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", False, 0),
    ("a stream cut short counts as failed", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", False, 0),
    ("a body may end with the connection", b"HTTP/1.1 200 OK\r\n\r\nall", True, 0),
]


@pytest.mark.parametrize(("name", "answer", "fine", "status"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_load_counts_failures(upstream: Upstream, name: str, answer: bytes, fine: bool, status: int) -> None:
    server, thread = answering(answer)
    try:
        door = Door(port=server.server_address[1])
        body = body_path(upstream.work, "chat", door)
        options = ("-w", "0", "-d", "5", "-n", "5")
        load = window(load_command(upstream.work / "bin/load", door, body, 1, *options), None).load
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert (load.ok > 0, load.failed > 0, load.bad_status) == (fine, not fine, status)


def test_accounts_of_a_process(upstream: Upstream) -> None:
    before = cpu_s(upstream.pid)
    upstream.load("chat", 4, "-w", "0", "-d", "5", "-n", "5000")
    assert cpu_s(upstream.pid) > before
    assert 0 < memory(upstream.pid).pss_mb <= memory(upstream.pid).rss_mb < 50


def test_polite_sender_stops_at_the_answer() -> None:
    server, thread = answering(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    try:
        assert sent_until_answered(Door(port=server.server_address[1])) == (401, 0)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_processes_end_with_their_children(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(["sh", "-c", "sleep 60 & echo port 12; wait"], log) as process:
        assert wait_for_line(r"port (\d+)", process, log, 5) == "12"
        family = tree(process.pid)
        assert len(family) == 2
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/cwd").exists() for pid in family):  # the child is told to end, and ends a moment later
        assert time.monotonic() < until


def test_a_server_that_ends_is_not_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        running(["sh", "-c", "echo no such option; exit 3"], log) as process,
        pytest.raises(Failed, match="no such opt"),
    ):
        wait_for_port(free_port(), process, log, 20)


def test_a_round_measures_direct(tmp_path: Path, upstream: Upstream) -> None:
    setting = Setting(upstream.work, free_port(), free_port())
    broken = msgspec.structs.replace(TARGETS["litellm"], plan=lambda _: peers.installed("litellm", "no/such/file"))
    metric = msgspec.structs.replace(METRICS["c1"], seconds=0.1)
    targets = [msgspec.structs.replace(TARGETS["direct"], warm_s=0.05), broken]
    servers, rows, left_out = measured(setting, targets, [metric], 2, full=False)
    assert [s.name for s in servers] == ["direct"]
    assert [(r.round, r.target, r.metric) for r in rows] == [(1, "direct", "c1"), (2, "direct", "c1")]
    assert "litellm is not installed" in left_out["litellm"]
