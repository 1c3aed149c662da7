"""Make the media of a boot image. Owns the steps' order, and that a medium is whole or absent.

Works as any user: nothing is mounted. The same boot image, packages and command line give the same
bytes, unless something signs them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from converter.atomic import sync_directory, temp_directory, write_atomic
from converter.errors import IntegrityError, UsageError
from converter.events import Monitor, StepFinished, StepStarted
from converter.vmdk.content_id import content_id, long_content_id
from converter.vmdk.sparse import LinkWriter
from converter.vmdk.stream import GRAIN_BYTES, StreamWriter
from tinykernel.deb import open_deb
from tinykernel.media.disk import write_boot_disk
from tinykernel.media.esp import write_esp
from tinykernel.media.iso import BiosLoader, write_iso
from tinykernel.media.record import (
    MEDIA_FOLDER,
    RECORD_FILE,
    Kind,
    Media,
    Medium,
    digest_of,
    load_media,
)
from tinykernel.media.sign import sign
from tinykernel.media.uki import unified_kernel
from tinykernel.packages import PackageSet
from tinykernel.record import BootImage

# ttyS0 is the data line, ttyS1 the console. After a panic the machine starts again, finds that its
# configuration has been erased, and switches off: an end, and not a processor that spins.
COMMAND_LINE = "console=ttyS1 quiet loglevel=4 panic=-1 no_timer_check cryptomgr.notests"

_STUB = ("systemd-boot-efi", "usr/lib/systemd/boot/efi/linuxx64.efi.stub")
_ISOLINUX = ("isolinux", "usr/lib/ISOLINUX/isolinux.bin")
_LDLINUX = ("syslinux-common", "usr/lib/syslinux/modules/bios/ldlinux.c32")
_COMMAND_LINE_SIZE = 2048  # x86's, with the zero at its end
_ESP, _DISK = "esp.img", "disk.img"


@dataclass(frozen=True, slots=True)
class _Recipe:
    """Everything but the kinds that decides what the media are."""

    image: BootImage
    command_line: str
    stub: bytes
    loader: BiosLoader

    def identity(self) -> str:
        """Return a hash of what can change a byte of any medium."""
        builder = sorted(Path(__file__).parent.glob("*.py"))
        parts = [self.stub, self.loader.isolinux, self.loader.ldlinux]
        document = {
            "kernel": self.image.kernel_sha256,
            "initrd": self.image.initrd_sha256,
            "command_line": self.command_line,
            "parts": [hashlib.sha256(part).hexdigest() for part in parts],
            "builder": {path.name: digest_of(path) for path in builder},
        }
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def build_media(
    image: BootImage,
    kinds: Collection[Kind],
    packages: PackageSet,
    *,
    monitor: Monitor,
    extra_arguments: str = "",
    signing_command: tuple[str, ...] | None = None,
) -> tuple[Medium, ...]:
    """Make media of `image` in its folder, or find them made; return those of `kinds`, in order.

    `extra_arguments` are added to the kernel's command line. With a `signing_command`
    (`sign.split_command`) the executable is signed wherever it is, and nothing counts as made.
    Raises UnavailableError when a package cannot be fetched, NotFoundError when a program lacks,
    SaltflatError when one fails, OSError.
    """
    recipe = _recipe(image, packages, full_command_line(extra_arguments))
    step = "build media"
    monitor(StepStarted(step))
    inputs = recipe.identity()
    kept = {} if signing_command is not None else _kept(image, inputs)
    lacking = [kind for kind in Kind if kind in kinds and kind not in kept]
    if lacking:
        kept.update(_make(recipe, lacking, signing_command, beside=kept))
        media = Media(
            inputs=inputs,
            command_line=recipe.command_line,
            signed=signing_command is not None,
            media=tuple(kept[kind] for kind in Kind if kind in kept),
        )
        write_atomic(image.folder / MEDIA_FOLDER / RECORD_FILE, media.encode())
    monitor(StepFinished(step, "" if lacking else "cached"))
    return tuple(kept[kind] for kind in Kind if kind in kinds)


def full_command_line(extra_arguments: str) -> str:
    """Return the kernel's command line with these arguments. Raises UsageError."""
    line = f"{COMMAND_LINE} {extra_arguments}".strip()
    if not (line.isascii() and line.isprintable() and len(line) < _COMMAND_LINE_SIZE):
        raise UsageError(
            f"The kernel's command line cannot have {extra_arguments[:100]!r} added.",
            expected=f"printable ASCII on one line, fewer than {_COMMAND_LINE_SIZE} bytes in all",
        )
    return line


