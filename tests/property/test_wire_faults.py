"""Two Endpoints across a line that loses, damages, repeats and cuts: exactly the sent bytes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.property.lossy_line import Faults, run, soak

CASES = {
    "no faults": (Faults(), {}),
    "1e-4 per byte, 4 KiB": (Faults(5e-5, 3e-5, 2e-5), {"max_payload": 4096, "window": 65536}),
    "1e-3 per byte, 256 B": (Faults(5e-4, 3e-4, 2e-4), {"max_payload": 256}),
    "1e-2 per byte, 64 B": (
        Faults(5e-3, 3e-3, 2e-3),
        {"max_payload": 64, "window": 2048, "up_bytes": 4000, "down_bytes": 4000},
    ),
    "bursts among console text": (Faults(5e-5, 5e-5, garble=0.05, burst=3000), {}),
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


def test_every_cut_brings_a_new_epoch_to_both():
    outcome = run(1, Faults(cut=0.01), up_bytes=3_000_000, max_payload=32768, window=131072)
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
        burst=st.integers(1, 300),
    ),
    max_payload=st.sampled_from([64, 255, 1024]),
    frames=st.integers(1, 40),
)
def test_any_faults_in_any_shape(seed, faults, max_payload, frames):
    outcome = run(
        seed,
        faults,
        up_bytes=6000,
        down_bytes=3000,
        max_payload=max_payload,
        window=max_payload * frames,
    )
    assert outcome.exact


def test_a_slice_of_the_soak():
    """Two thousand faults, 2 % of the long form's hundred thousand."""
    assert soak(2000, seed=1) == []
