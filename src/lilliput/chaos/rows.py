"""The scenarios. Each has a form for callers that stream and one for callers that do not."""

from __future__ import annotations

from lilliput.chaos import faults
from lilliput.chaos.kinds import (
    CANARY,
    DONE,
    EVENTS,
    FIVE,
    GOOD,
    HTML,
    JSON,
    TEXT,
    WHOLE,
    at_once,
    both,
    fails,
    garbage,
    heals,
    honest,
    inside,
    leaves,
    lost,
    mid,
    over,
    page,
    refusal,
    says,
    unreadable,
)
from lilliput.chaos.scenario import Act, Mode, Scenario
from lilliput.chaos.speech import Aside, Error, Finish, Mark, Role, Say, Whole

HOSTILE = 'a\n\ndata: [DONE]\n\n\rb\u2028c\u2029d\u0085e\x1b[31mf\U0001f600 g</script>"\\ \x00\ufeff'
LARGE = "0123456789abcdef" * 20_000
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
HALF = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"del'
ODD_BUT_GOOD = (
    honest("a good answer", says(*GOOD), WHOLE),
    honest("one byte at a time", says(*GOOD, split_bytes=1), says(Whole(TEXT), split_bytes=1)),
    honest("no framing, closed at the end", says(*GOOD, framing="close"), says(Whole(TEXT), framing="close")),
    honest("its length declared", says(*GOOD, framing="length"), WHOLE),
    honest("CRLF line ends", says(*GOOD, crlf=True), says(b"\r\n", Whole(TEXT), b"\r\n")),
    honest(
        "comments while it thinks",
        says(b": ping\n\n", *FIVE, b": ping\n\n:\n\n", Finish(), Mark()),
        says(b"\n", 0.1, b"\n \n", Whole(TEXT)),
    ),
    honest("slow, but never still", says(*(x for p in GOOD for x in (p, 0.15))), says(b" ", 0.4, Whole(TEXT))),
    honest("events and fields nobody knows", says(*FIVE, Aside(), Finish(), Mark()), says(Whole(TEXT, more=True))),
    honest("an event without text comes first", says(Aside(), *GOOD), says(Whole(TEXT, more=True), framing="length")),
    honest("usage missing", says(*FIVE, Finish(usage="none"), Mark()), says(Whole(TEXT, usage="none"))),
    honest("usage absurd", says(*FIVE, Finish(usage="absurd"), Mark()), says(Whole(TEXT, usage="absurd"))),
    honest(
        "text that looks like the protocol",
        says(Role(), Say(HOSTILE), Finish(), Mark()),
        says(Whole(HOSTILE)),
        HOSTILE,
    ),
    honest("one very large piece", says(Role(), Say(LARGE), Finish(), Mark()), says(Whole(LARGE)), LARGE),
    honest(
        "a caller that reads slowly",
        says(Role(), *(Say(LARGE) for _ in range(12)), Finish(), Mark()),
        says(Whole(LARGE * 12)),
        LARGE * 12,
        slow=True,
    ),
    honest("early hints first", says(*GOOD, head=HINTS), says(Whole(TEXT), head=HINTS)),
    honest(
        "ended by its length",
        says(*FIVE, Finish("length"), Mark()),
        says(Whole(TEXT, "length")),
        finish="length",
    ),
    honest(
        "ended by a filter",
        says(*FIVE, Finish("filter"), Mark()),
        says(Whole(TEXT, "filter")),
        finish="filter",
    ),
    honest("finish, end mark missing", says(*FIVE, Finish()), says(Whole(TEXT), headers="connection: close\r\n")),
    honest(
        "more after the end",
        says(*GOOD, Say("LATE "), b"data: garbage\n\n"),
        says(Whole(TEXT), framing="length", after=b'HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"no"'),
    ),
    honest("reset after the end", says(*GOOD, 0.05, then="rst"), says(Whole(TEXT), 0.05, framing="length", then="rst")),
)

