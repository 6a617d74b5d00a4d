"""`lilliput config import`: another gateway's configuration, printed as ours."""

from __future__ import annotations

import sys
from pathlib import Path

from lilliput.catalogue.strict import FILE_LIMIT_BYTES
from lilliput.neutral import Problem
from lilliput.router import litellm


def from_litellm(file: Path) -> None:
    """Print the TOML to stdout; what could not be carried over stands in its comments, and its count on stderr."""
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        raise Problem("client", "reading YAML needs PyYAML: pip install 'lilliput[import]'") from None
    text = file.read_bytes()
    if len(text) > FILE_LIMIT_BYTES:
        raise Problem("client", f"{file} is larger than {FILE_LIMIT_BYTES >> 20} MiB, which is no configuration")
    try:
        made = litellm.read(yaml.safe_load(text))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as e:
        raise Problem("client", f"{file} is not valid YAML: {e}") from e
    print(litellm.toml(made), end="")
    if made.notes:
        print(f"{len(made.notes)} settings were left out; see the comments", file=sys.stderr)
