"""From a reference's root document to one platform's image. Pure: reading is an argument.

Sources differ in where documents lie; which manifest is chosen, and what is refused, is the same
for all of them and is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from converter.errors import IntegrityError, NotFoundError, UsageError
from converter.image import c_oci as c
from converter.image.digest import Digest
from converter.image.documents import pair_layers, parse_config, parse_document
from converter.image.model import Descriptor, Image, Index, Manifest
from converter.image.platform import Platform
from converter.image.verify import verified

ReadDocument = Callable[[Descriptor], bytes]  # what the descriptor points to, not yet verified

# Real ones have one level below the root's, with one or two indexes. Digests make circles
# impossible; what is bounded is how many requests a hostile one can cost.
MAX_NESTED_INDEXES = 16
MAX_INDEX_DEPTH = 4  # of indexes one in the other, the root included
_OUR_OS = "linux"
_PLATFORMS_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Root:
    """The document that a reference names. `media_type` is None if its carrier did not say."""

    raw: bytes
    digest: Digest
    media_type: str | None


def resolve_image(reference: str, root: Root, platform: Platform, read: ReadDocument) -> Image:
    """Find the image for `platform` that `root` stands for; `read` fetches documents by descriptor.

    Raises NotFoundError with what there is if no platform fits, UsageError for what is not a Linux
    image, IntegrityError for wrong or malformed documents, and whatever `read` raises.
    """
    if platform.os != _OUR_OS:
        raise UsageError(
            f"An image for {platform} cannot become a virtual machine here.",
            expected=f"a platform whose operating system is {_OUR_OS}",
        )
    document = parse_document(root.raw, root.media_type, what=f"The manifest of {reference}")
    if isinstance(document, Manifest):
        return _image(reference, root, document, read, wanted=platform, listed=None)
    entry = choose(reference, document, platform, read)
    raw = read_document(entry, read)
    manifest = parse_document(raw, entry.media_type, what=f"Manifest {entry.digest}")
    assert isinstance(manifest, Manifest), "an entry's media type decides, and we chose a manifest"
    chosen = Root(raw, entry.digest, entry.media_type)
    return _image(reference, chosen, manifest, read, wanted=platform, listed=entry.platform)


def choose(reference: str, index: Index, platform: Platform, read: ReadDocument) -> Descriptor:
    """Return the manifest for `platform` of the index, or of the indexes that it lists.

    An index is preferred to those within it; of one index's manifests, the best variant, then the
    first. Raises NotFoundError that lists the platforms there are, IntegrityError for too many
    indexes or too deep ones.
    """
    entries: list[Descriptor] = []
    for level in _levels(reference, index, read):
        for listed in level:
            found = _fitting(listed.manifests, platform)
            if found is not None:
                return found
            entries += listed.manifests
    unnamed = {entry for entry in entries if _is_manifest(entry) and entry.platform is None}
    if len(unnamed) == 1:  # its configuration will tell
        return unnamed.pop()
    available = sorted({str(entry.platform) for entry in entries if _is_image(entry)})
    raise NotFoundError(
        f"{reference} has no image for {platform}.",
        expected=f"one of: {', '.join(available[:_PLATFORMS_SHOWN])}" if available else None,
        hint="Choose another with --platform." if available else "Its index lists no images.",
    )


def read_document(descriptor: Descriptor, read: ReadDocument) -> bytes:
    """Return a document's verified bytes. Raises IntegrityError, and whatever `read` raises."""
    if descriptor.size_bytes > c.MAX_DOCUMENT_BYTES:
        raise IntegrityError(
            f"Document {descriptor.digest} is to be {descriptor.size_bytes} bytes long.",
            expected=f"at most {c.MAX_DOCUMENT_BYTES}",
        )
    return b"".join(verified([read(descriptor)], descriptor))


def _fitting(entries: Iterable[Descriptor], platform: Platform) -> Descriptor | None:
    images = [entry for entry in entries if _is_image(entry)]
    for accepted in platform.accepted():
        for entry in images:
            if entry.platform == accepted:
                return entry
    return None


def _is_manifest(entry: Descriptor) -> bool:
    return entry.media_type in c.MANIFEST_TYPES


def _is_image(entry: Descriptor) -> bool:
    return _is_manifest(entry) and entry.platform is not None and entry.platform.os != c.UNKNOWN_OS


def _levels(reference: str, index: Index, read: ReadDocument) -> Iterator[list[Index]]:
    """Yield the index, then the indexes that it lists, then those that these list, and so on."""
    level = [index]
    seen: set[Digest] = set()
    for _ in range(MAX_INDEX_DEPTH):
        yield level
        nested = {
            entry.digest: entry
            for listed in level
            for entry in listed.manifests
            if entry.media_type in c.INDEX_TYPES and entry.digest not in seen
        }
        if not nested:
            return
        seen |= nested.keys()
        if len(seen) > MAX_NESTED_INDEXES:
            raise IntegrityError(
                f"The index of {reference} lists {len(seen)} further indexes.",
                expected=f"at most {MAX_NESTED_INDEXES}",
            )
        level = [_index(entry, read) for entry in nested.values()]
    raise IntegrityError(
        f"The index of {reference} nests too deeply.",
        expected=f"at most {MAX_INDEX_DEPTH} indexes, one in the other",
    )


def _index(entry: Descriptor, read: ReadDocument) -> Index:
    raw = read_document(entry, read)
    document = parse_document(raw, entry.media_type, what=f"Index {entry.digest}")
    assert isinstance(document, Index), "an entry's media type decides, and it is an index's"
    return document


def _image(
    reference: str,
    root: Root,
    manifest: Manifest,
    read: ReadDocument,
    *,
    wanted: Platform,
    listed: Platform | None,
) -> Image:
    config_raw = read_document(manifest.config, read)
    config = parse_config(config_raw, what=f"The configuration of {reference}")
    if config.platform.os != _OUR_OS:
        raise UsageError(
            f"{reference} is an image for {config.platform}.", expected=f"an image for {_OUR_OS}"
        )
    # An index has the last word on its images: many an arm image was built with amd64 in its
    # configuration, and every other engine runs it.
    if listed is None and config.platform not in wanted.accepted():
        raise NotFoundError(
            f"{reference} has no image for {wanted}.",
            expected=f"{config.platform}, the only one there is",
            hint=f"Choose it with --platform {config.platform}.",
        )
    return Image(
        reference=reference,
        digest=root.digest,
        platform=listed or config.platform,
        manifest=manifest,
        manifest_raw=root.raw,
        config=config,
        config_raw=config_raw,
        layers=pair_layers(manifest, config, what=reference),
    )
