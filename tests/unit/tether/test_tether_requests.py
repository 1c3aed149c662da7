"""Requests of a VMware hypervisor, over a socket whose other end the test has.

The hypervisor is the test, written from open-vm-tools; `tests.guests.backdoor` has the other line.
"""

from __future__ import annotations

import socket
import struct

import pytest

from agent.tether.appearance import RETRY_SECONDS as TELL_SECONDS
from agent.tether.appearance import Appearance
from agent.tether.poller import Poller
from agent.tether.requests import RETRY_SECONDS, GuestRequests
from agent.tether.rpci import RefusalError, RpciError
from agent.tether.tclo import Tclo
from agent.tether.tclo_lines import SocketLine
from tests.guests import vmx

STATUS = b"tools.os.statechange.status"
# What a hypervisor needs to count tools as running, in the order in which open-vm-tools has it.
TOOLS = [
    b"vmx.capability.unified_loop toolbox",
    b"tools.capability.statechange ",
    b"tools.capability.softpowerop_retry ",
    b"tools.set.versiontype 2147483647 4",
]
NAME = b"SetGuestInfo  1 guest"


class Hypervisor:
    """Has the other ends of the sockets that the guest makes, and notes what the guest does."""

    def __init__(self):
        self.now = 100.0
        self.ends = []
        self.lines = []
        self.calls = []
        self.done = []
        self.fault = None  # of every call
        self.can_restart = True
        self.is_there = True
        self.poller = Poller()
        self.appearance = Appearance(self.called, host_name="guest")
        tclo = Tclo(
            self.called,
            self.appearance,
            stop=lambda: self.note("stop"),
            restart=lambda: self.can_restart and self.note("restart"),
            resumed=lambda: self.done.append("resumed"),
        )
        self.guest = GuestRequests(self.opened, tclo, self.appearance, clock=lambda: self.now)
        self.guest.attach(self.poller, lambda _message: True)

    def note(self, what):
        self.done.append(what)
        return True

    def called(self, call):
        self.calls.append(call)
        if self.fault is not None:
            raise self.fault

    def opened(self):
        if not self.is_there:
            raise ConnectionRefusedError
        ours, theirs = socket.socketpair()
        theirs.settimeout(5)
        self.ends.append(theirs)
        self.lines.append(SocketLine(ours))
        return self.lines[-1]

    def ask(self, *requests, piece=65536):
        data = b"".join(vmx.encode(request) for request in requests)
        for start in range(0, len(data), piece):
            self.ends[-1].sendall(data[start : start + piece])
            self.poller.wait(5)
        return [self.answer() for _ in requests]

    def answer(self):
        kind, payload = vmx.read(self.ends[-1])
        assert kind == 1
        return payload

    def pass_time(self):
        """Let the time of the guest's next deadline come; return how long it took."""
        waited, self.now = self.guest.due() - self.now, self.guest.due()
        self.guest.tick(self.now)
        return waited


@pytest.fixture
def hypervisor():
    made = Hypervisor()
    yield made
    made.poller.close()
    for end in (*made.ends, *made.lines):  # the guest has its own until it is switched off
        end.close()


def test_what_a_hypervisor_asks_at_first(hypervisor):
    answers = hypervisor.ask(b"reset", b"ping", b"Capabilities_Register", b"Set_Option synctime 0")
    assert answers == [b"OK ATR toolbox", b"OK ", b"OK ", b"OK "]
    assert hypervisor.calls == [*TOOLS, NAME]
    assert hypervisor.ask(b"Foo bar", b"Vix_1_x") == [b"ERROR Unknown Command"] * 2
    assert hypervisor.done == []


def test_an_old_hypervisor_knows_no_types_of_tools(hypervisor):
    hypervisor.fault = RefusalError("Unknown command")
    hypervisor.ask(b"Capabilities_Register")
    assert hypervisor.calls == [*TOOLS, b"tools.set.version 2147483647", NAME]
    assert not hypervisor.appearance.is_behind  # refused: not to be told again


