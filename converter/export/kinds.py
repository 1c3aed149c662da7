"""Which types of export there are: a table, each a function that fills a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from converter.events import Monitor
from converter.export.disks import FLAT_ENDING, pipe_stream, write_flat, write_sparse, write_stream
from converter.export.settings import Export
from converter.export.target import fill_target

Write = Callable[[Export, Path, Monitor], None]
Pipe = Callable[[Export, BinaryIO, Monitor], None]


# A third of a small export's time is starting, so what makes machines is loaded for those alone.
def _write_vmx(export: Export, folder: Path, monitor: Monitor) -> None:
    from converter.export.vmx import write_vmx  # noqa: PLC0415 - see above

    write_vmx(export, folder, monitor)


def _write_ovf(export: Export, folder: Path, monitor: Monitor) -> None:
    from converter.export.package import write_ovf  # noqa: PLC0415 - see above

    write_ovf(export, folder, monitor)


def _write_ova(export: Export, folder: Path, monitor: Monitor) -> None:
    from converter.export.package import write_ova  # noqa: PLC0415 - see above

    write_ova(export, folder, monitor)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportType:
    """How a type is made.

    `write` fills an empty folder, the main file under the export's `file_name`, and leaves every
    file closed; making them durable and giving them their names is the caller's. `is_folder`: OUT
    is that folder, called as whoever asked wants it, and the main file in it ends with `suffix`;
    else OUT is the main file, and what else there is comes to lie beside it: disks whose names end
    with `endings`, and companions. `pipe` writes the main file alone where nothing can be gone back
    to, if that is possible. `is_machine`: there are MachineSettings; `is_package`: there are
    PackageSettings, too. `is_compressed`: the codec has a say. `tells_provenance`: unless somebody
    says otherwise, there is a statement on the disks, for which they are read once more.
    """

    write: Write
    suffix: str = ".vmdk"
    endings: tuple[str, ...] = ()
    is_folder: bool = False
    is_machine: bool = False
    is_package: bool = False
    is_compressed: bool = False
    tells_provenance: bool = True
    pipe: Pipe | None = None

    @property
    def has_companions(self) -> bool:
        """Whether what else there is comes to lie beside OUT, and not within it."""
        return not self.is_folder and not self.is_package


EXPORT_TYPES: Mapping[str, ExportType] = {
    "stream": ExportType(write=write_stream, pipe=pipe_stream, is_compressed=True),
    # Reading all zeros of a large disk would take longer than writing its data.
    "flat": ExportType(write=write_flat, endings=(FLAT_ENDING,), tells_provenance=False),
    "sparse": ExportType(write=write_sparse),
    "vmx": ExportType(write=_write_vmx, suffix=".vmx", is_folder=True, is_machine=True),
    "ovf": ExportType(
        write=_write_ovf,
        suffix=".ovf",
        is_folder=True,
        is_machine=True,
        is_package=True,
        is_compressed=True,
    ),
    "ova": ExportType(
        write=_write_ova, suffix=".ova", is_machine=True, is_package=True, is_compressed=True
    ),
}


def make_export(export: Export, out: Path, *, force: bool, monitor: Monitor) -> tuple[Path, ...]:
    """Make the export `out`; return its files, the main one first.

    Raises as `converter.export.target.fill_target` and the type's own function do.
    """
    kind = EXPORT_TYPES[export.kind]
    return fill_target(
        out,
        lambda folder: kind.write(export, folder, monitor),
        suffix=kind.suffix,
        is_folder=kind.is_folder,
        force=force,
    )
