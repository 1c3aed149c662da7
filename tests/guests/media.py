"""Machines that boot by firmware, from a medium, instead of being given a kernel by QEMU."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

_FIRMWARE = Path("/usr/share/OVMF")  # Debian's package ovmf
_KERNEL_OPTIONS = ("-kernel", "-initrd", "-append")


def without_kernel(arguments: Sequence[str]) -> list[str]:
    """Return QEMU's arguments without the options that hand it a kernel."""
    kept = []
    skip = False
    for argument in arguments:
        if not skip and argument not in _KERNEL_OPTIONS:
            kept.append(argument)
        skip = argument in _KERNEL_OPTIONS
    return kept


def efi() -> list[str]:
    """Return arguments for EFI firmware without Secure Boot. Raises FileNotFoundError."""
    return _flash("OVMF_CODE_4M.fd", read_only=True)


def secure_efi(folder: Path) -> list[str]:
    """Return arguments for EFI firmware that starts what Debian's test key has signed, only.

    Its variables are a copy in `folder`. Raises FileNotFoundError.
    """
    variables = folder / "variables.fd"
    shutil.copyfile(_FIRMWARE / "OVMF_VARS_4M.snakeoil.fd", variables)
    return [
        *("-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"),
        *_flash("OVMF_CODE_4M.secboot.fd", read_only=True),
        *("-drive", f"if=pflash,unit=1,format=raw,file={variables}"),
    ]


def _flash(name: str, *, read_only: bool) -> list[str]:
    path = _FIRMWARE / name
    if not path.is_file():
        raise FileNotFoundError(path)
    state = "on" if read_only else "off"
    return ["-drive", f"if=pflash,unit=0,format=raw,readonly={state},file={path}"]


_AHCI = "ich9-ahci,id=sata"  # the machines of ours have none of their own


def compact_disc(image: Path) -> list[str]:
    """Return arguments for a CD drive with an ISO image."""
    return [
        *("-drive", f"if=none,id=cd,format=raw,media=cdrom,readonly=on,file={image}"),
        *("-device", _AHCI, "-device", "ide-cd,bus=sata.0,drive=cd,bootindex=1"),
    ]


def boot_disk(image: Path) -> list[str]:
    """Return arguments for a further disk, on AHCI: this firmware has no driver for pvscsi."""
    return [
        *("-drive", f"if=none,id=boot,format=vmdk,snapshot=on,file={image}"),
        *("-device", _AHCI, "-device", "ide-hd,bus=sata.0,drive=boot,bootindex=1"),
    ]
