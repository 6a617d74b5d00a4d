"""TOML and JSON lines into structs, with errors that name the file, the table, the key and the nearest right key."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from lilliput.neutral import Problem

FILE_LIMIT_BYTES = 4 << 20

T = TypeVar("T")


def read_toml(path: Path, shape: type[T]) -> T:
    """The file as `shape`; `Problem` when it cannot be read, is no TOML, or does not fit."""
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise Problem("client", f"{path} cannot be read: {e.strerror or e}; check that it is there and readable") from e
    if len(raw) > FILE_LIMIT_BYTES:
        raise Problem("client", f"{path} is larger than {FILE_LIMIT_BYTES >> 20} MiB, which is no configuration")
    try:
        table = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Problem("client", f"{path} is not valid TOML: {e}") from e
    return fit(table, shape, str(path))


def fit(table: Mapping[str, object], shape: type[T], where: str) -> T:
    """`table` as `shape`; `where` is the file named in the `Problem` when it does not fit."""
    try:
        return msgspec.convert(table, shape)
    except msgspec.ValidationError as e:
        _explain(table, shape, where, ())
        raise Problem("client", f"{where}: {e}") from e


def nearest(name: str, names: list[str], most: int = 3) -> list[str]:
    """Up to `most` of `names` that `name` was probably meant to be, best first, whatever the case of the letters."""
    by_lower = {n.lower(): n for n in reversed(names)}
    return [by_lower[n] for n in difflib.get_close_matches(name.lower(), by_lower, most, 0.6)]


def _explain(value: object, shape: object, where: str, path: tuple[str, ...]) -> None:
    """Raise the `Problem` that names the key which does not fit; `convert` does not name the keys of a free table."""
    if isinstance(shape, type) and issubclass(shape, msgspec.Struct) and isinstance(value, Mapping):
        hints = get_type_hints(shape, include_extras=True)
        for key, item in value.items():
            if key not in hints:
                raise Problem("client", f"{where}: {_table(path)} has no key {key!r}; {_meant(key, list(hints))}")
            _explain(item, hints[key], where, (*path, key))
        return
    if get_origin(shape) is dict and isinstance(value, Mapping):
        for key, item in value.items():
            _explain(item, get_args(shape)[1], where, (*path, key))
        return
    inner = [a for a in get_args(shape) if isinstance(a, type) and issubclass(a, msgspec.Struct)]
    if inner and isinstance(value, Mapping):
        return _explain(value, inner[0], where, path)
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError as e:
        say = str(e).replace(" - at `$`", "").replace(" - at `$", " at `")
        if words := _words(shape):
            say += f"; it is one of {', '.join(words)}"
        table = _table(path[:-1]) + " " if path[1:] else ""
        raise Problem("client", f"{where}: {table}{path[-1]} = {_short(value)}: {say}") from e


def _words(shape: object) -> list[str]:
    """The words that a `Literal`, bare or inside an option or a list, allows."""
    if get_origin(shape) is Literal:
        return [str(word) for word in get_args(shape)]
    return [word for part in get_args(shape) for word in _words(part)]


def _table(path: tuple[str, ...]) -> str:
    if not path:
        return "the top level"
    return "[" + ".".join(p if p.replace("-", "_").isidentifier() else f'"{p}"' for p in path) + "]"


def _meant(key: str, keys: list[str]) -> str:
    near = nearest(key, keys, 1)
    return f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(sorted(keys))}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
