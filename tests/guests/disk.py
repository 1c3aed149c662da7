"""A root disk with busybox and two users, made by mke2fs, so that only the guest is under test."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT_UUID = "6f1c9a3e-1111-4222-8333-0123456789ab"
CAPACITY_BYTES = 256 << 20
APPLETS = (
    *("cat", "cp", "dd", "echo", "false", "head", "id", "kill", "ln", "ls", "mkdir", "mkfifo"),
    *("ps", "pwd", "readlink", "rm", "seq", "sh", "sha256sum", "sleep", "stat", "stty", "tail"),
    *("tee", "touch", "tr", "true", "tty", "wc", "yes", "env", "grep", "cut", "test", "find"),
    *("ip", "nc", "ping", "udhcpc", "wget"),
)


def build(folder: Path, programs: Mapping[str, Callable[[Path], object]] | None = None) -> Path:
    """Make the disk in `folder` and return it; the programs that it needs are on PATH.

    `programs` are more of them for /bin: name -> what makes the file.
    """
    root = folder / "root"
    for name in ("bin", "etc", "home/app", "opt", "tmp", "srv"):
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin/busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    for name, make in (programs or {}).items():
        make(root / "bin" / name)
    (root / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\naudio:x:29:app\n")
    (root / "opt/data").write_text("no program")
    raw, link = folder / "disk.raw", folder / "disk.vmdk"
    with raw.open("wb") as file:
        file.truncate(CAPACITY_BYTES)
    for command in (
        ["mke2fs", "-q", "-F", "-t", "ext4", "-U", ROOT_UUID, "-d", str(root), str(raw)],
        ["qemu-img", "convert", "-O", "vmdk", str(raw), str(link)],
    ):
        subprocess.run(command, check=True, timeout=60)
    return link
