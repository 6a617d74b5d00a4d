"""`lilliput pull`: weights fetched by name and verified, with how far it is on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from lilliput import config as configuration
from lilliput.catalogue.rows import LOCAL
from lilliput.cli.output import one_line, show_json
from lilliput.local import weights

MIB = 1 << 20
STEP = 10
"""Percent between two lines of a progress that no terminal shows."""


def pull(env: Mapping[str, str], name: str, as_json: bool) -> None:
    """Fetch the weights of that name into the home and print where they are; quick when they are there already."""
    name = name.removeprefix(f"{LOCAL}/")  # as the catalogue calls them
    place = configuration.home(env)
    with progress(name, sys.stderr, quiet=as_json) as told:
        path = weights.pull(name, place.weights, progress=told, env=env)
    size, sha256 = path.stat().st_size, weights.pinned(name, place.weights)
    if as_json:
        show_json({"name": name, "path": str(path), "size_bytes": size, "sha256": sha256}, sys.stdout)
        return
    checked = f"sha256 {sha256}" if sha256 else "used where it lies"
    print(f"{one_line(name)}: {path} ({size / MIB:.0f} MiB, {checked})")


@contextmanager
def progress(
    name: str, err: TextIO, *, quiet: bool = False, terminal: bool | None = None
) -> Iterator[weights.Progress]:
    """What to tell how many bytes of how many have come: drawn as a bar on a terminal, else a line every tenth."""
    if quiet:
        yield lambda done, total: None
    elif err.isatty() if terminal is None else terminal:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(TextColumn("{task.description}", markup=False), *columns, console=Console(file=err)) as bar:
            task = bar.add_task(one_line(name), total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total or None)
    else:
        yield _lines(one_line(name), err)


def _lines(name: str, err: TextIO) -> weights.Progress:
    said = -1

    def tell(done: int, total: int) -> None:
        nonlocal said
        step = done * 100 // total // STEP if total else 0
        if step > said:
            said = step
            print(f"{name}: {done / MIB:.0f} of {total / MIB:.0f} MiB ({step * STEP} %)", file=err, flush=True)

    return tell
