"""What an export is asked for beside its source. Owns the values; their words are the command's."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from converter.export.exportable import Exportable
from converter.vmdk.compression import Codec


class Firmware(enum.StrEnum):
    """What starts the machine."""

    EFI = "efi"
    BIOS = "bios"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSettings:
    """The machine around the disk, for the types that are whole machines.

    `boot_iso` is a medium of the boot image, `document` what the guest reads at its start, with a
    key of the channel in it. `serial` is the URI of the data line's other end. With `serial_log`
    the kernel's and the agent's messages go to a file beside the machine.
    """

    name: str
    boot_iso: Path
    document: bytes
    mac: str
    memory_mib: int
    processors: int
    firmware: Firmware = Firmware.EFI
    serial: str
    serial_log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One export. `file_name` is the main file's, in the folder that the exporter fills.

    `codec` and `threads` are for disks that are compressed. `machine` is None for the types that
    are no machine.
    """

    source: Exportable
    file_name: str
    codec: Codec
    threads: int
    machine: MachineSettings | None = None

    @property
    def stem(self) -> str:
        """The main file's name without its ending; other files of the export begin with it."""
        return Path(self.file_name).stem
