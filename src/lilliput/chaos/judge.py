"""How a cell went: pass, partial (honest, but not exact) or fail (the caller was misled, or left alone)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from lilliput.chaos.client import Seen
from lilliput.chaos.faults import HOUSE
from lilliput.chaos.kinds import CANARY
from lilliput.chaos.reading import Reading, read
from lilliput.chaos.scenario import Ends, Fails, Outcome
from lilliput.chaos.speech import FINISHES, Dialect

Grade = Literal["pass", "partial", "fail"]
_ORDER: tuple[Grade, ...] = ("pass", "partial", "fail")
GONE_S = 1.0


class Verdict(NamedTuple):
    """`why` is "" for a pass."""

    grade: Grade
    why: str = ""


PASS = Verdict("pass")


def worst(verdicts: list[Verdict]) -> Verdict:
    return max(verdicts, key=lambda v: _ORDER.index(v.grade), default=PASS)


def judge(
    dialect: Dialect, stream: bool, seen: Seen, exact: tuple[Outcome, ...], *, ours: bool, failed: bool = False
) -> Verdict:
    """The best verdict that any of the `exact` outcomes allows.

    Only of `ours` are error codes of our own making demanded. `failed` says that the provider itself answered 500:
    then a 500 is imprecise, otherwise it is a gateway that broke.
    """
    reading = read(dialect, stream, seen)
    if seen.hung:
        is_over = stream and reading.ended  # its clients stop reading there
        return Verdict("partial", "not closed after its end") if is_over else Verdict("fail", "hangs")
    if not seen.status:
        return Verdict("fail", "no answer: the connection was closed")
    if CANARY.encode() in seen.body or CANARY in str(seen.headers):
        return Verdict("fail", "shows a key")
    judged = [
        _ends(dialect, seen, reading, outcome)
        if isinstance(outcome, Ends)
        else worst(_fails(dialect, stream, seen, reading, outcome, ours, failed))
        for outcome in exact
    ]
    return min(judged, key=lambda v: _ORDER.index(v.grade))


def judge_leaving(gone_s: float | None) -> Verdict:
    """How long the provider was kept talking to nobody."""
    if gone_s is None:
        return Verdict("fail", "the provider is never told that the caller left")
    return PASS if gone_s <= GONE_S else Verdict("partial", f"the provider is told after {gone_s:.1f} s")


def _ends(dialect: Dialect, seen: Seen, reading: Reading, outcome: Ends) -> Verdict:
    if seen.status != 200:
        if 500 < seen.status < 600 and reading.is_error:
            return Verdict("partial", f"refuses a good answer: {_said(seen, reading)}")
        return Verdict("fail", f"spoils a good answer: {_said(seen, reading)}")
    if reading.is_error:
        return Verdict("partial", f"ends a good answer with an error: {_said(seen, reading)}")
    if reading.junk:
        return Verdict("fail", f"forwards junk, {reading.junk[0]}")
    if not seen.whole:
        return Verdict("partial", "breaks the connection of a good answer")
    if reading.text != outcome.text:
        return Verdict("fail", _differs(reading.text, outcome.text))
    if reading.finish is None or not reading.ended:
        return Verdict("fail", "a good answer has no end")
    if reading.finish != FINISHES[dialect][outcome.finish]:
        is_false = reading.finish == FINISHES[dialect]["stop"]
        return Verdict("fail" if is_false else "partial", f"finish {reading.finish!r}")
    return PASS


def _fails(
    dialect: Dialect, stream: bool, seen: Seen, reading: Reading, outcome: Fails, ours: bool, failed: bool
) -> list[Verdict]:
    """All that is wrong with an answer that should be an error."""
    fault, found = outcome.fault, []
    if seen.status == 200:
        if not reading.is_error:
            return [_false_success(seen, reading)]
        if reading.finish is not None:
            return [Verdict("fail", f"an error and a good end at once: {_said(seen, reading)}")]
        if reading.ended:
            found.append(Verdict("partial", "an end mark follows the error"))
        if not stream:
            return [Verdict("fail", f"an error as a 200: {_said(seen, reading)}")]
        if not outcome.mid:
            found.append(Verdict("partial", f"an error that could be a status comes in a 200: {_said(seen, reading)}"))
        if reading.text != outcome.text:
            is_less = outcome.text.startswith(reading.text)
            found.append(Verdict("partial" if is_less else "fail", _differs(reading.text, outcome.text)))
        if not seen.whole:
            found.append(Verdict("partial", "told, then the connection broken"))
    elif seen.status not in (fault.status, *fault.statuses):
        # 500 is a gateway that broke; another class of status blames the wrong side
        is_near = seen.status // 100 == fault.status // 100 and (failed or seen.status != 500)
        found.append(Verdict("partial" if is_near else "fail", f"{_said(seen, reading)} in place of {fault.status}"))
    elif outcome.mid and stream:
        found.append(Verdict("partial", f"what had come is withheld: {_said(seen, reading)}"))
    if outcome.retry_after is not None and seen.headers.get("retry-after") != outcome.retry_after:
        given = seen.headers.get("retry-after")
        found.append(Verdict("fail" if given is None else "partial", f"Retry-After {given or 'lost'}"))
    return [*found, *_told(dialect, seen, reading, outcome, ours)]


def _told(dialect: Dialect, seen: Seen, reading: Reading, outcome: Fails, ours: bool) -> list[Verdict]:
    """What is wrong with the words of an error."""
    if reading.junk:
        return [Verdict("fail", f"forwards junk, {reading.junk[0]}")]
    if reading.has_own_shape:
        return [Verdict("partial", f"an error in a shape of its own: {_said(seen, reading)}")]
    fault = outcome.fault
    if dialect == "messages":
        wrong = reading.kind != fault.kind
    else:
        wrong = bool(fault.codes) and reading.code not in fault.codes and (ours or not HOUSE & set(fault.codes))
    return [Verdict("partial", f"told as {_said(seen, reading)}")] if wrong else []


def _false_success(seen: Seen, reading: Reading) -> Verdict:
    if reading.finish is not None or reading.ended:
        return Verdict("fail", f"false success: finish {reading.finish!r}{', end mark' * reading.ended}")
    if reading.junk:
        return Verdict("fail", f"forwards junk, {reading.junk[0]}")
    if not seen.whole:
        return Verdict("partial", "the connection is broken without a word")
    return Verdict("fail", "ends in silence: no finish, no error")


def _differs(text: str, wanted: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(text, wanted, strict=False)) if a != b), min(len(text), len(wanted)))
    return f"the text differs from character {at} of {len(wanted)}: {text[at : at + 20]!r}"


def _said(seen: Seen, reading: Reading) -> str:
    words = (str(seen.status), reading.code, reading.kind)
    return " ".join(word for word in words if word)
