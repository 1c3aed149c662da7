"""Where grains of zeros and others meet, against looking at one grain after the other."""

from __future__ import annotations

from itertools import groupby

from hypothesis import example, given
from hypothesis import strategies as st

from converter.vmdk.writing import runs

GRAIN_BYTES = 512

# Bytes alone in a grain of zeros: at its ends, on a place that is sampled, and beside one.
_grains = st.one_of(
    st.just(bytes(GRAIN_BYTES)),
    st.sampled_from([0, 1, 63, 64, 65, GRAIN_BYTES - 1]).map(
        lambda at: bytes(at) + b"x" + bytes(GRAIN_BYTES - at - 1)
    ),
    st.binary(min_size=1, max_size=8).map(lambda data: (data * GRAIN_BYTES)[:GRAIN_BYTES]),
)


@given(grains=st.lists(_grains, max_size=20), cut=st.integers(0, GRAIN_BYTES - 1))
@example(grains=[], cut=0)
@example(grains=[bytes(GRAIN_BYTES)], cut=GRAIN_BYTES - 1)
def test_runs_are_what_each_grain_says(grains: list[bytes], cut: int) -> None:
    data = b"".join(grains)
    data = data[: max(len(data) - cut, 0)]
    single = [data[at : at + GRAIN_BYTES] for at in range(0, len(data), GRAIN_BYTES)]
    expected = [(kind, b"".join(run)) for kind, run in groupby(single, lambda each: not any(each))]

    found = [(kind, bytes(run)) for kind, run in runs(memoryview(data), bytes(GRAIN_BYTES))]

    assert found == expected
