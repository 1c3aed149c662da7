"""What lies beside exported disks: a statement on their origin, and what the image brought along.

Owns which files these are; what the statement says is `converter.package.provenance`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from converter.events import Monitor, StepFinished, StepStarted
from converter.export.settings import Export
from converter.package.c_provenance import SUFFIX
from converter.package.provenance import (
    CodecUsed,
    ExportMade,
    LinkMade,
    Subject,
    encode_provenance,
)


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
    names = []
    if export.tells_provenance:
        step = f"{export.stem}{SUFFIX}"
        monitor(StepStarted(step))
        subjects = [Subject(name, _sha256(folder / name)) for name in disks]
        (folder / step).write_bytes(_statement(export, subjects, codec_counts=codec_counts))
        monitor(StepFinished(step, minor=True))
        names.append(step)
    for attachment in export.attachments:
        name = f"{export.stem}{attachment.ending}"
        (folder / name).write_bytes(attachment.data)
        names.append(name)
    return tuple(names)


def _statement(export: Export, subjects: Sequence[Subject], *, codec_counts: bool) -> bytes:
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
    )
    return encode_provenance(subjects, source.image, made)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
