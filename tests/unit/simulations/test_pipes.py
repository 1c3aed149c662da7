"""Pipes against a simulation of the same in small steps, which is slow and cannot be wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.simulations.pipes import NEVER, Pipe

_STEP = 1 / 128
USERS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 40), st.sampled_from([1.0, 2.5, 4.0])),
    min_size=1,
    max_size=6,
)


@given(USERS)
def test_all_are_slowed_down_alike(users: list[tuple[int, int, float]]) -> None:
    rate = 4.0
    expected = _in_steps(rate, users)
    pipe, found = Pipe(rate), {}
    arrivals = sorted(range(len(users)), key=lambda who: users[who][0])
    while arrivals or pipe.end < NEVER:
        if arrivals and users[arrivals[0]][0] <= pipe.end:
            who = arrivals.pop(0)
            arrives, units, most = users[who]
            pipe.add(float(arrives), who, units, most=most)
        else:
            at = pipe.end
            found[pipe.pop()] = at
    assert found == pytest.approx(expected, abs=8 * _STEP)
    assert pipe.units == sum(units for _, units, _ in users)


def _in_steps(rate: float, users: list[tuple[int, int, float]]) -> dict[int, float]:
    left = {who: float(units) for who, (_, units, _) in enumerate(users)}
    ends: dict[int, float] = {}
    step = 0
    while left:
        now = step * _STEP
        there = [who for who in left if users[who][0] <= now]
        wanted = sum(users[who][2] for who in there)
        speed = min(rate / wanted, 1.0) if there else 1.0
        for who in there:
            left[who] -= users[who][2] * speed * _STEP
            if left[who] <= 0:
                ends[who] = now
                del left[who]
        step += 1
    return ends


def test_one_has_no_more_than_the_pipe_and_no_more_than_itself() -> None:
    for most, seconds in ((1.0, 10.0), (5.0, 5.0)):
        pipe = Pipe(2.0)
        pipe.add(3.0, 0, 10.0, most=most)
        assert pipe.end == 3.0 + seconds
        pipe.pop()
        assert pipe.busy_seconds == 5.0


def test_what_lets_nothing_through_is_refused() -> None:
    with pytest.raises(ValueError, match="lets nothing through"):
        Pipe(0.0)
