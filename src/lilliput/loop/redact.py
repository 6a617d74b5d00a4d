"""Hiding what is somebody's behind placeholders, and putting it back: `<EMAIL_1>`, the same value the same number.

Pure, standard library (and msgspec) only. A `Redactor` belongs to one request and forgets nothing within it; it is
never stored. What counts as somebody's is in `recognise`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from re import Match
from typing import Any

import msgspec
from msgspec import Raw

from lilliput.loop.recognise import BETWEEN, RECOGNISERS, value
from lilliput.neutral import Problem

KINDS = tuple(sorted({r.kind for r in RECOGNISERS}))
_NAME = rf"(?:{'|'.join(KINDS)})_[1-9]\d{{0,5}}"
_PLACE = re.compile(rf"<({_NAME})>")
_ESCAPED = re.compile(rf"\\\\|(?:<|\\u003[cC])({_NAME})(?:>|\\u003[eE])")
"""In the text of a JSON string, where the brackets may be escaped, and an escaped backslash escapes nothing."""
_CUT = re.compile(r"<[A-Z]{0,8}(?:_\d{0,6})?\Z")
_ESCAPED_CUT = re.compile(
    r"(?:<|\\u003[cC])[A-Z]{0,8}(?:_\d{0,6})?(?:\\(?:u(?:0(?:03?)?)?)?)?\Z|\\(?:u(?:0(?:03?)?)?)?\Z"
)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"|(?<![\w.+-])\d{9,19}(?![\w.])', re.DOTALL)
_LEFT_OUT = {"image_url": "image", "input_audio": "audio", "audio": "audio", "file": "file", "video_url": "video"}


class Redactor:
    """What was hidden in one request, by placeholder. A placeholder that the text itself has is never given out."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._last: dict[str, int] = {}

    def redact(self, text: str) -> tuple[str, int]:
        """The text with placeholders, and how many things they hide."""
        self._reserve(text)
        found = 0
        for recogniser in RECOGNISERS:
            if recogniser.needs not in text:
                continue

            def hide(m: Match[str], kind: str = recogniser.kind, check: Any = recogniser.check) -> str:
                nonlocal found
                if check is not None and not check(m):
                    return m[0]
                found += 1
                start, end = value(m)
                hidden = self._name(kind, m.string[start:end])
                return m.string[m.start() : start] + hidden + m.string[end : m.end()]

            text = recogniser.pattern.sub(hide, text)
        return text, found

    def restore(self, text: str, *, escaped: bool = False) -> str:
        """The text with its values back; `escaped` where it stands inside JSON (the arguments of a tool call)."""
        return (_ESCAPED if escaped else _PLACE).sub(lambda m: self._value(m, escaped), text)

    def restorer(self, *, escaped: bool = False) -> Restorer:
        """The same for a text that comes in pieces; one for each choice, and for each tool call."""
        return Restorer(self, escaped=escaped)

    def redact_messages(self, raw: Raw) -> tuple[Raw, int]:
        """A JSON array of messages in OpenAI's form without what is somebody's: in content, text parts, refusals, the
        arguments and results of tools. What is no text is replaced by a note that it was left out."""
        try:
            messages = msgspec.json.decode(raw, type=list[dict[str, Any]])
        except msgspec.DecodeError as e:
            raise Problem("client", f"messages is no JSON array of objects ({e})", param="messages") from e
        self._reserve(bytes(raw).decode())
        found = 0

        def plain(text: str) -> str:
            nonlocal found
            text, n = self.redact(text)
            found += n
            return text

        def inside(text: str) -> str:
            return _inside(text, plain)

        for message in messages:
            message.pop("audio", None)
            for field in ("content", "refusal", "reasoning_content", "name"):
                if isinstance(message.get(field), str):
                    message[field] = plain(message[field])
            if isinstance(message.get("content"), list):
                message["content"] = [_part(part, plain) for part in message["content"]]
            for call in _calls(message):
                for field, hide in (("arguments", inside), ("input", plain)):
                    if isinstance(call.get(field), str):
                        call[field] = hide(call[field])
        return Raw(msgspec.json.encode(messages)), found

    def _reserve(self, text: str) -> None:
        for m in _PLACE.finditer(text):
            kind, number = m[1].split("_")
            if m[0] not in self.values:
                self._last[kind] = max(self._last.get(kind, 0), int(number))

    def _name(self, kind: str, text: str) -> str:
        name = self._names.get((kind, text))
        if name is None:
            number = self._last[kind] = self._last.get(kind, 0) + 1
            name = self._names[kind, text] = f"<{kind}_{number}>"
            self.values[name] = text
        return name

    def _value(self, m: Match[str], escaped: bool) -> str:
        found = self.values.get(f"<{m[1]}>")
        if found is None:
            return m[0]
        return json.dumps(found, ensure_ascii=False)[1:-1] if escaped else found


class Restorer:
    """Puts values back into a text that comes in pieces; holds back no more than a placeholder that may be cut."""

    def __init__(self, redactor: Redactor, *, escaped: bool = False) -> None:
        self._redactor, self._escaped, self._held = redactor, escaped, ""
        self._whole, self._cut = (_ESCAPED, _ESCAPED_CUT) if escaped else (_PLACE, _CUT)

    def feed(self, piece: str) -> str:
        text = self._held + piece
        done = 0
        for m in self._whole.finditer(text):
            done = m.end()
        cut = self._cut.search(text, max(done, len(text) - 32))
        at = cut.start() if cut else len(text)
        self._held = text[at:]
        return self._redactor.restore(text[:at], escaped=self._escaped)

    def end(self) -> str:
        """What is left when nothing more comes."""
        held, self._held = self._held, ""
        return held


def _calls(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The objects that hold a tool's arguments."""
    calls = message.get("tool_calls")
    for call in [*(calls if isinstance(calls, list) else ()), {"function": message.get("function_call")}]:
        if isinstance(call, dict):
            yield from (call[k] for k in ("function", "custom") if isinstance(call.get(k), dict))


def _part(part: Any, hide: Callable[[str], str]) -> Any:
    if not isinstance(part, dict):
        return part
    kind = part.get("type")
    if isinstance(kind, str) and isinstance(part.get(kind), str) and kind in ("text", "refusal"):
        return {**part, kind: hide(part[kind])}
    return {"type": "text", "text": f"[{_LEFT_OUT.get(str(kind), 'a part')} left out]"}


def _inside(text: str, hide: Callable[[str], str]) -> str:
    """A JSON text with its strings (and long numbers, which become strings) hidden; broken JSON as far as it goes."""
    tokens = _STRING.findall(text)
    values = [_unquoted(token) for token in tokens]
    hidden = hide(BETWEEN.join(values)).split(BETWEEN)
    if len(hidden) != len(values):
        return hide(text)
    new = iter(
        token if before == after else json.dumps(after, ensure_ascii=False)
        for token, before, after in zip(tokens, values, hidden, strict=True)
    )
    return _STRING.sub(lambda _: next(new), text)


def _unquoted(token: str) -> str:
    if "\\" not in token:
        return token.strip('"')
    try:
        return str(json.loads(token, strict=False))
    except ValueError:
        return token
