"""What a guest of VMware's is made of, where there is no hypervisor to try it with."""

from __future__ import annotations

import pytest

from agent.tether.attendance import Attendance
from agent.tether.c_backdoor import BDOOR_MAGIC
from agent.tether.config import ImageConfig, Job, RunConfig
from agent.tether.guestinfo import Hypervisor
from agent.tether.host_config import HostConfig
from agent.tether.socket_rules import build_program


class Told:
    """A clock, or a disk's look, that notes what is asked of it."""

    def __init__(self):
        self.calls = []

    def compare(self, message):
        self.calls.append(("compare", message))

    def step(self, there_ns):
        self.calls.append(("step", there_ns))

    def look(self, message):
        self.calls.append(("look", message))


class Ports:
    """A backdoor that knows the time."""

    def call(self, command, **_registers):
        return (BDOOR_MAGIC, 500_000, command, 1_700_000_000, 0, 0, 0)


@pytest.mark.parametrize(
    ("ports", "asked"),
    [(Ports(), ("step", 1_700_000_000_500_000_000)), (None, ("compare", {}))],
    ids=["the hypervisor", "the host"],
)
def test_who_is_asked_for_the_time_after_a_suspend(ports, asked):
    looked = []
    hypervisor = Hypervisor(lambda: looked.append("looked") or ports)
    attendance = Attendance(hypervisor, host_name="guest", root="/nowhere")
    clock, growth = Told(), Told()
    for _ in range(2):
        attendance.go_on(clock, growth)
    assert clock.calls == [asked] * 2
    assert growth.calls == [("look", {})] * 2
    assert looked == ["looked"]  # a child of ours, once


@pytest.mark.parametrize(
    ("host", "confined"),
    [
        (HostConfig(), True),
        (HostConfig(privileged=True), False),
        (HostConfig(open_hypervisor=True), False),
    ],
)
def test_whose_processes_are_kept_from_the_hypervisor(host, confined):
    attendance = Attendance(Hypervisor(), host_name="guest", root="/nowhere")
    job = Job("uuid", "guest", ImageConfig(), RunConfig(host=host))
    assert attendance.confine(job).call_filter == (build_program() if confined else b"")
