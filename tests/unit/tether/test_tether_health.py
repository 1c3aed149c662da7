"""Health checks: the rules alone, and the monitor with real processes."""

from __future__ import annotations

import binascii
import functools
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tether import health, process
from agent.tether.errors import StartError
from agent.tether.health import NOT_RUN, Health, HealthCheck, parse_health
from agent.tether.poller import Poller
from agent.tether.probes import HealthMonitor
from agent.tether.restart import RestartPolicy
from agent.wire import STDOUT
from tests.unit.tether.loop_host import Host, exited, launched, spawn, spawn_plain, supervise

SECOND = health.SECOND_NS
FULL = HealthCheck(("CMD", "check"), 1 * SECOND, 2 * SECOND, 3 * SECOND, 4 * SECOND, 5)


# --- what is asked for ---------------------------------------------------------------------------


def test_an_image_s_check_is_read_by_docker_s_names():
    image = {
        "Test": ["CMD", "check"],
        "Interval": SECOND,
        "Timeout": 2 * SECOND,
        "StartPeriod": 3 * SECOND,
        "StartInterval": 4 * SECOND,
        "Retries": 5,
    }
    assert parse_health(image, "image.Healthcheck", health.IMAGE_NAMES) == FULL
    assert parse_health(vars(FULL) | {"test": list(FULL.test)}, "here") == FULL
    assert parse_health(None, "here") is None


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "here"),
        ({"test": [1]}, "here.test"),
        ({"interval_ns": 10}, "here.interval_ns"),
        ({"timeout_ns": -1}, "here.timeout_ns"),
        ({"retries": True}, "here.retries"),
    ],
)
def test_what_is_no_check_is_named(document, field):
    with pytest.raises(StartError, match=field.replace(".", r"\.")):
        parse_health(document, "here")


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(health.OUR_NAMES, st.integers(0, 2**40))))
def test_any_number_is_a_check_or_an_error(document):
    document.pop("test", None)
    try:
        parsed = parse_health(document, "here")
    except StartError:
        assert any(0 < document.get(name, 0) < 10**6 for name in health.OUR_NAMES[1:5]) or (
            document["retries"] > 1 << 31
        )
    else:
        assert {name: getattr(parsed, name) for name in document} == document


@pytest.mark.parametrize(
    ("own", "merged"),
    [
        (HealthCheck(), FULL),
        (HealthCheck(retries=9), HealthCheck(FULL.test, *(n * SECOND for n in (1, 2, 3, 4)), 9)),
        (HealthCheck(("NONE",)), HealthCheck(("NONE",), *(n * SECOND for n in (1, 2, 3, 4)), 5)),
    ],
)
def test_what_a_run_does_not_say_is_the_image_s(own, merged):
    assert own.over(FULL) == merged


@pytest.mark.parametrize(
    ("test", "shell", "command"),
    [
        (("CMD", "a", "b"), (), ("a", "b")),
        (("CMD-SHELL", "a b"), (), ("/bin/sh", "-c", "a b")),
        (("CMD-SHELL", "a b"), ("/bin/ash", "-ec"), ("/bin/ash", "-ec", "a b")),
        (("NONE",), (), None),
        (("CMD",), (), None),
        (("HTTP", "x"), (), None),
        ((), (), None),
    ],
)
def test_what_is_executed(test, shell, command):
    assert HealthCheck(test).command(shell) == command


# --- what results mean ---------------------------------------------------------------------------


def test_defaults_are_docker_s():
    one = Health(HealthCheck(("CMD", "x")))
    assert one.begin(100.0) == 130.0
    for streak in (1, 2):
        one.take(1, 130.0)
        assert (one.status, one.failing_streak) == ("starting", streak)
    one.take(1, 190.0)
    assert (one.status, one.failing_streak) == ("unhealthy", 3)


