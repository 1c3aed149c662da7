"""Restart policies, health checks and ways to end, by the command, in machines that run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.lifecycle import Host, host, until

pytestmark = [pytest.mark.integration, pytest.mark.vm, pytest.mark.timeout(600)]

# Says which life this is, and what it finds of the one before; ends as the file says.
LIVES = r"""
lives=$(cat /etc/lives 2>/dev/null || echo 0); lives=$((lives + 1)); echo $lives > /etc/lives
echo life $lives pid $$ tmp $(ls /scratch | wc -l) group $(cat /proc/self/cgroup)
touch /scratch/left-behind
[ $lives -ge 4 ] && exit 0
exit $lives
"""


@pytest.fixture(scope="module")
def here(
    tmp_path_factory: pytest.TempPathFactory, demo_layout: Path, boot_store: Path
) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("host"), demo_layout, boot_store) as made:
        yield made


def run(here: Host, name: str, script: str, *options: str) -> str:
    """Start a machine in the background; return its id."""
    return here.good(
        *("run", "-d", "-u", "0", "--name", name, *options, here.image, "sh", "-c", script)
    ).strip()


def status(here: Host, name: str) -> str:
    return here.look("ps", "-a", "--filter", f"name=^{name}$", "--format", "{{.Status}}").strip()


def when(here: Host, name: str, **members: Any) -> dict[str, Any]:
    """Wait until inspect tells these members; return all of them."""

    def found() -> dict[str, Any] | None:
        told = here.inspect(name)
        return told if all(told[key] == value for key, value in members.items()) else None

    return until(found)


def test_on_failure_starts_it_again_in_a_fresh_world_until_it_succeeds(here: Host) -> None:
    """Each life has the same disk, a tmpfs and a control group of its own, and PID 1."""
    name = "lives"
    run(here, name, LIVES, "--restart", "on-failure", "--tmpfs", "/scratch")
    ended = when(here, name, status="exited")
    assert (ended["exit_code"], ended["restart_count"], ended["restarting"]) == (0, 3, False)
    assert here.log(name).splitlines() == [
        f"life {life} pid 1 tmp 0 group 0::/" for life in (1, 2, 3, 4)
    ]


def test_on_failure_gives_up_after_its_times_and_the_foreground_sees_the_first_end(
    here: Host,
) -> None:
    options = ("run", "-u", "0", "--name", "twice", "--restart", "on-failure:2", here.image)
    done = here(*options, "sh", "-c", "echo again; exit 3")
    assert (done.returncode, done.stdout) == (3, b"again\n"), done.stderr
    ended = when(here, "twice", status="exited")
    assert (ended["exit_code"], ended["restart_count"]) == (3, 2)
    assert here.log("twice") == "again\n" * 3
    assert here.good("wait", "twice").strip() == "3"


def test_waiting_to_restart_is_seen_and_a_stop_ends_it(here: Host) -> None:
    """Each wait is twice the one before, so whatever is looked for will be seen."""
    run(here, "again", "exit 9", "--restart", "always")
    until(lambda: here.inspect("again")["restart_count"] >= 5)
    until(lambda: status(here, "again").startswith("Restarting (9) "))
    words = ("ps", "--filter", "status=restarting", "--format", "{{.Names}} {{.State}}")
    until(lambda: here.look(*words) == "again restarting\n")
    until(lambda: b"is restarting" in here("exec", "again", "true").stderr)
    assert here.good("wait", "again").strip() == "9"  # of the next end
    here.good("stop", "again")
    ended = here.inspect("again")
    assert (ended["status"], ended["exit_code"], ended["restarting"]) == ("exited", 9, False)


def test_the_user_s_end_is_the_last(here: Host) -> None:
    """However it was asked for; the machine may be started again, and the policy is as it was."""
    script = "trap 'exit 7' TERM; trap 'exit 8' USR1; echo ready; while :; do sleep 0.1; done"
    run(here, "ended", script, "--restart", "always")
    orders = ((7, "stop"), (8, "stop", "-s", "USR1"), (137, "kill"))
    for lives, (code, *order) in enumerate(orders, start=1):
        until(lambda lives=lives: here.log("ended").count("ready") == lives)
        here.good(*order, "ended")
        ended = here.inspect("ended")
        told = (ended["status"], ended["exit_code"], ended["restart_count"])
        assert told == ("exited", code, 0), order
        here.good("start", "ended")
    until(lambda: here.log("ended").count("ready") == len(orders) + 1)
    here.good("rm", "-f", "ended")


def test_a_signal_that_is_no_wish_to_end_leaves_the_policy(here: Host) -> None:
    """With a stop signal of its own, others are only signals; unless-stopped alone minds them."""
    script = "trap 'exit 8' USR1; echo ready; while :; do sleep 0.1; done"
    for policy, lives in (("always", 2), ("unless-stopped", 1)):
        run(here, policy, script, "--restart", policy, "--stop-signal", "INT")
        until(lambda policy=policy: "ready" in here.log(policy))
        here.good("kill", "-s", "USR1", policy)
        if lives == 2:
            until(lambda: here.log("always").count("ready") == 2)
            assert here.inspect(policy)["status"] == "running"
        else:
            assert when(here, policy, status="exited")["restart_count"] == 0
        here.good("rm", "-f", policy)


def test_a_policy_survives_the_supervisor_and_ends_with_the_machine(here: Host) -> None:
    """QEMU killed is the machine's end, whatever the policy: nobody is there to start it again."""
    run(here, "host", "echo up; sleep 0.5; exit 1", "--restart", "always")
    first = until(lambda: here.inspect("host")["restart_count"] >= 1 and here.inspect("host"))
    os.kill(first["details"]["supervisor_pid"], signal.SIGKILL)
    assert here.good("wait", "host").strip() == "1"  # whoever asks has another one take over
    until(lambda: here.inspect("host")["restart_count"] > first["restart_count"])
    os.kill(here.inspect("host")["details"]["hypervisor_pid"], signal.SIGKILL)
    ended = when(here, "host", status="exited")
    assert ended["exit_code"] == 255
    assert "hypervisor" in ended["reason"]


