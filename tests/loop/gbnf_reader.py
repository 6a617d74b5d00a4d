"""Grammars read as the engine reads them: whether a text is one of a grammar's."""

from __future__ import annotations

import re

TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|\w+|\{[\d,]+\}|[()|?*+]')
PLAIN = re.compile(r"\\(.)")


def pattern(grammar: str) -> re.Pattern[str]:
    """A grammar without recursion as one regular expression."""
    rules = dict(line.split(" ::= ", 1) for line in grammar.splitlines())
    return re.compile(_body(rules["root"], rules), re.DOTALL)


def _body(body: str, rules: dict[str, str]) -> str:
    assert TOKEN.sub("", body).strip() == "", body
    return "(?:" + "".join(_token(token, rules) for token in TOKEN.findall(body)) + ")"


def _token(token: str, rules: dict[str, str]) -> str:
    if token[0] == '"':
        inner = PLAIN.sub(lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), token[1:-1])
        return f"(?:{re.escape(inner)})"
    return _body(rules[token], rules) if token in rules else "(?:" if token == "(" else token
