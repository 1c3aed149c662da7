"""What the agent may cost a guest, by the code of `scripts/bench agent`, with less to wait for."""

from __future__ import annotations

import pytest

from scripts.benches import agent as bench

pytestmark = [pytest.mark.integration, pytest.mark.vm]

MOST_KIB = 14 * 1024  # 14,000,000 bytes are held in the median; a boot is 0.1 MiB off it
MOST_KIB_PER_EXEC = 64
OUTPUT_BYTES = 16 << 20  # a quarter of the benchmark's: sixteen times what the agent may keep
MOST_KIB_UNREAD = 2048  # a ring of 1 MiB, 16 KiB of each of twenty, and what holds them
MOST_KIB_LEFT = 1024  # of a burst of output and a hundred processes


@pytest.mark.timeout(300)
def test_memory(link, tmp_path):
    found = bench.memory(tmp_path, link, output_bytes=OUTPUT_BYTES)
    alone, after_output, with_execs, at_the_end, unread = found.values()
    assert alone.rss <= MOST_KIB
    assert with_execs.rss - after_output.rss <= bench.IDLE_EXECS * MOST_KIB_PER_EXEC
    assert at_the_end.rss - alone.rss <= MOST_KIB_LEFT
    assert unread.rss - at_the_end.rss <= MOST_KIB_UNREAD


@pytest.mark.timeout(300)
def test_a_quiet_guest_sleeps(link, tmp_path):
    found = bench.wake_ups(tmp_path, link, seconds=5)
    assert found == {"nobody is attached": 0, "a client is attached": 0}
