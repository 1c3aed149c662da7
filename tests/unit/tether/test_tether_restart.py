"""Restart policies: the rules alone, and the loop that follows them with real processes."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tether import supervisor
from agent.tether.errors import StartError
from agent.tether.restart import (
    FIRST_DELAY_SECONDS,
    GOOD_RUN_SECONDS,
    LONGEST_DELAY_SECONDS,
    NEVER,
    POLICIES,
    RestartPolicy,
    Restarts,
)
from agent.wire import STDIN, STDOUT
from tests.unit.tether.loop_host import (
    GIVE_UP_SECONDS,
    Host,
    exited,
    guest_line,
    spawn,
    supervise,
    when_ready,
)

ALWAYS = RestartPolicy("always")
codes = st.integers(0, 255)
times = st.floats(0, 100)


def test_delays_double_from_a_tenth_of_a_second_to_a_minute():
    restarts = Restarts(ALWAYS)
    delays = [restarts.delay_after(1, 0.0) for _ in range(12)]
    assert delays[:10] == [pytest.approx(0.1 * 2**n) for n in range(10)]
    assert delays[10:] == [60.0, 60.0]
    assert restarts.count == 12


@given(st.lists(times, min_size=1, max_size=30))
def test_the_delay_depends_on_how_long_it_ran_alone(runs):
    restarts, before = Restarts(ALWAYS), 0.0
    for ran in runs:
        delay = restarts.delay_after(0, ran)
        longer = FIRST_DELAY_SECONDS if ran >= GOOD_RUN_SECONDS or not before else 2 * before
        assert delay == min(LONGEST_DELAY_SECONDS, longer)
        before = delay


@given(st.sampled_from(POLICIES), st.integers(0, 5), st.lists(codes, max_size=12))
def test_which_ends_are_the_last(name, retries, ends):
    """Held against the sentences of docker's documentation."""
    restarts = Restarts(RestartPolicy(name, retries))
    for number, code in enumerate(ends):
        again = restarts.delay_after(code, 0.0) is not None
        if name == "no":
            assert not again
        elif name == "on-failure":
            assert again == (code != 0 and (retries == 0 or number < retries))
        else:
            assert again
        if not again:
            assert restarts.count == number
            return


@given(st.sampled_from(POLICIES), codes)
def test_a_stop_ends_every_policy(name, code):
    restarts = Restarts(RestartPolicy(name))
    restarts.stop()
    assert restarts.delay_after(code, 100.0) is None


@pytest.mark.parametrize(
    ("own", "number", "policy", "again"),
    [
        pytest.param(None, signal.SIGHUP, "always", False, id="none named: any signal"),
        pytest.param(signal.SIGINT, signal.SIGHUP, "always", True, id="another signal"),
        pytest.param(signal.SIGINT, signal.SIGHUP, "on-failure", True, id="another, on-failure"),
        pytest.param(signal.SIGINT, signal.SIGHUP, "unless-stopped", False, id="unless-stopped"),
        pytest.param(signal.SIGINT, signal.SIGINT, "always", False, id="the stop signal"),
        pytest.param(signal.SIGINT, signal.SIGKILL, "always", False, id="SIGKILL"),
    ],
)
def test_what_a_signal_of_the_user_means(own, number, policy, again):
    restarts = Restarts(RestartPolicy(policy))
    restarts.note_signal(number, own)
    assert (restarts.delay_after(1, 0.0) is not None) == again


# --- in the loop ---------------------------------------------------------------------------------


def restarting(code, count, delay_ms, **fields):
    return {**exited(code, **fields), "type": "restarting", "count": count, "delay_ms": delay_ms}


class Lives:
    """Starts a script after the other; says what was asked for and when nothing is left."""

    def __init__(self, *scripts, with_stdin=False):
        self.started = []
        self._scripts = list(scripts)
        self._with_stdin = with_stdin

    def __call__(self):
        if not self._scripts:
            raise StartError("command", "nothing is left", code=127)
        launch = spawn(self._scripts.pop(0), with_stdin=self._with_stdin)
        self.started.append(launch.pid)
        return launch


def test_each_end_and_start_is_told_between_the_outputs(lines):
    again = Lives("echo two; exit 2", "echo three; exit 0")
    host = Host(lines[1], stdin=b"go\n")  # so that it is there before the first end
    launch = spawn("read word; echo one; exit 1", with_stdin=True)
    supervise(lines, launch, host, policy=RestartPolicy("on-failure"), again=again)
    first, *others = [m["pid"] for m in host.controls if m["type"] == "started"]
    assert others == again.started
    assert [m for m in host.controls if m["type"] != "started"] == [
        restarting(1, 1, 100),
        restarting(2, 2, 200),
        exited(0),
    ]
    assert [m["type"] for m in host.controls] == [
        *("started", "restarting") * 2,
        *("started", "exited"),
    ]
    assert first not in others
    assert host.output[STDOUT] == b"one\ntwo\nthree\n"
    assert host.order.count(STDOUT) == 1, "one end of the stream, with the last process"


def test_an_end_comes_after_all_that_the_process_wrote(lines):
    """The host stalls, so there is output in the guest when the process has long been dead."""
    sizes = []

    def note(message, _endpoint):
        if message["type"] == "restarting":
            sizes.append(len(host.output[STDOUT]))

    host = Host(lines[1], stall_seconds=0.4, on_control=note)
    launch = spawn("head -c 60000 /dev/zero; exit 1")
    supervise(lines, launch, host, policy=RestartPolicy("on-failure", 1), again=Lives("exit 1"))
    assert sizes == [60000]


