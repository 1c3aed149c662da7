"""Two Endpoints across a line that loses, damages, repeats and cuts: exactly the sent bytes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.wire import STDOUT
from tests.property.lossy_line import Faults
from tests.property.wire_sessions import run, soak

CASES = {
    "no faults": (Faults(), {}),
    "1e-4 per byte, 4 KiB": (Faults(5e-5, 3e-5, 2e-5), {"max_payload": 4096, "window": 65536}),
    "1e-3 per byte, 256 B": (Faults(5e-4, 3e-4, 2e-4), {"max_payload": 256}),
    "1e-2 per byte, 64 B": (
        Faults(5e-3, 3e-3, 2e-3),
        {"max_payload": 64, "window": 2048, "up_bytes": 4000, "down_bytes": 4000},
    ),
    "bursts among console text": (Faults(5e-5, 5e-5, garble=0.05, burst=3000), {}),
    "1e-3 per byte, begun with 32 KiB": (
        Faults(5e-4, 3e-4, 2e-4),
        {"max_payload": 32768, "window": 131072, "up_bytes": 200_000},
    ),
    "kills": (Faults(restart=0.02), {"processes": 5}),
    "kills, cuts and 1e-4 per byte": (
        Faults(5e-5, 3e-5, 2e-5, cut=0.01, restart=0.01, outage_seconds=1.0),
        {"processes": 5, "up_bytes": 60_000},
    ),
    "rings and hosts that stay away": (
        Faults(cut=0.001, restart=0.01, outage_seconds=2.0),
        {"ring": True, "up_bytes": 200_000},
    ),
    "cuts in 32 KiB frames": (
        Faults(drop=1e-5, cut=0.02),
        {"max_payload": 32768, "window": 131072, "up_bytes": 600_000, "down_bytes": 600_000},
    ),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("faults", "sizes"), CASES.values(), ids=CASES.keys())
def test_every_byte_arrives_once(faults, sizes, seed):
    outcome = run(seed, faults, **sizes)
    assert outcome.exact
    assert bool(outcome.faults or outcome.cuts) == (faults != Faults())


def test_nothing_is_resent_without_a_fault():
    outcome = run(7, Faults(), up_bytes=500_000, down_bytes=500_000)
    assert outcome.exact
    for end in (outcome.host, outcome.guest):
        counters = end.endpoint.counters
        assert (counters.resent, counters.probes, counters.repeated) == (0, 0, 0)


def test_rings_drop_and_say_so():
    outcome = run(3, Faults(restart=0.01, outage_seconds=2.0), ring=True, up_bytes=400_000)
    assert outcome.exact
    assert len(outcome.host.gaps[STDOUT]) > 1
    missing = sum(count for _, count in outcome.host.gaps[STDOUT])
    assert 0 < missing < 400_000


def test_a_slow_line_is_compressed_and_a_fast_one_never():
    """Both ways to the end; text shrinks, and what does not is soon left alone."""
    sizes = {"up_bytes": 800_000, "max_payload": 4096, "window": 32768}
    slow, fast = (run(1, Faults(), rate=rate, **sizes) for rate in (400e3, 40e6))
    assert slow.exact
    assert fast.exact
    assert slow.guest.endpoint.counters.compressed > 0
    assert fast.guest.endpoint.counters.compressed == 0


def test_every_cut_brings_a_new_epoch_to_both():
    outcome = run(1, Faults(cut=0.04), up_bytes=3_000_000, max_payload=32768, window=131072)
    assert outcome.exact
    assert outcome.cuts > 1
    assert outcome.host.epochs > 1
    assert outcome.guest.epochs > 1


@settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(
    seed=st.integers(0, 2**32),
    faults=st.builds(
        Faults,
        drop=st.sampled_from([0, 1e-5, 1e-4, 3e-4]),
        corrupt=st.sampled_from([0, 1e-5, 1e-4, 3e-4]),
        duplicate=st.sampled_from([0, 1e-5, 1e-4, 3e-4]),
        garble=st.sampled_from([0, 0.01, 0.1]),
        cut=st.sampled_from([0, 0.001, 0.02]),
        restart=st.sampled_from([0, 0.001, 0.02]),
        outage_seconds=st.sampled_from([0, 1.0]),
        burst=st.integers(1, 300),
    ),
    max_payload=st.sampled_from([64, 255, 1024]),
    frames=st.integers(1, 40),
    processes=st.integers(0, 3),
    ring=st.booleans(),
)
def test_any_faults_in_any_shape(seed, faults, max_payload, frames, processes, ring):
    outcome = run(
        seed,
        faults,
        up_bytes=6000,
        down_bytes=3000,
        max_payload=max_payload,
        window=max_payload * frames,
        processes=processes,
        ring=ring,
    )
    assert outcome.exact


def test_a_slice_of_the_soak():
    """Two thousand faults, 2 % of the long form's hundred thousand."""
    assert soak(2000, seed=1) == []
