"""Machines with other disks than the usual one, and programs that look at a guest's kernel.

Owns QEMU's arguments for each kind of disk, and the probe program's making.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

PROBE_SOURCE = Path(__file__).with_name("probe.c")

# What takes the place of the PVSCSI adapter and its disk. QEMU has no model of LSI Logic Parallel
# that mptspi knows (its lsi53c895a is another chip), and on its mptsas1068 mptsas finds no disk,
# however it looks: these drivers are only looked for.
DISKS = {
    "pvscsi": ("pvscsi,id=scsi", "scsi-hd,bus=scsi.0,drive=scratch"),
    "virtio-blk": ("virtio-blk-pci,drive=scratch",),
    "virtio-scsi": ("virtio-scsi-pci,id=scsi", "scsi-hd,bus=scsi.0,drive=scratch"),
    "nvme": ("nvme,serial=disk,drive=scratch",),
    "ahci": ("ich9-ahci,id=sata", "ide-hd,bus=sata.0,drive=scratch"),
}


def with_disk(arguments: Sequence[str], kind: str) -> list[str]:
    """Return a machine's arguments with its disk on another adapter."""
    replaced = list(arguments)
    at = replaced.index("pvscsi,id=scsi") - 1
    usual = [word for device in DISKS["pvscsi"] for word in ("-device", device)]
    assert replaced[at : at + len(usual)] == usual
    replaced[at : at + len(usual)] = [
        word for device in DISKS[kind] for word in ("-device", device)
    ]
    return replaced


def make_probe(target: Path) -> None:
    """Compile the probe program, static: the disk that it runs from has no libraries."""
    command = ["gcc", "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(target)]
    subprocess.run([*command, str(PROBE_SOURCE)], check=True, timeout=120)


def read_probe(text: str) -> dict[str, bool]:
    """Return item -> whether the kernel can do it, from what the program printed."""
    items = {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        assert word in {"ok", "no"}, line
        items[rest.partition(": ")[0]] = word == "ok"
    return items
