"""The least that a boot can be: the same kernel, a static busybox, the same disk and program.

Owns the initramfs of that. Modules are loaded by hand in the boot image's own order.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import zstandard

from tinykernel.cpio import ArchiveEntry, directory, regular, write_newc
from tinykernel.modules import KernelModule

# ttyS0 hears a letter for each stage. `scan=manual` and the look by hand: as tether does it.
_INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
echo I >/dev/ttyS0
/bin/busybox mount -t sysfs sys /sys
for module in {modules}; do
    case $module in scsi_mod) with=scan=manual ;; *) with= ;; esac
    /bin/busybox insmod /modules/$module.ko $with
done
for adapter in /sys/class/scsi_host/*; do echo "0 0 0" >$adapter/scan; done
until {{ true </dev/sda; }} 2>/dev/null; do :; done
/bin/busybox mount -t ext4 /dev/sda /mnt
/bin/busybox mkdir /mnt/dev
/bin/busybox mount -t devtmpfs dev /mnt/dev
exec /bin/busybox chroot /mnt {command}
"""
# What tether loads before the program runs, on the machine of the bench.
_WANTED = ("vmw_pvscsi", "sd_mod", "virtio_pci", "virtio_console", "ext4")


def bare_initrd(modules: Iterable[KernelModule], command: Sequence[str]) -> bytes:
    """Return an initramfs that mounts the first disk and executes `command` on it."""
    known = {module.name: module for module in modules}
    order: dict[str, None] = {}
    for name in _WANTED:
        if name in known:
            order.update(dict.fromkeys((*known[name].depends, name)))
    program = shutil.which("busybox")
    if program is None:
        raise FileNotFoundError("busybox is not on PATH")
    entries: list[ArchiveEntry] = [directory(name) for name in ("bin", "dev", "mnt", "sys")]
    entries.append(directory("modules"))
    entries.append(regular("bin/busybox", Path(program).read_bytes(), 0o755))
    entries += [regular(f"modules/{name}.ko", known[name].data) for name in order]
    init = _INIT.format(modules=" ".join(order), command=shlex.join(command))
    entries.append(regular("init", init.encode(), 0o755))
    return zstandard.ZstdCompressor(level=12).compress(b"".join(write_newc(entries)))
