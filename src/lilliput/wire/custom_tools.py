"""Custom (free-text) tools on providers that know functions only: asked as a function of one text, told as custom.

`as_function` is for `write_body`; `restorer` undoes it on the answer, whoever asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from lilliput.neutral import Argued, Called, Ended, Event, Request, Tool, ToolCall

INPUT_SCHEMA = Raw(b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}')

Restore = Callable[[Sequence[Event]], list[Event]]


class _Input(Struct):
    input: str


_decode = msgspec.json.Decoder(_Input).decode


def as_function(tool: Tool) -> Tool:
    """`tool` as a function whose only argument is the text `input`; a function stays as it is."""
    return tool if tool.kind == "function" else replace(tool, kind="function", schema=INPUT_SCHEMA, grammar=None)


def call_as_function(call: ToolCall) -> ToolCall:
    """An earlier call of a custom tool in the same terms."""
    if call.kind == "function":
        return call
    return replace(call, kind="function", arguments=msgspec.json.encode(_Input(call.arguments)).decode())


def restorer(r: Request) -> Restore | None:
    """What turns function calls of `r`'s custom tools back, or None when `r` has no such tool.

    Such a call is held until its choice ends, for its text is only then whole; arguments of another shape are given
    as the text itself.
    """
    names = {t.name for t in r.tools if t.kind == "custom"}
    if not names:
        return None
    held: dict[tuple[int, int], tuple[Called, list[str]]] = {}

    def restored(events: Sequence[Event]) -> list[Event]:
        out: list[Event] = []
        for e in events:
            if isinstance(e, Called) and e.kind == "function" and e.name in names:
                held[e.choice, e.index] = (replace(e, kind="custom"), [])
            elif isinstance(e, Argued) and (e.choice, e.index) in held:
                held[e.choice, e.index][1].append(e.text)
            elif isinstance(e, Ended):
                for key in [k for k in held if k[0] == e.choice]:
                    called, pieces = held.pop(key)
                    out += [called, Argued(called.index, _text("".join(pieces)), called.choice)]
                out.append(e)
            else:
                out.append(e)
        return out

    return restored


def _text(arguments: str) -> str:
    try:
        return _decode(arguments).input
    except (msgspec.MsgspecError, RecursionError):
        return arguments
