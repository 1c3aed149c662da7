"""What comes from outside the guest: the clock's exchange, announcements, ACPI's messages."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tether import c_genl, disk_growth, power_button
from agent.tether.clock import MOST_TRIES, SECOND_NS, TOLERANCE_NS, Clock

# --- the clock -----------------------------------------------------------------------------------


class Times:
    """A guest's two clocks, a host's, and a line that takes its time."""

    def __init__(self, behind_ns, took_ns):
        self.now = 1000
        self.wall = 10**18
        self.took = took_ns
        self.behind = behind_ns
        self.asked = []
        self.sets = []
        self.clock = Clock(
            lambda message: self.asked.append(message) or True,
            now_ns=lambda: self.now,
            wall_ns=lambda: self.wall,
            set_wall=self.set,
        )

    def set(self, unix_ns):
        self.sets.append(unix_ns)
        self.wall = unix_ns

    def exchange(self):
        """Answer the last question, as a host does whose clock is right."""
        question = self.asked[-1]
        self.now += self.took // 2
        self.wall += self.took // 2
        there = self.wall + self.behind
        self.now += self.took - self.took // 2
        self.wall += self.took - self.took // 2
        self.clock.take({"type": "clock", "asked_ns": question["asked_ns"], "unix_ns": there})


differences = st.integers(-(10**17), 10**17)


@given(differences, st.integers(0, 2 * SECOND_NS))
def test_a_clock_is_set_when_it_is_surely_wrong_and_then_right(behind, took):
    times = Times(behind, took)
    times.clock.compare({})
    times.exchange()
    assert bool(times.sets) == (abs(behind) > TOLERANCE_NS + took // 2)
    if times.sets:
        right = times.sets[0] - behind
        assert abs(times.wall - behind - right) <= 1
        times.behind = 0
        times.clock.compare({})
        times.exchange()
        assert len(times.sets) == 1


@given(differences)
def test_a_time_that_is_told_at_once_sets_the_clock(behind):
    """As the hypervisor's, after a suspend."""
    times = Times(behind, 0)
    times.clock.step(times.wall + behind)
    assert times.sets == ([10**18 + behind] if abs(behind) > TOLERANCE_NS else [])
    assert times.asked == []


@given(differences)
def test_an_answer_that_took_too_long_is_asked_for_again(behind):
    times = Times(behind, 3 * SECOND_NS)
    times.clock.compare({})
    for _ in range(2 * MOST_TRIES):
        times.exchange()
    assert times.sets == []
    assert len(times.asked) == MOST_TRIES


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"asked_ns": None, "unix_ns": 5},
        {"asked_ns": 999, "unix_ns": 5},
        {"asked_ns": 1000},
        {"asked_ns": 1000, "unix_ns": "noon"},
        {"asked_ns": 1000, "unix_ns": -1},
        {"asked_ns": 1000, "unix_ns": 1 << 70},
    ],
)
def test_what_is_no_answer_sets_nothing(message):
    times = Times(0, 0)
    times.clock.compare({})
    times.clock.take(message)
    assert times.sets == []


def test_a_clock_that_cannot_be_set_is_left():
    def refuse(_unix_ns):
        raise PermissionError(1, "not allowed")

    times = Times(10**12, 0)
    times.clock._set_wall = refuse
    times.clock.compare({})
    times.exchange()
    assert times.sets == []


# --- announcements of disks ----------------------------------------------------------------------


def test_an_announcement_is_read():
    message = b"change@/devices/x\0ACTION=change\0DEVPATH=/devices/x\0RESIZE=1\0DEVNAME=sda\0"
    assert disk_growth.parse_uevent(message) == {
        "ACTION": "change",
        "DEVPATH": "/devices/x",
        "RESIZE": "1",
        "DEVNAME": "sda",
    }


@given(st.binary(max_size=200))
def test_any_bytes_are_read_as_an_announcement(message):
    disk_growth.parse_uevent(message)


def test_mounts_are_read():
    text = "rootfs / rootfs rw 0 0\n/dev/sda /newroot ext4 rw 0 0\nbroken\n"
    assert disk_growth.mounts(text) == [("rootfs", "/"), ("/dev/sda", "/newroot")]


# --- ACPI's messages -----------------------------------------------------------------------------


def attribute(kind, content):
    length = c_genl.ATTRIBUTE_HEADER.size + len(content)
    return c_genl.ATTRIBUTE_HEADER.pack(length, kind) + content + bytes(-length % 4)


def message(kind, payload):
    body = c_genl.GENL_HEADER.pack(1, 1, 0) + payload
    length = c_genl.NLMSG_HEADER.size + len(body)
    return c_genl.NLMSG_HEADER.pack(length, kind, 0, 1, 0) + body


def event(device_class):
    packed = c_genl.ACPI_EVENT.pack(device_class, b"LNXPWRBN:00", 0x80, 1)
    return message(26, attribute(c_genl.ACPI_ATTR_EVENT, packed))


@pytest.mark.parametrize(
    ("device_class", "pressed"),
    [(b"button/power", True), (b"button/lid", False), (b"ac_adapter", False)],
)
def test_the_power_button_is_told_from_other_events(device_class, pressed):
    found = [power_button.is_power_button(p) for _, p in power_button.messages(event(device_class))]
    assert found == [pressed]


def test_a_group_is_found_and_a_lack_of_it_told():
    def group(name, number):
        named = attribute(c_genl.CTRL_ATTR_MCAST_GRP_NAME, name + b"\0")
        numbered = attribute(c_genl.CTRL_ATTR_MCAST_GRP_ID, struct.pack("=I", number))
        return attribute(1, named + numbered)

    groups = attribute(c_genl.CTRL_ATTR_MCAST_GROUPS, group(b"other", 3) + group(b"wanted", 6))
    answer = message(c_genl.GENL_ID_CTRL, groups)
    assert power_button.find_group(answer, b"wanted") == 6
    with pytest.raises(ValueError, match="no ACPI events"):
        power_button.find_group(answer, b"none")
    body = struct.pack("=i", -2)
    refusal = c_genl.NLMSG_HEADER.pack(20, c_genl.NLMSG_ERROR, 0, 1, 0) + body
    with pytest.raises(FileNotFoundError):
        power_button.find_group(refusal, b"wanted")


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_none(data):
    for _, payload in power_button.messages(data):
        power_button.is_power_button(payload)
    with pytest.raises((OSError, ValueError)):
        power_button.find_group(data, b"wanted")


def test_this_kernel_answers_a_request_for_a_family():
    """The kernel of whatever machine the tests run on: our request is one that it understands."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, c_genl.NETLINK_GENERIC) as kernel:
        kernel.bind((0, 0))
        kernel.settimeout(10)
        kernel.send(power_button.family_request(b"nlctrl"))
        assert power_button.find_group(kernel.recv(65536), b"notify") > 0
