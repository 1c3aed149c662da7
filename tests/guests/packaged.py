"""Machines of exported packages under QEMU: what a descriptor asks for, started by firmware."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from agent.host.transport import UnixListener, private_directory
from converter.machine.process import QemuProcess
from converter.machine.qemu_command import CONFIG_FILE, CONSOLE_FILE, FW_CFG_NAME, PROGRAM
from tests.guests import media
from tests.guests.host import GuestHost

ADDRESS = "00:50:56:01:02:03"


@contextlib.contextmanager
def deployed(
    folder: Path, *, disk: Path, boot_iso: Path, environment: bytes, key: bytes
) -> Iterator[GuestHost]:
    """Start a machine with the package's topmost disk and medium; yield the host on its line.

    Writes go nowhere. `environment` is its OVF environment, and reaches it by fw_cfg, for QEMU has
    no guestinfo.
    """
    (folder / CONFIG_FILE).write_bytes(environment)
    with private_directory() as private, UnixListener(private / "line") as listener:
        arguments = [
            *(PROGRAM, "-machine", "q35,accel=tcg,sata=off", "-m", "256"),
            *("-cpu", "max,erms=off,fsrm=off"),  # emulated, these copy byte by byte
            *("-display", "none", "-nodefaults", "-no-user-config", "-no-reboot"),
            *media.efi(),
            *media.compact_disc(boot_iso),
            *("-drive", f"if=none,id=root,format=vmdk,snapshot=on,file={disk}"),
            *("-device", "pvscsi,id=scsi", "-device", "scsi-hd,bus=scsi.0,drive=root"),
            *("-netdev", "user,id=net", "-device", f"vmxnet3,netdev=net,mac={ADDRESS}"),
            *("-chardev", f"socket,id=line,path={private / 'line'}"),
            *("-device", "isa-serial,chardev=line,index=0"),
            *("-chardev", f"file,id=console,path={CONSOLE_FILE}"),
            *("-device", "isa-serial,chardev=console,index=1"),
            *("-fw_cfg", f"name={FW_CFG_NAME},file={CONFIG_FILE}"),
        ]
        with QemuProcess(arguments, folder, temporary=False):
            host = GuestHost(listener, key)
            yield host
            host.close()
