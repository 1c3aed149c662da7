"""docs/batch.svg is what today's plan, order, model and drawing make of it."""

from __future__ import annotations

from scripts.simulations.picture import picture
from tests.images.cache import ROOT


def test_the_picture_is_of_today() -> None:
    assert (ROOT / "docs" / "batch.svg").read_bytes() == picture(), "run scripts/batch_report"
