"""Every shared recording of every dialect, through a running gateway, by every client dialect, both directions."""

from __future__ import annotations

import pytest
from tests.conformance import harness, report
from tests.conformance.cases import WAYS
from tests.conformance.need import recordings
from tests.conformance.operations import OPERATIONS


@pytest.mark.slow
@pytest.mark.parametrize("api", sorted((*WAYS, *OPERATIONS)))
def test_recordings_keep_their_facts(api: str) -> None:
    results = harness.run(recordings(), api=api)
    shown = f"{report.exceptions(results)}\n{report.table(results)}"
    print(shown)
    assert report.meets_bar(results), shown
