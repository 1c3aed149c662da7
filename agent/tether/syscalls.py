"""System calls that Python 3.8's library lacks, through the C library's syscall(2).

Owns the calling convention: every wrapper raises OSError with errno and, where there is one, the
path. Numbers and layouts come from `c_linux`.
"""

from __future__ import annotations

import errno
import os

from agent import bare_ctypes as ctypes
from agent.bare_tools import suppress
from agent.hints import Union
from agent.tether import c_bpf, c_linux

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.prctl.restype = ctypes.c_int

Argument = Union[int, bytes, None]


def _call(number: int, *arguments: Argument, path: str | None = None) -> int:
    """Make one system call with register-sized integers and pointers to bytes."""
    converted = [
        ctypes.c_long(value) if isinstance(value, int) else ctypes.c_char_p(value)
        for value in arguments
    ]
    result: int = _libc.syscall(ctypes.c_long(number), *converted)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result


def keep_freed_memory(size: int) -> None:
    """Have the C library keep freed blocks of up to `size` bytes for the next ones.

    By itself it gives those of 128 KiB back to the kernel, and every page is a fault when it is
    needed again. Does nothing where the C library has no such switch.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(c_linux.M_MMAP_THRESHOLD, size)
        mallopt(c_linux.M_TRIM_THRESHOLD, size)


def map_code(machine_code: bytes) -> int:
    """Put machine code where it can be called, and nobody writes to it any more; its address.

    Nothing gives it back.
    """
    size, private = len(machine_code), c_linux.MAP_PRIVATE | c_linux.MAP_ANONYMOUS
    protection = c_linux.PROT_READ | c_linux.PROT_WRITE
    address = _call(c_linux.SYS_mmap, 0, size, protection, private, -1, 0)
    _libc.memcpy(ctypes.c_long(address), ctypes.c_char_p(machine_code), ctypes.c_long(size))
    _call(c_linux.SYS_mprotect, address, size, c_linux.PROT_READ | c_linux.PROT_EXEC)
    return address


def mount(
    source: str | None, target: str, kind: str | None, flags: int = 0, options: str | None = None
) -> None:
    """Mount, bind, move or remount, as mount(2)."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    data = None if options is None else os.fsencode(options)
    _call(c_linux.SYS_mount, *encoded, flags, data, path=target)


def unmount(target: str, flags: int = 0) -> None:
    """Unmount what is on top of `target`, as umount2(2)."""
    _call(c_linux.SYS_umount2, os.fsencode(target), flags, path=target)


def open_tree(path: str) -> int:
    """Return a mount of what is mounted at `path` that has no place yet, as open_tree(2)."""
    return _call(
        c_linux.SYS_open_tree,
        c_linux.AT_FDCWD,
        os.fsencode(path),
        c_linux.OPEN_TREE_CLONE | os.O_CLOEXEC,
        path=path,
    )


def move_mount(tree: int, target: str) -> None:
    """Give a mount of `open_tree` its place, as move_mount(2); the descriptor stays one of it."""
    _call(
        c_linux.SYS_move_mount,
        tree,
        b"",
        c_linux.AT_FDCWD,
        os.fsencode(target),
        c_linux.MOVE_MOUNT_F_EMPTY_PATH,
        path=target,
    )


def make_read_only(tree: int) -> None:
    """Make one mount read-only, not the file system that it shows, as mount_setattr(2)."""
    attributes = c_linux.MOUNT_ATTR.pack(c_linux.MOUNT_ATTR_RDONLY, 0, 0, 0)
    _call(
        c_linux.SYS_mount_setattr,
        tree,
        b"",
        c_linux.AT_EMPTY_PATH,
        attributes,
        len(attributes),
    )


def load_module(descriptor: int, parameters: str = "") -> None:
    """Load the kernel module in an open file, as finit_module(2)."""
    _call(c_linux.SYS_finit_module, descriptor, parameters.encode("ascii"), 0)


def unload_module(name: str) -> None:
    """Unload a kernel module that nothing uses, without waiting, as delete_module(2)."""
    _call(c_linux.SYS_delete_module, name.encode("ascii"), os.O_NONBLOCK)


