"""What is in the initramfs and where. Owns its layout; packs nothing, fetches nothing.

/init                     starts tether
/usr/bin/python3.X        the interpreter
/usr/lib/python3.X/       the standard library's closure
/usr/lib/saltflat/agent/  tether and the wire protocol
/usr/lib/saltflat/dhcp/   busybox, deflated, for its DHCP client; the script that tells its events
/usr/lib/saltflat/debug/  of debug images: a static busybox, for a shell
/lib/modules/             drivers, and order.json with their load order
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence

from tinykernel.bytecode import compile_modules
from tinykernel.closure import ModuleFile
from tinykernel.cpio import ArchiveEntry, directory, regular, symlink
from tinykernel.modules import KernelModule

AGENT_ROOT = "usr/lib/saltflat"
ENTRY_MODULE = "agent.tether.__main__"
DEBUG_MODULE = "agent.tether.debug"  # starts the other one; of debug images alone
DEBUG_SHELL = "usr/lib/saltflat/debug/busybox"  # agent.tether.debug looks there
MODULE_ORDER = "usr/lib/modules/order.json"
DHCP_ROOT = "usr/lib/saltflat/dhcp"  # agent.tether.dhcp looks there
DHCP_PROGRAM = "busybox.z"  # and makes busybox of this when it is needed

# Flags: -I no environment and no user site, -S no site, -B never write .pyc. One word: the kernel
# passes everything after the interpreter as a single argument. What an import makes stays: to look
# through it for garbage takes a tenth of the time, so that begins when all is there (tether/guest).
_INIT = """\
#!/usr/bin/python{python} -ISB
import gc
import sys

gc.disable()
sys.path.insert(0, "/{agent_root}")
from {entry_module} import main

sys.exit(main())
"""

# One record for each event, on the pipe that is the client's standard output: its name, the
# environment in which the client gives what it knows, and an empty text; each ended by a NUL.
_DHCP_SCRIPT = f"""\
#!/{DHCP_ROOT}/busybox sh
printf 'event=%s\\0' "$1"
/{DHCP_ROOT}/busybox env -0
printf '\\0'
"""


def entry_module(*, debug: bool) -> str:
    """Return the module whose `main` /init calls."""
    return DEBUG_MODULE if debug else ENTRY_MODULE


def skeleton(python: str, *, debug: bool = False) -> Iterator[ArchiveEntry]:
    """Yield /init, the merged-usr links and the folders that the agent mounts on."""
    entry = entry_module(debug=debug)
    script = _INIT.format(python=python, agent_root=AGENT_ROOT, entry_module=entry)
    yield regular("init", script.encode(), 0o755)
    for name in ("bin", "lib", "lib64", "sbin"):
        yield symlink(name, f"usr/{name}")
        yield directory(f"usr/{name}")
    for name in ("dev", "proc", "run", "sys"):
        yield directory(name)
    yield directory("tmp", 0o1777)
    # getpath() warns on the console when this is missing, whether or not extensions are needed.
    yield directory(f"usr/lib/python{python}/lib-dynload")


def python_modules(
    root: str, modules: Sequence[tuple[ModuleFile, bytes]], *, compiled: bool
) -> Iterator[ArchiveEntry]:
    """Yield `modules` below the folder `root`; sources as .pyc in their place if `compiled`.

    A .pyc where a source would be is imported without looking for the source.
    """
    sources = [(f"/{root}/{file.path}", data) for file, data in modules if file.is_source]
    bytecode = iter(compile_modules(sources) if compiled and sources else ())
    for file, data in modules:
        if not file.is_source:
            yield regular(f"{root}/{file.path}", data)
        elif compiled:
            yield regular(f"{root}/{file.path}c", next(bytecode))
        else:
            yield regular(f"{root}/{file.path}", data)


def dhcp_client(busybox: bytes, libraries: Iterable[str]) -> Iterator[ArchiveEntry]:
    """Yield the DHCP client, its script, and the list of files that both need while they run.

    tether deletes the others once it runs. `libraries` are the paths of busybox's.
    """
    names = (DHCP_PROGRAM, "event", "needs")
    paths = sorted([*(f"{DHCP_ROOT}/{name}" for name in names), *libraries])
    yield regular(f"{DHCP_ROOT}/{DHCP_PROGRAM}", zlib.compress(busybox, zlib.Z_BEST_COMPRESSION))
    yield regular(f"{DHCP_ROOT}/event", _DHCP_SCRIPT.encode(), 0o755)
    yield regular(f"{DHCP_ROOT}/needs", "\n".join(f"/{path}" for path in paths).encode())


def kernel_modules(modules: Iterable[KernelModule]) -> Iterator[ArchiveEntry]:
    """Yield the modules and order.json: name -> {"file", "depends" in load order}.

    A driver that is not in order.json is built into the kernel.
    """
    order = {}
    for module in modules:
        path = f"usr/lib/modules/{module.name}.ko"
        order[module.name] = {
            "file": f"/lib/modules/{module.name}.ko",
            "depends": list(module.depends),
        }
        yield regular(path, module.data)
    document = json.dumps(order, indent=1, sort_keys=True) + "\n"
    yield regular(MODULE_ORDER, document.encode())
