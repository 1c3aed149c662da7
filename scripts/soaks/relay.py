"""Relays that are killed at random instants while bytes flow both ways over a faulty line.

The code is in tests/integration; the tests run a slice of it.
"""

from __future__ import annotations

from tests.integration.relay_runs import soak

COUNT = 500  # kills


def run(count: int, seed: int) -> list[str]:
    """Kill relays `count` times; return what was lost, doubled or changed."""
    return soak(count, seed)