def clone_process(flags: int, *, exit_signal: int, cgroup: int) -> int:
    """Fork into new namespaces and a cgroup at once, as clone3(2); 0 in the child, else its pid.

    The child goes on in a copy of this interpreter and Python's fork hooks are not run: it may
    prepare itself and exec, nothing more. The caller must be single-threaded.
    """
    arguments = c_linux.CLONE_ARGS.pack(
        flags | c_linux.CLONE_INTO_CGROUP, 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, cgroup
    )
    return _call(c_linux.SYS_clone3, arguments, len(arguments))


def open_process(pid: int) -> int:
    """Return a descriptor that stands for a process even when its number is used again."""
    return _call(c_linux.SYS_pidfd_open, pid, 0)  # close-on-exec by itself


def enter_namespaces(descriptor: int, kinds: int) -> None:
    """Enter a process's namespaces (by pidfd) or one namespace (by its file), as setns(2)."""
    _call(c_linux.SYS_setns, descriptor, kinds)


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """Close every descriptor from `first` to `last`, none if that is below, as close_range(2)."""
    if first > last:
        return
    try:
        _call(c_linux.SYS_close_range, first, last, 0)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        for name in os.listdir("/proc/self/fd"):  # a kernel before 5.9
            if first <= int(name) <= last:
                with suppress(OSError):  # the one that listed them
                    os.close(int(name))


def become_subreaper() -> None:
    """Have the kernel give this process the orphans among its descendants, as it gives PID 1."""
    if _libc.prctl(c_linux.PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def forbid_tracing() -> None:
    """Keep processes without CAP_SYS_PTRACE out of this one's memory, until it executes a file."""
    if _libc.prctl(c_linux.PR_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def set_host_name(name: str) -> None:
    """Set the host name of this UTS namespace."""
    encoded = name.encode("ascii")
    _call(c_linux.SYS_sethostname, encoded, len(encoded))


def reboot(command: int) -> None:
    """Power off, or set what Ctrl-Alt-Del does, as reboot(2)."""
    _call(
        c_linux.SYS_reboot,
        c_linux.LINUX_REBOOT_MAGIC1,
        c_linux.LINUX_REBOOT_MAGIC2,
        command,
        None,
    )


def forbid_new_privileges() -> None:
    """Let no program that this process executes gain privileges, for good."""
    if _libc.prctl(c_linux.PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def attach_device_program(group: int, program: bytes) -> None:
    """Let `program` decide for the open control group which devices may be opened, as bpf(2)."""
    code, license_text = (
        ctypes.create_string_buffer(program),
        ctypes.create_string_buffer(c_bpf.LICENSE),
    )
    attributes = c_bpf.LOAD.pack(
        c_bpf.PROG_TYPE_CGROUP_DEVICE,
        len(program) // c_bpf.INSTRUCTION.size,
        ctypes.addressof(code),
        ctypes.addressof(license_text),
        0,
        0,
        0,
        0,
        0,
    )
    descriptor = _call(c_linux.SYS_bpf, c_bpf.PROG_LOAD, attributes, len(attributes))
    try:
        attributes = c_bpf.ATTACH.pack(group, descriptor, c_bpf.CGROUP_DEVICE, 0)
        _call(c_linux.SYS_bpf, c_bpf.PROG_ATTACH, attributes, len(attributes))
    finally:
        os.close(descriptor)  # the group keeps the program


def filter_system_calls(program: bytes) -> None:
    """Have the kernel ask a classic BPF program about each call from now on, as seccomp(2).

    What this process starts is asked about, too. Needs CAP_SYS_ADMIN.
    """
    code = ctypes.create_string_buffer(program)
    count = len(program) // c_linux.SOCK_FILTER_BYTES
    described = c_linux.SOCK_FPROG.pack(count, ctypes.addressof(code))
    _call(c_linux.SYS_seccomp, c_linux.SECCOMP_SET_MODE_FILTER, 0, described)


def drop_bounding_capability(capability: int) -> None:
    """Take one capability out of the bounding set for good; EINVAL above the kernel's last one."""
    if _libc.prctl(c_linux.PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def set_capabilities(mask: int) -> None:
    """Make `mask` the effective and permitted set and clear the inheritable one, as capset(2)."""
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = c_linux.CAP_HEADER.pack(c_linux.LINUX_CAPABILITY_VERSION_3, 0)
    data = c_linux.CAP_DATA.pack(low, low, 0, high, high, 0)
    _call(c_linux.SYS_capset, header, data)
