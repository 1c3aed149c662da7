"""Boot images in the store, and which of them machines start with."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from converter.atomic import TEMP_PREFIX, write_atomic
from converter.errors import NotFoundError, SaltflatError, UsageError
from converter.image.platform import Platform
from converter.store.layout import Store
from tinykernel.record import BootImage, load_boot_image, protocol_fault, read_record

_ID = re.compile(r"[0-9a-f]{64}")
_SHORT_ID = 12  # digits of an id in a message
_DEFAULT_FILE = "default"  # holds the id of the image that was built last


def list_boot_images(store: Store) -> list[BootImage]:
    """Return every sound boot image, sorted by id. Damaged ones are left out."""
    images = []
    for folder in sorted(store.boot.iterdir()):
        if folder.is_dir() and not folder.name.startswith(TEMP_PREFIX):
            with suppress(SaltflatError):
                images.append(load_boot_image(folder))
    return images


def find_boot_folder(store: Store, name: str | None) -> Path:
    """Return the folder of the boot image `name`, sound or not; of the default one if None.

    A name is an id, the beginning of one, or a kernel's flavour, with -debug for a debug image.
    Raises NotFoundError, UsageError when several images are called so.
    """
    make = "Make one with: saltflat boot build"
    wanted = default_boot_id(store) if name is None else name
    if not wanted:
        raise NotFoundError("There is no boot image in the store.", hint=make)
    folders = [path for path in sorted(store.boot.iterdir()) if _ID.fullmatch(path.name)]
    found = [path for path in folders if path.name.startswith(wanted)]
    found = found or [path for path in folders if _kind(path) == wanted]
    if not found:
        raise NotFoundError(
            f"There is no boot image {wanted} in the store.",
            expected="an id, the beginning of one, or a kernel: see saltflat boot list",
            hint=make,
        )
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} boot images in the store are called {wanted}.",
            expected=f"one of {', '.join(path.name[:_SHORT_ID] for path in found)}",
        )
    return found[0]


def _kind(folder: Path) -> str | None:
    try:
        return read_record(folder).name
    except SaltflatError:
        return None


def set_default(store: Store, image: BootImage) -> None:
    """Let machines start with `image` from now on."""
    write_atomic(store.boot / _DEFAULT_FILE, image.id.encode() + b"\n")


def default_boot_id(store: Store) -> str | None:
    """Return the id of the image that machines start with, be it there or not; None if unset."""
    try:
        return (store.boot / _DEFAULT_FILE).read_text("ascii").strip()
    except FileNotFoundError:
        return None


def default_boot_image(store: Store) -> BootImage | None:
    """Return the image that machines start with, or None if none was built yet.

    Raises IntegrityError if it is damaged.
    """
    identity = default_boot_id(store)
    try:
        return None if identity is None else load_boot_image(store.boot / identity)
    except NotFoundError:
        return None


def boot_image_for(store: Store, platform: Platform, name: str | None = None) -> BootImage:
    """Return the boot image for machines of `platform`; the one called `name`, or the default.

    Raises NotFoundError with the way out, UsageError when several are called so, IntegrityError for
    one that is damaged, or that we cannot talk to.
    """
    if name is None:
        image = default_boot_image(store)
    else:
        image = load_boot_image(find_boot_folder(store, name))
    if image is None:
        raise NotFoundError(
            "There is no boot image in the store.", hint="Make one with: saltflat boot build"
        )
    if image.arch != platform.architecture:
        raise NotFoundError(
            f"There is no boot image for {platform}.",
            expected=f"an image for linux/{image.arch}, the architecture of the boot image",
            hint=f"Run the image's own variant for it: --platform linux/{image.arch}",
        )
    if (fault := protocol_fault(image.id, image.protocol)) is not None:
        raise fault
    return image
