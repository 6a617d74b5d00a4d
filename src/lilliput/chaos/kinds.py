"""The kinds of scenario, each made from what is particular to it; the scenarios themselves are in `rows`."""

from __future__ import annotations

from functools import partial

from lilliput.chaos import faults
from lilliput.chaos.scenario import Act, Ends, Fails, Fault, Mode, Outcome, Scenario
from lilliput.chaos.speech import Error, Finish, Mark, Piece, Role, Say, Whole

Body = tuple[Piece | bytes | float, ...]
CANARY = "sk-canary0123456789abcdef"
"""Stands in the provider's errors; a caller that sees it has been shown a key."""
TEXT = "one two three four five "
FIVE: Body = (Role(), *(Say(word + " ") for word in TEXT.split()))
GOOD: Body = (*FIVE, Finish(), Mark())
HTML = b"<html><head><title>login</title></head><body>please log in</body></html>"
EVENTS, JSON = "text/event-stream", "application/json"
DONE: tuple[Outcome, ...] = (Ends(TEXT),)


def fails(*faults: Fault, text: str = "", mid: bool = False, retry_after: str | None = None) -> tuple[Outcome, ...]:
    """Any of these errors, before anything else or (`mid`) after `text`."""
    return tuple(Fails(fault, text, mid, retry_after) for fault in faults)


def mid(*of: Fault) -> tuple[Outcome, ...]:
    """Any of these errors, told after the five words that came."""
    return fails(*of, text=TEXT, mid=True)


def says(*body: Piece | bytes | float, **more: object) -> Act:
    return Act(body, **more)  # type: ignore[arg-type]


def both(name: str, act: Act, exact: tuple[Outcome, ...], calls: int = 2, group: str = "refusals") -> Scenario:
    """The provider does the same whether it was asked to stream or not."""
    return Scenario(name, group, Mode((act,), exact, calls), Mode((act,), exact, calls))


def honest(name: str, stream: Act, unary: Act, text: str = TEXT, finish: str = "stop", slow: bool = False) -> Scenario:
    """An odd answer that is good all the same."""
    of = partial(Mode, exact=(Ends(text, finish),), calls=1, reads_slowly=slow)
    return Scenario(name, "odd but good", of((stream,)), of((unary,)))


def refusal(name: str, error: Error, fault: Fault, calls: int = 1, retry_after: str | None = None) -> Scenario:
    """An error status with the provider's own words."""
    headers = f"retry-after: {retry_after}\r\n" if retry_after else ""
    act = Act((error,), status=error.status, headers=headers, content_type=JSON, framing="length")
    return both(name, act, fails(fault, retry_after=retry_after), calls)


def lost(
    name: str,
    stream: Act,
    unary: Act,
    streamed: tuple[Outcome, ...],
    answered: tuple[Outcome, ...],
    *,
    group: str = "cut",
    calls: tuple[int, int] = (1, 2),
) -> Scenario:
    """An answer that is not whole: what is told where it was `streamed`, and where it was `answered` in one piece."""
    return Scenario(name, group, Mode((stream,), streamed, calls[0]), Mode((unary,), answered, calls[1]))


WHOLE = says(Whole(TEXT), framing="length")


def garbage(name: str, junk: bytes, whole: bytes) -> Scenario:
    """Something unreadable between good events; unary: in place of the answer."""
    return lost(
        name,
        says(*FIVE, junk, Say("six "), Finish(), Mark()),
        says(whole, framing="length"),
        mid(faults.INVALID),
        fails(faults.BROKEN),
        group="garbage",
    )


def unreadable(name: str, act: Act, fault: Fault = faults.INVALID) -> Scenario:
    """An answer that is none at all."""
    return both(name, act, fails(fault), group="garbage")


def page(name: str, status: int, fault: Fault) -> Scenario:
    """A refusal by something that stands before the provider."""
    return both(name, says(HTML, status=status, content_type="text/html", framing="length"), fails(fault))


def inside(name: str, error: Error, fault: Fault, calls: int = 1) -> Scenario:
    """An error in a 200: after five words of a stream, or as the whole body."""
    return lost(
        name,
        says(*FIVE, error, Mark()),
        says(error, content_type=JSON, framing="length"),
        mid(fault),
        fails(fault),
        group="errors in a 200",
        calls=(1, calls),
    )


def at_once(name: str, error: Error, fault: Fault, calls: int = 1) -> Scenario:
    """An error in a 200 and nothing before it."""
    unary = Mode((says(error, content_type=JSON),), fails(fault), calls)
    return Scenario(name, "errors in a 200", Mode((says(error),), fails(fault), calls), unary)


def heals(name: str, bad: Act) -> Scenario:
    """The first call fails, the second is good: the caller sees nothing of it."""
    return Scenario(name, "heals", Mode((bad, says(*GOOD)), DONE), Mode((bad, WHOLE), DONE))


def leaves(name: str, act: Act) -> Scenario:
    """The caller hangs up once its call has come to the provider."""
    mode = Mode((act,), (), 1, leaves="before")
    return Scenario(name, "the caller leaves", mode, mode)


def over(name: str, first: Act) -> Scenario:
    """The first deployment fails for good, the second is well; needs a route with both."""
    mode = Mode((first,), DONE, 3)
    return Scenario(name, "failover", mode, mode, second=(says(*GOOD), WHOLE))
