"""QEMU's arguments: no secret, no name that could be taken for syntax, the chain read-only."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from converter.machine.model import MachineSpec
from converter.machine.qemu_command import Accelerator, disk_nodes, machine_arguments

TCG = Accelerator("tcg", (7, 2))
SOCKET = Path("/run/saltflat-x/tether.sock")


MACHINE = "fedcba9876543210" * 4


def arguments_of(spec: MachineSpec, accelerator: Accelerator = TCG, **changes: Any) -> list[str]:
    values = {"machine": MACHINE, "channel": SOCKET, "temporary": False, **changes}
    return machine_arguments(spec, accelerator, **values)


def options(arguments: list[str], name: str) -> list[str]:
    return [value for flag, value in itertools.pairwise(arguments) if flag == name]


def test_nothing_secret_is_on_the_command_line(make_spec) -> None:
    spec = make_spec()
    line = " ".join(arguments_of(spec))
    for secret in ("echo", spec.guest.hostname, spec.guest.root_uuid):
        assert secret not in line
    assert "opt/org.saltflat/config,file=config.json" in line
    assert f"-name saltflat-{MACHINE} -uuid fedcba98-7654-3210-fedc-ba9876543210" in line


@pytest.mark.parametrize(
    "name", ["a,b.vmdk", 'q"uote.vmdk', "json:{}.vmdk", "a b\n.vmdk", "é.vmdk"]
)
def test_any_file_name_reaches_qemu_as_it_is(make_spec, name: str) -> None:
    spec = make_spec(chain=(Path("/store,readonly=off") / name,))
    nodes = [json.loads(node) for node in options(arguments_of(spec), "-blockdev")]
    assert nodes[0]["file"]["filename"] == f"/store,readonly=off/{name}"


def test_only_the_scratch_disk_is_writable() -> None:
    nodes = disk_nodes([Path("/a.vmdk"), Path("/b.vmdk"), Path("/c.vmdk")], temporary=True)
    assert [node["node-name"] for node in nodes] == ["link0", "link1", "link2", "scratch"]
    assert [node["backing"] for node in nodes] == [None, "link0", "link1", "link2"]
    for node in nodes[:-1]:
        assert node["read-only"] is True
        assert node["file"]["read-only"] is True
    assert "read-only" not in nodes[-1]


def test_flushes_count_for_disks_that_stay() -> None:
    assert disk_nodes([Path("/a")], temporary=True)[-1]["cache"] == {"no-flush": True}
    assert "cache" not in disk_nodes([Path("/a")], temporary=False)[-1]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ((7, 2), "reconnect=1"),
        ((9, 1), "reconnect=1"),
        ((9, 2), "reconnect-ms=1000"),
        ((10, 0), "reconnect-ms=1000"),
    ],
)
def test_the_line_reconnects_in_each_versions_own_words(
    make_spec, version: tuple[int, int], expected: str
) -> None:
    arguments = arguments_of(make_spec(), Accelerator("tcg", version))
    assert f"socket,id=line,path={SOCKET},server=off,{expected}" in arguments


def test_commas_in_the_sockets_path_are_doubled(make_spec) -> None:
    arguments = arguments_of(make_spec(), channel=Path("/tmp/a,server=on"))
    assert any("path=/tmp/a,,server=on,server=off" in argument for argument in arguments)


@pytest.mark.parametrize(
    ("channel", "data_device"),
    [
        ("virtio-serial", "virtserialport,chardev=line,name=org.saltflat.tether"),
        ("serial", "isa-serial,chardev=line,index=0"),
    ],
)
def test_the_console_is_the_second_port_on_both_lines(
    make_spec, channel: str, data_device: str
) -> None:
    devices = options(arguments_of(make_spec(channel=channel)), "-device")
    assert data_device in devices
    assert "isa-serial,chardev=console,index=1" in devices
    assert sum("index=0" in device for device in devices) == 1


def test_only_an_emulated_guest_copies_in_words(make_spec) -> None:
    kvm = Accelerator("kvm", TCG.qemu_version)
    found = [options(arguments_of(make_spec(), each), "-cpu") for each in (TCG, kvm)]
    assert found == [["max,erms=off,fsrm=off"], ["max"]]


def test_the_kernel_is_told_where_to_look(make_spec) -> None:
    arguments = arguments_of(make_spec(memory_mib=768, cpus=1.5))
    assert options(arguments, "-append") == [
        "console=ttyS1 quiet loglevel=4 panic=-1 no_timer_check cryptomgr.notests"
        " tether.config=fw_cfg"
    ]
    assert options(arguments, "-m") == ["768"]
    assert options(arguments, "-smp") == ["2"]


def test_a_debug_image_alone_has_a_port_for_a_shell(make_spec) -> None:
    spec = make_spec()
    usual = arguments_of(spec)
    assert "tether.debug" not in options(usual, "-append")[0]
    assert not any("id=debug" in chardev for chardev in options(usual, "-chardev"))
    more = arguments_of(replace(spec, boot=replace(spec.boot, debug=True)))
    assert options(more, "-append")[0].split()[-1] == "tether.debug=ttyS2"
    assert "socket,id=debug,path=debug.sock,server=on,wait=off" in options(more, "-chardev")
    assert "isa-serial,chardev=debug,index=2" in options(more, "-device")
    assert len(more) == len(usual) + 4
