"""The boot image that a bundle is meant to start with: what bundle.json says of one.

Owns that record, and whether an image is the one. A bundle names it and does not hold it: hosts
have boot images for all their bundles together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from converter.errors import IntegrityError, NotFoundError
from converter.image.platform import Platform
from converter.store.bootimages import boot_image_for, find_boot_folder
from converter.store.layout import Store
from tinykernel.record import BootImage, load_boot_image, protocol_fault

_DIGEST = re.compile(r"[0-9a-f]{64}")
_OTHER = "saltflat run --boot KERNEL starts the bundle with another boot image"


@dataclass(frozen=True, slots=True)
class BundleBoot:
    """A boot image by its identity: `id` is of what it was made of, the digests of what it is."""

    id: str
    kernel: str
    kernel_version: str
    kernel_sha256: str
    initrd_sha256: str
    protocol: int

    @classmethod
    def of(cls, image: BootImage) -> BundleBoot:
        """Return what a bundle says of `image`."""
        return cls(
            id=image.id,
            kernel=image.name,
            kernel_version=image.kernel_version,
            kernel_sha256=image.kernel_sha256,
            initrd_sha256=image.initrd_sha256,
            protocol=image.protocol,
        )

    @classmethod
    def parse(cls, document: dict[str, Any] | None) -> BundleBoot | None:
        """Read bundle.json's `boot`. Raises KeyError, TypeError or ValueError where it is none."""
        if document is None:
            return None
        kernel, initrd = document["kernel"], document["initrd"]
        digests = document["id"], kernel["sha256"], initrd["sha256"]
        if not all(isinstance(one, str) and _DIGEST.fullmatch(one) for one in digests):
            raise ValueError(f"boot: {digests!r} are no digests")
        texts = kernel["flavour"], kernel["version"]
        if not all(isinstance(one, str) and one.isprintable() for one in texts):
            raise ValueError(f"boot: {texts!r} are no kernel")
        protocol = document["protocol"]
        if type(protocol) is not int:
            raise TypeError(f"boot: {protocol!r} is no protocol")
        return cls(digests[0], *texts, digests[1], digests[2], protocol)

    def to_json(self) -> dict[str, Any]:
        """Return bundle.json's `boot`."""
        return {
            "id": self.id,
            "kernel": {
                "flavour": self.kernel,
                "version": self.kernel_version,
                "sha256": self.kernel_sha256,
            },
            "initrd": {"sha256": self.initrd_sha256},
            "protocol": self.protocol,
        }


def bundle_boot(store: Store, name: str | None) -> BundleBoot | None:
    """Return what a new bundle is to say of the boot image `name`; nothing when that is None.

    Raises NotFoundError, UsageError when several are called so, IntegrityError for a damaged one.
    """
    return None if name is None else BundleBoot.of(load_boot_image(find_boot_folder(store, name)))


def bundle_boot_image(store: Store, platform: Platform, boot: BundleBoot) -> BootImage:
    """Return the boot image that `boot` names, from the store.

    Raises IntegrityError when it is of a protocol that we do not speak, or when the store's image
    of that id is another one, NotFoundError when the store has none, and as `boot_image_for`.
    """
    if (fault := protocol_fault(boot.id, boot.protocol)) is not None:
        raise fault
    try:
        image = boot_image_for(store, platform, boot.id)
    except NotFoundError as error:
        raise NotFoundError(
            f"The bundle is meant for the boot image {boot.id[:12]} (Linux {boot.kernel_version}, "
            f"{boot.kernel}), which the store does not have.",
            expected="it, by saltflat boot pull or boot build",
            hint=f"{_OTHER}.",
        ) from error
    if BundleBoot.of(image) != boot:
        raise IntegrityError(
            f"The store's boot image {boot.id[:12]} is not the one that the bundle was made with.",
            expected=f"kernel {boot.kernel_sha256}, initrd {boot.initrd_sha256}",
            hint=f"{_OTHER}.",
        )
    return image
