"""Export a machine as an OVF package, in a folder or as one OVA.

Owns the order in which a package is made, and what its files are called. Disks are deflated
straight to their place, hashed while they are: descriptor, manifest and certificate, which stand
in front, are written last, into room that is known beforehand. The same files are in a folder and
in an OVA.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from converter import __version__
from converter.events import Monitor
from converter.export.companions import companions
from converter.export.disks import new_file, stream_link
from converter.export.settings import Export, Firmware, MachineSettings, PackageSettings
from converter.package.descriptor import encode_descriptor
from converter.package.manifest import encode_manifest
from converter.package.model import (
    Package,
    PackageDisk,
    PackageFile,
    SerialPort,
    portable_stem,
)
from converter.package.ova import HashedFile, OvaWriter
from converter.package.properties import property_sections
from converter.package.provenance import Subject
from converter.package.signing import Signer
from converter.vmdk.chain import open_chain
from converter.vmdk.compression import Compressor
from converter.vmdk.stream import GRAIN_BYTES
from converter.vmdk.writing import put

DESCRIPTOR_ENDING, MANIFEST_ENDING, CERTIFICATE_ENDING = ".ovf", ".mf", ".cert"
_LARGEST = 10**15  # more digits than any file's size has
_SHA256_DIGITS = 64
_COPY_BYTES = 1 << 20


def write_ovf(export: Export, folder: Path, monitor: Monitor) -> None:
    """Fill `folder` with NAME.ovf and its files.

    Raises UsageError, IntegrityError for a damaged link, and as the signer does.
    """
    _write(export, lambda _front: _Folder(folder, is_private=_has_key(export)), monitor)


def write_ova(export: Export, folder: Path, monitor: Monitor) -> None:
    """Fill `folder` with one OVA. Raises as `write_ovf`, SaltflatError for a disk of 8 GiB."""
    with new_file(folder / export.file_name, is_private=_has_key(export)) as file:
        _write(export, lambda front: OvaWriter(file, front), monitor)


class _Target(Protocol):
    """Where a package's files go: first those behind the front, in order, then the front."""

    def member(self, name: str) -> AbstractContextManager[HashedFile]:
        """Return where the next file's content goes."""

    def finish(self, contents: Sequence[tuple[str, bytes]]) -> None:
        """Write the front."""


class _Folder:
    """A package's files side by side; the front is for its owner alone if it `is_private`."""

    def __init__(self, folder: Path, *, is_private: bool) -> None:
        self._folder = folder
        self._is_private = is_private

    @contextmanager
    def member(self, name: str) -> Iterator[HashedFile]:
        with new_file(self._folder / name) as file:
            yield HashedFile(file)

    def finish(self, contents: Sequence[tuple[str, bytes]]) -> None:
        for name, content in contents:
            with new_file(self._folder / name, is_private=self._is_private) as file:
                put(file, content)


class _Front:
    """The files in front of a package's others, whose sizes are known before those are."""

    def __init__(self, planned: Package, stem: str, signer: Signer | None) -> None:
        """Take `planned`, in which every number has at least as many digits as it will have."""
        self._signer = signer
        self._descriptor, self._manifest, self._certificate = (
            f"{stem}{ending}" for ending in (DESCRIPTOR_ENDING, MANIFEST_ENDING, CERTIFICATE_ENDING)
        )
        names = [self._descriptor, *(file.name for file in planned.files)]
        manifest = encode_manifest((name, "0" * _SHA256_DIGITS) for name in names)
        self.sizes = [
            (self._descriptor, len(encode_descriptor(planned))),
            (self._manifest, len(manifest)),
        ]
        if signer is not None:
            self.sizes.append((self._certificate, signer.length(self._manifest)))

    def encode(self, package: Package, digests: Mapping[str, str]) -> list[tuple[str, bytes]]:
        """Return names and contents for `package`, whose files have `digests`, SHA-256 in hex."""
        descriptor = encode_descriptor(package, length=self.sizes[0][1])
        own = (self._descriptor, hashlib.sha256(descriptor).hexdigest())
        manifest = encode_manifest(
            [own, *((file.name, digests[file.name]) for file in package.files)]
        )
        contents = [(self._descriptor, descriptor), (self._manifest, manifest)]
        if self._signer is not None:
            signature = self._signer.sign(self._manifest, manifest)
            contents.append((self._certificate, signature))
        return contents


