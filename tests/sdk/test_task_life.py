"""The life of a task, ordered through the HTTP API, under OpenAI's own client, which makes the same call throughout."""

from __future__ import annotations

import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from openai import OpenAI
from tests.live import Live

pytestmark = pytest.mark.slow

WORDS = {
    "billing": ["invoice", "refund", "charge", "card", "payment", "receipt", "vat", "overcharged", "price", "tariff"],
    "delivery": ["parcel", "courier", "late", "tracking", "address", "box", "shipped", "arrived", "driver", "door"],
    "account": ["password", "login", "email", "username", "locked", "reset", "profile", "signin", "code", "avatar"],
}
FILLER = [
    *("please", "help", "me", "with", "my", "it", "is", "again", "since", "monday"),
    "nobody",
    "could",
    "tell",
    "why",
]
CONFIG = """
[ledger]
on = true

[providers.scripted]
base = "http://127.0.0.1:{port}/v1"
allow_private = true
key_env = ""
dialect = "openai_chat"

[models."scripted/big"]
price = {{ input = 2.5, output = 10.0 }}
"""
SETTINGS = ("--set", "method=none", "--set", "shares=0.45,0.35,0.2")
ROWS = 700


def tickets(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts with the label that the teacher gives them; each is another."""
    dice, made = random.Random(seed), dict[str, str]()
    while len(made) < count:
        label = dice.choice(sorted(WORDS))
        words = dice.sample(WORDS[label], 3) + dice.sample(FILLER, 6)
        dice.shuffle(words)
        made[f"{' '.join(words)} {dice.randrange(10**6)}"] = label
    return list(made.items())


class Teacher:
    """What it answers; `changed` makes it call one class by another's name."""

    def __init__(self) -> None:
        self.calls, self.changed, self.is_away = 0, False, False

    def label(self, text: str) -> str:
        said = max(WORDS, key=lambda name: sum(w in WORDS[name] for w in text.split()))
        return "account" if self.changed and said == "billing" else said


@contextmanager
def serving(teacher: Teacher) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            teacher.calls += 1
            text = teacher.label(asked["messages"][-1]["content"])
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}
            body = {"id": "t", "object": "chat.completion", "created": 1, "model": "big"}
            data = json.dumps({**body, "choices": [choice], "usage": usage}).encode()
            self.send_response(503 if teacher.is_away else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class Api:
    """Orders over HTTP: status and JSON."""

    def __init__(self, base: str, key: str) -> None:
        self.base, self.head = base, {"authorization": f"Bearer {key}", "content-type": "application/json"}

    def __call__(self, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.base + path, data, self.head), timeout=30
            ) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.load(refused)


def until(is_so: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def test_the_life_of_a_task() -> None:
    teacher = Teacher()
    with serving(teacher) as port, Live(CONFIG.format(port=port)) as live:
        mine = json.loads(live.lilliput("key", "create", "--name", "app", "--json"))
        api = Api(live.v1, live.key)
        client = OpenAI(base_url=live.v1, api_key=mine["key"], max_retries=0, timeout=30)

        def ask(text: str) -> tuple[str, dict[str, str]]:
            """The call of the user's code: it never changes."""
            answer = client.chat.completions.with_raw_response.create(
                model="task/sort", messages=[{"role": "user", "content": text}]
            )
            said = answer.parse().choices[0].message.content or ""
            parts = [p.strip().partition("=") for p in answer.headers["x-lilliput-route"].split(";")[1:]]
            return said, {name: value for name, _, value in parts}

        def order(path: str, **body: Any) -> dict[str, Any]:
            status, told = api(f"/tasks/sort/{path}" if path else "/tasks", body)
            assert status == 200, told
            return told

        def task() -> dict[str, Any]:
            return api("/tasks/sort")[1]

        def rows() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = api("/tasks/sort/rows?limit=1000")[1]["data"]
            return found

        # From its first call the name is simply the teacher, and nothing is kept.
        order("", name="sort", teacher="scripted/big", kind="label", labels=sorted(WORDS), audit_share=1.0)
        said, route = ask("my card payment was refused")
        assert (said, route["by"]) == ("billing", "teacher")
        assert rows() == []

        # Capture: with consent, for one key.
        order("state", to="capturing", key="app", consent="Tickets of the test.", terms="allowed")
        until(lambda: ask("the parcel is late")[1]["why"] == "capturing", "it captures")
        calls = tickets(ROWS, seed=1)
        assert all(ask(text)[0] == label for text, label in calls)
        until(lambda: len(rows()) >= ROWS, "the rows are kept")
        row = rows()[-1]
        assert row["consent"] == "Tickets of the test."
        assert row["teacher"].endswith("scripted/big")

        # The studio publishes a student, which answers in silence first.
        lines = live.lilliput("studio", "run", "sort", *SETTINGS, "--json").splitlines()
        student = json.loads(lines[-1])["student"]
        assert student, lines[-1]
        until(lambda: task()["state"] == "shadow" and ask("password reset")[1]["by"] == "teacher", "it is in shadow")
        before = teacher.calls
        for text, label in tickets(40, seed=2):
            assert ask(text)[0] == label
        assert teacher.calls - before == 40
        until(lambda: api("/tasks/sort/savings")[1]["shadow"]["items"] >= 30, "it is compared in silence")

        # Live: it answers where it is sure; what it cannot know is the teacher's.
        order("student", student=student, live=True)
        until(lambda: ask("refund the overcharged invoice")[1]["by"] == "student", "it is live")
        answers = [(*ask(text), label) for text, label in tickets(120, seed=3)]
        served = [a for a in answers if a[1]["by"] == "student"]
        assert len(served) >= 60
        assert sum(said == label for said, _, label in served) >= 0.95 * len(served)
        assert all(a[1]["student"] == student[:8] and a[1]["why"] == "sure" for a in served)
        said, route = ask("qwerty zxcvb")
        assert (route["by"], route["why"]) == ("teacher", "unsure")
        savings = api("/tasks/sort/savings")[1]
        assert float(savings["saved_usd"]) != 0

        # Drift: the teacher changes its mind about one class; the audit demotes the student by itself.
        teacher.changed = True
        asked = 0
        for text, _ in tickets(600, seed=4):
            ask(text)
            asked += 1
            if asked % 20 == 0 and task()["state"] != "live":
                break
        assert task()["state"] in ("shadow", "paused"), f"not demoted after {asked} calls"
        assert "demoted" in task()["why"]
        until(lambda: ask("refund the overcharged invoice")[1]["by"] == "teacher", "the teacher answers again")

        # Forget: nothing of the key is left, and its student is blocked.
        status, report = api("/forget", {"key": mine["id"]})
        assert status == 200, report
        assert rows() == []
        assert student in json.dumps(report)
        status, refused = api("/tasks/sort/student", {"student": student})
        assert status in (403, 404, 409), refused
        assert ask("the parcel is late")[1]["by"] == "teacher"
