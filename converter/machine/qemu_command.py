"""A machine as QEMU's argument list. Owns what hardware a machine has; starts nothing.

Names that a user can choose go into JSON documents, where no character is special; files of the
machine's own folder are named relative to it, which is QEMU's working directory. So paths may hold
commas, quotes and newlines. Nothing secret is here: the guest's document is a file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from converter.machine.model import CHANNEL_NAME, Channel, MachineSpec
from converter.machine.volume_disks import volume_arguments
from converter.network.model import Binding
from converter.network.user import network_arguments
from converter.volume.volumes import Lent

PROGRAM = "qemu-system-x86_64"

# Files in the machine's folder.
CONFIG_FILE = "config.json"
CONSOLE_FILE = "console.log"
SCRATCH_FILE = "scratch.vmdk"
DEBUG_SOCKET = "debug.sock"

FW_CFG_NAME = "opt/org.saltflat/config"
# ttyS0 is the data line or nothing, the console is always ttyS1. panic=-1 with -no-reboot ends the
# process at once when the kernel panics. no_timer_check: on a host without time for QEMU the first
# ticks of the emulated timer are late, which the kernel takes for broken hardware, and panics.
# cryptomgr.notests: a distribution's kernel tries each of its ciphers, which is half of its boot.
KERNEL_COMMAND_LINE = "console=ttyS1 quiet loglevel=4 panic=-1 no_timer_check cryptomgr.notests"
CONFIG_ARGUMENT = "tether.config=fw_cfg"
# A debug image's shell has the third port; other images do not know the word.
DEBUG_ARGUMENT = "tether.debug=ttyS2"

# What tells a guest to copy with `rep movsb`, which TCG executes byte by byte: a kernel or a C
# library that copies in words instead is four to six times as fast.
_SLOW_WHEN_EMULATED = "erms=off,fsrm=off"
_RECONNECT_MS_SINCE = (9, 2)


@dataclass(frozen=True, slots=True)
class Accelerator:
    """How QEMU executes the guest: "kvm" or "tcg", and what of QEMU does it."""

    name: str
    qemu_version: tuple[int, int]


def machine_arguments(
    spec: MachineSpec,
    accelerator: Accelerator,
    *,
    machine: str,
    channel: str | Path,
    temporary: bool,
    volumes: Sequence[Lent] = (),
    ports: Sequence[Binding] = (),
) -> list[str]:
    """Return QEMU's arguments, the program's name first, for a run in the machine's folder.

    The machine's id is among them, for whoever meets the process. The line connects to the socket
    `channel`, the `ports` of this host lead to the machine's. Of a `temporary` machine's disk
    nothing is needed after it.
    """
    arguments = base_arguments(accelerator, spec.boot.kernel, spec.boot.initrd)
    arguments += ["-name", f"saltflat-{machine}", "-uuid", str(UUID(hex=machine[:32]))]
    words = [KERNEL_COMMAND_LINE, CONFIG_ARGUMENT, *([DEBUG_ARGUMENT] if spec.boot.debug else [])]
    arguments += ["-append", " ".join(words)]
    arguments += ["-m", str(spec.memory_mib), "-smp", str(spec.processors)]
    arguments += ["-fw_cfg", f"name={FW_CFG_NAME},file={CONFIG_FILE}"]
    for node in disk_nodes(spec.chain, temporary=temporary):
        arguments += ["-blockdev", json.dumps(node)]
    arguments += ["-device", "pvscsi,id=scsi", "-device", "scsi-hd,bus=scsi.0,drive=scratch"]
    arguments += volume_arguments(volumes)
    arguments += network_arguments(spec.networking, ports)
    line = _reconnecting_socket("line", channel, accelerator.qemu_version)
    if spec.channel is Channel.SERIAL:
        arguments += ["-chardev", line, "-device", "isa-serial,chardev=line,index=0"]
    else:
        arguments += ["-chardev", line, "-device", "virtio-serial-pci"]
        arguments += ["-device", f"virtserialport,chardev=line,name={CHANNEL_NAME}"]
        # Without a port 0 the console would not be ttyS1 to the kernel.
        arguments += ["-chardev", "null,id=nothing"]
        arguments += ["-device", "isa-serial,chardev=nothing,index=0"]
    if spec.boot.debug:
        arguments += ["-chardev", f"socket,id=debug,path={DEBUG_SOCKET},server=on,wait=off"]
        arguments += ["-device", "isa-serial,chardev=debug,index=2"]
    return arguments


def base_arguments(accelerator: Accelerator, kernel: Path, initrd: Path) -> list[str]:
    """Return what every boot of ours has in common: no devices but a console file."""
    return [
        PROGRAM,
        # Without the chipset's own AHCI: it has no disks, and looking for some takes 0.2 s.
        *("-machine", f"q35,accel={accelerator.name},sata=off"),
        # Everything that the host can give. RDRAND above all: the guest's Python would wait a
        # second for entropy without it.
        *("-cpu", "max" if accelerator.name == "kvm" else f"max,{_SLOW_WHEN_EMULATED}"),
        *("-display", "none", "-nodefaults", "-no-user-config", "-no-reboot"),
        # The guest is not trusted: a hole in a device model must not become a shell here.
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *("-kernel", str(kernel), "-initrd", str(initrd)),
        *("-chardev", f"file,id=console,path={CONSOLE_FILE}"),
        *("-device", "isa-serial,chardev=console,index=1"),
    ]


def disk_nodes(chain: Sequence[Path], *, temporary: bool) -> list[dict[str, Any]]:
    """Return the block graph: a read-only node for each link, base first, then the scratch disk.

    Each node names its backing node, so QEMU never follows the file name hints in descriptors.
    """
    nodes: list[dict[str, Any]] = []
    below: str | None = None
    for index, link in enumerate(chain):
        name = f"link{index}"
        nodes.append(
            {
                "driver": "vmdk",
                "node-name": name,
                "read-only": True,
                "file": {"driver": "file", "filename": str(link), "read-only": True},
                "backing": below,
            }
        )
        below = name
    scratch: dict[str, Any] = {
        "driver": "vmdk",
        "node-name": "scratch",
        "file": {"driver": "file", "filename": SCRATCH_FILE},
        "backing": below,
    }
    if temporary:
        # Nobody reads the disk when the machine has ended, so a flush that reaches the platter
        # serves nobody.
        scratch["cache"] = {"no-flush": True}
    nodes.append(scratch)
    return nodes


def _reconnecting_socket(identifier: str, path: str | Path, version: tuple[int, int]) -> str:
    """Connect as a client and try again each second: the host's end may come and go."""
    again = "reconnect-ms=1000" if version >= _RECONNECT_MS_SINCE else "reconnect=1"
    # -chardev takes no JSON; in its own syntax a comma is the only special character.
    escaped = str(path).replace(",", ",,")
    return f"socket,id={identifier},path={escaped},server=off,{again}"