def _write(
    export: Export, open_target: Callable[[list[tuple[str, int]]], _Target], monitor: Monitor
) -> None:
    machine, settings = export.machine, export.package
    if machine is None or settings is None:
        raise AssertionError("an export of a package without its settings")
    named = replace(export, file_name=f"{portable_stem(export.stem)}{DESCRIPTOR_ENDING}")
    planned = _plan(export.stem, named, machine, settings)
    front = _Front(planned, named.stem, settings.signer)
    target = open_target(front.sizes)
    digests: dict[str, str] = {}
    disks = []
    if machine.boots_from_disk:
        boot = planned.disks[0]
        with target.member(boot.file.name) as file:
            _copy(machine.boot_medium, file)
        digests[boot.file.name] = file.sha256
        disks.append(replace(boot, file=_placed(boot.file, file)))
    subjects = []
    with Compressor(export.codec, threads=export.threads) as compressor:
        for number, disk in enumerate(planned.disks[len(disks) :]):
            link = number if settings.is_delta else None
            with target.member(disk.file.name) as file:
                summary = stream_link(
                    export.source,
                    link,
                    cast("BinaryIO", file),
                    name=disk.file.name,
                    parent=disk.parent,
                    compressor=compressor,
                    monitor=monitor,
                )
            digests[disk.file.name] = file.sha256
            subjects.append(Subject(disk.file.name, file.sha256))
            populated = summary.grains * GRAIN_BYTES
            disks.append(replace(disk, file=_placed(disk.file, file), populated_bytes=populated))
    boot_iso = planned.boot_iso
    if boot_iso is not None:
        with target.member(boot_iso.name) as file:
            _copy(machine.boot_medium, file)
        digests[boot_iso.name] = file.sha256
        boot_iso = _placed(boot_iso, file)
    others = []
    for other, (name, data) in zip(
        planned.others, companions(named, subjects, codec_counts=True), strict=True
    ):
        with target.member(name) as file:
            file.write(data)
        digests[name] = file.sha256
        others.append(_placed(other, file))
    package = replace(planned, disks=disks, boot_iso=boot_iso, others=others)
    target.finish(front.encode(package, digests))


def _plan(name: str, named: Export, machine: MachineSettings, settings: PackageSettings) -> Package:
    """Return the package with no less than what its sizes will be."""
    source, stem = named.source, named.stem
    count = len(source.links) if settings.is_delta else 1
    names = [f"{stem}-disk{number}.vmdk" for number in range(1, count + 1)]
    boot_iso = None if machine.boots_from_disk else f"{stem}-boot.iso"
    serial_ports = [SerialPort(concentrator=machine.serial)]
    if machine.serial_log:
        serial_ports.append(SerialPort(file_name=f"{stem}-console.log"))
    image = source.image
    lines = (image.reference, str(image.digest), str(image.platform), f"saltflat {__version__}")
    return Package(
        name=name,
        product=image.reference,
        version=str(image.digest),
        annotation="\n".join(lines),
        memory_mib=machine.memory_mib,
        processors=machine.processors,
        is_efi=machine.firmware is Firmware.EFI,
        disks=[
            *([_boot_disk(stem, machine.boot_medium)] if machine.boots_from_disk else ()),
            *(
                PackageDisk(
                    file=_largest(disk),
                    capacity_bytes=source.capacity_bytes,
                    populated_bytes=source.capacity_bytes,
                    parent=parent,
                )
                for disk, parent in zip(names, [None, *names[:-1]], strict=True)
            ),
        ],
        boot_iso=None if boot_iso is None else _largest(boot_iso),
        others=[_largest(other) for other, _ in companions(named, [], codec_counts=True)],
        networks=[settings.network],
        serial_ports=serial_ports,
        sections=property_sections(_without_addresses(machine.document), asked=settings.variables),
    )


def _boot_disk(stem: str, medium: Path) -> PackageDisk:
    """Return the disk that the machine starts from, which is copied as it is."""
    with open_chain(medium) as chain:
        return PackageDisk(
            file=_largest(f"{stem}-boot.vmdk"),
            capacity_bytes=chain.capacity_bytes,
            populated_bytes=sum(chain.grain_bytes for _ in chain.grains()),
        )


def _largest(name: str) -> PackageFile:
    return PackageFile(name=name, size_bytes=_LARGEST)


def _without_addresses(document: bytes) -> Mapping[str, Any]:
    """Return the guest's document for adapters whose addresses a hypervisor gives."""
    loaded: dict[str, Any] = json.loads(document)
    for interface in (loaded.get("network") or {}).get("interfaces", ()):
        interface.pop("mac", None)
    return loaded


def _copy(path: Path, file: HashedFile) -> None:
    with path.open("rb") as source:
        shutil.copyfileobj(source, file, _COPY_BYTES)


def _has_key(export: Export) -> bool:
    return export.machine is not None and export.machine.has_key


def _placed(planned: PackageFile, file: HashedFile) -> PackageFile:
    return replace(planned, size_bytes=file.size_bytes)
