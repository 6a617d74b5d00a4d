"""What a test needs and may lack: on a person's machine the test is skipped with the reason, under CI it fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.conformance.kit import default_folder


def need(is_there: bool, why: str) -> None:
    """Skips the running test, or fails it where CI=true, when what it needs is not there."""
    if not is_there:
        assert os.environ.get("CI") != "true", why
        pytest.skip(why)


def recordings() -> Path:
    """The folder of recordings, which the test cannot do without."""
    folder = default_folder()
    need(folder.is_dir(), f"no recordings at {folder}; set LILLIPUT_RECORDINGS to their folder")
    return folder
