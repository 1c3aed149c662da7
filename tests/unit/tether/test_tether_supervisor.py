"""The guest's loop with real processes, pipes and terminals, and the real protocol to a host."""

from __future__ import annotations

import secrets
import signal

import pytest

from agent.tether import messages, supervisor
from agent.tether.errors import StartError
from agent.wire import STDERR, STDIN, STDOUT
from tests.unit.tether.loop_host import (
    GIVE_UP_SECONDS,
    Host,
    exited,
    guest_line,
    spawn,
    spawn_on_terminal,
    supervise,
    when_ready,
)


def test_output_comes_before_the_exit(lines):
    process = spawn("echo out; echo err >&2; exit 7")
    host = supervise(lines, process, Host(lines[1]))
    assert host.output == {STDOUT: b"out\n", STDERR: b"err\n"}
    assert host.controls == [
        {"type": "started", "process": 0, "pid": process.pid},
        exited(7),
    ]
    assert sorted(host.order[1:3]) == [STDOUT, STDERR]
    assert host.order[3] == "exited"


def test_stdin_reaches_the_process_and_ends(lines):
    data = secrets.token_bytes(300_000)
    host = supervise(lines, spawn("cat", with_stdin=True), Host(lines[1], stdin=data))
    assert host.output[STDOUT] == data
    assert host.controls[-1] == exited(0)


def test_process_that_does_not_read_its_stdin(lines):
    host = supervise(
        lines,
        spawn("exec 0<&-; sleep 0.2; echo done", with_stdin=True),
        Host(lines[1], stdin=bytes(200_000)),
    )
    assert host.output[STDOUT] == b"done\n"
    assert host.controls[-1] == exited(0)


def test_stalled_host_stops_the_process_and_loses_nothing(lines):
    size = 400_000
    process = spawn(f"head -c {size} /dev/zero | tr '\\0' x; echo e >&2")
    host = supervise(lines, process, Host(lines[1], stall_seconds=0.5))
    assert host.output == {STDOUT: b"x" * size, STDERR: b"e\n"}
    assert host.controls[-1] == exited(0)


def test_last_words_are_not_cut_off(lines):
    process = spawn("head -c 60000 /dev/zero")  # dead long before the host has read it
    host = supervise(lines, process, Host(lines[1], stall_seconds=0.3))
    assert len(host.output[STDOUT]) == 60000


def test_signal_reaches_the_process(lines):
    script = "trap 'echo caught; exit 5' USR1; echo ready; while :; do sleep 0.02; done"
    act = when_ready({"type": "signal", "signal": int(signal.SIGUSR1)})
    host = supervise(lines, spawn(script), Host(lines[1], on_output=act))
    assert host.output[STDOUT] == b"ready\ncaught\n"
    assert host.controls[-1] == exited(5)


def test_stop_uses_the_image_s_signal(lines):
    script = "trap 'exit 3' QUIT; trap '' TERM; echo ready; while :; do sleep 0.02; done"
    act = when_ready({"type": "stop", "timeout_seconds": 20})
    host = Host(lines[1], on_output=act)
    supervise(lines, spawn(script), host, stop_signal=signal.SIGQUIT)
    assert host.controls[-1] == exited(3)


def test_stop_kills_after_its_time(lines):
    script = "trap '' TERM; echo ready; exec sleep 60"
    act = when_ready({"type": "stop", "timeout_seconds": 0.1})
    host = supervise(lines, spawn(script), Host(lines[1], on_output=act))
    assert host.controls[-1] == exited(137, signal=9)


@pytest.mark.parametrize("request_", [{}, {"timeout_seconds": None}, {"timeout_seconds": "x"}])
def test_stop_without_a_time_takes_the_run_s(lines, request_):
    script = "trap '' TERM; echo ready; exec sleep 60"
    host = Host(lines[1], on_output=when_ready({"type": "stop", **request_}))
    supervise(lines, spawn(script), host, stop_seconds=0)
    assert host.controls[-1] == exited(137, signal=9)


@pytest.mark.parametrize(("asked", "own"), [(-1, 0), (None, -1)])
def test_stop_may_wait_for_ever(lines, asked, own):
    script = "trap 'sleep 0.2; exit 4' TERM; echo ready; while :; do sleep 0.02; done"
    host = Host(lines[1], on_output=when_ready({"type": "stop", "timeout_seconds": asked}))
    supervise(lines, spawn(script), host, stop_seconds=own)
    assert host.controls[-1] == exited(4)


