"""The world that the process sees: its root, mounts, device nodes and host name.

Owns the plan, as data, and its application in a child that is already in new mount, UTS and cgroup
namespaces. What is mounted where, and what is hidden, follows Docker's defaults and the request.
Which devices the process may open is `device_rules`' matter: nodes can be made of any.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from agent import bare_socket as socket
from agent.bare_tools import partial
from agent.hints import Iterator, List, Mapping, Sequence, Tuple
from agent.tether import c_linux, syscalls, volumes
from agent.tether.c_linux import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_STRICTATIME
from agent.tether.errors import StartError
from agent.tether.host_config import HostConfig
from agent.tether.tmpfs import parse_tmpfs_options
from agent.values import dataclass, replace

SHM = "/dev/shm"  # noqa: S108  # not a temporary file of ours
TTY_GROUP = 5  # `tty` in every distribution, and in Docker's devpts options


@dataclass(frozen=True)
class Mount:
    """One mount of a file system that has no device. `optional`: the kernel may lack its type."""

    kind: str
    target: str
    flags: int
    options: str | None = None
    optional: bool = False
    is_own: bool = False  # the run's: it keeps the mode of the folder that it covers


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
    Mount("tmpfs", SHM, MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777"),
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

# A machine has these too, and they are others' there: its console, its own terminals.
_OWN_NODES = ("console", "tty", "ptmx")
_KERNELS_NODES = "/dev/.kernel"  # for a moment

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
    "/proc/interrupts",
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

# What makes root's usual ports and ping usable without capabilities, as Docker has it.
DEFAULT_SYSCTLS: Mapping[str, str] = {
    "net.ipv4.ping_group_range": "0 2147483647",
    "net.ipv4.ip_unprivileged_port_start": "0",
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


def plan_mounts(host: HostConfig) -> List[Mount]:
    """Return what is mounted, in order: each place after what it lies in.

    A --tmpfs takes the place of a mount of ours, and with /dev of all that lie in it.
    """
    wanted = dict(host.tmpfs)
    mounts = []
    for mount in MOUNTS:
        if mount.target in wanted or ("/dev" in wanted and mount.target.startswith("/dev/")):
            continue
        flags, options = mount.flags, mount.options
        if mount.target in ("/sys", "/sys/fs/cgroup") and host.privileged:
            flags &= ~MS_RDONLY
        if mount.target == SHM:
            options = "{},size={}".format(options, host.shm_bytes)
        mounts.append(replace(mount, flags=flags, options=options))
    for path in sorted(wanted, key=lambda path: path.count("/")):
        try:
            flags, data = parse_tmpfs_options(wanted[path])
        except ValueError as error:
            raise StartError("config", "tmpfs {}: {}".format(path, error)) from error
        mounts.append(Mount("tmpfs", path, flags, data, is_own=True))
    return mounts


def build(
    host_name: str,
    host: HostConfig,
    files: Mapping[str, int],
    held: Sequence[volumes.Held] = (),
) -> None:
    """Set the host name and lay out everything above the image's files, in this order's needs.

    `files` are mounts for single files, by path. A volume takes the place of a mount of ours at its
    path. What the run adds, volumes and --tmpfs, goes by depth, and lies below the files.
    """
    syscalls.set_host_name(host_name)
    taken = {one.volume.path for one in held}
    mounts = [mount for mount in plan_mounts(host) if mount.target not in taken]
    own = [mount for mount in mounts if mount.is_own and mount.target != "/dev"]
    for mount in mounts:
        if mount not in own:
            _apply(mount)
    _set_sysctls({**DEFAULT_SYSCTLS, **dict(host.sysctls)})
    _make_devices()
    if host.privileged:
        _make_machine_devices()
    added = [(mount.target, partial(_apply, mount)) for mount in own]
    added += [(one.volume.path, partial(volumes.place, (one,))) for one in held]
    for _, put in sorted(added, key=lambda one: one[0].count("/")):
        put()
    for path, tree in files.items():
        _place_network_file(path, tree, read_only=host.read_only)
    volumes.finish(held)
    if not (host.privileged or host.open_system_paths):
        for path in READ_ONLY_PATHS:
            _make_read_only(path)
        for path in MASKED_PATHS:
            _mask(path)
    # Nothing is mounted on /run: images prepare it for their user, and Docker leaves it so.
    os.makedirs("/run", 0o755, exist_ok=True)


def close_root() -> None:
    """Make the root read-only, but not what is mounted on it; nothing can be prepared after."""
    syscalls.mount(None, "/", None, c_linux.MS_BIND | c_linux.MS_REMOUNT | MS_RDONLY)


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
        mode = None
        if mount.is_own and "mode=" not in (mount.options or "") and os.path.isdir(mount.target):
            mode = stat.S_IMODE(os.stat(mount.target).st_mode)
        os.makedirs(mount.target, 0o755, exist_ok=True)
        # A --tmpfs with ro gets its mode first. The others must not be writable for a moment.
        late = MS_RDONLY & mount.flags if mount.is_own else 0
        flags = mount.flags & ~late
        syscalls.mount(mount.kind, mount.target, mount.kind, flags, mount.options or None)
        if mode is not None:
            os.chmod(mount.target, mode)
        if late:
            flags = c_linux.MS_BIND | c_linux.MS_REMOUNT | mount.flags
            syscalls.mount(None, mount.target, None, flags)
    except OSError as error:
        if not (mount.optional and error.errno == errno.ENODEV):
            raise


def _set_sysctls(settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        path = os.path.join("/proc/sys", name.replace(".", "/"))
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(value)
        except OSError as error:
            if name in DEFAULT_SYSCTLS and value == DEFAULT_SYSCTLS[name]:
                continue  # an old kernel lacks it
            text = "the kernel setting {}={}: {}".format(name, value, error.strerror)
            raise StartError("world", text) from error


def _make_devices() -> None:
    previous = os.umask(0)  # it would take bits from mknod's mode
    try:
        for path, (major, minor) in DEVICE_NODES.items():
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    finally:
        os.umask(previous)
    for path, target in DEVICE_LINKS.items():
        os.symlink(target, path)


def _make_machine_devices() -> None:
    """Make a node of each device that the machine has, but those that are the process's own.

    The kernel has a node of each in its own file system, which costs a tenth of asking sysfs.
    """
    previous = os.umask(0)
    os.mkdir(_KERNELS_NODES, 0o700)
    syscalls.mount("devtmpfs", _KERNELS_NODES, "devtmpfs", MS_NOSUID | MS_NOEXEC)
    try:
        for path, status in _nodes(_KERNELS_NODES):
            name = os.path.relpath(path, _KERNELS_NODES)
            target = os.path.join("/dev", name)
            if name in _OWN_NODES or os.path.lexists(target):
                continue
            os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
            os.mknod(target, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev)
    finally:
        syscalls.unmount(_KERNELS_NODES, c_linux.MNT_DETACH)
        os.rmdir(_KERNELS_NODES)
        os.umask(previous)


def _nodes(folder: str) -> Iterator[Tuple[str, os.stat_result]]:
    """Yield path and status of each device node below a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _nodes(entry.path)
                continue
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                yield entry.path, status


def _place_network_file(path: str, tree: int, *, read_only: bool) -> None:
    """Mount a file over the image's own."""
    target = os.path.realpath(path)  # images make resolv.conf a link into /run
    os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
    if not os.path.exists(target):
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    syscalls.move_mount(tree, target)
    if read_only:
        syscalls.mount(None, target, None, c_linux.MS_BIND | c_linux.MS_REMOUNT | MS_RDONLY)


def _make_read_only(path: str) -> None:
    if not os.path.exists(path):
        return
    syscalls.mount(path, path, None, c_linux.MS_BIND | c_linux.MS_REC)
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY  # a remount drops what it does not repeat
    syscalls.mount(path, path, None, c_linux.MS_BIND | c_linux.MS_REMOUNT | flags)


def _mask(path: str) -> None:
    if os.path.isdir(path):
        syscalls.mount("tmpfs", path, "tmpfs", MS_RDONLY)
    elif os.path.exists(path):
        syscalls.mount("/dev/null", path, None, c_linux.MS_BIND)