CLOSED = Act(raw=b"", then="fin")
RESET = Act(raw=b"", then="rst")
NOTHING_YET = Act(raw=b"", then="hang")
CUT_WHOLE = fails(faults.LOST)
CUT = (
    lost("clean end, no finish", says(*FIVE), says(Whole(TEXT), tear_bytes=9), mid(faults.TRUNCATED), CUT_WHOLE),
    lost(
        "reset in the middle",
        says(*FIVE, 0.05, then="rst"),
        says(Whole(TEXT), 0.05, tear_bytes=9, then="rst"),
        mid(faults.LOST),
        CUT_WHOLE,
    ),
    lost(
        "closed without the last chunk",
        says(*FIVE, then="fin"),
        says(Whole(TEXT), tear_bytes=9, then="fin"),
        mid(faults.TRUNCATED),
        CUT_WHOLE,
    ),
    lost(
        "shorter than declared",
        says(*FIVE, framing="longer", then="fin"),
        says(Whole(TEXT), tear_bytes=9, framing="longer", then="fin"),
        mid(faults.TRUNCATED),
        CUT_WHOLE,
    ),
    lost(
        "no framing, closed early",
        says(*FIVE, framing="close"),
        says(Whole(TEXT), tear_bytes=9, framing="close"),
        mid(faults.TRUNCATED),
        CUT_WHOLE,
    ),
    lost("the last event is half", says(*FIVE, HALF), says(Whole(TEXT), tear_bytes=60), mid(faults.BROKEN), CUT_WHOLE),
    lost(
        "half an event, then reset",
        says(*FIVE, HALF, 0.05, then="rst"),
        says(Whole(TEXT), 0.05, tear_bytes=60, then="rst"),
        mid(faults.LOST),
        CUT_WHOLE,
    ),
    lost(
        "ends in half a character",
        says(*FIVE, HALF + b"\xf0\x9f"),
        says(b'{"id":"x","text":"\xf0\x9f'),
        mid(faults.BROKEN),
        CUT_WHOLE,
    ),
    lost(
        "finish told, framing cut",
        says(*FIVE, Finish(), then="fin"),
        says(Whole(TEXT), then="fin"),
        (*DONE, *mid(faults.BROKEN)),
        (*DONE, *CUT_WHOLE),
    ),
    lost(
        "opened, then a clean end", says(Role()), says(b"{}"), fails(faults.BROKEN), fails(faults.BROKEN), calls=(2, 2)
    ),
    lost("nothing but a 200", says(), says(framing="length"), fails(faults.BROKEN), fails(faults.BROKEN), calls=(2, 2)),
    lost(
        "comments, then a clean end",
        says(b": ping\n\n", b": ping\n\n"),
        says(b"\n \n"),
        fails(faults.BROKEN),
        fails(faults.BROKEN),
        calls=(2, 2),
    ),
    # one call more than else: a kept connection that dies unanswered may be replaced (RFC 9112, 9.3.1)
    both("closed without a word", CLOSED, fails(faults.UNREACHABLE), 3, "cut"),
    both("reset without a word", RESET, fails(faults.UNREACHABLE), 3, "cut"),
    both("closed in the head", Act(raw=b"HTTP/1.1 200 OK\r\ncontent-ty", then="fin"), fails(faults.LOST), group="cut"),
)

GARBAGE = (
    garbage("garbage in the middle", b"data: garbage\n\n", b"garbage"),
    garbage("half an event in the middle", HALF + b"\n\n", HALF[6:]),
    garbage("an event that is no object", b"data: [1,2]\n\n", b"[1,2]"),
    garbage("bytes that are no UTF-8", b'data: {"x":"\xff\xfe"}\n\n', b'{"choices":"\xff\xfe"}'),
    garbage("null in the middle", b"data: null\n\n", b"null"),
    lost(
        "garbage first",
        says(b"data: garbage\n\n", *GOOD),
        says(b"garbage", Whole(TEXT)),
        fails(faults.INVALID),
        fails(faults.INVALID),
        group="garbage",
        calls=(2, 2),
    ),
    lost(
        "chunk sizes that are none",
        says(*FIVE, after=b"zz\r\n", then="fin"),
        says(Whole(TEXT), after=b"zz\r\n", then="fin"),
        mid(faults.BROKEN),
        fails(faults.BROKEN),
        group="garbage",
    ),
    unreadable("a web page in a 200", says(HTML, content_type="text/html", framing="length")),
    lost(
        "the other form than asked",
        says(b'{"object":"list","data":[]}', content_type=JSON, framing="length"),
        says(b"data: {}\n\n", b"data: [DONE]\n\n", content_type=EVENTS),
        fails(faults.INVALID),
        fails(faults.INVALID),
        group="garbage",
        calls=(2, 2),
    ),
    unreadable("compressed, unasked", says(b"\x1f\x8b\x08\x00" + b"\x00" * 40, headers="content-encoding: gzip\r\n")),
    unreadable("not HTTP at all", Act(raw=b"SSH-2.0-OpenSSH_9.6\r\n", then="fin"), faults.LOST),
    unreadable("headers without end", Act(raw=b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 60_000, then="fin"), faults.LOST),
    unreadable(
        "two lengths",
        Act(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}", then="fin"),
        faults.LOST,
    ),
    unreadable("a redirect", says(status=302, headers="location: /followed\r\n", framing="length")),
)