def test_health_goes_with_the_checks(here: Host) -> None:
    """They run as the process's user, and what they print is kept."""
    check = "id -u; cat /tmp/ok"
    options = ("--health-cmd", check, "--health-interval", "300ms", "--health-retries", "2")
    here.good(
        *("run", "-d", "-u", "daemon", "--name", "sound", *options, here.image),
        *("sh", "-c", "sleep 3; echo fine > /tmp/ok; while :; do sleep 1; done"),
    )
    until(lambda: "(unhealthy)" in status(here, "sound"))
    ill = here.inspect("sound")["health"]
    assert ill["failing_streak"] >= 2
    assert {entry["code"] for entry in ill["log"]} == {1}
    assert all(entry["output"].startswith("1\ncat: ") for entry in ill["log"])
    until(lambda: status(here, "sound").endswith("(healthy)"))
    well = when_healthy(here, "sound")
    assert (well["failing_streak"], len(well["log"])) == (0, 5)
    assert (well["log"][-1]["code"], well["log"][-1]["output"]) == (0, "1\nfine\n")
    assert all(entry["start_ns"] <= entry["end_ns"] for entry in well["log"])
    by_health = ("ps", "--format", "{{.Names}}", "--filter")
    assert "sound" in here.good(*by_health, "health=healthy").split()
    assert "sound" not in here.good(*by_health, "health=none").split()
    assert "health: healthy" in here.good("inspect", "sound").splitlines()
    here.good("rm", "-f", "sound")


def when_healthy(here: Host, name: str) -> dict[str, Any]:
    """Wait until five checks in a row were good; return the health."""

    def found() -> dict[str, Any] | None:
        health = here.inspect(name)["health"]
        return health if all(entry["code"] == 0 for entry in health["log"]) else None

    return until(found)


