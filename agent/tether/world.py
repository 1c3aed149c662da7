"""The world that the process sees: its root, mounts, device nodes and host name.

Owns the plan, as data, and its application in a child that is already in new mount, UTS and cgroup
namespaces. What is mounted where, and what is hidden, follows Docker's defaults. Which device
numbers the process may open is not restricted yet: that takes a device program on its cgroup.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from dataclasses import dataclass
from typing import Mapping, Sequence, Tuple

from agent.tether import c_linux, syscalls, volumes
from agent.tether.c_linux import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_STRICTATIME

TTY_GROUP = 5  # `tty` in every distribution, and in Docker's devpts options


@dataclass(frozen=True)
class Mount:
    """One mount of a file system that has no device. `optional`: the kernel may lack its type."""

    kind: str
    target: str
    flags: int
    options: str | None = None
    optional: bool = False


# In this order: each target lies in what was mounted before it.
MOUNTS: Tuple[Mount, ...] = (
    Mount("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC),
    Mount("tmpfs", "/dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"),
    Mount(
        "devpts",
        "/dev/pts",
        MS_NOSUID | MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620,gid={}".format(TTY_GROUP),
    ),
    Mount("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY),
    Mount("cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY),
    Mount("mqueue", "/dev/mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, optional=True),
    Mount("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k"),  # noqa: S108  # not a temporary file of ours
)

# devtmpfs would be simpler and would show the process the machine's own disks and consoles.
DEVICE_NODES: Mapping[str, Tuple[int, int]] = {
    "/dev/null": (1, 3),
    "/dev/zero": (1, 5),
    "/dev/full": (1, 7),
    "/dev/random": (1, 8),
    "/dev/urandom": (1, 9),
    "/dev/tty": (5, 0),
}

DEVICE_LINKS: Mapping[str, str] = {
    "/dev/ptmx": "pts/ptmx",
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/core": "/proc/kcore",
}

# The kernel has one of each for the whole machine: they would show or change the agent's world too.
MASKED_PATHS: Tuple[str, ...] = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READ_ONLY_PATHS: Tuple[str, ...] = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)


def network_files(host_name: str) -> Mapping[str, str]:
    """Return the files under /etc that belong to the run and not to the image, path to text."""
    return {
        "/etc/hostname": host_name + "\n",
        "/etc/hosts": (
            "127.0.0.1\tlocalhost\n"
            "::1\tlocalhost ip6-localhost ip6-loopback\n"
            "fe00::\tip6-localnet\n"
            "ff00::\tip6-mcastprefix\n"
            "ff02::1\tip6-allnodes\n"
            "ff02::2\tip6-allrouters\n"
            "127.0.1.1\t{}\n".format(host_name)
        ),
        "/etc/resolv.conf": "# This machine has no name server.\n",
    }


def enter_root(root: str, agent_mounts: Tuple[str, ...]) -> None:
    """Make the mounted file system at `root` this mount namespace's root.

    pivot_root(2) refuses the initramfs. The agent's own mounts go first: under the new root they
    would still show its /proc to a process that found its way below.
    """
    syscalls.mount(None, "/", None, c_linux.MS_REC | c_linux.MS_PRIVATE)
    for target in reversed(agent_mounts):
        syscalls.unmount(target, c_linux.MNT_DETACH)
    os.chdir(root)
    syscalls.mount(".", "/", None, c_linux.MS_MOVE)
    os.chroot(".")
    os.chdir("/")


def build(host_name: str, held: Sequence[volumes.Held] = ()) -> None:
    """Set the host name and lay out everything above the image's files, in this order's needs.

    A volume takes the place of a mount of ours at its path, and lies below the network files.
    """
    syscalls.set_host_name(host_name)
    files = _make_network_files(network_files(host_name))
    taken = {one.volume.path for one in held}
    for mount in MOUNTS:
        if mount.target not in taken:
            _apply(mount)
    _make_devices()
    volumes.place(held)
    for path, tree in files.items():
        _place_network_file(path, tree)
    volumes.finish(held)
    for path in READ_ONLY_PATHS:
        _make_read_only(path)
    for path in MASKED_PATHS:
        _mask(path)
    # Nothing is mounted on /run: images prepare it for their user, and Docker leaves it so.
    os.makedirs("/run", 0o755, exist_ok=True)


def bind_console(terminal_path: str) -> None:
    """Make the process's terminal its /dev/console as well, as docker run -t does."""
    os.close(os.open("/dev/console", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    syscalls.mount(terminal_path, "/dev/console", None, c_linux.MS_BIND)


def bring_loopback_up() -> None:
    """Switch the loopback interface on; the kernel gives it its addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe, c_linux.SIOCGIFFLAGS, c_linux.IFREQ_FLAGS.pack(b"lo", 0))
        flags = c_linux.IFREQ_FLAGS.unpack(answer)[1] | c_linux.IFF_UP
        fcntl.ioctl(probe, c_linux.SIOCSIFFLAGS, c_linux.IFREQ_FLAGS.pack(b"lo", flags))


def _apply(mount: Mount) -> None:
    try:
        os.makedirs(mount.target, 0o755, exist_ok=True)
        syscalls.mount(mount.kind, mount.target, mount.kind, mount.flags, mount.options)
    except OSError as error:
        if not (mount.optional and error.errno == errno.ENODEV):
            raise


def _make_devices() -> None:
    previous = os.umask(0)  # it would take bits from mknod's mode
    try:
        for path, (major, minor) in DEVICE_NODES.items():
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    finally:
        os.umask(previous)
    for path, target in DEVICE_LINKS.items():
        os.symlink(target, path)


def _make_network_files(files: Mapping[str, str]) -> Mapping[str, int]:
    """Return a mount of each file that is nowhere yet, from a tmpfs that has no path afterwards.

    It is mounted for a moment where /proc will be.
    """
    trees = {}
    os.makedirs("/proc", 0o555, exist_ok=True)
    syscalls.mount(
        "tmpfs", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=1024k"
    )
    for path, text in files.items():
        source = os.path.join("/proc", os.path.basename(path))
        with open(source, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(source, 0o644)
        trees[path] = syscalls.open_tree(source)
    syscalls.unmount("/proc", c_linux.MNT_DETACH)
    return trees


def _place_network_file(path: str, tree: int) -> None:
    """Mount a file over the image's own."""
    target = os.path.realpath(path)  # images make resolv.conf a link into /run
    os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
    if not os.path.exists(target):
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    syscalls.move_mount(tree, target)


def _make_read_only(path: str) -> None:
    if not os.path.exists(path):
        return
    syscalls.mount(path, path, None, c_linux.MS_BIND | c_linux.MS_REC)
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY  # a remount drops what it does not repeat
    syscalls.mount(path, path, None, c_linux.MS_BIND | c_linux.MS_REMOUNT | flags)


def _mask(path: str) -> None:
    if os.path.isdir(path):
        syscalls.mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0k")
    elif os.path.exists(path):
        syscalls.mount("/dev/null", path, None, c_linux.MS_BIND)
