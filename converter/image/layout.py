"""Images in an OCI image layout, a folder's or an archive's. (image-spec image-layout.md)

It may come from anywhere: names of blobs are built from parsed digests only, so that no name in it
can lead us astray.
"""

from __future__ import annotations

from dataclasses import replace

from converter.errors import IntegrityError, NotFoundError, UsageError
from converter.image import c_oci as c
from converter.image.documents import parse_document, parse_layout_marker
from converter.image.files import Content, Files
from converter.image.json_object import shown
from converter.image.model import Descriptor, Image, Index
from converter.image.platform import Platform
from converter.image.reference import LayoutArchiveReference, LayoutReference
from converter.image.resolve import Root, choose, read_document, resolve_image
from converter.image.sink import CheckedSink, copy_into

_NAMES_SHOWN = 20


class LayoutSource:
    """Read one image from the layout in `files`, which the caller keeps open."""

    def __init__(self, reference: LayoutReference | LayoutArchiveReference, files: Files) -> None:
        self.reference = reference
        self._files = files

    def resolve(self, platform: Platform) -> Image:
        """Find the image for `platform`. Raises NotFoundError, IntegrityError, UsageError."""
        place = self._files.place
        marker = self._own(c.LAYOUT_FILE)
        parse_layout_marker(marker, what=f"{place}/{c.LAYOUT_FILE}")
        raw = self._own(c.LAYOUT_INDEX)
        index = parse_document(raw, c.OCI_INDEX, what=f"{place}/{c.LAYOUT_INDEX}")
        assert isinstance(index, Index), "the media type that we gave decides"
        entry = self._entry(index, platform)
        root = Root(read_document(entry, self._read), entry.digest, entry.media_type)
        return resolve_image(str(self.reference), root, platform, self._read)

    def receive(self, descriptor: Descriptor, into: CheckedSink) -> None:
        """Copy the blob into `into` and check it. Raises NotFoundError, IntegrityError."""
        copy_into(self._blob(descriptor), into)

    def hang_up(self) -> None:
        """Do nothing: files are not waited for."""

    def local_blob(self, descriptor: Descriptor) -> Content | None:
        """Return the blob where it lies: of the right size, not verified.

        Raises NotFoundError, IntegrityError.
        """
        content = self._blob(descriptor)
        if content.size_bytes != descriptor.size_bytes:
            raise IntegrityError(
                f"Blob {descriptor.digest} is {content.size_bytes} bytes long.",
                expected=f"{descriptor.size_bytes} bytes",
            )
        return content

    def _entry(self, index: Index, platform: Platform) -> Descriptor:
        tag = self.reference.tag
        found = [entry for entry in index.manifests if tag is None or tag in _names(entry)]
        if len(found) == 1:
            return found[0]
        # One name for several platforms is a flat form of an index; several names are a choice.
        names = sorted({_names(entry)[0] for entry in found})
        if found and len(names) == 1:
            flat = Index(index.media_type, tuple(found))
            return choose(str(self.reference), flat, platform, self._read)
        if found:
            what = f"{self.reference} holds" if tag is None else f"{self.reference} may be any of"
            raise UsageError(
                f"{what} {len(found)} images.",
                expected=f"one of the tags: {', '.join(map(shown, names[:_NAMES_SHOWN]))}",
                hint=f"Name one: {replace(self.reference, tag=None)}:TAG.",
            )
        tags = sorted({_names(entry)[0] for entry in index.manifests} - {""})
        raise NotFoundError(
            f"{self.reference} was not found: the layout has no such image.",
            expected=f"one of the tags: {', '.join(map(shown, tags[:_NAMES_SHOWN]))}"
            if tags
            else None,
        )

    def _read(self, descriptor: Descriptor) -> bytes:
        return self._blob(descriptor).head(c.MAX_DOCUMENT_BYTES + 1)

    def _own(self, name: str) -> bytes:
        """Return one of the layout's own two documents."""
        content = self._files.find(name)
        if content is not None:
            return content.head(c.MAX_DOCUMENT_BYTES + 1)
        docker = self._files.find(c.DOCKER_ARCHIVE_MANIFEST) is not None
        raise NotFoundError(
            f"{self._files.place} is not an OCI image layout: it has no {name}.",
            expected=f"{self._files.kind} with {c.LAYOUT_FILE}, {c.LAYOUT_INDEX} "
            f"and {c.LAYOUT_BLOBS}",
            hint=f"It has a {c.DOCKER_ARCHIVE_MANIFEST}: name it docker-archive:FILE."
            if docker
            else None,
        )

    def _blob(self, descriptor: Descriptor) -> Content:
        digest = descriptor.digest
        name = f"{c.LAYOUT_BLOBS}/{digest.algorithm}/{digest.encoded}"
        content = self._files.find(name)
        if content is None:
            raise NotFoundError(f"{self._files.place} has no blob {digest}.")
        return content


def _names(entry: Descriptor) -> tuple[str, ...]:
    """Return the names of an entry of index.json, the most telling first.

    containerd, and docker with it, writes the tag alone as the layout's own annotation, and the
    whole name in another.
    """
    annotations = entry.annotations
    keys = (c.ANNOTATION_CONTAINERD_NAME, c.ANNOTATION_REF_NAME)
    return tuple(annotations[key] for key in keys if annotations.get(key)) or ("",)
