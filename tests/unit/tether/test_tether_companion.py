"""A companion in the guest's loop: its descriptor, its time, its child, and what it says."""

from __future__ import annotations

import os
import select
import time

from agent.tether import supervisor
from tests.unit.tether.loop_host import GIVE_UP_SECONDS, Host, exited, guest_line, spawn


class Clockwork:
    """Reads a pipe, waits for a moment, has a child; says each thing once."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.child = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 5"], os.environ)
        self.moment: float | None = None
        self.ended: int | None = None
        self.tell = None

    def attach(self, poller, tell):
        self.tell = tell
        poller.watch(self.reader, select.EPOLLIN, self.read)
        assert tell({"type": "clock", "what": "begun"})

    def read(self, _mask):
        os.read(self.reader, 100)
        self.tell({"type": "clock", "what": "read"})
        self.moment = time.monotonic() + 0.05

    def due(self):
        return self.moment

    def tick(self, now):
        if self.moment is not None and now >= self.moment:
            self.moment = None
            self.tell({"type": "clock", "what": "moment"})

    def take_end(self, pid, status):
        if pid == self.child:
            self.ended = os.WEXITSTATUS(status)
            return True
        return False

    def repeat(self):
        self.tell({"type": "clock", "what": "again"})


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
    for end in (companion.reader, companion.writer):
        os.close(end)


def test_a_line_that_takes_no_more_is_no_fault(lines):
    """Nobody is at the other end: at some time what waits is too much."""
    companion = Clockwork()
    with supervisor.Supervisor(guest_line(lines[0]), linger_seconds=0.1) as guest:
        guest.accompany(companion)
        answers = [companion.tell({"type": "clock", "what": "x" * 10_000}) for _ in range(200)]
        guest.supervise(spawn("exit 0"), stop_signal=15, oom_kills=lambda: 0)
    assert answers[0] is True
    assert answers[-1] is False
    for end in (companion.reader, companion.writer):
        os.close(end)
