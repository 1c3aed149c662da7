"""A companion in the guest's loop: its descriptor, its time, its child, and what it says."""

from __future__ import annotations

import os

from agent.tether import supervisor
from tests.unit.tether.loop_host import (
    GIVE_UP_SECONDS,
    Clockwork,
    Host,
    exited,
    guest_line,
    spawn,
)


def test_it_is_served_until_the_process_ends(lines):
    host = Host(lines[1])
    host.start()
    companion = Clockwork()
    script = "sleep 0.1; exit 4"

    with supervisor.Supervisor(guest_line(lines[0])) as guest:
        guest.accompany(companion)
        os.write(companion.writer, b"x")
        guest.supervise(spawn(script), stop_signal=15, oom_kills=lambda: 0)
    lines[0].close()
    host.join(GIVE_UP_SECONDS)
    said = [message.get("what") for message in host.controls if message["type"] == "clock"]
    assert said[:2] == ["begun", "read"]
    assert "moment" in said
    assert companion.ended == 5
    assert host.controls[-1] == exited(4)
    companion.close()


def test_a_line_that_takes_no_more_is_no_fault(lines):
    """Nobody is at the other end: at some time what waits is too much."""
    companion = Clockwork()
    with supervisor.Supervisor(guest_line(lines[0]), linger_seconds=0.1) as guest:
        guest.accompany(companion)
        answers = [companion.tell({"type": "clock", "what": "x" * 10_000}) for _ in range(200)]
        guest.supervise(spawn("exit 0"), stop_signal=15, oom_kills=lambda: 0)
    assert answers[0] is True
    assert answers[-1] is False
    companion.close()
