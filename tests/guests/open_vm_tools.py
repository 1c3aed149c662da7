"""vmtoolsd, the daemon of VMware's own open-vm-tools, as a program that tests run on any host.

Owns its command, with the libraries that it was made for, and the library that is loaded before
them: it says that this is VMware's machine, and leads virtual sockets to unix sockets.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.images.prepared import open_vm_tools_root

_SHIM_SOURCE = Path(__file__).with_name("vmtools_shim.c")
_LIBRARIES = "usr/lib/x86_64-linux-gnu"


def make_shim(folder: Path) -> Path:
    """Compile the library and return it."""
    shim = folder / "shim.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(shim)]
    subprocess.run([*command, str(_SHIM_SOURCE), "-ldl"], check=True, timeout=120)
    return shim


def vmtoolsd(shim: Path, *arguments: str, sockets: Path | None = None) -> list[str]:
    """Return the command of vmtoolsd, whose virtual sockets are unix sockets in `sockets`."""
    root = open_vm_tools_root()
    loader = next(iter(root.glob("**/x86_64-linux-gnu/ld-linux-x86-64.so.2")))
    libraries = f"{root / _LIBRARIES}:{root}/lib/x86_64-linux-gnu"
    command = [os.fspath(loader), "--library-path", libraries, "--preload", os.fspath(shim)]
    command += [f"{root}/usr/bin/vmtoolsd", *arguments]
    return command if sockets is None else ["env", f"VMX_SOCKETS={sockets}", *command]


def daemon_arguments(folder: Path, plugins: Iterable[str]) -> list[str]:
    """Return arguments with which it is a guest's daemon, with these plug-ins and no others."""
    (folder / "none").mkdir()
    (folder / "plugins").mkdir()
    for name in plugins:
        there = open_vm_tools_root() / _LIBRARIES / "open-vm-tools/plugins/vmsvc" / f"lib{name}.so"
        (folder / "plugins" / there.name).symlink_to(there)
    config = folder / "tools.conf"
    config.write_text("[logging]\nlog=false\n[guestinfo]\ndisable-perf-mon=true\n")
    arguments = ["-n", "vmsvc", "-c", str(config), "-p", str(folder / "plugins")]
    return [*arguments, f"--common-path={folder / 'none'}"]