def test_failures_of_the_start_period_do_not_count_until_a_success():
    check = HealthCheck(("CMD", "x"), 10 * SECOND, 0, 60 * SECOND, 2 * SECOND, 1)
    one = Health(check)
    assert one.begin(0.0) == 2.0
    one.take(1, 2.0)
    assert (one.status, one.failing_streak, one.next_check(2.5)) == ("starting", 0, 4.5)
    one.take(0, 4.5)
    assert (one.status, one.next_check(5.0)) == ("healthy", 15.0)
    one.take(1, 15.0)  # still in it
    assert (one.status, one.failing_streak) == ("unhealthy", 1)
    assert one.begin(20.0) == 22.0
    assert (one.status, one.failing_streak) == ("starting", 0)


@given(st.integers(1, 5), st.lists(st.booleans(), max_size=30))
def test_health_is_what_the_last_checks_say(retries, results):
    """Without a start period: unhealthy from `retries` failures in a row to the next success."""
    one = Health(HealthCheck(("CMD", "x"), retries=retries))
    one.begin(0.0)
    for number, good in enumerate(results):
        one.take(0 if good else 1, float(number + 1))
    seen = "".join("+" if good else "-" for good in results)
    streak = len(seen) - len(seen.rstrip("-"))
    assert one.failing_streak == streak
    last_good = "+" in seen
    expected = "unhealthy" if streak >= retries else ("healthy" if last_good else "starting")
    if streak < retries and not last_good:
        expected = "starting"
    assert one.status == expected


# --- with processes ------------------------------------------------------------------------------


def monitored(lines, check, script, *, checks, until, policy=None, again=None):
    """Supervise `script` with a check for each of the scripts `checks`, the last one for ever."""
    waiting = list(checks)

    def start(request):
        assert request == {"type": "exec", "args": ["check"]}
        return spawn(waiting.pop(0) if len(waiting) > 1 else waiting[0])

    def act(message, endpoint):
        if message["type"] == "health" and until(message, host):
            endpoint.control({"type": "stop"})

    def make(**options):
        return HealthMonitor(check, check.test[1:], **options)

    host = Host(lines[1], on_control=act)
    return supervise(
        lines, spawn(script), host, start=start, health=make, policy=policy, again=again
    )


def told(host):
    """Return the results that the host was told, and the last status."""
    messages = [message for message in host.controls if message["type"] == "health"]
    results = [message["result"] for message in messages if message["result"] is not None]
    return messages[0], results, messages[-1]["status"]


QUICK = HealthCheck(("CMD", "check"), 10**7, 2 * SECOND, 0, 0, 2)
LONG = "echo up; exec sleep 60"


def test_results_reach_the_host(lines):
    host = monitored(
        lines,
        QUICK,
        LONG,
        checks=["echo out; echo err >&2; exit 3", "exit 1", "head -c 9000 /dev/zero"],
        until=lambda message, _: message["status"] == "healthy",
    )
    first, results, status = told(host)
    assert first == {"type": "health", "status": "starting", "streak": 0, "result": None}
    assert [result["code"] for result in results] == [3, 1, 0]
    assert sorted(binascii.a2b_base64(results[0]["output"]).split()) == [b"err", b"out"]
    assert binascii.a2b_base64(results[2]["output"]) == bytes(4096) + b"..."
    assert status == "healthy"
    assert host.output[STDOUT] == b"up\n", "what a check prints is not the process's"
    assert host.controls[-1] == exited(143, signal=15)


def test_an_overdue_check_is_killed_though_others_hold_its_output(lines):
    check = HealthCheck(("CMD", "check"), 10**7, 3 * 10**8, 0, 0, 1)
    host = monitored(
        lines,
        check,
        LONG,
        checks=["echo half; trap '' TERM; sleep 60 & wait; sleep 60"],
        until=lambda message, _: message["status"] == "unhealthy",
    )
    _, results, _ = told(host)
    assert results[0]["code"] == -1
    output = binascii.a2b_base64(results[0]["output"])
    assert output == b"Health check exceeded timeout (0.3s): half\n"


