"""The reliable link over a line that drops, corrupts, doubles and cuts, with hosts that are killed.

The code is in tests/property; the tests run a slice of it.
"""

from __future__ import annotations

from tests.property.wire_sessions import soak

COUNT = 100_000  # faults


def run(count: int, seed: int) -> list[str]:
    """Put `count` faults on the line, chosen by `seed`; return what was not delivered exactly."""
    return soak(count, seed)
