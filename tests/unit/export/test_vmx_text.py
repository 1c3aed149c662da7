"""A .vmx file: what it says is read back by VMware's rules, whatever image and names are like."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tether.ovf_environment import read_environment
from converter.errors import UsageError
from converter.package.vmx import VmxMachine, check_serial, encode_vmx
from tests.guests.vmx_text import read_vmx

PLAIN = VmxMachine(
    name="web",
    annotation="docker.io/library/web:1\nsha256:0123",
    firmware="efi",
    memory_mib=512,
    processors=2,
    disk="web.vmdk",
    boot_iso="web-boot.iso",
    mac="00:50:56:3f:ff:ff",
    serial="",
    console_log="",
    document='{"key": "00"}',
    has_key=True,
)


def test_the_machine_is_what_was_asked_for() -> None:
    raw = encode_vmx(PLAIN)
    assert raw == encode_vmx(PLAIN)
    said = read_vmx(raw)
    wanted = {
        "displayName": "web",
        "annotation": PLAIN.annotation,
        "firmware": "efi",
        "memsize": "512",
        "numvcpus": "2",
        "scsi0.virtualDev": "pvscsi",
        "scsi0:0.fileName": "web.vmdk",
        "sata0:0.deviceType": "cdrom-image",
        "sata0:0.fileName": "web-boot.iso",
        "ethernet0.virtualDev": "vmxnet3",
        "ethernet0.addressType": "static",
        "ethernet0.address": PLAIN.mac,
        "serial0.fileType": "network",
        "serial0.startConnected": "FALSE",
        "guestinfo.saltflat.config": PLAIN.document,
    }
    assert {name: said[name] for name in wanted} == wanted
    devices = {name.rpartition(".")[0] for name in said if name.endswith(("Name", "virtualDev"))}
    assert {said[f"{device}.present"] for device in devices if device} == {"TRUE"}
    assert "serial1.present" not in said
    assert "bios.bootOrder" not in said


@pytest.mark.parametrize(
    ("serial", "wanted"),
    [
        (
            "telnets://10.1.0.5:2377",
            {
                "fileType": "network",
                "network.endPoint": "client",
                "vspc": "telnets://10.1.0.5:2377",
            },
        ),
        ("pipe:/tmp/web", {"fileType": "pipe", "pipe.endPoint": "server", "fileName": "/tmp/web"}),
    ],
)
def test_the_data_line_leads_where_it_should(serial: str, wanted: dict[str, str]) -> None:
    check_serial(serial)
    said = read_vmx(encode_vmx(replace(PLAIN, serial=serial)))
    assert {name: said[f"serial0.{name}"] for name in wanted} == wanted
    assert "serial0.startConnected" not in said


def test_a_console_log_is_a_second_port() -> None:
    said = read_vmx(encode_vmx(replace(PLAIN, console_log="web-console.log", firmware="bios")))
    assert said["serial1.fileType"] == "file"
    assert said["serial1.fileName"] == "web-console.log"
    assert said["bios.bootOrder"] == "cdrom,hdd"


def test_a_document_without_a_key_is_in_an_ovf_environment() -> None:
    """As the agent reads one: it makes a key that nobody else has."""
    document = {"schema": 1, "image": {"Env": ["A=<&>\"'|\n\t\u0416"]}}
    machine = replace(PLAIN, document=json.dumps(document), has_key=False)
    said = read_vmx(encode_vmx(machine))
    assert "guestinfo.saltflat.config" not in said
    found = [read_environment(said["guestinfo.ovfEnv"].encode()) for _ in range(2)]
    assert found[0]["image"] == document["image"]
    keys = {str(one["key"]) for one in found}
    assert [len(key) for key in keys] == [64, 64]


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_text_comes_back(text: str) -> None:
    said = read_vmx(encode_vmx(replace(PLAIN, name=text, annotation=text, document=text)))
    assert said["displayName"] == said["annotation"] == text
    assert said["guestinfo.saltflat.config"] == text


@pytest.mark.parametrize("text", ["a\0b", "\udc80"])
def test_what_no_such_file_can_hold_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"cannot stand in a \.vmx file"):
        encode_vmx(replace(PLAIN, annotation=text))


@pytest.mark.parametrize(
    "serial", ["2377", "tcp://host:1", "telnet://host", "telnet://:80", "pipe:", "telnet:host:1"]
)
def test_what_is_no_end_for_a_line_is_refused(serial: str) -> None:
    with pytest.raises(UsageError, match="no end for a serial line"):
        check_serial(serial)
