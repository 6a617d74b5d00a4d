"""The mini through the gateway against its engine called directly: same code and settings, same run, turn by turn."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from msgspec import Struct

from benchmarks.figures import figure
from benchmarks.prepare import Setting
from benchmarks.processes import Failed, free_port, running, wait_for_port
from benchmarks.report import Check, cell
from benchmarks.targets import lilliput_home, serve_command
from lilliput.catalogue.load import LOCAL
from lilliput.cli.embedded import DEFAULT, Mini
from lilliput.config import home, read
from lilliput.neutral import Problem, Target

DECODE_TOKENS = 64
PREFILL_ITEMS = 28  # about 200 tokens
FIRST_ANSWER_S = 120.0


class Line(Struct, frozen=True):
    """One of the two ways to the engine."""

    port: int
    model: str
    key: str


class Speed(Struct, frozen=True):
    decode_per_s: float
    prefill_per_s: float


def stream(line: Line, body: dict[str, object], timeout_s: float) -> Iterator[tuple[float, dict[str, object]]]:
    """The chunks of one streamed chat with the time each came, in seconds from the asking."""
    link = http.client.HTTPConnection("127.0.0.1", line.port, timeout=timeout_s)
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {line.key}"}
        begun = time.perf_counter()
        asked = {"model": line.model, "stream": True, "stream_options": {"include_usage": True}, **body}
        link.request("POST", "/v1/chat/completions", json.dumps(asked), headers)
        answer = link.getresponse()
        if answer.status != 200:
            raise Failed(f"{line.model} answers {answer.status} {answer.read()[:300]!r}")
        for row in answer:
            if row.startswith(b"data: {"):
                yield time.perf_counter() - begun, json.loads(row[6:])
    finally:
        link.close()


def tokens_per_s(line: Line, content: str, max_tokens: int, timeout_s: float = 60) -> Speed:
    """Decode is counted from the first text to the last, prefill from the asking to the first text."""
    body: dict[str, object] = {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,  # llama.cpp's own field: goes on to max_tokens whatever the model would say
    }
    times_s: list[float] = []
    usage: dict[str, int] = {}
    for at_s, chunk in stream(line, body, timeout_s):
        choices = chunk.get("choices")
        if isinstance(choices, list) and choices and choices[0]["delta"].get("content"):
            times_s.append(at_s)
        counted = chunk.get("usage")
        usage = counted if isinstance(counted, dict) else usage
    if not times_s or not usage:
        raise Failed(f"{line.model} streamed {len(times_s)} texts and the usage {usage}")
    decode_s = times_s[-1] - times_s[0]
    decode = (usage["completion_tokens"] - 1) / decode_s if decode_s > 0 else 0.0
    return Speed(decode, usage["prompt_tokens"] / times_s[0])


def prompt(turn: int, way: str) -> str:
    """Text that starts differently each time, so that no cached prefix helps either way."""
    words = (f"{way}{turn}item{i * 7919 % 1009}" for i in range(PREFILL_ITEMS))
    return f"{way} {turn}: sum up this list in a word. " + " ".join(words)


def compare(setting: Setting, rounds: int) -> list[Check]:
    """Decode and prefill both ways, in turn. Each way has an engine process of its own, made by the same code."""
    return asyncio.run(_compare(setting, rounds))


async def _compare(setting: Setting, rounds: int) -> list[Check]:
    env, config, key = lilliput_home(setting.work, "engine", setting.upstream)
    port, log = free_port(), setting.work / "logs/engine.log"
    mini = Mini(home(env), read(config))
    try:
        with running(serve_command(config, port), log, env=env) as gateway:
            wait_for_port(port, gateway, log)
            through = Line(port, f"{LOCAL}/{DEFAULT}", key)
            try:
                await asyncio.to_thread(tokens_per_s, through, "Say hello.", 4, FIRST_ANSWER_S)  # starts its engine
                straight = await mini.wake(Target(provider=LOCAL, model=DEFAULT))
            except (Failed, Problem) as why:
                return [Check("mini, gateway / engine alone", "not measured", ">= 0.95", note=str(why))]
            engine = Line(urlsplit(straight.base).port or 0, DEFAULT, straight.key.reveal() if straight.key else "none")
            seen = await asyncio.to_thread(in_turn, {"gateway": through, "engine": engine}, rounds)
    finally:
        await mini.stop()
    return [
        verdict("decode", [s.decode_per_s for s in seen["gateway"]], [s.decode_per_s for s in seen["engine"]]),
        verdict("prefill", [s.prefill_per_s for s in seen["gateway"]], [s.prefill_per_s for s in seen["engine"]]),
    ]


def in_turn(ways: dict[str, Line], rounds: int) -> dict[str, list[Speed]]:
    """Both ways in each round; the one that goes first changes with each."""
    seen: dict[str, list[Speed]] = {way: [] for way in ways}
    for turn in range(rounds):
        for way in (list(ways), list(reversed(ways)))[turn % 2]:
            decode = tokens_per_s(ways[way], "Tell a long story about a lighthouse.", DECODE_TOKENS).decode_per_s
            prefill = tokens_per_s(ways[way], prompt(turn, way), 1).prefill_per_s
            seen[way].append(Speed(decode, prefill))
    return seen


def verdict(what: str, through: list[float], straight: list[float]) -> Check:
    ratio = figure(a / b for a, b in zip(through, straight, strict=True))
    ours, its = figure(through), figure(straight)
    met = ratio is not None and ratio.median >= 0.95
    return Check(
        f"mini, {what}: gateway / engine alone",
        f"{cell(ratio, spread=True)}; {cell(ours)} to {cell(its)} tokens/s",
        ">= 0.95",
        met,
    )
