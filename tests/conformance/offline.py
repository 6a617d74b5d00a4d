"""One dialect in this process, without a gateway: `python -m tests.conformance.offline API [ID ...] [--all]`.

Requests go client form -> neutral -> provider form, answers provider form -> neutral (-> each client form), and are
judged by the recordings' own parser. What the gateway itself does (routes, headers, status) belongs to `harness`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.conformance import cases as table
from tests.conformance import judge
from tests.conformance.cases import Case
from tests.conformance.doors import as_told
from tests.conformance.kit import Cuts, Facts, Interaction, Kit, default_folder

from lilliput.neutral import Choice, Event, Problem, Reply, Target, Usage, fold
from lilliput.wire import dialects
from lilliput.wire import openai as openai_chat
from lilliput.wire.port import Provider, Reader

BYTE_BY_BYTE = 8_000
"""Largest answer that is also fed byte by byte."""
SHOWN = 12


def feed(read: Reader, raw: bytes, step: int) -> tuple[list[Event], Problem | None]:
    """The events of an answer fed in pieces of `step` bytes, and the trouble that ended it."""
    events: list[Event] = []
    pieces = [raw[i : i + step] for i in range(0, len(raw), step)]
    try:
        for piece in (*pieces, b""):
            events += read(piece)
            if read.trouble:
                return events, read.trouble
    except Problem as trouble:
        return events, trouble
    return events, None


def facts_of(kit: Kit, reply: Reply) -> Facts:
    """A neutral answer in the terms of `expect.py`."""
    c = reply.choices[0] if reply.choices else Choice()
    parse = kit.expect._args
    return {
        "text": c.text or "".join(s.transcript or "" for s in c.media),
        "reasoning": "".join(t.text for t in c.thinking),
        "refusal": c.refusal,
        "tool_calls": [[t.name, {"input": t.arguments} if t.kind == "custom" else parse(t.arguments)] for t in c.calls],
        "finish_reason": c.reason or c.native,
        "choices": max(1, len(reply.choices)),
        "media_out": [s.media.kind for s in c.media],
        "usage": usage_facts(reply.usage),
    }


def usage_facts(u: Usage | None) -> dict[str, int] | None:
    if u is None:
        return None
    return {
        "prompt_tokens": u.prompt_tokens,
        "completion_tokens": u.completion_tokens,
        "cached_tokens": u.cache_read,
        "reasoning_tokens": u.reasoning,
        "cache_write_tokens": u.cache_write_5m + u.cache_write_1h,
    }


def request(kit: Kit, case: Case, module: Provider) -> str:
    """The request as the module writes it against what was asked, "" where they are the same."""
    if case.asked is None:
        return ""
    r = openai_chat.read_request(json.dumps(case.body).encode(), "/v1/chat/completions")
    target = Target(
        provider="p", model=case.body["model"], dialect=case.way.dialect, base=f"http://localhost{case.way.prefix}"
    )
    url = module.endpoint(target, case.is_stream)[0]
    sent = module.write_body(r, target)
    path = urlsplit(url).path
    if not path.endswith(case.way.ends):
        return f"endpoint: {url} does not end in {case.way.ends}"
    arrived = {"operation_ok": True, "path": path, "json": json.loads(sent.body), "headers": {}}
    found = judge.request(kit, case, [arrived], case.asked)
    return f"{found} (dropped {sent.dropped})" if found else ""


def answer(kit: Kit, case: Case, raw: bytes, status: int, module: Provider) -> Iterator[tuple[str, str]]:
    """What is wrong with the answer as the module reads it, by the way it was fed."""
    want = case.said["error"]
    if status >= 400:
        p = module.read_problem(status, raw)
        is_ours = status in table.OUR_KEY
        yield "answer", judge.refusal(want, p.say, p.status, p.status // 100 if is_ours else status // 100)
        return
    is_stream = case.kind == "stream"
    for name, step in (("answer", len(raw) or 1), ("split", 17), ("bytes", 1)):
        if step > 1 or len(raw) <= BYTE_BY_BYTE:
            events, trouble = feed(module.reader(is_stream), raw, step)
            yield name, _judged(kit, case.said, events, trouble)


def _judged(kit: Kit, want: Facts, events: list[Event], trouble: Problem | None) -> str:
    if want["error"]:
        if trouble is None:
            return f"no Problem for {want['error']}"
        return judge.refusal(want["error"], trouble.say, trouble.status, trouble.status // 100)
    if trouble is not None:
        return f"Problem {trouble.code}: {trouble.say}"
    return judge.differs(*as_told("chat", want, facts_of(kit, fold(events))))


def broken(kit: Kit, interaction: Interaction, module: Provider) -> str:
    """A cut answer that looks whole: what was cut where, "" where each is told."""
    raw = kit.body(interaction)
    if interaction["kind"] != "stream":
        prefixes = [raw[: len(raw) // 3], raw[: len(raw) // 2], raw[:-1].rstrip()[:-1]]
    else:
        cuts = Cuts(kit, interaction)
        bodies = {0, len(raw) // 3, len(raw) // 2, *(end + 3 for end in cuts.ends[: cuts.finish])}
        prefixes = [cuts.closed(n) for n in range(min(cuts.finish + 1, len(cuts.ends)))]
        prefixes += [raw[:n] for n in sorted(bodies) if not cuts.is_over(n) and n < cuts.ends[cuts.finish - 1]]
        prefixes = prefixes[:: max(1, len(prefixes) // 20)]
    for prefix in prefixes:
        _, trouble = feed(module.reader(interaction["kind"] == "stream"), prefix, len(prefix) or 1)
        if trouble is None:
            return f"{len(prefix)} of {len(raw)} bytes read as a whole answer: ...{prefix[-60:]!r}"
        if trouble.code != "upstream_truncated" and interaction["kind"] == "stream":
            return f"{len(prefix)} of {len(raw)} bytes: code {trouble.code!r}, {trouble.say[:100]!r}"
    return ""


def main() -> int:
    ask = argparse.ArgumentParser(prog="python -m tests.conformance.offline", description=__doc__)
    ask.add_argument("api", choices=sorted(table.WAYS))
    ask.add_argument("ids", nargs="*", metavar="ID")
    ask.add_argument("--all", action="store_true", help=f"every difference, not the first {SHOWN} of a check")
    asked = ask.parse_args()
    kit = Kit(default_folder())
    passed: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for i in kit.interactions:
        if not table.judged(i, asked.api) or (asked.ids and i["id"] not in asked.ids):
            continue
        for check, wrong in _checks(kit, i):
            tried[check] += 1
            passed[check] += not wrong
            if wrong and (asked.all or tried[check] - passed[check] <= SHOWN):
                print(f"{check:9} {i['id']:24} {wrong[:400]}")
    for check in tried:
        print(f"{check:9} {passed[check]:5} of {tried[check]:5}")
    return 0 if tried == passed else 1


def _checks(kit: Kit, i: Interaction) -> Iterator[tuple[str, str]]:
    case, _ = table.case(kit, i)
    module = dialects.provider(case.way.dialect)
    try:
        yield "request", request(kit, case, module)
    except Problem as p:
        yield "request", f"Problem {p.code} {p.param}: {p.say}"
    status = i["response"]["status"]
    yield from answer(kit, case, kit.body(i), status, module)
    if status < 400 and not case.said["error"]:
        yield "broken", broken(kit, i, module)


if __name__ == "__main__":
    sys.exit(main())
