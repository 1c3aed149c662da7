"""Processes beside the main one, and what becomes of output when nobody is there."""

from __future__ import annotations

import signal
import threading
import time

from agent.tether import supervisor
from agent.wire import STDERR, STDIN, STDOUT, Closed, Control, Data, Finished, stream_of
from tests.unit.tether.loop_host import (
    GIVE_UP_SECONDS,
    Host,
    exited,
    guest_line,
    launched,
    spawn,
    spawn_plain,
    supervise,
    when_ready,
)


class ExecHost(Host):
    """Asks for one more process as soon as the main one is ready."""

    def __init__(self, line, request, *, stdin=b"", **options):
        super().__init__(line, **options)
        self.record = []
        self.stdout = b""
        self._request = request
        self._exec_stdin = stdin

    def _take(self, endpoint, event):
        if isinstance(event, Control):
            if event.message == {"type": "started", "process": 0, "pid": event.message.get("pid")}:
                endpoint.open(5)
                endpoint.control({"process": 5, **self._request})
            elif event.message["process"] == 5:
                self.record.append(event.message)
                if event.message["type"] == "started":
                    endpoint.send(stream_of(5, STDIN), self._exec_stdin)
                    endpoint.finish(stream_of(5, STDIN))
                elif event.message["type"] == "failed":
                    endpoint.finish(stream_of(5, STDIN))
                return
        if isinstance(event, Closed):
            self.record.append("closed")
            endpoint.finish(STDIN)
        elif isinstance(event, Data) and event.stream == stream_of(5, STDOUT):
            self.stdout += event.data
            endpoint.consumed(event.stream, len(event.data))
        elif isinstance(event, Data) and event.stream > STDERR:
            endpoint.consumed(event.stream, len(event.data))
        elif isinstance(event, Finished) and event.stream > STDERR:
            self.record.append(event.stream)
        else:
            super()._take(endpoint, event)


def test_another_process_beside_the_main_one(lines):
    host = ExecHost(lines[1], {"type": "exec"})
    main = spawn("read line; exit 1", with_stdin=True)
    other = "exec 2>&-; echo early; exec >&-; sleep 0.1; exit 4"
    supervise(lines, main, host, start=lambda _message: spawn(other, with_stdin=True))
    assert host.stdout == b"early\n"
    kinds = [item if isinstance(item, (int, str)) else item["type"] for item in host.record]
    # Its outputs ended long before it, its stdin too: still the status comes before the end.
    assert kinds == ["started", stream_of(5, STDERR), stream_of(5, STDOUT), "exited", "closed"]
    assert host.record[3] == exited(4, process=5)
    assert host.controls[-1] == exited(1)


def test_another_process_that_cannot_start(lines):
    host = ExecHost(lines[1], {"type": "exec"})

    def start(_message):
        failure = {"kind": "command", "message": "no such thing", "code": 127}
        return launched(spawn_plain("exit 0"), failure=failure)

    supervise(lines, spawn("read line; exit 1", with_stdin=True), host, start=start)
    (failed,) = [item for item in host.record if isinstance(item, dict)]
    assert (failed["type"], failed["code"], failed["process"]) == ("failed", 127, 5)
    assert host.record[-1] == "closed"


def test_another_process_where_there_can_be_none(lines):
    host = ExecHost(lines[1], {"type": "exec"})
    supervise(lines, spawn("read line; exit 1", with_stdin=True), host)
    (failed,) = [item for item in host.record if isinstance(item, dict)]
    assert (failed["type"], failed["code"], failed["kind"]) == ("failed", 125, "world")


def test_what_another_process_leaves_behind_ends_with_the_main_one(lines):
    """The main process's end is the end of all; here there is no PID namespace to do that."""
    host = ExecHost(lines[1], {"type": "exec"})
    started = time.monotonic()
    main = spawn("read line; exit 1", with_stdin=True)
    supervise(lines, main, host, start=lambda _message: spawn("sleep 25 & exit 4"))
    assert host.record[-1] == "closed"
    assert time.monotonic() - started < 20


def test_power_off(lines):
    act = when_ready({"type": "power-off"})
    script = "trap '' TERM; echo ready; exec sleep 60"
    host = supervise(lines, spawn(script), Host(lines[1], on_output=act))
    assert host.controls[-1] == exited(137, signal=9)


def test_a_ring_keeps_the_newest_output_while_nobody_is_there(lines):
    line = guest_line(lines[0])
    script = "head -c 3000000 /dev/zero | tr '\\0' x; echo last; exit 6"
    host = Host(lines[1])
    threading.Timer(1.0, host.start).start()
    with supervisor.Supervisor(line) as guest:
        guest.supervise(spawn(script), stop_signal=signal.SIGTERM, oom_kills=lambda: 0)
    lines[0].close()
    host.join(GIVE_UP_SECONDS)
    assert host.failure is None
    gaps = sum(event.count for event in host.gaps)
    assert gaps + len(host.output[STDOUT]) == 3_000_005
    assert gaps > 1_000_000
    assert host.output[STDOUT].endswith(b"xlast\n")
    assert host.controls[-1] == exited(6)
