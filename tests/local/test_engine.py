"""The supervisor, with a stand-in for its process: one start at a time, honest refusals, restarts, a clean end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lilliput.local.engine import Engine
from lilliput.local.settings import GIB, Settings, decode_threads, memory_limit, prompt_threads, stuck_limit_s
from lilliput.neutral import Problem, Secret

FAKE = (sys.executable, "-S", str(Path(__file__).with_name("fake_worker.py")))
TURNS = 500


class Bench:
    """An engine on a file of its own, a clock that stands still, and what its processes were told."""

    def __init__(self, root: Path, does: str = "ready", settings: Settings | None = None) -> None:
        self.weights, self.starts_file = root / "w.gguf", root / "starts"
        self.weights.write_bytes(b"GGUF")
        self.now_s = 1000.0
        env = {**os.environ, "GGML_FAKE_DOES": does, "GGML_FAKE_STARTS": str(self.starts_file), "MY_API_KEY": "sk-1"}
        self.engine = Engine(
            self.weights, settings, alias="mini", sha256="ab", env=env, clock=lambda: self.now_s, command=FAKE
        )

    @property
    def starts(self) -> list[dict[str, dict[str, object]]]:
        return [json.loads(line) for line in self.starts_file.read_text().splitlines()]

    async def gone(self) -> None:
        """Wait until the process is over."""
        for _ in range(TURNS):
            if not self.engine.running:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the process is still there")


def run(bench: Bench, play: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        try:
            await play()
        finally:
            await bench.engine.stop()

    asyncio.run(whole())


def test_it_starts_once_for_all_who_wait(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def play() -> None:
        assert not bench.engine.running
        found = await asyncio.gather(*(bench.engine.address() for _ in range(10)))
        assert set(found) == {f"http://127.0.0.1:{bench.engine.pid}/v1"}
        assert bench.engine.running

    run(bench, play)
    assert len(bench.starts) == 1
    assert not bench.engine.running


def test_its_process_gets_an_order_and_no_secrets_of_ours(tmp_path: Path) -> None:
    bench = Bench(tmp_path, settings=Settings(parallel=2))

    async def play() -> None:
        await bench.engine.address()

    run(bench, play)
    (start,) = bench.starts
    order = start["order"]
    assert (order["weights"], order["alias"], order["sha256"]) == (str(bench.weights), "mini", "ab")
    assert order["parent"] == os.getpid()
    assert bench.engine.key == Secret(str(order["key"]))
    assert len(str(order["key"])) > 30
    assert isinstance(order["settings"], dict)
    assert order["settings"]["parallel"] == 2
    assert str(order["key"]) not in str(start["argv"])
    assert "MY_API_KEY" not in start["env"]
    assert start["env"]["OMP_WAIT_POLICY"] == "passive"


def test_a_caller_who_leaves_does_not_stop_a_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def play() -> None:
        first = asyncio.create_task(bench.engine.address())
        second = asyncio.create_task(bench.engine.address())
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).endswith("/v1")

    run(bench, play)
    assert len(bench.starts) == 1


def test_a_killed_process_is_noticed_and_replaced(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def play() -> None:
        first = await bench.engine.address()
        assert bench.engine.pid is not None
        os.kill(bench.engine.pid, signal.SIGKILL)
        await bench.gone()
        assert await bench.engine.address() != first

    run(bench, play)
    assert len(bench.starts) == 2
    assert bench.starts[0]["order"]["key"] == bench.starts[1]["order"]["key"]


REFUSED = [
    ("its own word", "refuse", "no such luck", 1),
    ("a line of its log", "die", "exit code 3: srv load: the cat w.gguf ate it", 1),
    ("garbage", "garble", "exit code 0", 1),
    ("nothing in time", "hang", r"not ready after 0\.2 s", 1),
]


@pytest.mark.parametrize(("does", "says", "starts"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_a_failed_start_is_a_503_with_its_reason_and_a_pause(tmp_path: Path, does: str, says: str, starts: int) -> None:
    bench = Bench(tmp_path, does, Settings(start_timeout_s=0.2 if does == "hang" else 20))
    says = says.replace("w.gguf", "/weights.gguf") if does == "die" else says

    async def play() -> None:
        for _ in range(3):
            with pytest.raises(Problem, match=says) as caught:
                await bench.engine.address()
            assert (caught.value.status, caught.value.code) == (503, "engine_unavailable")
            assert caught.value.retry_after_s == 1.0
            assert caught.value.say.startswith("the local model mini cannot run: ")
        assert not bench.engine.running
        if does != "hang":
            assert len(bench.starts) == starts

    run(bench, play)


def test_the_pause_grows_and_ends(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "refuse")

    async def play() -> None:
        for pause_s in (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
            with pytest.raises(Problem) as caught:
                await bench.engine.address()
            assert caught.value.retry_after_s == pause_s
            bench.now_s += pause_s

    run(bench, play)
    assert len(bench.starts) == 7


def test_another_file_in_its_place_is_tried_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "refuse")

    async def play() -> None:
        for size in (4, 5):
            bench.weights.write_bytes(bytes(size))
            with pytest.raises(Problem):
                await bench.engine.address()

    run(bench, play)
    assert len(bench.starts) == 2


def test_a_process_that_keeps_ending_is_given_a_pause(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "ends")

    async def play() -> None:
        async def over_and_over() -> None:
            for _ in range(TURNS):
                await bench.engine.address()
                await bench.gone()

        with pytest.raises(
            Problem, match="ended 3 times within 30 s; at last its process was ended by SIGKI"
        ) as caught:
            await over_and_over()
        assert caught.value.retry_after_s == 1.0
        assert 3 <= len(bench.starts) <= 4
        bench.now_s += 60
        await bench.engine.address()

    run(bench, play)


def test_no_more_than_the_end_of_its_log_is_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "noisy")

    async def play() -> None:
        await bench.engine.address()
        for _ in range(TURNS):
            if bench.engine.log.endswith("last line\n"):
                break
            await asyncio.sleep(0.01)
        assert len(bench.engine.log) <= 8192

    run(bench, play)
    assert bench.engine.log.endswith("last line\n")


def test_a_stop_is_final_and_kills_what_does_not_listen(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "deaf")

    async def play() -> None:
        await bench.engine.address()
        pid = bench.engine.pid
        assert pid is not None
        await bench.engine.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        with pytest.raises(Problem, match="was stopped"):
            await bench.engine.address()
        await bench.engine.stop()

    run(bench, play)
    assert len(bench.starts) == 1


def test_a_stop_ends_a_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "hang")

    async def play() -> None:
        waiting = asyncio.create_task(bench.engine.address())
        for _ in range(TURNS):
            if bench.starts_file.exists():
                break
            await asyncio.sleep(0.01)
        await bench.engine.stop()
        with pytest.raises(Problem, match="was stopped"):
            await waiting

    run(bench, play)


def test_a_command_that_does_not_exist_is_a_problem(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "none.gguf", command=(str(tmp_path / "none"),), env={})

    async def play() -> None:
        with pytest.raises(Problem, match="does not start"):
            await engine.address()
        await engine.stop()

    asyncio.run(play())


def test_what_is_not_set_is_worked_out() -> None:
    auto, own = Settings(), Settings(threads=3, prefill_threads=5, memory_bytes=7, stuck_s=9)
    assert [(decode_threads(auto, n), prompt_threads(auto, n)) for n in (0, 1, 2, 8)] == [
        (1, 1),
        (1, 1),
        (1, 2),
        (7, 8),
    ]
    assert (decode_threads(own, 2), prompt_threads(own, 2)) == (3, 5)
    assert (memory_limit(auto, GIB), memory_limit(own, GIB)) == (4 * GIB, 7)
    assert (stuck_limit_s(auto, GIB), stuck_limit_s(own, GIB)) == (90.0, 9)
