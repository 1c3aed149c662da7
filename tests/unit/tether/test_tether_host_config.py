"""What a run asks of the machine: the document's check, and Docker's rules for its values."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tether import c_linux, device_rules, network_files, privileges, resolve
from agent.tether.c_limits import CAPABILITIES
from agent.tether.config import ImageConfig, RunConfig
from agent.tether.errors import StartError
from agent.tether.host_config import DEFAULTS, HostConfig, parse_host_config
from agent.tether.tmpfs import DEFAULT_FLAGS, parse_tmpfs_options

MEMBERS = sorted(vars(DEFAULTS))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4),
)


@pytest.mark.parametrize("document", [None, {}, {"of a newer schema": 1}])
def test_nothing_asked_for_is_the_default(document):
    assert parse_host_config(document) == DEFAULTS


@given(st.sampled_from(MEMBERS), values)
def test_any_value_parses_or_is_a_start_error(member, value):
    with contextlib.suppress(StartError):
        parse_host_config({member: value})


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("groups", [1]),
        ("limits", [["nofile", 1]]),
        ("limits", [["dreams", 1, 1]]),
        ("limits", [["nofile", 2, 1]]),
        ("limits", [["nofile", -1, 1]]),
        ("limits", [["nofile", -2, -1]]),
        ("limits", [["nofile", True, 1]]),
        ("limits", [[["nofile"], 1, 1]]),
        ("add_capabilities", ["CAP_CHOWN"]),
        ("drop_capabilities", ["FLY"]),
        ("privileged", 1),
        ("tmpfs", [["relative", ""]]),
        ("tmpfs", [["//", ""]]),
        ("tmpfs", {"/run": ""}),
        ("shm_bytes", 0),
        ("sysctls", [["a"]]),
        ("hosts", [["a\0", "::1"]]),
        ("oom_score_adj", 1001),
        ("stop_signal", 15),
        ("stop_seconds", -2),
    ],
)
def test_the_error_names_the_member(member, value):
    with pytest.raises(StartError, match=rf"run\.host_config\.{member}") as caught:
        parse_host_config({member: value})
    assert caught.value.kind == "config"


def capabilities(added=(), dropped=(), *, privileged=False):
    return privileges.resolve_capabilities(
        HostConfig(add_capabilities=added, drop_capabilities=dropped, privileged=privileged)
    )


def test_capabilities_are_merged_as_docker_does():
    default, every = privileges.DEFAULT_CAPABILITIES, frozenset(CAPABILITIES)
    assert capabilities() == default
    assert capabilities(("SYS_TIME",)) == default | {"SYS_TIME"}
    assert capabilities((), ("CHOWN",)) == default - {"CHOWN"}
    assert capabilities(("CHOWN",), ("CHOWN",)) == default
    assert capabilities(("ALL",)) == every
    assert capabilities(("ALL",), ("CHOWN",)) == every - {"CHOWN"}
    assert capabilities(("ALL",), ("ALL",)) == every - {"ALL"}
    assert capabilities((), ("ALL",)) == frozenset()
    assert capabilities(("CHOWN",), ("ALL",)) == {"CHOWN"}
    assert capabilities(("CHOWN",), ("ALL",), privileged=True) == every


@pytest.mark.parametrize(
    ("text", "flags", "data"),
    [
        ("", DEFAULT_FLAGS, ""),
        ("exec,dev,suid", 0, ""),
        ("exec,noexec", DEFAULT_FLAGS, ""),
        ("ro,size=64k,mode=0700,size=1m", DEFAULT_FLAGS | c_linux.MS_RDONLY, "size=1m,mode=0700"),
        ("ro,rw,", DEFAULT_FLAGS, ""),
        ("noatime,uid=1,gid=2", DEFAULT_FLAGS | c_linux.MS_NOATIME, "uid=1,gid=2"),
    ],
)
def test_options_of_a_tmpfs(text, flags, data):
    assert parse_tmpfs_options(text) == (flags, data)


@pytest.mark.parametrize("text", ["colour=red", "size", "size=", "exec=1", "bind"])
def test_what_is_no_option_of_a_tmpfs(text):
    with pytest.raises(ValueError, match="no option"):
        parse_tmpfs_options(text)


def test_a_resolver_with_nothing_says_so():
    text = network_files.compose("box", DEFAULTS)["/etc/resolv.conf"]
    assert text == network_files.NO_NAME_SERVER


def allowed(program: bytes, kind: int, access: int, major: int, minor: int) -> bool:
    """Run the program as the kernel's documentation says its few instructions work."""
    registers = [0] * 11
    context = {0: access << 16 | kind, 4: major, 8: minor}
    at = 0
    for _ in range(1000):
        code, both, offset, value = device_rules.bpf.INSTRUCTION.unpack_from(program, 8 * at)
        target, source = both & 15, both >> 4
        at += 1
        if code == 0x61:
            assert source == 1
            registers[target] = context[offset]
        elif code == 0xB7:
            registers[target] = value
        elif code == 0xBF:
            registers[target] = registers[source]
        elif code == 0x77:
            registers[target] >>= value
        elif code == 0x57:
            registers[target] &= value
        elif code == 0x15:
            at += offset if registers[target] == value else 0
        elif code == 0x55:
            at += offset if registers[target] != value else 0
        else:
            assert code == 0x95
            return bool(registers[0])
    raise AssertionError("the program has no end")


BLOCK, CHARACTER = 1, 2
MKNOD, READ, WRITE = 1, 2, 4


@given(
    st.sampled_from([BLOCK, CHARACTER]),
    st.integers(1, 7),
    st.sampled_from([1, 2, 4, 5, 8, 10, 136, 259]) | st.integers(0, 4095),
    st.integers(0, 300),
)
def test_devices_that_the_program_lets_through(kind, access, major, minor):
    program = device_rules.build_program(device_rules.OPEN_DEVICES)
    listed = kind == CHARACTER and (
        (major, minor) in device_rules.OPEN_DEVICES or (major, None) in device_rules.OPEN_DEVICES
    )
    assert allowed(program, kind, access, major, minor) is (access == MKNOD or listed)


def test_a_stop_signal_may_be_asked_for_in_any_spelling():
    for text in ("TERM", "SIGTERM", "15", "term"):
        run = RunConfig(host=HostConfig(stop_signal=text))
        assert resolve.resolve_stop_signal(ImageConfig(), run) == 15
