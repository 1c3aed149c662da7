"""One export as it is asked for: checked before anything that takes time, then made an Export.

Owns the order of these two and the names of files; the words are the caller's, the work is that of
`converter.export.kinds`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from converter.errors import UsageError
from converter.export.exportable import Exportable
from converter.export.kinds import EXPORT_TYPES, ExportType
from converter.export.options import MachineOptions, PackageOptions
from converter.export.settings import Attachment, Export
from converter.export.target import check_target
from converter.package.c_provenance import SUFFIX
from converter.store.layout import Store
from converter.vmdk.compression import LEVELS, Codec, best
from converter.vmdk.descriptor import file_name_fault
from tinykernel.media.record import Kind

CODECS = ("auto", *LEVELS)
AUTO = CODECS[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """An export of the type `kind` to `out`, or if that is None to a pipe.

    `provenance` is None where the type decides. `threads` may deflate a disk side by side; None
    stands for as many as there are processors.
    """

    kind: str
    out: Path | None
    force: bool
    codec: Codec
    machine: MachineOptions
    package: PackageOptions
    provenance: bool | None = None
    threads: int | None = None

    @property
    def type(self) -> ExportType:
        """The type's row in the table."""
        return EXPORT_TYPES[self.kind]

    @property
    def medium(self) -> Kind:
        """The kind of boot medium that a machine needs."""
        return self.package.medium if self.type.is_package else Kind.ISO

    def check(self, *, force: bool | None = None) -> None:
        """Raise UsageError for what the type does not take, and if `out` may not be written.

        `force` stands for the request's own, where a caller knows more of what is there.
        """
        made = self.type
        self.machine.check(self.kind, is_machine=made.is_machine)
        self.package.check(self.kind, is_package=made.is_package)
        if made.is_package:
            self.package.settings(self.machine.serial)
        _ = self.file_name  # which may be none
        if self.out is None:
            return
        check_target(
            self.out,
            suffix=made.suffix,
            is_folder=made.is_folder,
            force=self.force if force is None else force,
            beside=self.beside,
        )

    @property
    def beside(self) -> tuple[str, ...]:
        """The names of files that are known to come to lie beside `out`."""
        if self.out is None:
            return ()
        endings = list(self.type.endings)
        if self.type.has_companions and self.tells_provenance:
            endings.append(SUFFIX)
        return tuple(f"{self.out.stem}{ending}" for ending in endings)

    @property
    def tells_provenance(self) -> bool:
        """Whether a statement on the disks comes to lie beside them."""
        return self.type.tells_provenance if self.provenance is None else self.provenance

    @property
    def file_name(self) -> str:
        """The main file's name: that of `out`, or for a folder with the type's suffix behind it.

        Raises UsageError for what cannot be a disk's name.
        """
        if self.out is None:
            return f"{self.kind}.vmdk"
        name = f"{self.out.name}{self.type.suffix if self.type.is_folder else ''}"
        fault = file_name_fault(name)
        if fault is not None or not name.isprintable():
            raise UsageError(
                f"{name[:80]!a} cannot be a disk's name: {fault or 'it has control characters'}.",
                expected="a name without quotes, colons and slashes, in UTF-8",
                hint="Name another file or folder with -o.",
            )
        return name

    def export_of(
        self, source: Exportable, store: Store, attachments: Sequence[Attachment] = ()
    ) -> Export:
        """Return what the exporter is told; to be called while the store is in use.

        Raises NotFoundError when a machine has no boot image, and as `check` does.
        """
        made, out = self.type, self.out or Path(self.kind)
        name = out.name if made.is_folder else out.stem
        return Export(
            kind=self.kind,
            source=source,
            file_name=self.file_name,
            codec=self.codec,
            threads=self.threads or len(os.sched_getaffinity(0)),
            machine=self.machine.settings(source, store, name, self.medium)
            if made.is_machine
            else None,
            package=self.package.settings(self.machine.serial) if made.is_package else None,
            tells_provenance=self.tells_provenance,
            attachments=tuple(attachments),
        )


def read_codec(library: str, level: int | None) -> Codec:
    """Return the codec of one of CODECS and a level. Raises UsageError for what is not there."""
    codec = best(None if library == AUTO else library)
    levels = LEVELS[codec.library]
    if level is not None and level not in levels:
        raise UsageError(
            f"--compression-level {level} is none that {codec.library} has.",
            expected=f"{levels[0]} to {levels[-1]}",
        )
    if not codec.is_available:
        raise UsageError(
            f"--codec {library}: it is not installed.",
            hint=f"{sys.executable} -m pip install 'saltflat[fast]', or --codec zlib",
        )
    return codec if level is None else Codec(codec.library, level)