def _recipe(image: BootImage, packages: PackageSet, command_line: str) -> _Recipe:
    def file_of(package: str, path: str) -> bytes:
        archive = packages.path(packages.fetch(package))
        with open_deb(archive, scratch_dir=packages.folder) as deb:
            return deb.read(path)

    loader = BiosLoader(isolinux=file_of(*_ISOLINUX), ldlinux=file_of(*_LDLINUX))
    return _Recipe(image, command_line, file_of(*_STUB), loader)


def _kept(image: BootImage, inputs: str) -> dict[Kind, Medium]:
    """Return the media that are there and would come out the same."""
    try:
        media = load_media(image)
    except IntegrityError:
        return {}
    if media is None or media.inputs != inputs or media.signed:
        return {}
    return {medium.kind: medium for medium in media.media}


def _make(
    recipe: _Recipe,
    kinds: Iterable[Kind],
    signing_command: tuple[str, ...] | None,
    *,
    beside: Collection[Kind],
) -> dict[Kind, Medium]:
    """Make media under temporary names, then give them theirs; others but those `beside` go."""
    image = recipe.image
    folder = image.folder / MEDIA_FOLDER
    folder.mkdir(exist_ok=True)
    temp = temp_directory(folder / MEDIA_FOLDER)
    try:
        executable = _executable(recipe, temp, signing_command)
        write_esp(executable, temp / _ESP)
        made = {}
        for kind in kinds:
            path = temp / kind.file_name
            _make_one(kind, recipe, temp, path)
            made[kind] = Medium(kind, folder / path.name, digest_of(path), path.stat().st_size)
        # What was made before of other inputs must not stay under a record of these.
        (folder / RECORD_FILE).unlink(missing_ok=True)
        for kind in Kind:
            if kind in made:
                (temp / kind.file_name).rename(folder / kind.file_name)
            elif kind not in beside:
                (folder / kind.file_name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    sync_directory(folder)
    return made


def _executable(recipe: _Recipe, temp: Path, signing_command: tuple[str, ...] | None) -> Path:
    image = recipe.image
    executable = temp / Kind.UKI.file_name
    unsigned = executable if signing_command is None else temp / "unsigned.efi"
    unsigned.write_bytes(
        unified_kernel(
            recipe.stub,
            kernel=image.kernel.read_bytes(),
            initrd=image.initrd.read_bytes(),
            command_line=recipe.command_line,
            release=f'ID=saltflat\nNAME="saltflat"\nVERSION_ID={image.id[:12]}\n',
            uname=image.kernel_version,
        )
    )
    if signing_command is not None:
        sign(unsigned, executable, signing_command)
    return executable


def _make_one(kind: Kind, recipe: _Recipe, temp: Path, target: Path) -> None:
    """Make one medium at `target`; the executable and the ESP are in `temp`, others come there."""
    if kind is Kind.ISO:
        write_iso(
            target,
            esp=temp / _ESP,
            kernel=recipe.image.kernel,
            initrd=recipe.image.initrd,
            command_line=recipe.command_line,
            loader=recipe.loader,
        )
    elif kind is not Kind.UKI:
        disk = temp / _DISK
        if not disk.exists():
            write_boot_disk(temp / _ESP, disk)
        _write_vmdk(kind, disk, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _write_vmdk(kind: Kind, disk: Path, target: Path) -> None:
    identity = digest_of(disk)
    size = disk.stat().st_size
    writer_of = StreamWriter if kind is Kind.STREAM else LinkWriter
    with disk.open("rb") as content, target.open("xb", buffering=0) as file:
        writer = writer_of(
            file,
            capacity_bytes=size,
            cid=content_id(identity),
            long_content_id=long_content_id(identity),
            parent=None,
            file_name=target.name,
        )
        offset = 0
        while chunk := content.read(16 * GRAIN_BYTES):
            writer.write(offset, chunk)
            offset += len(chunk)
        writer.finish()