def test_a_check_that_cannot_be_started_says_why(lines):
    failure = {"kind": "command", "message": "exec: 'check': not found", "code": 127}

    def start(_request):
        return launched(spawn_plain("exit 127"), failure=failure)

    def act(message, endpoint):
        if message.get("result"):
            endpoint.control({"type": "stop"})

    host = Host(lines[1], on_control=act)
    make = functools.partial(HealthMonitor, QUICK, ("check",))
    supervise(lines, spawn(LONG), host, start=start, health=make)
    _, (result, *_), _ = told(host)
    assert (result["code"], binascii.a2b_base64(result["output"])) == (
        -1,
        failure["message"].encode(),
    )


def test_no_check_outlives_the_process(lines):
    """The process ends while its check runs: nothing of that is told, and nobody is left."""
    started = []

    def start(_request):
        launch = spawn("exec sleep 61")
        started.append(launch.pid)
        return launch

    make = functools.partial(HealthMonitor, QUICK, ("check",))
    host = Host(lines[1])
    supervise(lines, spawn("sleep 0.3; exit 5"), host, start=start, health=make)
    _, results, _ = told(host)
    assert (len(started), results, host.controls[-1]) == (1, [], exited(5))


def test_another_start_is_another_health(lines):
    host = monitored(
        lines,
        QUICK,
        "sleep 0.3; exit 1",
        checks=["true"],
        until=lambda _, host: (
            sum(m["type"] == "started" for m in host.controls) == 2 and told(host)[2] == "healthy"
        ),
        policy=RestartPolicy("always"),
        again=lambda: spawn(LONG),
    )
    kinds = [
        message.get("status", message["type"])
        for message in host.controls
        if message["type"] in ("restarting", "health")
    ]
    assert kinds[0] == "starting"
    assert kinds[kinds.index("restarting") :][:3] == ["restarting", "starting", "healthy"]


def test_a_host_that_was_away_is_told_the_last_checks():
    said = []
    monitor = HealthMonitor(
        QUICK,
        ("check",),
        start=lambda _request: pytest.fail("nothing is due"),
        add=lambda _probe: None,
        poller=Poller(),
        clock=lambda: 0.0,
        is_ending=lambda: False,
        wall_ns=lambda: 7,
    )
    monitor.begin()
    for code in range(9):
        monitor._take(code, b"x")
    monitor.tell(lambda message: said.append(message) or len(said) < 3)
    assert [message["result"]["code"] for message in said] == [3, 4, 5]
    monitor.tell_again()
    said.clear()
    monitor.tell(lambda message: said.append(message) or True)
    assert [message["result"] and message["result"]["code"] for message in said] == [
        *(4, 5, 6, 7, 8),
        None,
    ]


def test_what_the_end_of_the_process_does_to_its_checks_is_no_result():
    """A check may be killed with the world, or find none, before the process can be waited for."""
    ends, said = [False], []
    monitor = HealthMonitor(
        QUICK,
        ("check",),
        start=lambda _request: pytest.fail("nothing is due"),
        add=lambda _probe: None,
        poller=Poller(),
        clock=lambda: 0.0,
        is_ending=lambda: ends[0],
        wall_ns=lambda: 7,
    )
    monitor.begin()
    monitor._take(1, b"")
    ends[0] = True
    monitor._take(137, b"")
    monitor._take(NOT_RUN, b"no new process")
    assert monitor.deadline() == 0.01  # as the first one left it
    monitor._take(0, b"in time")
    monitor.tell(lambda message: said.append(message) or True)
    assert [(message["status"], message["streak"]) for message in said] == [
        ("starting", 0),
        ("starting", 1),
        ("healthy", 0),
    ]


def test_a_process_is_ending_from_its_last_breath_on():
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    assert not process.is_ending(child.pid)
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process.is_ending(child.pid)  # dead, and nobody has waited for it
    child.wait()
    assert process.is_ending(child.pid)


def test_a_process_whose_first_thread_has_gone_is_not_ending():
    script = """if 1:
        import ctypes, threading
        def stay():
            while open("/proc/self/stat").read().rpartition(")")[2].split()[0] != "Z":
                pass
            print("alone", flush=True)
            input()
        threading.Thread(target=stay).start()
        ctypes.CDLL(None).pthread_exit(None)
    """
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"alone\n"
        assert not process.is_ending(child.pid)
        child.kill()
