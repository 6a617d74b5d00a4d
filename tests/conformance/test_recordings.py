"""Every shared recording of a dialect that is served, through a running gateway, both directions."""

from __future__ import annotations

import pytest
from tests.conformance import harness, report
from tests.conformance.cases import WAYS
from tests.conformance.need import recordings


@pytest.mark.slow
@pytest.mark.parametrize("api", sorted(WAYS))
def test_recordings_keep_their_facts(api: str) -> None:
    results = harness.run(recordings(), api=api)
    shown = f"{report.exceptions(results)}\n{report.table(results)}"
    print(shown)
    assert report.meets_bar(results), shown
