"""What lies beside exported disks: a statement on their origin, and what the image brought along.

Owns which files these are; what the statement says is `converter.package.provenance`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from converter.events import Monitor, StepFinished, StepStarted
from converter.export.settings import Export
from converter.package.c_provenance import SUFFIX

if TYPE_CHECKING:
    from converter.package.provenance import Subject


def write_companions(
    export: Export,
    folder: Path,
    disks: Sequence[str],
    monitor: Monitor,
    *,
    codec_counts: bool = False,
) -> tuple[str, ...]:
    """Write what comes to lie beside `disks`, files of `folder` by name; return the new names.

    `codec_counts`: the disks' bytes depend on the export's codec. Raises OSError.
    """
    subjects: list[Subject] = []
    if export.tells_provenance:
        from converter.package.provenance import Subject  # noqa: PLC0415 - as in _statement

        step = f"digests of {len(disks)} files"
        monitor(StepStarted(step))
        subjects = [Subject(name, _sha256(folder / name)) for name in disks]
        monitor(StepFinished(step, minor=True))
    made = companions(export, subjects, codec_counts=codec_counts)
    for name, data in made:
        (folder / name).write_bytes(data)
    return tuple(name for name, _ in made)


def companions(
    export: Export, subjects: Sequence[Subject], *, codec_counts: bool
) -> list[tuple[str, bytes]]:
    """Return what comes to lie beside the disks `subjects`: names and contents."""
    made = []
    if export.tells_provenance:
        statement = _statement(export, subjects, codec_counts=codec_counts)
        made.append((f"{export.stem}{SUFFIX}", statement))
    made += [(f"{export.stem}{each.ending}", each.data) for each in export.attachments]
    return made


def _statement(export: Export, subjects: Sequence[Subject], *, codec_counts: bool) -> bytes:
    # A flat disk, whose start counts, tells nothing unless it is asked to.
    from converter.package.provenance import (  # noqa: PLC0415 - see above
        CodecUsed,
        ExportMade,
        LinkMade,
        encode_provenance,
    )

    source, codec = export.source, export.codec
    used = CodecUsed(codec.library, codec.version, codec.level) if codec_counts else None
    made = ExportMade(
        kind=export.kind,
        capacity_bytes=source.capacity_bytes,
        grain_bytes=source.parameters.grain_bytes,
        journal=source.parameters.journal,
        writer_version=source.parameters.writer_version,
        links=tuple(LinkMade(link.link_id, link.layers) for link in source.links),
        codec=used,
        options={} if export.package is None else {"delta": export.package.is_delta},
    )
    return encode_provenance(subjects, source.image, made)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
