"""Images in an OCI image layout folder, read in place. (image-spec image-layout.md)

The folder may come from anywhere: blob names are built from parsed digests only, and nothing but
regular files is opened, so that neither a name nor a FIFO in it can lead us astray.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from converter.errors import IntegrityError, NotFoundError, UsageError
from converter.image import c_oci as c
from converter.image.documents import parse_document, parse_layout_marker
from converter.image.json_object import shown
from converter.image.model import Descriptor, Image, Index
from converter.image.platform import Platform
from converter.image.reference import LayoutReference
from converter.image.resolve import Root, choose, read_document, resolve_image

_CHUNK_BYTES = 256 << 10
_NAMES_SHOWN = 20


class LayoutSource:
    """Read one image from a layout folder. It holds nothing open between calls."""

    def __init__(self, reference: LayoutReference) -> None:
        self.reference = reference

    def resolve(self, platform: Platform) -> Image:
        """Find the image for `platform`. Raises NotFoundError, IntegrityError, UsageError."""
        folder = self.reference.path
        marker = self._document(folder / c.LAYOUT_FILE)
        parse_layout_marker(marker, what=f"{folder / c.LAYOUT_FILE}")
        raw = self._document(folder / c.LAYOUT_INDEX)
        index = parse_document(raw, c.OCI_INDEX, what=f"{folder / c.LAYOUT_INDEX}")
        assert isinstance(index, Index), "the media type that we gave decides"
        entry = self._entry(index, platform)
        root = Root(read_document(entry, self._read), entry.digest, entry.media_type)
        return resolve_image(str(self.reference), root, platform, self._read)

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Yield the blob's bytes, not yet verified. Raises NotFoundError, IntegrityError."""
        with _open_regular(self._path(descriptor)) as file:
            yield iter(lambda: file.read(_CHUNK_BYTES), b"")

    def local_blob(self, descriptor: Descriptor) -> Path | None:
        """Return the file that holds the blob: a regular file of the right size, not verified.

        Raises NotFoundError, IntegrityError.
        """
        path = self._path(descriptor)
        with _open_regular(path) as file:
            size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes != descriptor.size_bytes:
            raise IntegrityError(
                f"Blob {descriptor.digest} is {size_bytes} bytes long.",
                expected=f"{descriptor.size_bytes} bytes",
            )
        return path

    def _entry(self, index: Index, platform: Platform) -> Descriptor:
        tag = self.reference.tag
        found = [
            entry
            for entry in index.manifests
            if tag is None or entry.annotations.get(c.ANNOTATION_REF_NAME) == tag
        ]
        if len(found) == 1:
            return found[0]
        # One name for several platforms is a flat form of an index; several names are a choice.
        names = sorted({entry.annotations.get(c.ANNOTATION_REF_NAME, "") for entry in found})
        if found and len(names) == 1:
            flat = Index(index.media_type, tuple(found))
            return choose(str(self.reference), flat, platform, self._read)
        if tag is None and found:
            raise UsageError(
                f"{self.reference} holds {len(found)} images.",
                expected=f"one of the tags: {', '.join(map(shown, names[:_NAMES_SHOWN]))}",
                hint=f"Name one: {self.reference}:TAG.",
            )
        tags = sorted(
            {entry.annotations.get(c.ANNOTATION_REF_NAME, "") for entry in index.manifests} - {""}
        )
        raise NotFoundError(
            f"{self.reference} was not found: the layout has no such image.",
            expected=f"one of the tags: {', '.join(map(shown, tags[:_NAMES_SHOWN]))}"
            if tags
            else None,
        )

    def _read(self, descriptor: Descriptor) -> bytes:
        return self._document(self._path(descriptor))

    def _document(self, path: Path) -> bytes:
        try:
            with _open_regular(path) as file:
                return file.read(c.MAX_DOCUMENT_BYTES + 1)
        except NotFoundError:
            if path.parent != self.reference.path:
                raise
            raise NotFoundError(
                f"{self.reference.path} is not an OCI image layout: it has no {path.name}.",
                expected=f"a folder with {c.LAYOUT_FILE}, {c.LAYOUT_INDEX} and {c.LAYOUT_BLOBS}",
            ) from None

    def _path(self, descriptor: Descriptor) -> Path:
        digest = descriptor.digest
        return self.reference.path / c.LAYOUT_BLOBS / digest.algorithm / digest.encoded


@contextmanager
def _open_regular(path: Path) -> Iterator[BinaryIO]:
    # O_NONBLOCK: opening a FIFO or a device returns at once, so that it can be refused.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{path} does not exist.") from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise IntegrityError(f"{path} is not a regular file.")
        yield file
