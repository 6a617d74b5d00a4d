"""A bundle is checked before it serves, and what its engine does to a guess, each once; the engine is a fake one."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.local.bundles import BASELINE, LABELS, bundle

from lilliput.local.student import Runner, opened
from lilliput.neutral import Problem

COMMAND = (sys.executable, str(Path(__file__).with_name("fake_engine.py")))
MODEL = {"model.gguf": b"weights"}


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "seen"
    path.touch()
    monkeypatch.setenv("GGML_FAKE_STARTS", str(path))
    return path


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


async def until(path: Path, line: str) -> None:
    while line not in path.read_text().splitlines():
        await asyncio.sleep(0.01)


async def broken(guess: Awaitable[Any]) -> str:
    with pytest.raises(Problem) as e:
        await guess
    assert e.value.status == 503
    return e.value.say


def test_a_baseline_needs_no_engine(tmp_path: Path) -> None:
    async def work() -> None:
        runner = Runner(bundle(tmp_path / "b", {"baseline.bin": BASELINE}, calibration=(2.0, 0.5)))
        await runner.start()
        raw, guess = await runner.read("Chess for two"), await runner.guess("Chess for two")
        assert raw.answer == guess.answer == "games"
        assert raw.confidence == pytest.approx(1 / (1 + math.exp(-4.0)))
        assert guess.confidence == pytest.approx(1 / (1 + math.exp(-8.5)))
        await runner.stop()
        assert "not started" in await broken(runner.guess("chess"))

    run(work())


def test_an_ensemble_is_the_mean_of_both(tmp_path: Path, seen: Path) -> None:
    async def work() -> None:
        files = {"baseline.bin": BASELINE, **MODEL}
        runner = Runner(bundle(tmp_path / "b", files, form="ensemble"), command=COMMAND)
        await runner.start()
        guess = await runner.guess("post")
        mail = 1 / (1 + math.exp(-4.0))
        assert guess.answer == "mail"
        assert guess.scores == pytest.approx({"games": (0.7 + 1 - mail) / 2, "mail": (0.3 + mail) / 2})
        assert guess.tokens == (len(" post\n="), 1)
        await runner.stop()

    run(work())


def test_a_crash_fails_its_guess_and_the_engine_comes_back(tmp_path: Path, seen: Path) -> None:
    async def work() -> None:
        runner = Runner(bundle(tmp_path / "b", MODEL, form="model"), command=COMMAND)
        await runner.start()
        await broken(runner.guess("crash"))
        answer = ""
        while not answer:  # nobody waits for the restart
            with suppress(Problem):
                answer = (await runner.guess("chess")).answer
            await asyncio.sleep(0.02)
        assert answer == LABELS[0]
        lines = seen.read_text().splitlines()
        assert lines.count("start 0") == 2
        assert lines.count("read ' crash\\n='") == 1, "what crashed the engine is not asked again"
        await runner.stop()

    run(work())


def test_a_kept_connection_that_was_closed_is_no_failure(tmp_path: Path, seen: Path) -> None:
    async def work() -> None:
        runner = Runner(bundle(tmp_path / "b", MODEL, form="model"), command=COMMAND)
        await runner.start()
        for _ in range(3):
            assert (await runner.guess("part")).answer == LABELS[0]
        assert "answered 500" in await broken(runner.guess("fail"))
        assert "cannot be read" in await broken(runner.guess("garble"))
        many = await asyncio.gather(*(runner.guess(f"text {i}") for i in range(60)))
        assert [g.confidence for g in many] == pytest.approx([0.7] * 60)
        await runner.stop()

    run(work())


def test_who_leaves_ends_the_work(tmp_path: Path, seen: Path) -> None:
    async def work() -> None:
        runner = Runner(bundle(tmp_path / "b", MODEL, form="model"), command=COMMAND)
        await runner.start()
        leaving = asyncio.create_task(runner.guess("hold"))
        await until(seen, "read ' hold\\n='")
        leaving.cancel()
        await until(seen, "left")
        held = asyncio.create_task(runner.guess("hold on"))
        await until(seen, "read ' hold on\\n='")
        await runner.stop()
        assert "engine" in await broken(held)

    run(work())


def test_texts_are_cut_for_labels_and_refused_for_the_rest(tmp_path: Path, seen: Path) -> None:
    async def work() -> None:
        runner = Runner(bundle(tmp_path / "b", MODEL, form="model", max_text_tokens=5), command=COMMAND)
        await runner.start()
        assert (await runner.guess("abcdefgh")).tokens[0] == len(" abcde\n=")
        await runner.stop()
        fields = {"form": "model", "kind": "text", "labels": ()}
        runner = Runner(bundle(tmp_path / "t", MODEL, max_text_tokens=7, **fields), command=COMMAND)
        await runner.start()
        short, long, endless = [await runner.guess(t) for t in ("abcdef", "abcdefgh", "endless")]
        assert (short.answer, long.answer, endless.answer) == ("fine day", "", "")
        assert short.confidence > 0 == long.confidence == endless.confidence
        await runner.stop()

    run(work())


def test_an_adapter_stands_over_its_base(tmp_path: Path, seen: Path) -> None:
    async def work() -> None:
        folder = bundle(tmp_path / "b", {"adapter.gguf": b"lora"}, form="model", base="smollm2-135m")
        assert "lilliput pull smollm2-135m" in await broken(Runner(folder, tmp_path, command=COMMAND).start())
        base = tmp_path / "base.gguf"
        base.write_bytes(b"weights")
        runner = Runner(folder, base, command=COMMAND)
        await runner.start()
        assert "start 1" in seen.read_text().splitlines()
        await runner.stop()

    run(work())


BROKEN = [
    ("no manifest", lambda b: (b / "student.json").unlink(), "student.json"),
    ("no JSON", lambda b: (b / "student.json").write_bytes(b"{"), "cannot be read"),
    ("another threshold", lambda b: edit(b, b'"confidence":0.0', b'"confidence":0.1'), "was changed"),
    ("another file", lambda b: (b / "baseline.bin").write_bytes(BASELINE[:-1] + b"x"), "another baseline.bin"),
    ("no file", lambda b: (b / "baseline.bin").unlink(), "baseline.bin"),
    ("a file outside", lambda b: bundle(b, {"../x": BASELINE}), "outside"),
]


def edit(folder: Path, old: bytes, new: bytes) -> None:
    raw = (folder / "student.json").read_bytes()
    assert old in raw
    (folder / "student.json").write_bytes(raw.replace(old, new))


@pytest.mark.parametrize(("name", "do", "say"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_bundle_that_is_not_whole_is_refused(tmp_path: Path, name: str, do: Any, say: str) -> None:
    folder = bundle(tmp_path / "b", {"baseline.bin": BASELINE})
    assert opened(folder).labels == LABELS
    do(folder)
    with pytest.raises(Problem, match=say) as e:
        opened(folder)
    assert (e.value.status, e.value.code) == (503, "student_broken")
