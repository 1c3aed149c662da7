"""What a guest says of restarts and health: summed up, and nothing believed that cannot be."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.host.relay.life import NO_LIFE, read_life

RESTARTING = {"type": "restarting", "code": 3, "signal": None, "count": 1, "delay_ms": 100}
CHECK = {"start_ns": 1, "end_ns": 2, "code": 0, "output": base64.b64encode(b"ok\xff").decode()}
HEALTH = {"type": "health", "status": "healthy", "streak": 0, "result": CHECK}


def test_a_life_of_two_starts():
    ended = NO_LIFE.after({**RESTARTING, "oom": True}, 50)
    assert (ended.restarts, ended.waits, ended.ended_ns) == (1, True, 50)
    assert ended.end == {
        "type": "exited",
        "code": 3,
        "signal": None,
        "core": False,
        "oom": True,
        "restarts": True,
    }
    begun = ended.after({"type": "started", "pid": 1}, 70)
    assert (begun.restarts, begun.waits, begun.started_ns) == (1, False, 70)
    assert begun.after(RESTARTING, 90) is begun, "one that was heard of before"


def test_the_first_start_is_not_of_a_life():
    assert NO_LIFE.after({"type": "started", "pid": 1}, 70) is NO_LIFE
    assert NO_LIFE.after({"type": "clock"}, 70) is NO_LIFE


def test_the_last_five_checks_are_kept():
    life = NO_LIFE
    for code in range(7):
        life = life.after({**HEALTH, "result": {**CHECK, "code": code}}, 0)
    assert life.health is not None
    assert [check.code for check in life.health.log] == [2, 3, 4, 5, 6]
    assert life.health.log[0].output == "ok\ufffd"
    begun = life.after({**HEALTH, "status": "starting", "result": None}, 0)
    assert begun.health is not None
    assert (begun.health.status, len(begun.health.log)) == ("starting", 5)
    assert read_life(json.loads(json.dumps(begun.to_json()))) == begun


@pytest.mark.parametrize(
    "message",
    [
        {**RESTARTING, "count": -1},
        {**RESTARTING, "count": True},
        {**RESTARTING, "code": 256},
        {**RESTARTING, "signal": "nine"},
        {**HEALTH, "status": "splendid"},
        {**HEALTH, "streak": 1.5},
        {**HEALTH, "result": []},
        {**HEALTH, "result": {**CHECK, "output": "?"}},
        {**HEALTH, "result": {**CHECK, "output": "\u00e9"}},
        {**HEALTH, "result": {**CHECK, "output": "A" * 100_000}},
        {**HEALTH, "result": {**CHECK, "code": -2}},
        {**HEALTH, "result": {**CHECK, "end_ns": 1 << 70}},
    ],
)
def test_what_cannot_be_is_refused(message):
    with pytest.raises(ValueError, match=r"."):
        NO_LIFE.after(message, 0)


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
members = ("code", "signal", "count", "status", "streak", "result", "start_ns", "output")


@given(
    st.sampled_from(("restarting", "started", "health")),
    st.dictionaries(st.sampled_from(members), values | st.dictionaries(st.text(), values)),
)
def test_any_message_is_part_of_a_life_or_an_error(kind, message):
    with contextlib.suppress(ValueError):
        life = NO_LIFE.after({**message, "type": kind}, 5)
        assert read_life(json.loads(json.dumps(life.to_json()))) == life


@pytest.mark.parametrize("document", [{}, {"restarts": 1}, {"health": {"log": 1}}, {"health": 5}])
def test_what_is_no_life_is_no_state(document):
    with pytest.raises(ValueError, match="no life"):
        read_life(document)
