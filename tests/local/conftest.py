"""What the tests of the engine share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.local.real import weights_path


@pytest.fixture(scope="session")
def smollm() -> Path:
    """The default weights."""
    return weights_path()
