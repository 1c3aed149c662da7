"""Hold a boot image against its record: files, what is in them, versions, media. Owns the order.

Every fault is named, not the first alone: where a digest is wrong, it is the content that tells
what has changed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from converter.errors import IntegrityError
from converter.events import Monitor, StepFinished, StepStarted
from tinykernel.archives import read_initramfs
from tinykernel.contents import Content, decode_contents, describe
from tinykernel.cpio import ArchiveEntry
from tinykernel.kernel.bzimage import kernel_version
from tinykernel.packages import ARCHITECTURE
from tinykernel.record import (
    CONTENTS_FILE,
    INITRD_FILE,
    KERNEL_FILE,
    RECORD_FILE,
    SBOM_FILE,
    BootImage,
    encode_record,
    protocol_fault,
    read_record,
)
from tinykernel.verify.bill import bill_faults
from tinykernel.verify.files import read_file
from tinykernel.verify.findings import Check, Fault, Finding
from tinykernel.verify.guest import guest_faults
from tinykernel.verify.media import verify_media

INITRAMFS = "initramfs"  # the subject of what is in it
_STEP = "verify boot image"
_ANEW = "Remove the image's folder and make it anew: saltflat boot build"
_IDENTITY = re.compile(r"[0-9a-f]{64}")


def verify_boot_image(folder: Path, *, monitor: Monitor) -> Iterator[Finding]:
    """Yield everything that is sound or wrong about the boot image in `folder`.

    Raises NotFoundError when there is none.
    """
    monitor(StepStarted(_STEP))
    try:
        image = read_record(folder)
    except IntegrityError as error:
        yield Fault(RECORD_FILE, error.what, error.hint or _ANEW)
    else:
        yield from _verify(image)
    monitor(StepFinished(_STEP))


def _verify(image: BootImage) -> Iterator[Finding]:
    yield from _record_findings(image)
    files: dict[str, bytes] = {}
    for name, sha256 in image.digests().items():
        try:
            files[name] = read_file(image.folder / name)
        except OSError as error:
            yield Fault(name, f"it cannot be read: {error.strerror}", _ANEW)
            continue
        except IntegrityError as error:
            yield Fault(name, error.what, _ANEW)
            continue
        found = hashlib.sha256(files[name]).hexdigest()
        if found != sha256:
            yield Fault(name, f"it has the sha256 {found}, not {sha256} as recorded", _ANEW)
        else:
            yield Check(name, f"{len(files[name])} bytes, as recorded")
    if KERNEL_FILE in files:
        yield from _kernel_findings(image, files[KERNEL_FILE])
    contents: list[Content] | None = None
    if CONTENTS_FILE in files:
        try:
            contents = decode_contents(files[CONTENTS_FILE])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            yield Fault(CONTENTS_FILE, f"it is no list of contents: {error!r}", _ANEW)
    if INITRD_FILE in files:
        yield from _initramfs_findings(image, files[INITRD_FILE], contents)
    if SBOM_FILE in files:
        faults = list(bill_faults(image, files, contents))
        yield from (Fault(SBOM_FILE, fault, _ANEW) for fault in faults)
        if not faults:
            yield Check(
                "bill of materials", f"{len(image.packages)} packages, their sources, files"
            )
    yield from verify_media(image)


def _record_findings(image: BootImage) -> Iterator[Finding]:
    name = image.folder.resolve().name
    if _IDENTITY.fullmatch(name) and name != image.id:
        yield Fault(RECORD_FILE, f"the folder's name is {name}, the image's id {image.id}", _ANEW)
    raw = read_file(image.folder / RECORD_FILE)
    if image.contents_sha256 is not None and raw != encode_record(image):
        # Records of older versions say less, so theirs are others.
        yield Fault(RECORD_FILE, "it is not as it was written", _ANEW)
    if image.arch != ARCHITECTURE:
        yield Fault(RECORD_FILE, f"it is for {image.arch}, which no boot image is", _ANEW)
    if image.kernel_package and image.kernel_package not in {each.name for each in image.packages}:
        yield Fault(
            RECORD_FILE, f"the kernel's package {image.kernel_package} is not listed", _ANEW
        )
    fault = protocol_fault(image.id, image.protocol)
    if fault is not None:
        yield Fault(RECORD_FILE, fault.what, fault.hint or _ANEW)
    else:
        kind = "debug image" if image.debug else "image"
        yield Check(RECORD_FILE, f"{kind} {image.id}, protocol {image.protocol}")


def _kernel_findings(image: BootImage, data: bytes) -> Iterator[Finding]:
    try:
        version = kernel_version(data, KERNEL_FILE)
    except IntegrityError as error:
        yield Fault(KERNEL_FILE, error.what, _ANEW)
        return
    if version != image.kernel_version:
        yield Fault(KERNEL_FILE, f"it is Linux {version}, not {image.kernel_version}", _ANEW)
    else:
        yield Check("kernel", f"Linux {version} ({image.name})")


def _initramfs_findings(
    image: BootImage, data: bytes, contents: list[Content] | None
) -> Iterator[Finding]:
    try:
        entries = read_initramfs(data)
    except IntegrityError as error:
        yield Fault(INITRD_FILE, error.what, _ANEW)
        return
    faults = [*_differences(entries, contents)] if contents is not None else []
    faults += guest_faults(image, entries)
    yield from (Fault(INITRD_FILE, fault, _ANEW) for fault in faults)
    if not faults:
        listed = "as listed" if contents is not None else "of which no list was recorded"
        files = sum(entry.is_regular for entry in entries)
        yield Check(
            INITRAMFS,
            f"{files} files {listed}; Python {image.python}, tether, {len(image.modules)} modules",
        )


def _differences(entries: list[ArchiveEntry], contents: list[Content]) -> Iterator[str]:
    """Yield how the initramfs differs from what was listed, path by path."""
    found = {entry.path: describe(entry) for entry in entries}
    wanted = {content.path: content for content in contents}
    for path in sorted(found.keys() | wanted.keys()):
        if path not in found:
            yield f"/{path} is missing"
        elif path not in wanted:
            yield f"/{path} is not in the list of contents"
        elif found[path].mode != wanted[path].mode:
            yield f"/{path} has the mode {found[path].mode:06o}, not {wanted[path].mode:06o}"
        elif found[path].target != wanted[path].target:
            yield f"/{path} leads to {found[path].target}, not {wanted[path].target}"
        elif found[path].sha256 != wanted[path].sha256:
            yield f"/{path} has other content than listed"
