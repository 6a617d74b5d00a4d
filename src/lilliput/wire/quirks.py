"""A provider's odd parameters as data: rename, drop, clamp and force on the top-level fields of a request.

The rows are the catalogue's. What needs an `if` is no quirk and belongs to the dialect's own module.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from lilliput.neutral import Target


def apply(fields: dict[str, Raw], target: Target) -> dict[str, Raw]:
    """`fields` as the target wants them: renamed, then dropped, clamped and forced.

    The same dict comes back when the row has no quirk. A field whose new name is taken already is dropped in favour
    of the one the caller wrote. Only numbers are clamped; anything else is left for the provider to judge.
    """
    if not (target.rename or target.drop or target.clamp or target.force):
        return fields
    out = dict(fields)
    for old, new in target.rename.items():
        if old in out:
            value = out.pop(old)
            out.setdefault(new, value)
    for name in target.drop:
        out.pop(name, None)
    for name, (low, high) in target.clamp.items():
        if name in out:
            out[name] = _clamped(out[name], low, high)
    for name, value in target.force.items():
        out[name] = Raw(msgspec.json.encode(value))
    return out


def body(fields: dict[str, object], target: Target) -> bytes:
    """The JSON of `fields`, of whatever values, as the target wants them."""
    if target.rename or target.drop or target.clamp or target.force:
        raws = {name: Raw(msgspec.json.encode(value)) for name, value in fields.items()}
        return msgspec.json.encode(apply(raws, target))
    return msgspec.json.encode(fields)


def dropped(fields: Mapping[str, object], target: Target) -> tuple[str, ...]:
    """Those of `fields` that the target's row drops."""
    if not target.drop:
        return ()
    return tuple(name for name in target.drop if name in fields and name != "stream_options")


def _clamped(raw: Raw, low: float, high: float) -> Raw:
    try:
        value = msgspec.json.decode(raw, type=int | float)
    except ValueError:
        return raw
    if low <= value <= high:
        return raw
    bound = low if value < low else high
    whole = isinstance(value, int) and float(bound).is_integer()
    return Raw(msgspec.json.encode(int(bound) if whole else bound))