def test_stdin_goes_on_with_the_next_process(lines):
    """What the first did not take is lost with its pipe; the end stays the end."""
    again = Lives("cat; echo end; exit 0", with_stdin=True)

    def act(output, endpoint):
        if b"ready" not in output:
            return False
        endpoint.finish(STDIN)
        return True

    launch = spawn("echo ready; sleep 0.2; exit 1", with_stdin=True)
    host = Host(lines[1], on_output=act)
    supervise(lines, launch, host, policy=RestartPolicy("on-failure"), again=again)
    assert host.output[STDOUT] == b"ready\nend\n"
    assert host.controls[-1] == exited(0)


def test_what_cannot_be_started_again_ends_it(lines):
    host = Host(lines[1])
    supervise(lines, spawn("exit 1"), host, policy=ALWAYS, again=Lives())
    last = host.controls[-1]
    assert (last["type"], last["code"], last["message"]) == ("failed", 127, "nothing is left")


@pytest.mark.parametrize("order", ["stop", "power-off", "signal"])
def test_a_wish_to_end_while_it_waits(lines, order):
    """The last end is then the last one, and nothing is started: the fifth wait would be 1.6 s."""

    def act(message, endpoint):
        if message["type"] == "restarting" and message["count"] == 5:
            endpoint.control({"type": order, "signal": 9})

    again = Lives(*["exit 6"] * 20)
    host = Host(lines[1], on_control=act)
    supervise(lines, spawn("exit 6"), host, policy=ALWAYS, again=again)
    assert host.controls[-1] == exited(6)
    assert len(again.started) == 4


def test_stop_with_a_signal_of_its_own(lines):
    script = "trap 'exit 3' QUIT; trap '' TERM; echo ready; while :; do sleep 0.02; done"
    act = when_ready({"type": "stop", "signal": int(signal.SIGQUIT)})
    host = Host(lines[1], on_output=act)
    supervise(lines, spawn(script), host, policy=ALWAYS, again=Lives())
    assert host.controls[-1] == exited(3)


def test_an_absent_host_does_not_hold_restarts_up_nor_is_its_line_filled(lines):
    """Forty lives without one; told is how things stood with the last, whose output none took."""
    again = Lives(*["exit 1"] * 39)
    line = guest_line(lines[0])
    told = []
    line.endpoint.control = told.append
    now = 0.0
    with supervisor.Supervisor(line, clock=lambda: now, linger_seconds=1) as guest:
        wait = guest._poller.wait

        def wait_quickly(seconds):
            nonlocal now
            wait(min(seconds, 0.01))
            now += seconds

        guest._poller.wait = wait_quickly
        guest.supervise(
            spawn("exit 1"),
            oom_kills=lambda: 0,
            policy=RestartPolicy("on-failure", 39),
            again=again,
        )
    assert len(again.started) == 39
    assert [message["type"] for message in told] == ["restarting", "started"]
    assert (told[0]["count"], told[1]["pid"]) == (39, again.started[-1])


def wish(lines, script, *, again, policy=NEVER, wait_seconds=5):
    """Have the machine wish for a restart when the process says that it is ready.

    Return the host, and what the wish came to.
    """
    said = []
    host = Host(lines[1], on_output=when_ready({"type": "wish"}))
    host.start()
    with supervisor.Supervisor(guest_line(lines[0])) as guest:
        guest.listen("wish", lambda _message: said.append(guest.restart()))
        guest.supervise(
            spawn(script),
            stop_signal=signal.SIGTERM,
            oom_kills=lambda: 0,
            again=again,
            policy=policy,
            stop_seconds=wait_seconds,
        )
        said.append(guest.restart())
    lines[0].close()
    host.join(GIVE_UP_SECONDS)
    assert host.failure is None
    return host, said


def test_a_restart_that_is_wished_for_is_in_order_and_no_matter_of_the_policy(lines):
    """As vCenter's "Restart guest": the stop signal, its time, and at once another start."""
    script = "trap 'echo stopped; exit 9' TERM; echo ready; while :; do sleep 0.02; done"
    host, said = wish(lines, script, again=Lives("echo again; exit 4"))
    assert said == [True, False]  # what has ended for good is not begun again
    assert host.output[STDOUT] == b"ready\nstopped\nagain\n"
    assert host.controls[1:] == [restarting(9, 1, 0), host.controls[2], exited(4)]


def test_what_does_not_end_for_a_restart_is_killed_and_started_again(lines):
    script = "trap '' TERM; echo ready; while :; do sleep 0.02; done"
    host, said = wish(lines, script, again=Lives("exit 4"), wait_seconds=0)
    assert said == [True, False]
    assert [m["type"] for m in host.controls] == ["started", "restarting", "started", "exited"]
    assert host.controls[1]["code"] == 128 + signal.SIGKILL
    assert host.controls[-1] == exited(4)


def test_a_stop_overtakes_a_restart_and_a_restart_does_not_wait_its_turn():
    restarts = Restarts(ALWAYS)
    assert [restarts.delay_after(1, 0.0) for _ in range(3)][-1] == pytest.approx(0.4)
    restarts.want()
    assert restarts.delay_after(1, 0.0) == 0.0
    assert restarts.delay_after(1, 0.0) == pytest.approx(FIRST_DELAY_SECONDS)
    restarts.want()
    restarts.stop()
    assert restarts.delay_after(1, 0.0) is None
