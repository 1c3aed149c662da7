"""What the names of registries' images stood for when they were last asked for.

A name and platform stand in `cache/names/<sha256 of both>.json`, with the digest of the manifest:
it can be found out again, from the registry. Images that other names have too keep them, and a tag
that moves is written over. Owns these files; whether the image's links are here is not its matter.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from converter.atomic import make_directory, write_atomic
from converter.errors import SaltflatError, UsageError
from converter.image.digest import Digest
from converter.image.fetch import blob_path
from converter.image.model import Descriptor, Image
from converter.image.platform import Platform
from converter.image.reference import RegistryReference, parse_source
from converter.image.resolve import Root, resolve_image
from converter.store.layout import Store

_FOLDER = "names"


def remember_name(store: Store, image: Image) -> None:
    """Let the name that `image` was asked for by stand for it, if it is a registry's.

    To be called once the image's documents are in the store. Raises OSError.
    """
    if not _is_of_registry(image.reference):
        return
    path = _path(store, image.reference, image.platform)
    document = {
        "digest": str(image.digest),
        "platform": str(image.platform),
        "reference": image.reference,
        "schema": 1,
    }
    raw = json.dumps(document, sort_keys=True, indent=1).encode() + b"\n"
    if not path.is_file() or path.read_bytes() != raw:
        make_directory(path.parent)
        write_atomic(path, raw)


def image_by_name(store: Store, reference: RegistryReference, platform: Platform) -> Image | None:
    """Return the image that `reference` stood for when it was last converted or run.

    None unless there is one for `platform` whose documents are here and whole.
    """

    def read(descriptor: Descriptor) -> bytes:
        return blob_path(store.blobs, descriptor.digest).read_bytes()

    for accepted in platform.accepted():
        # Whatever is wrong with what is here, who asks the registry gets what is right.
        with suppress(OSError, SaltflatError, ValueError, KeyError, TypeError, RecursionError):
            digest = _digest(_path(store, str(reference), accepted))
            raw = blob_path(store.blobs, digest).read_bytes()
            if Digest.of(raw) == digest:
                return resolve_image(str(reference), Root(raw, digest, None), platform, read)
    return None


def forget_names(store: Store) -> None:
    """Delete the names of images that are gone. To be called by who has the store alone."""
    for path in sorted((store.cache / _FOLDER).glob("*.json")):
        try:
            is_here = blob_path(store.blobs, _digest(path)).is_file()
        except (ValueError, KeyError, TypeError, RecursionError):
            is_here = False  # it can be found out again
        if not is_here:
            path.unlink(missing_ok=True)


def _is_of_registry(reference: str) -> bool:
    try:
        parsed = parse_source(reference)
    except UsageError:
        return False
    return isinstance(parsed, RegistryReference) and str(parsed) == reference


def _path(store: Store, reference: str, platform: Platform) -> Path:
    key = hashlib.sha256(f"{reference}\n{platform}".encode()).hexdigest()
    return store.cache / _FOLDER / f"{key}.json"


def _digest(path: Path) -> Digest:
    return Digest.parse(json.loads(path.read_bytes())["digest"])