@pytest.mark.parametrize(
    ("request_", "status", "done"),
    [
        (b"OS_Halt", b"1 1", ["stop"]),
        (b"OS_Reboot", b"1 2", ["restart"]),
        (b"OS_PowerOn", b"1 3", []),
        (b"OS_Resume", b"1 4", ["resumed"]),
        (b"OS_Suspend", b"1 5", []),
    ],
)
def test_states_of_the_machine(hypervisor, request_, status, done):
    assert hypervisor.ask(request_) == [b"OK "]
    assert hypervisor.calls[0] == b"%s %s" % (STATUS, status)
    assert hypervisor.done == done


def test_a_restart_of_what_has_ended_is_refused(hypervisor):
    hypervisor.can_restart = False
    assert hypervisor.ask(b"OS_Reboot") == [b"OK "]
    assert hypervisor.calls == [STATUS + b" 0 2"]


def test_a_time_that_jumps_is_a_resume(hypervisor):
    assert hypervisor.ask(b"Time_Synchronize 1") == [b"OK "]
    assert hypervisor.done == ["resumed"]


def test_a_machine_is_stopped_though_nobody_takes_note(hypervisor):
    hypervisor.fault = RpciError("no")
    assert hypervisor.ask(b"OS_Halt") == [b"OK "]
    assert hypervisor.done == ["stop"]


def test_what_nobody_took_is_told_again_and_no_more_when_it_was(hypervisor):
    hypervisor.fault = RpciError("no")
    hypervisor.ask(b"Capabilities_Register")
    hypervisor.guest.tick(hypervisor.now)
    hypervisor.fault = None
    told_before = hypervisor.calls.count(NAME)
    deadline = hypervisor.now + TELL_SECONDS
    while hypervisor.now < deadline + 2:
        hypervisor.pass_time()
        if hypervisor.now < deadline:
            assert hypervisor.calls.count(NAME) == told_before
    assert hypervisor.calls.count(NAME) == told_before + 1


def test_requests_arrive_in_pieces(hypervisor):
    assert hypervisor.ask(b"reset", b"ping", piece=3) == [b"OK ATR toolbox", b"OK "]


def test_it_says_once_a_second_that_it_lives_after_its_first_answer_and_wakes_for_nothing_else(
    hypervisor,
):
    assert hypervisor.guest.due() is None
    hypervisor.ask(b"reset")
    for _ in range(5):
        assert hypervisor.pass_time() == pytest.approx(1.0)
        assert vmx.read(hypervisor.ends[-1]) == (2, None)
    hypervisor.ask(b"ping")
    assert hypervisor.guest.due() <= hypervisor.now + 1.0


@pytest.mark.parametrize(
    "garbage", [struct.pack(">I", 1 << 31), struct.pack(">I", 4) + b"xxxx", b""]
)
def test_a_line_that_is_cut_or_makes_no_sense_is_made_anew(hypervisor, garbage):
    hypervisor.ends[-1].sendall(garbage)
    hypervisor.ends[-1].shutdown(socket.SHUT_WR)
    hypervisor.poller.wait(5)
    hypervisor.poller.wait(0)
    assert hypervisor.ends[-1].recv(1) == b""
    assert hypervisor.guest.due() == hypervisor.now + RETRY_SECONDS
    hypervisor.guest.tick(hypervisor.now + 1)
    assert len(hypervisor.ends) == 1
    hypervisor.guest.tick(hypervisor.now + RETRY_SECONDS)
    assert hypervisor.guest.due() is None
    assert hypervisor.ask(b"ping") == [b"OK "]


def test_a_hypervisor_that_reads_nothing_does_not_hold_the_guest_up(hypervisor):
    asked = 0
    while hypervisor.guest.due() != hypervisor.now + RETRY_SECONDS:
        hypervisor.ends[-1].sendall(vmx.encode(b"ping") * 100)
        hypervisor.poller.wait(5)
        asked += 100
    assert asked > 100  # as much as a socket takes


def test_a_hypervisor_that_is_not_there_is_asked_ever_more_seldom(hypervisor):
    hypervisor.is_there = False
    hypervisor.ends[-1].close()
    hypervisor.poller.wait(5)
    pauses = [hypervisor.pass_time() for _ in range(9)]
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]
