"""Whether what came is right: each function returns what is wrong, "" where nothing is. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from tests.conformance.cases import OUR_KEY, Case
from tests.conformance.client import Heard
from tests.conformance.doors import DOORS, TOLD, Body, as_told, first_candidate
from tests.conformance.kit import Facts, Kit, same_json

SAID = ("text", "reasoning", "tool_calls", "finish_reason", "usage", "refusal", "media_out", "choices")
"""The facts that the chat dialect tells, and every dialect to its own clients."""
OUR_KEY_400 = re.compile(r"API key not valid|Incorrect API key|API key expired")
"""How Gemini and xAI say in a 400 that the gateway's own key is bad: the caller may be told 502 there too."""
AGAIN = {200, 429, *range(500, 600)}
"""Errors (200: told in the answer itself) after which another try is no surprise."""
CREDENTIALS = {"authorization", "x-api-key", "x-goog-api-key", "api-key"}


def answer(kit: Kit, case: Case, heard: Heard, door: str = "chat", *, same: bool = False, usage: bool = True) -> str:
    """The client's answer against the provider's: every fact, or the error's status class and message.

    `same` tells that client and provider speak one dialect, so that nothing may differ.
    """
    want = case.said
    if want["error"]:
        return _error(kit, case, heard, door)
    if heard.status != 200 or not heard.is_whole:
        return f"status {heard.status}, whole {heard.is_whole}: {heard.body[:200]!r}"
    try:
        body = first_candidate(heard.body) if door == "gemini" and case.kind == "stream" else heard.body
        got = kit.answer_facts(DOORS[door].api, _kind(case), heard.status, body)
    except ValueError as e:
        return str(e)
    if not same:
        want, got = as_told(door, want, got)
    if got["error"] and want["finish_reason"]:
        return f"an error nobody sent: {got['error']}"
    names = SAID if same or door == "chat" else TOLD
    wrong = differs(want, got, names if usage else tuple(n for n in names if n != "usage"))
    if wrong:
        return wrong
    if case.kind == "stream" and not DOORS[door].clean.search(heard.body):
        return f"the stream does not end as the dialect wants: {heard.body[-160:]!r}"
    return ""


def differs(want: Facts, got: Facts, names: Iterable[str] = SAID) -> str:
    """The first of the named facts that is not the same."""
    for name in names:
        if name in want and (want.get(name) or None) != (got.get(name) or None):
            return f"{name}: want {_short(want.get(name))} got {_short(got.get(name))}"
    return ""


def refusal(want: Facts, message: str | None, status: int, wanted_class: int) -> str:
    """A provider's error as it was told: its message, and a status of the class wanted (0 for any error)."""
    if not _keeps(want["message"], message):
        return f"message: want {_short(want['message'])} got {_short(message)}"
    if want["status"] == 400 and status == 502 and OUR_KEY_400.search(want["message"]):
        return ""
    if want["status"] in OUR_KEY:
        return "" if status == 502 else f"status: want 502 for the gateway's own key, got {status}"
    if want["status"] >= 400 and status // 100 != wanted_class:
        return f"status: want {want['status']} got {status}"
    return ""


def request(kit: Kit, case: Case, arrived: list[Facts], asked: Facts | None) -> str:
    """What reached the provider against what was asked: one call, to the right operation, with the same facts."""
    wrong = _one_call(case, arrived)
    if wrong or case.asked is None or asked is None:
        return wrong
    got = kit.expect.facts_of(case.api, arrived[0]["path"], arrived[0]["json"])
    if case.asked["model"] and got["model"] != case.asked["model"]:
        return f"model: want {case.asked['model']!r} got {got['model']!r}"
    differences = kit.expect.compare(asked, got, ignore=())
    if case.api == "bedrock.invoke":  # prompt forms have names of their own for the limit, which the parser leaves out
        differences = [d for d in differences if not (d.startswith("max_tokens:") and "None" in d)]
    return "; ".join(differences)[:400]


def verbatim(case: Case, arrived: list[Facts], sent: Body, ours: frozenset[str]) -> str:
    """The same-dialect path: all that the client wrote reaches the provider as it is, but for `ours`."""
    wrong = _one_call(case, arrived)
    if wrong:
        return wrong
    got = arrived[0]["json"]
    options = got.get("stream_options") or {}
    lost = {k: v for k, v in (sent.get("stream_options") or {}).items() if k != "include_usage" and options.get(k) != v}
    if lost:
        return f"stream_options lost {lost}"
    for name in sorted((set(sent) | set(got)) - ours):
        if name not in got or name not in sent:
            return f"field {name!r} was {'dropped' if name in sent else 'added'}"
        if not same_json(sent[name], got[name]):
            return f"field {name!r}: sent {_short(sent[name])} arrived {_short(got[name])}"
    return ""


def broken(kit: Kit, case: Case, heard: Heard, door: str = "chat") -> str:
    """An answer that the provider cut must never look whole: an error at its end, and nothing that ends it well."""
    way = DOORS[door]
    if heard.status >= 400:
        told = kit.answer_facts(way.api, _kind(case), heard.status, heard.body)["error"]
        is_told = told["message"] and heard.body.lstrip()[:1] == b"{" and b'"error"' in heard.body
        return "" if is_told else f"status {heard.status} without the dialect's error: {heard.body[:200]!r}"
    if case.kind != "stream":
        return f"status {heard.status} for half an answer: {heard.body[-120:]!r}"
    if way.clean.search(heard.body):
        return f"a cut stream ends in good order: {heard.body[-120:]!r}"
    events = kit.expect.sse(heard.body)
    try:
        last = json.loads(events[-1][1]) if events else None
    except ValueError:
        return f"the last event is no JSON: {events[-1][1][:200]!r}"
    if not isinstance(last, dict) or not way.error(last):
        return f"a cut stream ends without an error event: {heard.body[-200:]!r}"
    return ""


def _kind(case: Case) -> str:
    """The kind of the client's answer: a completion is a chat to it."""
    return "stream" if case.kind == "stream" else "chat"


def _error(kit: Kit, case: Case, heard: Heard, door: str) -> str:
    want = case.said["error"]
    try:
        got = kit.answer_facts(DOORS[door].api, _kind(case), heard.status, heard.body)["error"]
    except ValueError as e:
        return str(e)
    if not got:
        return f"status {heard.status} without an error: {heard.body[:200]!r}"
    wrong = refusal(want, got["message"], heard.status, want["status"] // 100)
    if not wrong and want["status"] in OUR_KEY and door == "chat" and got["code"] != "provider_auth":
        return f"want 502 provider_auth, got {got['code']!r}"
    return wrong


def _one_call(case: Case, arrived: list[Facts]) -> str:
    failed = (case.said["error"] or {}).get("status", 0)
    if len(arrived) != 1 and not (arrived and failed in AGAIN):
        return f"the provider was called {len(arrived)} times"
    call = arrived[0]
    if not call["operation_ok"] and not case.note:
        return f"another operation was called: {call['path']}"
    if "json" not in call:
        return f"the provider's body is no JSON: {call.get('body_latin1', '')[:100]!r}"
    if CREDENTIALS & set(call["headers"]):
        return "the client's own key reached the provider"
    return ""


def _keeps(want: str | None, got: str | None) -> bool:
    """True when the message is there; `***` in ours stands for one word of the provider's that looks like a key."""
    pattern = re.escape(_plain(got)).replace(re.escape("***"), r"\S+")
    return _plain(want) in _plain(got) or re.fullmatch(pattern, _plain(want)) is not None


def _plain(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip()


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 160 else f"{shown[:100]}...{shown[-50:]}"
