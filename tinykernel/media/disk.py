"""A small disk with an EFI system partition, whole and ready to be written as a VMDK."""

from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import UUID

from tinykernel.media.programs import run_program

_SECTOR = 512
_EFI_SYSTEM_PARTITION = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"  # UEFI 2.10, table 5.6
_PARTITION_START_BYTES = 1 << 20
_BACKUP_TABLE_BYTES = 64 * 1024  # 33 sectors, rounded up to a grain


def write_boot_disk(esp: Path, target: Path) -> None:
    """Make `target`, a raw disk whose one partition, of a GPT, is the FAT image `esp`.

    Its identifiers follow from the image's content. Raises NotFoundError without sfdisk,
    SaltflatError, OSError.
    """
    with esp.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    size = esp.stat().st_size
    with target.open("xb") as disk, esp.open("rb") as content:
        disk.truncate(_PARTITION_START_BYTES + size + _BACKUP_TABLE_BYTES)
        disk.seek(_PARTITION_START_BYTES)
        while chunk := content.read(1 << 20):
            disk.write(chunk)
    script = (
        "label: gpt\n"
        f"label-id: {_uuid(digest[:16])}\n"
        "unit: sectors\n"
        f"start={_PARTITION_START_BYTES // _SECTOR}, size={size // _SECTOR}, "
        f'type={_EFI_SYSTEM_PARTITION}, uuid={_uuid(digest[16:])}, name="saltflat"\n'
    )
    options = ["--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never", target.name]
    run_program("sfdisk", options, folder=target.parent, stdin=script)


def _uuid(data: bytes) -> UUID:
    return UUID(bytes=data, version=4)
