"""A machine as VMware's products open it: the text of a .vmx file. Pure.

Owns which settings a machine of ours has and how they are spelt. The grammar is that of VMware's
dictionaries (open-vm-tools, lib/dict/dictll.c): a line is NAME = "VALUE"; in a value double quotes,
bars, 0x7f and all control characters but the tab are a bar and two hexadecimal digits; what is not
ASCII stands as it is, in the encoding that the file names. Lines may have any length. Why each
setting is there is told in docs/export.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from converter.errors import UsageError

CONFIG_VERSION = "8"
HARDWARE_VERSION = "13"  # ESXi 6.5, Workstation 14, Fusion 10: the first with all that is used
GUEST_OS = "other3xlinux-64"  # the newest Linux that this hardware version has a name for
GUEST_DOCUMENT = "guestinfo.saltflat.config"
OVF_ENVIRONMENT = "guestinfo.ovfEnv"  # where the document may lack a key
SERVICE_URI = "saltflat"  # what the data line says that it is, to a concentrator
_ENVIRONMENT = "http://schemas.dmtf.org/ovf/environment/1"
_ROOT_PORTS = (4, 5, 6, 7)  # bridges for what is PCI Express: the disk's and the network's cards
_ESCAPED = re.compile(r'[\x00-\x08\x0a-\x1f"|\x7f]')


@dataclass(frozen=True, slots=True, kw_only=True)
class VmxMachine:
    """What a .vmx file says; files are names in its folder.

    `firmware` is "efi" or "bios". `document` is what the guest reads when it starts; without a key
    in it (`has_key`) it makes one that nobody knows. `serial` is a concentrator's URI, `pipe:NAME`,
    or "" for a line that is connected by hand or not at all; `console_log` a file's name, or "".
    """

    name: str
    annotation: str
    firmware: str
    memory_mib: int
    processors: int
    disk: str
    boot_iso: str
    mac: str
    serial: str
    console_log: str
    document: str
    has_key: bool


def encode_vmx(machine: VmxMachine) -> bytes:
    """Return the file's bytes. Raises UsageError for a name that cannot stand in one."""
    return "".join(f"{name} = {quoted(value)}\n" for name, value in _rows(machine)).encode()


def quoted(value: str) -> str:
    """Return a value as it stands in the file. Raises UsageError for NUL and for no text."""
    # A program in C reads it: a value ends at the first NUL, written out or not.
    if "\0" in value or not _is_text(value):
        raise UsageError(f"{value[:80]!a} cannot stand in a .vmx file.", expected="text, no NUL")
    return '"' + _ESCAPED.sub(lambda match: f"|{ord(match[0]):02X}", value) + '"'


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as for bytes that were no UTF-8
        return False
    return True


def _rows(machine: VmxMachine) -> Iterator[tuple[str, str]]:
    yield from (
        (".encoding", "UTF-8"),
        ("config.version", CONFIG_VERSION),
        ("virtualHW.version", HARDWARE_VERSION),
        ("displayName", machine.name),
        ("annotation", machine.annotation),
        ("guestOS", GUEST_OS),
        ("firmware", machine.firmware),
        ("nvram", f"{machine.name}.nvram"),
        ("memsize", str(machine.memory_mib)),
        ("numvcpus", str(machine.processors)),
        ("vmci0.present", "TRUE"),
        ("pciBridge0.present", "TRUE"),
    )
    for number in _ROOT_PORTS:
        yield f"pciBridge{number}.present", "TRUE"
        yield f"pciBridge{number}.virtualDev", "pcieRootPort"
        yield f"pciBridge{number}.functions", "8"
    yield from _device("scsi0", virtualDev="pvscsi")
    yield from _device("scsi0:0", fileName=machine.disk)
    yield from _device("sata0")
    yield from _device("sata0:0", deviceType="cdrom-image", fileName=machine.boot_iso)
    yield from _device(
        "ethernet0",
        virtualDev="vmxnet3",
        connectionType="nat",
        addressType="static",
        address=machine.mac,
    )
    yield from _data_line(machine.serial)
    if machine.console_log:
        yield from _device("serial1", fileType="file", fileName=machine.console_log)
        yield "answer.msg.serial.file.open", "Append"
    yield from (
        ("floppy0.present", "FALSE"),
        *([("bios.bootOrder", "cdrom,hdd")] if machine.firmware == "bios" else ()),
        _document(machine),
    )


def _document(machine: VmxMachine) -> tuple[str, str]:
    if machine.has_key:
        return GUEST_DOCUMENT, machine.document
    # DSP0243 1.1.0, section 11: what a manager of virtual machines would give it at deployment.
    environment = ET.Element(f"{{{_ENVIRONMENT}}}Environment")
    section = ET.SubElement(environment, f"{{{_ENVIRONMENT}}}PropertySection")
    names = {"key": "saltflat.config", "value": machine.document}
    attributes = {f"{{{_ENVIRONMENT}}}{name}": value for name, value in names.items()}
    ET.SubElement(section, f"{{{_ENVIRONMENT}}}Property", attributes)
    return OVF_ENVIRONMENT, ET.tostring(environment, encoding="unicode")


def _data_line(serial: str) -> Iterable[tuple[str, str]]:
    scheme, _, rest = serial.partition(":")
    if scheme == "pipe":
        return _device(
            "serial0",
            **{"fileType": "pipe", "fileName": rest, "pipe.endPoint": "server"},
            tryNoRxLoss="FALSE",
            yieldOnMsrRead="TRUE",
        )
    return _device(
        "serial0",
        **{"fileType": "network", "fileName": SERVICE_URI, "network.endPoint": "client"},
        **({"vspc": serial} if serial else {"startConnected": "FALSE"}),
        yieldOnMsrRead="TRUE",
    )


def _device(device: str, **settings: str) -> Iterator[tuple[str, str]]:
    yield f"{device}.present", "TRUE"
    for name, value in settings.items():
        yield f"{device}.{name}", value


def check_serial(serial: str) -> None:
    """Raise UsageError unless `serial` is what a VmxMachine may have."""
    scheme, colon, rest = serial.partition(":")
    if colon and scheme == "pipe" and rest:
        return
    if colon and scheme in {"telnet", "telnets"} and re.fullmatch(r"//[^/\s]+:\d{1,5}", rest):
        return
    raise UsageError(
        f"{serial!r} is no end for a serial line.",
        expected="telnet://HOST:PORT or telnets://HOST:PORT of a concentrator, or pipe:NAME",
    )
