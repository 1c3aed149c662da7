"""Images by the names that they were last asked for, out of the store alone. Asks no network.

What a tag stands for may have changed in its registry meanwhile: whoever looks here wants what is
here, as `docker run` does.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from converter.errors import SaltflatError
from converter.image.digest import Digest
from converter.image.fetch import blob_path
from converter.image.model import Descriptor, Image
from converter.image.platform import Platform
from converter.image.reference import RegistryReference
from converter.image.resolve import Root, resolve_image
from converter.store.images import ImageRecord, read_image_record
from converter.store.layout import Store


def image_at_hand(store: Store, reference: RegistryReference, platform: Platform) -> Image | None:
    """Return the image that `reference` stood for when it was last converted or run.

    None unless there is one for `platform` whose documents are here and whole. Whether its links
    are here too is the caller's to find out, while the store is in use.
    """
    record = _last_used(reference, platform, store)
    if record is None:
        return None

    def read(descriptor: Descriptor) -> bytes:
        return blob_path(store.blobs, descriptor.digest).read_bytes()

    digest = Digest.parse(record.digest)
    try:
        raw = blob_path(store.blobs, digest).read_bytes()
        if Digest.of(raw) != digest:
            return None
        return resolve_image(record.reference, Root(raw, digest, None), platform, read)
    except (OSError, SaltflatError):
        return None  # whoever asks the registry gets what is right


def _last_used(
    reference: RegistryReference, platform: Platform, store: Store
) -> ImageRecord | None:
    wanted = {str(accepted) for accepted in platform.accepted()}
    found: list[tuple[int, str, ImageRecord]] = []
    for path in store.images.glob("*.json"):
        with suppress(OSError, SaltflatError):  # a damaged record is `store verify`'s to tell
            record = read_image_record(path)
            if record.reference == str(reference) and record.platform in wanted:
                found.append((_used_ns(path), path.name, record))
    return max(found, key=lambda each: each[:2])[2] if found else None


def _used_ns(path: Path) -> int:
    return path.stat().st_mtime_ns
