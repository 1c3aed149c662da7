"""A root disk with busybox and two users, made by mke2fs, so that only the guest is under test."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT_UUID = "6f1c9a3e-1111-4222-8333-0123456789ab"
CAPACITY_BYTES = 256 << 20
APPLETS = (
    *("cat", "cp", "dd", "echo", "false", "head", "id", "kill", "ln", "ls", "mkdir", "mkfifo"),
    *("ps", "pwd", "readlink", "rm", "seq", "sh", "sha256sum", "sleep", "stat", "stty", "tail"),
    *("tee", "touch", "tr", "true", "tty", "wc", "yes", "env", "grep", "cut", "test", "find"),
    *("ip", "nc", "ping", "udhcpc", "wget"),
)


def build(
    folder: Path,
    *,
    uuid: str = ROOT_UUID,
    options: Sequence[str] = (),
    spoil: Callable[[Path], None] | None = None,
    programs: Mapping[str, Callable[[Path], object]] | None = None,
) -> Path:
    """Make the disk in `folder` and return it; the programs that it needs are on PATH.

    `options` are mke2fs's; `spoil` is called with the file system before it becomes a disk.
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
    for name, write in (programs or {}).items():
        write(root / "bin" / name)
    (root / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\naudio:x:29:app\n")
    (root / "opt/data").write_text("no program")
    return make(folder, root, uuid=uuid, options=options, spoil=spoil)


def make(
    folder: Path,
    root: Path,
    *,
    capacity_bytes: int = CAPACITY_BYTES,
    uuid: str = ROOT_UUID,
    options: Sequence[str] = (),
    spoil: Callable[[Path], None] | None = None,
) -> Path:
    """Make a disk of the folder `root`, in `folder`, and return it."""
    raw, link = folder / "disk.raw", folder / "disk.vmdk"
    with raw.open("wb") as file:
        file.truncate(capacity_bytes)
    make = ["mke2fs", "-q", "-F", "-t", "ext4", "-U", uuid, *options]
    subprocess.run([*make, "-d", str(root), str(raw)], check=True, timeout=60)
    if spoil is not None:
        spoil(raw)
    convert = ["qemu-img", "convert", "-O", "vmdk", str(raw), str(link)]
    subprocess.run(convert, check=True, timeout=60)
    return link
