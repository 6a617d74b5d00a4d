"""Whether what came is right: each function returns what is wrong, "" where nothing is. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.conformance.cases import OUR_KEY, Case
from tests.conformance.client import Heard
from tests.conformance.kit import Kit, same_json

SAID = ("text", "reasoning", "tool_calls", "finish_reason", "usage", "refusal", "media_out", "choices")
OURS = {"model", "stream_options"}
"""Fields of the same-dialect request that the gateway writes itself."""


def answer(kit: Kit, case: Case, heard: Heard, *, usage: bool = True) -> str:
    """The client's answer against the provider's: every fact, or the error's status class and message."""
    want = case.said
    if want["error"]:
        return _error(kit, case, heard)
    if heard.status != 200 or not heard.is_whole:
        return f"status {heard.status}, whole {heard.is_whole}: {heard.body[:200]!r}"
    try:
        got = kit.answer_facts("openai.chat", case.kind, heard.status, heard.body)
    except ValueError as e:
        return str(e)
    if got["error"]:
        return f"an error nobody sent: {got['error']}"
    for name in SAID:
        if (name != "usage" or usage) and (want.get(name) or None) != (got.get(name) or None):
            return f"{name}: want {_short(want.get(name))} got {_short(got.get(name))}"
    if case.kind == "stream" and not heard.body.endswith(b"data: [DONE]\n\n"):
        return f"the stream does not end in [DONE]: {heard.body[-80:]!r}"
    return ""


def request(kit: Kit, case: Case, arrived: list[dict[str, Any]]) -> str:
    """What reached the provider against what was asked: one call, to the right operation, with the same facts."""
    wrong = _one_call(case, arrived)
    if wrong or case.asked is None:
        return wrong
    got = kit.expect.facts_of(case.api, arrived[0]["path"], arrived[0]["json"])
    if case.asked["model"] and got["model"] != case.asked["model"]:
        return f"model: want {case.asked['model']!r} got {got['model']!r}"
    differences = kit.expect.compare(case.asked, got, ignore=())
    return "; ".join(differences)[:400]


def verbatim(case: Case, arrived: list[dict[str, Any]]) -> str:
    """The same-dialect path: all that the client wrote reaches the provider as it is, but for OURS."""
    wrong = _one_call(case, arrived)
    if wrong or case.verbatim is None:
        return wrong
    sent, got = case.verbatim, arrived[0]["json"]
    options = got.get("stream_options") or {}
    lost = {k: v for k, v in (sent.get("stream_options") or {}).items() if k != "include_usage" and options.get(k) != v}
    if lost:
        return f"stream_options lost {lost}"
    for name in sorted((set(sent) | set(got)) - OURS):
        if name not in got or name not in sent:
            return f"field {name!r} was {'dropped' if name in sent else 'added'}"
        if not same_json(sent[name], got[name]):
            return f"field {name!r}: sent {_short(sent[name])} arrived {_short(got[name])}"
    return ""


def broken(case: Case, heard: Heard) -> str:
    """An answer that the provider cut must never look whole: an error, and no [DONE] and no bare finish."""
    if heard.status >= 400:
        return (
            "" if heard.error.get("message") else f"status {heard.status} without an OpenAI error: {heard.body[:200]!r}"
        )
    if case.kind != "stream":
        return f"status {heard.status} for half an answer: {heard.body[-120:]!r}"
    if b"[DONE]" in heard.body[-40:]:
        return "a cut stream ends in [DONE]"
    events = [line[6:] for line in heard.body.split(b"\n\n") if line.startswith(b"data: ")]
    try:
        last = json.loads(events[-1]) if events else None
    except ValueError:
        return f"the last event is no JSON: {events[-1][:200]!r}"
    if not isinstance(last, dict) or not last.get("error"):
        return f"a cut stream ends without an error event: {heard.body[-200:]!r}"
    return ""


def _error(kit: Kit, case: Case, heard: Heard) -> str:
    want = case.said["error"]
    got = kit.answer_facts("openai.chat", case.kind, heard.status, heard.body)["error"]
    if not got:
        return f"status {heard.status} without an error: {heard.body[:200]!r}"
    if not _keeps(want["message"], got["message"]):
        return f"message: want {_short(want['message'])} got {_short(got['message'])}"
    if want["status"] in OUR_KEY:
        right = heard.status == 502 and heard.error.get("code") == "provider_auth"
        return "" if right else f"want 502 provider_auth, got {heard.status} {heard.error.get('code')!r}"
    if want["status"] >= 400 and heard.status // 100 != want["status"] // 100:
        return f"status: want {want['status']} got {heard.status}"
    return ""


def _one_call(case: Case, arrived: list[dict[str, Any]]) -> str:
    if len(arrived) != 1:
        return f"the provider was called {len(arrived)} times"
    call = arrived[0]
    if not call["operation_ok"] and not case.note:
        return f"another operation was called: {call['path']}"
    if "json" not in call:
        return f"the provider's body is no JSON: {call.get('body_latin1', '')[:100]!r}"
    if "authorization" in call["headers"]:
        return "the client's own key reached the provider"
    return ""


def _keeps(want: str | None, got: str | None) -> bool:
    """True when the message is there; `***` in ours stands for one word of the provider's that looks like a key."""
    pattern = re.escape(_plain(got)).replace(re.escape("***"), r"\S+")
    return _plain(want) in _plain(got) or re.fullmatch(pattern, _plain(want)) is not None


def _plain(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip()


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 160 else f"{shown[:100]}...{shown[-50:]}"
