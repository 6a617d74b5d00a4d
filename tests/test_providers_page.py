"""`docs/providers.md` is what the catalogue and the dialects' tables say."""

from __future__ import annotations

import pytest
from scripts import providers_page as made

from lilliput.catalogue.load import rows
from lilliput.wire import dialects
from lilliput.wire.fields import FIELDS

SUPPORT = {
    "how": "approximated: nearly",
    "never": "dropped",
    "why": "dropped: there is none",
    "some": "dropped for old models",
    "no": "dropped: refused with 400",
    "most": "dropped: refused with 400, but for s3://",
}
MARKS = [
    ("else", "✓"),
    ("how", "≈"),
    ("never", made.DROPPED),
    ("why", made.DROPPED),
    ("some", f"{made.DROPPED}*"),
    ("no", "✗"),
    ("most", "✗*"),
]


def test_the_page_on_disk_is_the_one_that_is_made() -> None:
    assert made.PAGE.read_text() == made.page(), "run `make providers`"


@pytest.mark.parametrize(("field", "mark"), MARKS)
def test_mark(field: str, mark: str) -> None:
    assert made._mark(SUPPORT, field) == mark


def test_every_provider_field_and_dialect_has_its_place() -> None:
    lines = made.page().splitlines()
    cells = {line.split(" | ")[0].strip("| `"): line.count(" | ") for line in lines if line.startswith("| `")}
    assert set(rows()) <= set(cells)
    modules = len(set(dialects.PROVIDERS.values()))
    assert all(cells[field] == modules for field in FIELDS)
    assert all(f"`{row.key_env}`" in made.page() for row in rows().values() if row.key_env)
