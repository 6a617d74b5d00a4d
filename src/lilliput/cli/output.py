"""What the commands print: cleaned text, tables, JSON documents, error lines. No command's own wording belongs here.

Nothing here colours unless a terminal reads it; rich honours NO_COLOR and TERM by itself.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

import msgspec

from lilliput.neutral import Problem

# What a terminal acts on or what reorders text around it: C0 but tab and newline, DEL, C1, bidi marks, overrides and
# isolates, line and paragraph separators, the byte order mark, interlinear marks, tag characters; lone surrogates,
# which no encoder writes.
_ACTIVE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
)
_UNSAFE = re.compile(f"[{_ACTIVE}\ud800-\udfff]")
_UNSAFE_JSON = re.compile(f"[{_ACTIVE}]")
_SPACE = re.compile(r"\s+")


def clean(text: str) -> str:
    """The text without anything that a terminal would act on: newlines and tabs stay."""
    return _UNSAFE.sub("", text)


def one_line(text: str) -> str:
    """The text cleaned and on one line, for names, cells and errors."""
    return _UNSAFE.sub("", _SPACE.sub(" ", text)).strip()


def say_error(problem: Problem, err: TextIO) -> None:
    """One line that says what was wrong and what to do."""
    print(f"error: {one_line(problem.say)}", file=err)


def json_text(document: object, indent: int = 0) -> str:
    """The document as JSON, on one line or indented, safe to show: active characters are written as escapes."""
    text = msgspec.json.format(msgspec.json.encode(document), indent=indent).decode()
    return _UNSAFE_JSON.sub(_escape, text)


def show_json(document: object, out: TextIO) -> None:
    """One JSON document and a newline."""
    print(json_text(document, indent=2), file=out)


def show_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], out: TextIO, *, terminal: bool | None = None
) -> None:
    """A table: fitted to the window on a terminal, else aligned columns that never wrap, for grep and awk."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    if out.isatty() if terminal is None else terminal:
        _fitted(head, cells, out)
        return
    lines = [list(head), *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(), file=out)


def encode_leniently() -> None:
    """Let output that cannot be encoded show as `?` instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def _fitted(head: Sequence[str], cells: Sequence[Sequence[str]], out: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=out, highlight=False)
    table = Table(box=None, pad_edge=False, header_style=None if console.no_color else "bold")
    for name in head:
        table.add_column(name, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))  # Text: a name such as "[red]" is not markup
    console.print(table)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