def test_a_check_that_takes_too_long_is_killed(here: Host) -> None:
    """What it has started goes with it, and what it had printed is kept."""
    check = "echo half; sleep 987 & sleep 987; echo never"
    options = ("--health-cmd", check, "--health-interval", "200ms", "--health-timeout", "500ms")
    run(here, "slow", "while :; do sleep 1; done", *options)
    until(lambda: len(here.inspect("slow")["health"]["log"]) >= 3)
    log = here.inspect("slow")["health"]["log"]
    assert {(entry["code"], entry["output"]) for entry in log} == {
        (-1, "Health check exceeded timeout (0.5s): half\n")
    }
    sleepers = here.inside(here.inspect("slow")["id"], "grep -lz '^987$' /proc/[0-9]*/cmdline || :")
    assert len(sleepers.split()) <= 2, "only those of the check that runs now"
    here.good("rm", "-f", "slow")


def test_a_restart_begins_with_a_health_that_is_not_known(here: Host) -> None:
    """And no check outlives the process."""
    options = ("--health-cmd", "true", "--health-interval", "200ms", "--restart", "always")
    run(here, "born", "sleep 4; exit 1", *options)
    until(lambda: "(healthy)" in status(here, "born"))
    until(lambda: "(health: starting)" in status(here, "born"))
    until(lambda: "(healthy)" in status(here, "born"))
    here.good("stop", "born")
    assert here.inspect("born")["health"]["status"] == "healthy"  # as docker leaves it


# A null pointer in a program is a real fault, which PID 1 does not survive as it does a signal.
FAULT = 'exec perl -e \'unpack "p", pack "J", 8\''


def test_how_it_ended_is_told_apart(here: Host) -> None:
    """Code, signal, core and want of memory are separate facts."""
    run(here, "core", f"cd /tmp; {FAULT}", "--ulimit", "core=-1")
    run(here, "fault", FAULT)
    hungry = "exec perl -e 'push @all, \"a\" x 1000000 while 1'"
    run(here, "hungry", hungry, "--memory", "256m")
    for name, code, number, core, oom in (
        ("core", 139, 11, True, False),
        ("fault", 139, 11, False, False),
        ("hungry", 137, 9, False, True),
    ):
        end = when(here, name, status="exited")["end"]
        told = (end["code"], end["signal"], end["core"], end["oom"])
        assert told == (code, number, core, oom), name
    assert "memory: the process was killed for want of it" in here.good("inspect", "hungry")
    assert "core: the process dumped its memory" in here.good("inspect", "core")


def test_the_image_s_and_the_run_s_stop_signals(here: Host) -> None:
    """By name, by number, and those of real time; after the time all that is left is killed."""
    first = signal.SIGRTMIN
    perl = """exec perl -e '$| = 1; use POSIX; POSIX::sigaction({0}, POSIX::SigAction->new(
        sub {{ print "rt\\n"; POSIX::_exit(21) }})); print "ready\\n"; sleep 1 while 1'"""
    run(here, "real", perl.format(first + 3), "--stop-signal", "SIGRTMIN+3")
    until(lambda: "ready" in here.log("real"))
    here.good("stop", "real")
    assert (here.inspect("real")["exit_code"], here.log("real")) == (21, "ready\nrt\n")
    deaf = "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo ready; wait; sleep 1000"
    run(here, "deaf", deaf, "--stop-timeout", "1", "--pid", "host")
    until(lambda: "ready" in here.log("deaf"))
    here.good("stop", "deaf")
    assert here.inspect("deaf")["end"]["signal"] == signal.SIGKILL


def test_a_network_and_its_names_outlive_a_restart(here: Host) -> None:
    """They are the machine's; each life finds them as the first one did."""
    script = "cat /etc/hosts /etc/resolv.conf; cat /proc/net/route | wc -l; exit 1"
    run(here, "wired", script, "--restart", "on-failure:1")
    when(here, "wired", status="exited", restart_count=1)
    lines = here.log("wired").splitlines()
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
    assert any(line.endswith("wired") or "10.0.2.15" in line for line in lines)
