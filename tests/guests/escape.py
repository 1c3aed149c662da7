"""Try to get from a container's process to the machine: run as root in a guest, prints a line each.

Each attempt is a function that returns if it got there and raises OSError if it was refused. What
it got to is the agent, its files and key, the machine's disks, consoles, memory and settings.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import Callable, Dict, List, Optional, Tuple, Union

Attempt = Callable[[], object]

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

MS_REMOUNT, MS_BIND, MS_MOVE, MNT_DETACH = 0x20, 0x1000, 0x2000, 2
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
IOPL, IOPERM, MOUNT, UMOUNT2, SETNS, UNSHARE = 172, 173, 165, 166, 308, 272
OPEN_BY_HANDLE, INIT_MODULE, REBOOT, SYSLOG, BPF = 304, 175, 169, 103, 321
KEXEC_LOAD, CLOCK_SETTIME = 246, 227
BACKDOOR_PORT = 0x5658  # VMware's
# What is in the initramfs or on the agent's side of the machine, and in no image of ours.
TRACES = ("/newroot", "/init", "/usr/lib/saltflat", "/lib/modules/order.json")


class NotThereError(OSError):
    """The call went through and led to nothing of the machine's."""


def listed(folder: str, rest: str) -> List[str]:
    """Return `rest` in each folder that `folder` has; no glob in the boot image's Python."""
    return [os.path.join(folder, name, rest) for name in sorted(os.listdir(folder))]


def processes(rest: str) -> List[str]:
    return [os.path.join("/proc", name, rest) for name in os.listdir("/proc") if name.isdigit()]


def call(number: int, *arguments: Union[int, bytes, None]) -> int:
    done = libc.syscall(
        ctypes.c_long(number),
        *[ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments],
    )
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(done)


def look_for_traces() -> None:
    for path in TRACES:
        if os.path.exists(path):
            return
    raise NotThereError(0, "only what the image has")


def mount(source: Optional[bytes], target: bytes, kind: Optional[bytes], flags: int = 0) -> None:
    call(MOUNT, source, target, kind, flags, None)


def chroot_and_climb() -> None:
    os.makedirs("/tmp/jail", exist_ok=True)
    top = os.open("/", os.O_RDONLY)
    os.chroot("/tmp/jail")
    os.fchdir(top)
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    look_for_traces()


def unmount_root() -> None:
    call(UMOUNT2, b"/", MNT_DETACH)
    os.chdir("/")
    look_for_traces()


def unmount_root_and_come_back() -> None:
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    call(UMOUNT2, b"/", MNT_DETACH)
    call(SETNS, own, 0)
    look_for_traces()


def enter_own_namespace_again() -> None:
    call(SETNS, os.open("/proc/self/ns/mnt", os.O_RDONLY), 0)
    look_for_traces()


def root_of_the_first_process() -> None:
    os.chroot("/proc/1/root")
    look_for_traces()


def root_of_any_process() -> None:
    for place in processes("root"):
        if os.path.exists(place + "/newroot") or os.path.exists(place + "/usr/lib/saltflat"):
            return
    raise NotThereError(0, "only processes of this world")


def processes_of_the_machine() -> None:
    for path in processes("comm"):
        with open(path, encoding="utf-8") as file:
            if file.read().startswith("kthreadd"):
                return
    raise NotThereError(0, "only processes of this world")


def memory_of_the_first_process() -> None:
    """With an init this is a copy of the agent; without, it is our own parent."""
    if os.getppid() == 1:
        raise NotThereError(0, "it is the container's own process")
    with open("/proc/1/mem", "rb"):
        return


def open_node(kind: int, major: int, minor: int) -> None:
    path = "/tmp/node"
    if os.path.exists(path):
        os.unlink(path)
    os.mknod(path, kind | 0o600, os.makedev(major, minor))
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))


def numbers_of(folder: str) -> List[Tuple[int, int]]:
    found = []
    for path in listed(folder, "dev"):
        with open(path, encoding="ascii") as file:
            major, minor = file.read().split(":")
            found.append((int(major), int(minor)))
    return found


def disks() -> None:
    last: OSError = NotThereError(0, "there is none")
    for major, minor in numbers_of("/sys/class/block"):
        try:
            open_node(0o060000, major, minor)
            return
        except OSError as error:
            last = error
    raise last


def channel() -> None:
    last: OSError = NotThereError(0, "there is none")
    for major, minor in numbers_of("/sys/class/virtio-ports"):
        try:
            open_node(0o020000, major, minor)
            return
        except OSError as error:
            last = error
    raise last


def character(major: int, minor: int) -> Attempt:
    return lambda: open_node(0o020000, major, minor)


def device_file_system() -> None:
    os.makedirs("/tmp/there", exist_ok=True)
    mount(b"none", b"/tmp/there", b"devtmpfs")
    os.stat("/tmp/there/mem")


def fresh(kind: bytes) -> Attempt:
    def attempt() -> None:
        os.makedirs("/tmp/there", exist_ok=True)
        mount(b"none", b"/tmp/there", kind)

    return attempt


def remount(path: bytes) -> Attempt:
    return lambda: mount(None, path, None, MS_REMOUNT | MS_BIND)


def by_handle() -> None:
    """Open the root's inode by number, and look whether it is another root than ours."""
    here = os.open("/", os.O_RDONLY)
    handle = struct.pack("=Ii", 8, 1) + struct.pack("=II", 2, 0)  # FILEID_INO32_GEN
    call(OPEN_BY_HANDLE, here, handle, os.O_RDONLY)


