"""Disks that grow while the machine runs: seen by the kernel's announcements, and put to use.

Owns which announcements mean that, and what is done. A SCSI disk that has grown answers the next
command with a unit attention; the kernel announces that and looks no further, so its size is asked
for here. Others (virtio, NVMe) announce the new size by themselves, and some do neither (QEMU's
pvscsi): those are looked at when the host has us look around.
"""

from __future__ import annotations

import os
import select

from agent.hints import Dict, List, Mapping, Tuple
from agent.tether import disks, log
from agent.tether.companion import Tell, Watcher
from agent.tether.poller import Poller
from agent.tether.uevents import UeventListener

SYSFS = "/sys"
MOUNTS = "/proc/self/mounts"


class DiskGrowth(Watcher):
    """A companion that grows mounted file systems with their disks."""

    def __init__(self, events: UeventListener) -> None:
        self._events = events

    def attach(self, poller: Poller, _tell: Tell) -> None:
        """Have the loop watch the announcements."""
        poller.watch(self._events.fileno(), select.EPOLLIN, self._take)

    def look(self, _message: Mapping[str, object]) -> None:
        """Look at the sizes of all SCSI disks; what has changed is announced."""
        for name in disks.disk_names():
            path = os.path.join(disks.BLOCK_DEVICES, name, "device/rescan")
            if os.path.exists(path):
                rescan(path)

    def _take(self, _mask: int) -> None:
        for message in self._events.read():
            said = parse_uevent(message)
            if said.get("SDEV_UA") == "CAPACITY_DATA_HAS_CHANGED":
                rescan(os.path.join(SYSFS + said.get("DEVPATH", ""), "rescan"))
            elif said.get("SUBSYSTEM") == "block" and said.get("RESIZE") == "1":
                grow_on(said.get("DEVNAME", ""))


def parse_uevent(message: bytes) -> Dict[str, str]:
    """Return the variables of an announcement: NAME=VALUE, each ended by a NUL."""
    words = message.decode("utf-8", "replace").split("\0")
    return dict(word.partition("=")[::2] for word in words if "=" in word)


def rescan(path: str) -> None:
    """Have the kernel ask a SCSI device for its size by this file; it announces another one."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write("1")
    except OSError as error:
        log.error("{}: {}".format(path, error.strerror))


def grow_on(name: str) -> None:
    """Grow the file systems that are mounted from the disk /dev/`name`."""
    device = "/dev/" + name
    with open(MOUNTS, encoding="utf-8", errors="replace") as file:
        targets = [target for source, target in mounts(file.read()) if source == device]
    for target in targets[:1]:  # the others are the same file system
        disks.grow_mounted(device, target)


def mounts(text: str) -> List[Tuple[str, str]]:
    """Return source and target of each mount of a /proc/PID/mounts."""
    lines = (line.split(" ") for line in text.splitlines())
    return [(words[0], words[1]) for words in lines if len(words) > 1]
