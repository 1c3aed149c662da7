"""A small image in three layers that says what it is told to: busybox, a file of zeros, changes."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.images.layout import LayoutWriter
from tests.images.tarball import TarBuilder

SAYS = "salt and \u2615\n"
CONFIG = {
    "Env": ["PATH=/bin", f"SAYS={SAYS.strip()}"],
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": ['echo "$SAYS"; cat /etc/layer'],
}


def build(folder: Path) -> str:
    """Write the layout into `folder`; return the manifest's digest."""
    writer = LayoutWriter(folder)
    writer.layer(_base, comment="busybox")
    writer.layer(_more, comment="noise and zeros")
    writer.layer(_changes, comment="changes")
    return writer.finish(config=CONFIG)


def _base(tar: TarBuilder) -> None:
    program = shutil.which("busybox")
    if program is None:
        raise FileNotFoundError("no busybox here: install busybox-static")
    for name in ("bin", "etc", "data"):
        tar.directory(name)
    tar.file("bin/busybox", Path(program).read_bytes(), mode=0o755)
    for applet in ("sh", "echo", "cat"):
        tar.symlink(f"bin/{applet}", "busybox")
    tar.file("etc/layer", b"layer 1\n")


def _more(tar: TarBuilder) -> None:
    tar.noise("data/noise", 300_000)
    tar.zeros("data/zeros", 1_000_000)
    tar.file("etc/layer", b"layer 2\n")


def _changes(tar: TarBuilder) -> None:
    tar.whiteout("data/noise")
    tar.file("etc/layer", b"layer 3\n")
