"""What may reach a terminal, and in which shape."""

from __future__ import annotations

import io
import json

import pytest

from lilliput.cli.output import clean, json_text, one_line, say_error, show_table
from lilliput.neutral import Problem

CLEANED = [
    ("plain", "hello", "hello"),
    ("newline and tab stay", "a\n\tb", "a\n\tb"),
    ("other letters stay", "é漢🙂", "é漢🙂"),
    ("colour", "\x1b[31mred", "[31mred"),
    ("one-byte CSI", "\x9b31mred", "31mred"),
    ("window title", "\x1b]0;owned\x07", "]0;owned"),
    ("carriage return and backspace", "good\rbad\x08", "goodbad"),
    ("bidi override", "a\u202egpj.exe\u2066", "agpj.exe"),
    ("bidi marks", "a\u200f\u061cb", "ab"),
    ("line separator", "a\u2028b", "ab"),
    ("tag characters", "a\U000e0041b", "ab"),
    ("lone surrogate", "a\ud800b", "ab"),
    ("NUL and DEL", "a\x00\x7fb", "ab"),
]


@pytest.mark.parametrize(("name", "text", "shown"), CLEANED, ids=[row[0] for row in CLEANED])
def test_clean(name: str, text: str, shown: str) -> None:
    assert clean(text) == shown


def test_one_line_joins_lines_and_trims() -> None:
    assert one_line(" a\r\n\x1bb\u2028c ") == "a b c"


def test_an_error_is_one_clean_line() -> None:
    err = io.StringIO()
    say_error(Problem("client", "bad\nname '\x1b[2J'"), err)
    assert err.getvalue() == "error: bad name '[2J'\n"


def test_json_keeps_the_value_and_shows_no_active_character() -> None:
    document = {"name": "\x1b\x9b\u202e\U000e0041é\n"}
    text = json_text(document)
    assert json.loads(text) == document
    assert clean(text) == text
    assert "é" in text


ROWS = [["[red]x[/red]", "\x1b[2J1"], ["a" * 100, "2"]]


def test_a_piped_table_is_aligned_and_never_wraps() -> None:
    out = io.StringIO()
    show_table(["name", "n"], ROWS, out)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert {line.rindex(cell) for line, cell in zip(lines, ["n", "[2J1", "2"], strict=True)} == {102}


def test_a_terminal_table_fits_and_takes_no_markup_from_a_name() -> None:
    out = io.StringIO()
    show_table(["name", "n"], ROWS, out, terminal=True)
    lines = out.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "[red]x[/red]" in lines[1]
    assert "\x1b" not in out.getvalue()
