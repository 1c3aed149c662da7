"""An EFI system partition: a FAT file system with one executable, where firmware looks for it."""

from __future__ import annotations

from pathlib import Path

from tinykernel.media.programs import run_program

# UEFI 2.10, section 3.5.1.1: what firmware starts from removable media without being told.
_DEFAULT_LOADER = "BOOTX64.EFI"
_LABEL = "SALTFLAT"
_KIB = 1024
# Two tables of 2 bytes per cluster of at least 2 KiB, the root folder, two folders, and some room.
_TABLES_SHARE = 256
_FIXED_BYTES = 256 * _KIB
_ALIGNMENT = 64 * _KIB  # of the image: a grain


def write_esp(executable: Path, target: Path) -> None:
    """Make `target`, a FAT image that holds the file `executable` as the default loader.

    The same executable gives the same bytes. Raises NotFoundError without dosfstools and mtools,
    SaltflatError, OSError.
    """
    folder = target.parent
    size = executable.stat().st_size
    need = size + size // _TABLES_SHARE + _FIXED_BYTES
    blocks = -(-need // _ALIGNMENT) * (_ALIGNMENT // _KIB)
    # --invariant fixes the volume's id and the times that mkfs.fat would take from the clock.
    options = ["--invariant", "-n", _LABEL, "-C", target.name, str(blocks)]
    run_program("mkfs.fat", options, folder=folder)
    run_program("mmd", ["-i", target.name, "::/EFI", "::/EFI/BOOT"], folder=folder)
    copy = ["-i", target.name, str(executable.absolute()), f"::/EFI/BOOT/{_DEFAULT_LOADER}"]
    run_program("mcopy", copy, folder=folder)
