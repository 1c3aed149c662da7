"""An ISO image that boots by EFI and by a PC's BIOS. Owns what is on it and how it is started.

EFI firmware finds a FAT image with the unified kernel by El Torito; a BIOS finds isolinux, which
loads kernel and initramfs from the ISO file system.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tinykernel.media.programs import run_program

_LABEL = "SALTFLAT"
_EFI_IMAGE = "EFI.IMG"
_LOADER_FOLDER = "ISOLINUX"


@dataclass(frozen=True, slots=True)
class BiosLoader:
    """Files of syslinux: isolinux.bin of the package isolinux, ldlinux.c32 of syslinux-common."""

    isolinux: bytes
    ldlinux: bytes


def write_iso(
    target: Path, *, esp: Path, kernel: Path, initrd: Path, command_line: str, loader: BiosLoader
) -> None:
    """Make the ISO image `target`, in a folder that also holds what is put on it.

    The same input gives the same bytes. Raises NotFoundError without xorriso, SaltflatError,
    OSError.
    """
    tree = target.with_name(f"{target.name}.d")
    (tree / _LOADER_FOLDER).mkdir(parents=True)
    # Names of ISO 9660's level 1, which isolinux finds without extensions of the standard.
    (tree / _EFI_IMAGE).hardlink_to(esp)
    _link_or_copy(kernel, tree / "VMLINUZ")
    _link_or_copy(initrd, tree / "INITRD")
    (tree / _LOADER_FOLDER / "ISOLINUX.BIN").write_bytes(loader.isolinux)
    (tree / _LOADER_FOLDER / "LDLINUX.C32").write_bytes(loader.ldlinux)
    settings = (
        "DEFAULT saltflat\n"
        "PROMPT 0\n"
        "LABEL saltflat\n"
        "  KERNEL /VMLINUZ\n"
        "  INITRD /INITRD\n"
        f"  APPEND {command_line}\n"
    )
    (tree / _LOADER_FOLDER / "ISOLINUX.CFG").write_text(settings, "ascii")
    bios = ["-b", f"{_LOADER_FOLDER}/ISOLINUX.BIN", "-c", f"{_LOADER_FOLDER}/BOOT.CAT"]
    options = [
        *("-as", "mkisofs", "-quiet", "-V", _LABEL, "--norock", "-iso-level", "1", "-no-pad"),
        *("--set_all_file_dates", "1980010100000000"),
        *bios,
        *("-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"),
        *("-eltorito-alt-boot", "-e", _EFI_IMAGE, "-no-emul-boot"),
        *("-o", target.name, tree.name),
    ]
    run_program("xorriso", options, folder=target.parent)
    shutil.rmtree(tree)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system
        shutil.copyfile(source, target)
