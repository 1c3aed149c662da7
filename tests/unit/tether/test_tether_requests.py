"""Requests of a VMware hypervisor, over a socket whose other end the test has.

The hypervisor is the test, written from the protocol's published description; none of VMware's took
part.
"""

from __future__ import annotations

import socket
import struct

import pytest

from agent.tether.poller import Poller
from agent.tether.requests import RETRY_SECONDS, GuestRequests
from agent.tether.rpci import RpciError, decode_packet, encode_packet

VERSION = "tools.set.version 2147483647"
STATUS = "tools.os.statechange.status"


class Hypervisor:
    """Has the other ends of the sockets that the guest makes, and notes what the guest does."""

    def __init__(self):
        self.now = 100.0
        self.ends = []
        self.ours = []  # what the guest has, which keeps it until it is switched off
        self.calls = []
        self.done = []
        self.refuses_calls = False
        self.is_there = True
        self.poller = Poller()
        self.guest = GuestRequests(
            self.called,
            stop=lambda: self.done.append("stop"),
            resumed=lambda: self.done.append("resumed"),
            connect=self.connected,
            clock=lambda: self.now,
        )
        self.guest.attach(self.poller, lambda _message: True)

    def called(self, call):
        self.calls.append(call)
        if self.refuses_calls:
            raise RpciError("no")

    def connected(self):
        if not self.is_there:
            raise ConnectionRefusedError
        ours, theirs = socket.socketpair()
        theirs.settimeout(5)
        self.ends.append(theirs)
        self.ours.append(ours)
        return ours

    def ask(self, *requests, piece=65536):
        data = b"".join(encode_packet(request) for request in requests)
        for start in range(0, len(data), piece):
            self.ends[-1].sendall(data[start : start + piece])
            self.poller.wait(5)
        return [self.answer() for _ in requests]

    def answer(self):
        (length,) = struct.unpack(">I", self.ends[-1].recv(4, socket.MSG_WAITALL))
        return decode_packet(self.ends[-1].recv(length, socket.MSG_WAITALL))


@pytest.fixture
def hypervisor():
    made = Hypervisor()
    yield made
    for end in (*made.ends, *made.ours):
        end.close()
    made.poller.close()


def test_what_a_hypervisor_asks_at_first(hypervisor):
    answers = hypervisor.ask(b"reset", b"ping", b"Capabilities_Register", b"Set_Option synctime 0")
    assert answers == [b"OK ATR toolbox", b"OK ", b"OK ", b"OK "]
    assert hypervisor.calls == [VERSION, "tools.capability.statechange"]
    assert hypervisor.ask(b"Foo bar") == [b"Unknown Command"]
    assert hypervisor.done == []


@pytest.mark.parametrize(
    ("request_", "status", "done"),
    [
        (b"OS_Halt", "1 1", ["stop"]),
        (b"OS_Reboot", "0 2", []),  # it would not find its document again
        (b"OS_PowerOn", "1 3", []),
        (b"OS_Resume", "1 4", ["resumed"]),
        (b"OS_Suspend", "1 5", []),
    ],
)
def test_states_of_the_machine(hypervisor, request_, status, done):
    assert hypervisor.ask(request_) == [b"OK "]
    assert hypervisor.calls == [f"{STATUS} {status}"]
    assert hypervisor.done == done


def test_a_machine_is_stopped_though_nobody_takes_note(hypervisor):
    hypervisor.refuses_calls = True
    assert hypervisor.ask(b"OS_Halt") == [b"OK "]
    assert hypervisor.done == ["stop"]


def test_requests_arrive_in_pieces(hypervisor):
    assert hypervisor.ask(b"reset", b"ping", piece=3) == [b"OK ATR toolbox", b"OK "]


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


def test_a_hypervisor_that_is_not_there_is_asked_ever_more_seldom(hypervisor):
    hypervisor.is_there = False
    hypervisor.ends[-1].close()
    hypervisor.poller.wait(5)
    pauses = []
    for _ in range(9):
        pauses.append(hypervisor.guest.due() - hypervisor.now)
        hypervisor.now = hypervisor.guest.due()
        hypervisor.guest.tick(hypervisor.now)
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]
