"""A boot image whose /init is another one, for guests that are booted otherwise than ours.

Owns the initramfs made of the boot image's own and a script that is laid over it.
"""

from __future__ import annotations

from pathlib import Path

from tests.images import prepared
from tinykernel import c_newc
from tinykernel.cpio import regular, write_newc
from tinykernel.initramfs import skeleton
from tinykernel.record import load_boot_image


def with_script_before(script: bytes, path: Path) -> Path:
    """Write an initramfs whose /init begins with `script`; return its path."""
    interpreter, newline, own = _init().partition(b"\n")
    return _write(interpreter + newline + script + own, path)


def with_script_alone(script: bytes, path: Path) -> Path:
    """Write an initramfs whose /init is the Python program `script`; return its path."""
    interpreter, newline, _own = _init().partition(b"\n")
    return _write(interpreter + newline + script, path)


def booting(initrd: Path, arguments: list[str]) -> list[str]:
    """Return QEMU's arguments with this initramfs in place of the boot image's."""
    at = arguments.index("-initrd") + 1
    return [*arguments[:at], str(initrd), *arguments[at + 1 :]]


def _init() -> bytes:
    (record,) = (prepared.boot_store() / "boot").glob("*/boot.json")
    python = load_boot_image(record.parent).python
    (init,) = (entry for entry in skeleton(python) if entry.path == "init")
    return init.data


def _write(init: bytes, path: Path) -> Path:
    (record,) = (prepared.boot_store() / "boot").glob("*/boot.json")
    own = load_boot_image(record.parent).initrd.read_bytes()
    overlay = b"".join(write_newc([regular("init", init, 0o755)]))
    path.write_bytes(own + bytes(-len(own) % c_newc.ALIGNMENT) + overlay)
    return path