def test_what_is_left_is_ended_when_the_main_process_has(lines):
    ended = []
    host = supervise(lines, spawn("exit 2"), Host(lines[1]), end=lambda: ended.append(True))
    assert (host.controls[-1], ended) == (exited(2), [True])


def test_death_for_want_of_memory_is_told(lines):
    host = supervise(lines, spawn("kill -KILL $$"), Host(lines[1]), oom=True)
    assert host.controls[-1] == exited(137, signal=9, oom=True)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": "news from a later version"},
        {"type": "resize", "rows": 10, "cols": 10},
        {"type": "resize", "rows": "x"},
        {"type": "signal"},
        {"type": "signal", "signal": 10**400},
        {"type": "signal", "signal": -9},
        {"type": "signal", "signal": True},
        {"type": "signal", "signal": float("nan")},
    ],
)
def test_control_message_that_means_nothing_here(lines, message):
    send = when_ready(message)

    def act(output, endpoint):
        done = send(output, endpoint)
        if done:
            endpoint.finish(STDIN)
        return done

    process = spawn("echo ready; read line; exit 1", with_stdin=True)
    host = supervise(lines, process, Host(lines[1], on_output=act))
    assert host.controls[-1] == exited(1)


def test_terminal(lines):
    script = "stty size; echo ready; read line; stty size; echo err >&2; cat; exit 2"

    def act(output, endpoint):
        if b"ready" not in output:
            return False
        endpoint.control({"type": "resize", "rows": 50, "cols": 132})
        endpoint.send(STDIN, b"go\nmore\n")
        endpoint.finish(STDIN)
        return True

    host = supervise(lines, spawn_on_terminal(script), Host(lines[1], on_output=act))
    text = host.output[STDOUT].replace(b"\r", b"").splitlines()
    assert text[:2] == [b"24 80", b"ready"]
    assert {b"50 132", b"err", b"more"} <= set(text)
    assert host.output[STDERR] == b""
    assert host.controls[-1] == exited(2)


def test_terminal_s_last_words_are_not_cut_off(lines):
    process = spawn_on_terminal("head -c 9000 /dev/zero | tr '\\0' x; echo end")
    host = supervise(lines, process, Host(lines[1], stall_seconds=0.3))
    assert host.output[STDOUT] == b"x" * 9000 + b"end\r\n"


def test_failure_is_reported_and_acknowledged(lines):
    host = Host(lines[1])
    host.start()
    with supervisor.Supervisor(guest_line(lines[0])) as guest:
        guest.report_failure(StartError("user", "no such user \u20ac" * 5000))
    lines[0].close()
    host.join(GIVE_UP_SECONDS)
    (message,) = host.controls
    assert (message["type"], message["code"], message["kind"]) == ("failed", 125, "user")
    assert message["message"].startswith("no such user \u20ac")


def test_host_that_never_comes_is_not_waited_for_ever(lines):
    ticks = iter(range(10**6))
    with supervisor.Supervisor(guest_line(lines[0]), clock=lambda: next(ticks) * 2.0) as guest:
        guest.report_failure(StartError("disk", "none"))
    assert next(ticks) > supervisor.LINGER_SECONDS / 2


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(0x0000, exited(0), id="exit 0"),
        pytest.param(0x0700, exited(7), id="exit 7"),
        pytest.param(0xFF00, exited(255), id="exit 255"),
        pytest.param(0x000F, exited(143, signal=15), id="SIGTERM"),
        pytest.param(0x008B, exited(139, signal=11, core=True), id="SIGSEGV with a core file"),
    ],
)
def test_wait_status(status, expected):
    assert messages.describe_exit(status, out_of_memory=False) == expected


def _fill(guest):
    """Leave no room for anything to be told."""
    for size in (10_000, 100, 1):
        while guest.tell({"type": "x" * size}):
            pass


def test_a_failure_that_has_no_room_is_waited_for_no_longer_than_any(lines):
    """As where no host was there for a week, in which a network came and went."""
    reported = []
    with supervisor.Supervisor(
        guest_line(lines[0]), linger_seconds=0.1, report=reported.append
    ) as guest:
        _fill(guest)
        guest.report_failure(StartError("disk", "gone"))
    assert [message["message"] for message in reported] == ["gone"]


def test_a_failure_that_has_no_room_is_told_when_there_is(lines):
    host = Host(lines[1])
    with supervisor.Supervisor(guest_line(lines[0]), linger_seconds=GIVE_UP_SECONDS) as guest:
        _fill(guest)
        host.start()
        guest.report_failure(StartError("disk", "gone"))
    lines[0].close()
    host.join(GIVE_UP_SECONDS)
    assert (host.failure, host.controls[-1]["message"]) == (None, "gone")