SILENCE = (
    lost(
        "stalls in the middle",
        says(*FIVE, then="hang"),
        says(Whole(TEXT), tear_bytes=9, then="hang"),
        mid(faults.STALLED),
        fails(faults.STALLED),
        group="silence",
        calls=(1, 1),
    ),
    lost(
        "opens, then stalls",
        says(Role(), then="hang"),
        says(b" ", then="hang"),
        fails(faults.STALLED, faults.LATE),
        fails(faults.STALLED, faults.LATE),
        group="silence",
        calls=(1, 1),
    ),
    both("a head, then nothing", says(then="hang"), fails(faults.LATE, faults.STALLED), 1, "silence"),
    both("never answers", NOTHING_YET, fails(faults.LATE), 1, "silence"),
    Scenario(
        "stalls after the end",
        "silence",
        Mode((says(*GOOD, then="hang"),), DONE, 1),
        Mode((says(Whole(TEXT), headers="connection: close\r\n", framing="length", then="hang"),), DONE, 1),
    ),
)

SLOW_DOWN = Error(429, "rate_limit_exceeded", "slow down", "rate_limit_error")
QUOTA = Error(429, "insufficient_quota", "you are out of quota", "insufficient_quota")
BAD_KEY = Error(401, "invalid_api_key", f"Incorrect API key provided: {CANARY}", "invalid_request_error")
BOOM = Error(500, None, f"boom at 10.1.2.3 with {CANARY}", "server_error")
OVERLOADED = Error(529, "overloaded_error", "Overloaded", "overloaded_error")
WRONG = Error(400, "invalid_value", "temperature is too hot", "invalid_request_error")
LONG = Error(
    400, "context_length_exceeded", "prompt is too long: 210000 tokens > 200000 maximum", "invalid_request_error"
)
REFUSALS = (
    refusal("429 with Retry-After", SLOW_DOWN, faults.LIMITED, retry_after="7"),
    refusal("429 without", SLOW_DOWN, faults.LIMITED),
    refusal("429, quota used up", QUOTA, faults.QUOTA),
    refusal("401, the gateway's key", BAD_KEY, faults.OUR_KEY),
    refusal("402, the gateway's credit", Error(402, None, "no credit"), faults.OUR_KEY),
    refusal("403, the gateway's key", Error(403, None, "forbidden"), faults.OUR_KEY),
    refusal("400, the caller's fault", WRONG, faults.REFUSED),
    refusal("400, prompt too long", LONG, faults.TOO_LONG),
    refusal("404, no such model", Error(404, "model_not_found", "no such model"), faults.NO_MODEL),
    refusal("500 with a secret in it", BOOM, faults.FAILED, 2),
    page("502 as a web page", 502, faults.FAILED),
    refusal("503 with Retry-After", Error(503, None, "try later"), faults.AWAY, 2, retry_after="3"),
    page("503 as a web page", 503, faults.AWAY),
    refusal("504", Error(504, None, "too slow"), faults.LATE),
    refusal("529 overloaded", OVERLOADED, faults.AWAY, 2),
    both("500 without a body", says(status=500, framing="length"), fails(faults.FAILED)),
)

ERRORS_IN_A_200 = (
    inside("a rate limit in a 200", SLOW_DOWN, faults.LIMITED),
    inside("an overload in a 200", OVERLOADED, faults.AWAY, 2),
    inside("no credit in a 200", Error(402, 402, "no credit"), faults.OUR_KEY),
    at_once("a rate limit at once in a 200", SLOW_DOWN, faults.LIMITED),
    at_once("an overload at once in a 200", OVERLOADED, faults.AWAY, 2),
)

FAILURE = Act((Error(500),), status=500, content_type=JSON, framing="length")
BUSY = Act((OVERLOADED,), status=529, content_type=JSON, framing="length")
HEALS = (
    heals("500, then good", FAILURE),
    heals("503, then good", Act((Error(503),), status=503, content_type=JSON, framing="length")),
    heals("529, then good", BUSY),
    heals("closed, then good", CLOSED),
    heals("reset, then good", RESET),
    heals("an empty 200, then good", says(framing="length")),
)

LEAVES = (
    leaves("hangs up before the first byte", NOTHING_YET),
    leaves("hangs up after the head", says(then="hang")),
    Scenario(
        "hangs up in the middle",
        "the caller leaves",
        Mode((says(*FIVE, then="hang"),), (), 1, leaves="mid"),
        Mode((says(Whole(TEXT), tear_bytes=9, then="hang"),), (), 1, leaves="before"),
    ),
)

FAILOVER = (
    over("the first deployment is down", CLOSED),
    over("the first answers 500", FAILURE),
    over("the first is rate limited", Act((SLOW_DOWN,), status=429, content_type=JSON, framing="length")),
    over("the first refuses our key", Act((BAD_KEY,), status=401, content_type=JSON, framing="length")),
    over("the first never answers", NOTHING_YET),
)

SCENARIOS: tuple[Scenario, ...] = (
    *ODD_BUT_GOOD,
    *CUT,
    *GARBAGE,
    *SILENCE,
    *REFUSALS,
    *ERRORS_IN_A_200,
    *HEALS,
    *LEAVES,
    *FAILOVER,
)
