"""The table of what is tested where: few cells are empty, and each of those has its reason.

That the page is what the marks make of it is tested with all that scripts/docs writes.
"""

from __future__ import annotations

from pathlib import Path

from scripts.pages.matrix import MOST_EMPTY, REASONS, cells

TESTS = Path(__file__).resolve().parents[1]


def test_every_empty_cell_has_its_reason_and_few_are_empty() -> None:
    found = cells(TESTS)
    empty = {cell for cell, names in found.items() if not names}
    assert empty == set(REASONS)
    assert len(empty) <= len(found) * MOST_EMPTY
