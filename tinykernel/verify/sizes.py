"""How much of a boot image's initramfs is there for what."""

from __future__ import annotations

from pathlib import Path

from tinykernel.archives import read_initramfs
from tinykernel.contents import PartSize, breakdown, describe
from tinykernel.record import INITRD_FILE


def part_sizes(folder: Path) -> list[PartSize]:
    """Return the unpacked sizes of what is in the initramfs of the boot image in `folder`.

    They are counted in the archive itself, so older images without a list have them as well. Raises
    IntegrityError, OSError.
    """
    entries = read_initramfs((folder / INITRD_FILE).read_bytes())
    return breakdown(describe(entry) for entry in entries)