def write_to(path: str, text: str) -> Attempt:
    def attempt() -> None:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)

    return attempt


def read_from(path: str) -> Attempt:
    def attempt() -> None:
        with open(path, "rb") as file:
            if not file.read(1):
                raise NotThereError(0, "empty")

    return attempt


def backdoor() -> None:
    call(IOPERM, BACKDOOR_PORT, 1, 1)


def guest_info() -> None:
    with socket.socket(40, socket.SOCK_STREAM) as line:  # AF_VSOCK, to the hypervisor
        line.settimeout(5)
        line.connect((0, 976))


def in_a_user_namespace(what: Attempt) -> Attempt:
    """Become root of a user namespace with a mount namespace of its own, and do it there."""

    def attempt() -> None:
        call(UNSHARE, CLONE_NEWUSER | CLONE_NEWNS)
        what()

    return attempt


def unmask() -> None:
    call(UMOUNT2, b"/proc/kcore", MNT_DETACH)


def symlink_in_proc() -> None:
    for path in [path for folder in processes("fd") for path in listed(folder, "")]:
        target = os.readlink(path.rstrip("/"))
        if target.startswith(("/dev/vport", "/dev/ttyS", "/sys/fs/cgroup")):
            os.close(os.open(path, os.O_RDONLY))
            return
    raise NotThereError(0, "no descriptor of the agent's")


def device_program() -> None:
    """Attach a program of ours to the control group: it would replace the agent's."""
    attributes = struct.pack("=IIQQIIQII", 15, 0, 0, 0, 0, 0, 0, 0, 0)
    call(BPF, 5, attributes, len(attributes))


ATTEMPTS: Dict[str, Attempt] = {
    "chroot and climb": chroot_and_climb,
    "unmount the root": unmount_root,
    "unmount the root and come back": unmount_root_and_come_back,
    "enter our namespace again": enter_own_namespace_again,
    "root of the first process": root_of_the_first_process,
    "root of any process": root_of_any_process,
    "processes of the machine": processes_of_the_machine,
    "memory of the first process": memory_of_the_first_process,
    "descriptors of the agent": symlink_in_proc,
    "disks": disks,
    "the channel": channel,
    "the machine's console": character(5, 1),
    "the first serial line": character(4, 64),
    "the second serial line": character(4, 65),
    "memory": character(1, 1),
    "ports": character(1, 4),
    "the kernel's log by node": character(1, 11),
    "device file system": device_file_system,
    "another proc": fresh(b"proc"),
    "another sysfs": fresh(b"sysfs"),
    "another cgroup2": fresh(b"cgroup2"),
    "sysfs writable": remount(b"/sys"),
    "cgroup2 writable": remount(b"/sys/fs/cgroup"),
    "kernel settings writable": remount(b"/proc/sys"),
    "kernel settings": write_to("/proc/sys/kernel/core_pattern", "|/tmp/x"),
    "sysrq": write_to("/proc/sysrq-trigger", "h"),
    "control group": write_to("/sys/fs/cgroup/cgroup.freeze", "0"),
    "kernel memory": read_from("/proc/kcore"),
    "kernel keys": read_from("/proc/keys"),
    "firmware's config": read_from("/sys/firmware/qemu_fw_cfg/by_name/opt/org.saltflat/config/raw"),
    "unmask": unmask,
    "inode by handle": by_handle,
    "all ports": lambda: call(IOPL, 3),
    "the backdoor's port": backdoor,
    "guestinfo over vsock": guest_info,
    "a kernel module": lambda: call(INIT_MODULE, b"", 0, b""),
    "another kernel": lambda: call(KEXEC_LOAD, 0, 0, None, 0),
    "reboot": lambda: call(REBOOT, 0xFEE1DEAD, 0x28121969, 0, None),  # only what Ctrl-Alt-Del does
    "the kernel's log": lambda: call(SYSLOG, 3, ctypes.create_string_buffer(64).raw, 64),
    "the machine's clock": lambda: call(CLOCK_SETTIME, 0, struct.pack("=qq", 1 << 31, 0)),
    "another device program": device_program,
    "unmask as root of a user namespace": in_a_user_namespace(unmask),
    "unmount the root as root of a user namespace": in_a_user_namespace(unmount_root),
    "proc as root of a user namespace": in_a_user_namespace(fresh(b"proc")),
    "sysfs as root of a user namespace": in_a_user_namespace(fresh(b"sysfs")),
    "disks as root of a user namespace": in_a_user_namespace(disks),
    "devices as root of a user namespace": in_a_user_namespace(device_file_system),
    "sysfs writable as root of a user namespace": in_a_user_namespace(remount(b"/sys")),
}


def main() -> None:
    for name, attempt in ATTEMPTS.items():
        pid = os.fork()  # each in a process of its own: some change what the next would see
        if not pid:
            try:
                # Who may unmount the root would take it from those who come after.
                libc.unshare(CLONE_NEWNS)
                attempt()
                say("reached", name)
            except OSError as error:
                say("refused", "{}|{}".format(name, error.strerror))
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
    say("end", "")


def say(word: str, rest: str) -> None:
    os.write(1, "{} {}\n".format(word, rest).encode())


if __name__ == "__main__":
    main()
