"""A guest that holds the key and says anything: a slice of `scripts/soak guest_frames`."""

from __future__ import annotations

from scripts.soaks import guest_frames


def test_twenty_thousand_hostile_frames():
    """2 % of the long form's million."""
    assert guest_frames.run(20_000, seed=1) == []
