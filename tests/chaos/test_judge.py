"""The judge: exact outcomes pass, honest ones are partial, and whatever misleads a caller fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lilliput.chaos import faults
from lilliput.chaos.client import Seen
from lilliput.chaos.judge import Verdict, judge, judge_leaving
from lilliput.chaos.kinds import CANARY
from lilliput.chaos.scenario import Ends, Fails, Outcome

GOOD: tuple[Outcome, ...] = (Ends("hi"),)
CUT: tuple[Outcome, ...] = (Fails(faults.TRUNCATED, "hi", mid=True),)
BROKEN: tuple[Outcome, ...] = (Fails(faults.BROKEN),)
LIMITED: tuple[Outcome, ...] = (Fails(faults.LIMITED, retry_after="7"),)


def event(**fields: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(fields).encode()


def delta(text: str | None = None, finish: str | None = None) -> bytes:
    return event(choices=[{"delta": {"content": text} if text else {}, "finish_reason": finish}])


def error(code: str | None, **more: Any) -> dict[str, Any]:
    return {"error": {"message": "no", "type": "server_error", "param": None, "code": code, **more}}


HI, STOP, DONE = delta("hi"), delta(finish="stop"), b"data: [DONE]\n\n"
TOLD = event(**error("upstream_truncated"))


def events(*parts: bytes, whole: bool = True) -> Seen:
    return Seen(200, {"content-type": "text/event-stream"}, b"".join(parts), whole)


def answer(status: int, body: Any, **headers: str) -> Seen:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Seen(
        status, {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}, data, True
    )


STREAMS: list[tuple[str, Seen, tuple[Outcome, ...], str, str]] = [
    ("good", events(HI, STOP, DONE), GOOD, "pass", ""),
    ("no end mark", events(HI, STOP), GOOD, "fail", "no end"),
    ("no finish", events(HI, DONE), GOOD, "fail", "no end"),
    ("other text", events(delta("ho"), STOP, DONE), GOOD, "fail", "character 1"),
    ("text twice", events(HI, HI, STOP, DONE), GOOD, "fail", "character 2"),
    ("an error at a good end", events(HI, STOP, TOLD), GOOD, "partial", "with an error"),
    ("broken at a good end", events(HI, STOP, DONE, whole=False), GOOD, "partial", "breaks the connection"),
    ("said late", events(HI, STOP, DONE, HI), GOOD, "fail", "junk"),
    ("length shown as stop", events(HI, STOP, DONE), (Ends("hi", "length"),), "fail", "finish 'stop'"),
    ("stop shown as length", events(HI, delta(finish="length"), DONE), GOOD, "partial", "finish 'length'"),
    ("refused", answer(502, error("upstream_error")), GOOD, "partial", "refuses"),
    ("500", answer(500, error(None)), GOOD, "fail", "spoils"),
    ("400", answer(400, error(None)), GOOD, "fail", "spoils"),
    ("hung", Seen(200, {}, HI, hung=True), GOOD, "fail", "hangs"),
    ("nothing", Seen(), CUT, "fail", "no answer"),
    ("told", events(HI, TOLD), CUT, "pass", ""),
    ("told by another word", events(HI, event(**error("oh"))), CUT, "partial", "told as"),
    ("told and ended well", events(HI, STOP, TOLD), CUT, "fail", "at once"),
    ("told, then an end mark", events(HI, TOLD, DONE), CUT, "partial", "end mark follows"),
    ("told, then more", events(HI, TOLD, HI), CUT, "fail", "junk"),
    ("never closed", Seen(200, {}, HI + STOP + DONE, hung=True), GOOD, "partial", "not closed"),
    ("told, the text lost", events(TOLD), CUT, "partial", "differs"),
    ("told after other text", events(delta("ho"), TOLD), CUT, "fail", "differs"),
    ("told, then broken", events(HI, TOLD, whole=False), CUT, "partial", "then the connection"),
    ("false success", events(HI, STOP, DONE), CUT, "fail", "false success"),
    ("an end mark alone", events(HI, DONE), CUT, "fail", "false success"),
    ("silence", events(HI), CUT, "fail", "silence"),
    ("broken without a word", events(HI, whole=False), CUT, "partial", "without a word"),
    ("junk", events(HI, b"data: {\n\n"), CUT, "fail", "junk"),
    ("withheld", answer(502, error("upstream_truncated")), CUT, "partial", "withheld"),
    ("in a 200 though it could be a status", events(TOLD), BROKEN, "partial", "could be a status"),
    ("an error of its own shape", events(HI, event(error="no")), CUT, "partial", "shape"),
]
WHOLES: list[tuple[str, Seen, tuple[Outcome, ...], str, str]] = [
    ("502", answer(502, error("upstream_invalid")), BROKEN, "pass", ""),
    ("503 for 502", answer(503, error("upstream_invalid")), BROKEN, "partial", "in place of 502"),
    ("500", answer(500, error("upstream_invalid")), BROKEN, "fail", "in place of 502"),
    ("the caller blamed", answer(400, error("upstream_invalid")), BROKEN, "fail", "in place of 502"),
    ("a page", answer(502, b"<html>"), BROKEN, "fail", "junk"),
    ("a 200 with an error", answer(200, error("x")), BROKEN, "fail", "as a 200"),
    ("a 200 with a page", answer(200, b"<html>"), BROKEN, "fail", "junk"),
    ("a 200 of some sort", answer(200, {"html-message": "x"}), BROKEN, "fail", "silence"),
    ("429", answer(429, error("rate_limit_exceeded"), retry_after="7"), LIMITED, "pass", ""),
    ("429, Retry-After lost", answer(429, error("rate_limit_exceeded")), LIMITED, "fail", "lost"),
    ("429, another Retry-After", answer(429, error("rate_limit_exceeded"), retry_after="9"), LIMITED, "partial", "9"),
    ("429, code lost", answer(429, error(None), retry_after="7"), LIMITED, "partial", "told as"),
    ("a key", answer(502, error("upstream_invalid", message=f"bad {CANARY}")), BROKEN, "fail", "shows a key"),
]
ROWS = [(True, *row) for row in STREAMS] + [(False, *row) for row in WHOLES]


@pytest.mark.parametrize(("stream", "name", "seen", "exact", "grade", "why"), ROWS, ids=[row[1] for row in ROWS])
def test_verdicts(stream: bool, name: str, seen: Seen, exact: tuple[Outcome, ...], grade: str, why: str) -> None:
    verdict = judge("chat", stream, seen, exact, ours=True)
    assert verdict.grade == grade, verdict
    assert why in verdict.why
    assert bool(verdict.why) == (grade != "pass")


def test_words_of_our_own_are_asked_of_us_alone() -> None:
    seen = events(HI, event(**error("stream_broke")))
    assert judge("chat", True, seen, CUT, ours=True).grade == "partial"
    assert judge("chat", True, seen, CUT, ours=False).grade == "pass"
    seen = answer(429, error("throttled"), retry_after="7")
    assert judge("chat", False, seen, LIMITED, ours=False).grade == "partial", "a word of OpenAI's is asked of all"


def test_a_500_is_milder_where_the_provider_said_500() -> None:
    exact: tuple[Outcome, ...] = (Fails(faults.FAILED),)
    assert judge("chat", False, answer(500, error("x")), exact, ours=False, failed=True).grade == "partial"


def test_messages_are_judged_by_their_type() -> None:
    for kind, grade in (("api_error", "pass"), ("overloaded_error", "partial")):
        seen = answer(502, {"type": "error", "error": {"type": kind, "message": "no"}})
        assert judge("messages", False, seen, BROKEN, ours=True).grade == grade


def test_any_of_the_exact_outcomes_will_do() -> None:
    assert judge("chat", True, events(HI, TOLD), GOOD + CUT, ours=True).grade == "pass"
    assert judge("chat", True, events(HI, STOP, DONE), GOOD + CUT, ours=True).grade == "pass"


def test_leaving_is_judged_by_the_clock() -> None:
    assert judge_leaving(0.2) == Verdict("pass")
    assert judge_leaving(3.0).grade == "partial"
    assert judge_leaving(None).grade == "fail"
