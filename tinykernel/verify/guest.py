"""Is what the record promises of a guest in its initramfs? Python, tether, drivers. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from tinykernel.cpio import ArchiveEntry
from tinykernel.initramfs import (
    AGENT_ROOT,
    DEBUG_MODULE,
    DEBUG_SHELL,
    ENTRY_MODULE,
    MODULE_ORDER,
)
from tinykernel.record import BootImage

_INIT = "init"


def guest_faults(image: BootImage, entries: Sequence[ArchiveEntry]) -> Iterator[str]:
    """Yield what the initramfs lacks of what boot.json says, a sentence each."""
    files = {entry.path: entry.data for entry in entries if entry.is_regular}
    interpreter = f"usr/bin/python{image.python}"
    if interpreter not in files:
        yield f"it has no Python {image.python}, which is recorded"
    line = files.get(_INIT, b"").partition(b"\n")[0].decode("utf-8", "replace")
    if line.split(" ")[0] != f"#!/{interpreter}":
        yield f"/{_INIT} begins with {line[:80]!r}, and does not start /{interpreter}"
    if _path(image, ENTRY_MODULE) not in files:
        yield f"it has no tether: /{_path(image, ENTRY_MODULE)} is missing"
    for path in (_path(image, DEBUG_MODULE), DEBUG_SHELL):
        if image.debug and path not in files:
            yield f"it is a debug image without /{path}"
        elif not image.debug and path in files:
            yield f"it has a debug shell, which is not recorded: /{path}"
    yield from _driver_faults(image, files)


def _path(image: BootImage, module: str) -> str:
    """Return where a module of ours is."""
    suffix = "py" if image.compiled_by is None else "pyc"
    return f"{AGENT_ROOT}/{module.replace('.', '/')}.{suffix}"


def _driver_faults(image: BootImage, files: dict[str, bytes]) -> Iterator[str]:
    try:
        order = json.loads(files[MODULE_ORDER])
        names = sorted(order)
        places = {name: str(order[name]["file"]) for name in names}
    except KeyError:
        yield f"/{MODULE_ORDER} is missing"
        return
    except (ValueError, TypeError) as error:
        yield f"/{MODULE_ORDER} is not readable: {error}"
        return
    if names != sorted(image.modules):
        yield f"it has other drivers than recorded: {' '.join(names) or 'none'}"
    for name, place in places.items():
        if f"usr{place}" not in files:
            yield f"the driver {name} is missing: {place}"
