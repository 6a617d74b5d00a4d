"""Write `docs/providers.md` from the catalogue and the dialects' tables of losses.

    python scripts/providers_page.py

Nothing on the page is written by hand: change a row of `providers.toml`, a `SUPPORT` table, or the words here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lilliput.catalogue.load import rows, snapshot
from lilliput.catalogue.rows import LOCAL, Provider
from lilliput.wire import dialects
from lilliput.wire.fields import FIELDS
from lilliput.wire.operations import modalities

PAGE = Path(__file__).resolve().parent.parent / "docs" / "providers.md"
DROPPED = "\N{EN DASH}"
INTRODUCTION = """\
# Providers

Made by `make providers` from `src/lilliput/catalogue/` and the tables in `src/lilliput/wire/`; the tests hold both to \
it.

A model is called `provider/name`. A provider is ready once its variable is set; `lilliput providers` says which are, \
and `lilliput providers test NAME` asks one for a few tokens. Any other endpoint that speaks one of the dialects below \
is a table `[providers.NAME]` in the configuration.
"""
FIELDS_SAY = """\
## What becomes of a request's fields

A body passes as it came where caller and provider speak one dialect ({same}). Otherwise it is translated:

✓ translated · ≈ approximated · {dropped} dropped · ✗ refused with 400 · * not always: see the notes

What this request lost is named in the answer's header `x-lilliput-dropped`: the names below, and the caller's own \
fields that no other dialect has. Before it is sent, a translated request is refused with 400 where the catalogue \
knows that the model cannot take it: media that it does not read, tools, a JSON schema, more tokens than it has.
"""


def page() -> str:
    return "\n".join([INTRODUCTION, *_providers(), *_fields(), *_operations()]) + "\n"


def _providers() -> Iterator[str]:
    found = rows()
    yield f"## The {len(found)} providers\n"
    head = ("provider", "title", "dialect", "key", "models known", "docs")
    yield from _table(head, (_row(name, row) for name, row in found.items()))


def _row(name: str, row: Provider) -> list[str]:
    speaks = ", ".join((row.dialect, *row.also))
    key = f"`{row.key_env}`" if row.key_env else "none"
    if row.keyless and row.key_env:
        key += " if it wants one"
    known = sum(m.listed for m in snapshot(name)) if name != LOCAL else 1
    return [f"`{name}`", row.title, speaks, key, str(known or "any name"), f"[docs]({row.docs})" if row.docs else ""]


def _fields() -> Iterator[str]:
    support = {names: dialects.provider(names[0]).SUPPORT for names in _modules()}
    same = "; ".join(f"{client}: {', '.join(sorted(targets))}" for client, targets in dialects.SAME.items())
    yield FIELDS_SAY.format(same=same, dropped=DROPPED)
    head = ("field", *(" ".join(names) for names in support))
    yield from _table(head, ([f"`{f}`", *(_mark(table, f) for table in support.values())] for f in FIELDS))
    for names, table in support.items():
        yield f"### To {', '.join(names)}\n"
        yield from (f"- `{field}` {table[field]}" for field in FIELDS if field in table)
        yield ""


def _modules() -> list[tuple[str, ...]]:
    """The dialects, those of one module together."""
    together: dict[str, list[str]] = {}
    for name, module in dialects.PROVIDERS.items():
        together.setdefault(module, []).append(name)
    return [tuple(names) for names in together.values()]


def _mark(table: Mapping[str, str], field: str) -> str:
    says = table.get(field, "")
    if "dropped: refused with 400" in says:
        return "✗*" if "but for" in says else "✗"
    if says.startswith("approximated"):
        return "≈"
    return "✓" if not says else DROPPED if says == "dropped" or says.startswith("dropped:") else f"{DROPPED}*"


def _operations() -> Iterator[str]:
    yield "## Operations that are no chat\n"
    offers = {name: modalities.operation(name).adapters for name in modalities.NAMES}
    yield from _table(
        ("operation", "dialects of providers"),
        ([f"`{name}`", ", ".join(sorted(adapters))] for name, adapters in offers.items()),
    )


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE.name}: {len(rows())} providers, {len(FIELDS)} fields, {len(dialects.PROVIDERS)} dialects")
