"""What an export is asked for beside its source. Owns the values; their words are the command's."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converter.export.exportable import Exportable
from converter.vmdk.compression import Codec

if TYPE_CHECKING:
    from converter.package.signing import Signer  # most exports sign nothing


class Firmware(enum.StrEnum):
    """What starts the machine."""

    EFI = "efi"
    BIOS = "bios"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSettings:
    """The machine around the disk, for the types that are whole machines.

    `boot_medium` is one of the boot image, an ISO image or, if it `boots_from_disk`, a
    streamOptimized disk. `document` is what the guest reads at its start; it has the channel's key,
    or else (`has_key`) it is for an OVF environment. `serial` is the URI of the data line's other
    end, "" for none. With `serial_log` the kernel's and the agent's messages go to a file beside
    the machine.
    """

    boot_medium: Path
    document: bytes
    has_key: bool
    mac: str
    memory_mib: int
    processors: int
    firmware: Firmware = Firmware.EFI
    serial: str
    serial_log: bool = False
    boots_from_disk: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSettings:
    """What a package is asked for, beside the machine.

    With `is_delta` each link is a disk that refers to the one below. `variables` are further ones
    of the process's environment, NAME or NAME=VALUE, for whoever deploys the package to set.
    """

    is_delta: bool = False
    network: str = "VM Network"
    variables: tuple[str, ...] = ()
    signer: Signer | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that comes to lie beside the disks as it is; `ending` follows the export's name."""

    ending: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One export. `kind` is its type, as a person asks for it.

    `file_name` is the main file's, in the folder that the exporter fills. `codec` and `threads` are
    for disks that are compressed. `machine` is None for the types that are no machine, `package`
    for those that are no package.
    `attachments` and, if `tells_provenance`, a statement on what the disks are made of come to lie
    beside the disks.
    """

    kind: str
    source: Exportable
    file_name: str
    codec: Codec
    threads: int
    machine: MachineSettings | None = None
    package: PackageSettings | None = None
    tells_provenance: bool = True
    attachments: tuple[Attachment, ...] = ()

    @property
    def stem(self) -> str:
        """The main file's name without its ending: the machine's, and what others begin with."""
        return Path(self.file_name).stem
