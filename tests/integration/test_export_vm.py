"""The machine of an exported folder, under QEMU with the devices that VMware gives it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.host.transport import UnixListener, private_directory
from converter.machine.process import QemuProcess, qemu_version
from converter.machine.qemu_command import FW_CFG_NAME, Accelerator, base_arguments
from tests.guests import media
from tests.guests.host import BOOT_SECONDS, GuestHost
from tests.guests.vmx_text import read_vmx
from tests.images import small
from tests.images.prepared import usual_boot_image
from tests.integration.conftest import Saltflat

pytestmark = [pytest.mark.integration, pytest.mark.vm]


def test_a_folder_for_desktops_boots(
    saltflat: Saltflat, boot_media_store: Path, tool: Callable[[str], str], tmp_path: Path
) -> None:
    """From its ISO image by BIOS, with the disk as QEMU finds its links, and the .vmx's document.

    The host has the key of the export, and nothing else.
    """
    for program in ("qemu-system-x86_64", "busybox"):
        tool(program)
    small.build(tmp_path / "layout")
    store = tmp_path / "store"
    subprocess.run(["cp", "-rl", boot_media_store, store], check=True)
    key = os.urandom(32)
    (tmp_path / "key").write_text(key.hex())
    folder = tmp_path / "My VM"
    saltflat.good(
        *("export", f"oci:{tmp_path / 'layout'}:latest", "--store", store, "--capacity=96m"),
        *("--type=vmx", "-o", folder, "--firmware=bios", "--key-file", tmp_path / "key"),
    )
    said = read_vmx((folder / "My VM.vmx").read_bytes())
    assert (folder / "My VM.vmx").stat().st_mode & 0o077 == 0  # it has the key
    (folder / "document").write_text(said["guestinfo.saltflat.config"])
    boot = usual_boot_image()
    with private_directory() as private, UnixListener(private / "line") as listener:
        arguments = [
            *media.without_kernel(
                base_arguments(Accelerator("tcg", qemu_version()), boot.kernel, boot.initrd)
            ),
            *media.compact_disc(folder / said["sata0:0.fileName"]),
            *("-m", said["memsize"], "-smp", said["numvcpus"]),
            *("-drive", f"if=none,id=disk,format=vmdk,file={folder / said['scsi0:0.fileName']}"),
            *("-device", f"{said['scsi0.virtualDev']},id=scsi"),
            *("-device", "scsi-hd,bus=scsi.0,drive=disk"),
            *("-netdev", "user,id=net", "-device"),
            f"{said['ethernet0.virtualDev']},netdev=net,mac={said['ethernet0.address']}",
            *("-chardev", f"socket,id=line,path={private / 'line'},server=off"),
            *("-device", "isa-serial,chardev=line,index=0"),
            *("-fw_cfg", f"name={FW_CFG_NAME},file={folder / 'document'}"),
        ]
        with QemuProcess(arguments, folder, temporary=True) as machine:
            host = GuestHost(listener, key)
            main = host.processes[0]
            try:
                host.wait(lambda: main.code is not None, BOOT_SECONDS)
            except TimeoutError:
                pytest.fail(machine.console())
            host.close()
    assert (main.code, main.stdout.decode()) == (0, f"{small.SAYS}layer 3\n")
