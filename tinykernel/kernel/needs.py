"""What a kernel must be able to do to start tether at all. Owns the list and reading it.

A kernel's configuration is text (`CONFIG_X=y` lines), beside the kernel or, with IKCONFIG, inside
of it.
"""

from __future__ import annotations

import zlib

from converter.errors import IntegrityError

# Without one of these no line of tether's runs, or it cannot say so. What is needed later, such as
# a disk's driver, may be a module, and tether says itself what it misses.
NEEDS = (
    ("CONFIG_BLK_DEV_INITRD", "the initramfs"),
    ("CONFIG_RD_ZSTD", "its compression"),
    ("CONFIG_BINFMT_ELF", "programs"),
    ("CONFIG_BINFMT_SCRIPT", "/init"),
    ("CONFIG_DEVTMPFS", "the agent's /dev"),
    ("CONFIG_TMPFS", "the process's /dev"),
    ("CONFIG_PROC_FS", "the agent's /proc"),
    ("CONFIG_SYSFS", "finding devices"),
    ("CONFIG_SERIAL_8250_CONSOLE", "the console"),
    ("CONFIG_UNIX98_PTYS", "terminals"),
    ("CONFIG_NET", "hearing of devices"),
    ("CONFIG_UNIX", "the agent's own messages"),
    ("CONFIG_CGROUPS", "the process's group"),
    ("CONFIG_CGROUP_BPF", "the process's devices"),
    ("CONFIG_BPF_SYSCALL", "the process's devices"),
    ("CONFIG_PID_NS", "the process's world"),
    ("CONFIG_IPC_NS", "the process's world"),
    ("CONFIG_UTS_NS", "the process's world"),
    ("CONFIG_FUTEX", "Python"),
    ("CONFIG_EPOLL", "Python"),
)

# kernel/configs.c
_IKCONFIG_START = b"IKCFG_ST"
_GZIP_WINDOW_BITS = 31
_CONFIG_LIMIT_BYTES = 4 << 20


def check_needs(config: bytes, where: str) -> None:
    """Raise IntegrityError unless a kernel of this configuration can start tether."""
    built_in = {
        line for line in config.decode("utf-8", "replace").splitlines() if line[-2:] == "=y"
    }
    lacks = [f"{name} ({why})" for name, why in NEEDS if f"{name}=y" not in built_in]
    if lacks:
        raise IntegrityError(
            f"the kernel of {where} was built without {', '.join(lacks)}",
            expected="these built in, not as modules",
            hint="build one that has them, or use: --kernel stock",
        )


def embedded_config(data: bytes) -> bytes | None:
    """Return the configuration that an uncompressed kernel has inside (IKCONFIG), None if none."""
    start = data.find(_IKCONFIG_START)
    if start < 0:
        return None
    try:
        unpacker = zlib.decompressobj(_GZIP_WINDOW_BITS)
        return unpacker.decompress(data[start + len(_IKCONFIG_START) :], _CONFIG_LIMIT_BYTES)
    except zlib.error as error:
        raise IntegrityError(f"the kernel's embedded configuration is damaged: {error}") from error
