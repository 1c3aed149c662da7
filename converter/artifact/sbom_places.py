"""Where an image's referrers are: a registry's repository, or a layout on this host."""

from __future__ import annotations

from collections.abc import Sequence

from converter.artifact import c_artifact as c
from converter.artifact.content import document
from converter.artifact.referrers import (
    Referrer,
    list_referrers,
    parse_referrers,
    referrers_tag,
)
from converter.errors import IntegrityError, NotFoundError
from converter.image import c_oci
from converter.image.digest import Digest
from converter.image.files import Content, Files
from converter.image.json_object import JsonObject
from converter.image.model import Descriptor
from converter.image.verify import verified
from converter.registry.artifacts import ArtifactRepository


class RepositoryCarrier:
    """Referrers in a registry, by its API or the tag of its clients. Raises registry's errors."""

    def __init__(self, repository: ArtifactRepository) -> None:
        self._repository = repository

    def referrers(self, subject: Digest) -> Sequence[Referrer]:
        """Return what the registry lists."""
        return list_referrers(self._repository, subject)

    def manifest(self, descriptor: Descriptor) -> bytes | None:
        """Fetch a manifest."""
        answer = self._repository.manifest(str(descriptor.digest), accept=(c_oci.OCI_MANIFEST,))
        return None if answer is None else answer.raw

    def blob(self, descriptor: Descriptor, *, what: str, limit: int) -> bytes:
        """Fetch a blob and verify it."""
        return document(self._repository, descriptor, what=what, limit=limit)


class LayoutCarrier:
    """Referrers in an OCI image layout, without any network.

    A layout has no list by image: its index.json names all manifests, and may name an index of an
    image's referrers, by the tag that clients keep in registries without the API. Raises OSError,
    IntegrityError, NotFoundError for a blob that is not there.
    """

    def __init__(self, files: Files) -> None:
        self._files = files

    def referrers(self, subject: Digest) -> Sequence[Referrer]:
        """Return what the index names, and what the image's own list does, if it says so itself."""
        own = self._files.find(c_oci.LAYOUT_INDEX)
        if own is None:
            return ()
        entries = self._entries(own)
        tag = referrers_tag(subject)
        listed = [
            one.descriptor
            for one in parse_referrers(entries)
            if one.descriptor.annotations.get(c_oci.ANNOTATION_REF_NAME) == tag
            and one.descriptor.media_type == c_oci.OCI_INDEX
        ]
        for descriptor in listed:
            if (index := self._find(descriptor)) is not None:
                entries = [*entries, *self._entries(index)]
        found = {one.descriptor.digest: one for one in parse_referrers(entries)}
        return tuple(one for one in found.values() if self._refers(one.descriptor, subject))

    def manifest(self, descriptor: Descriptor) -> bytes | None:
        """Read a manifest."""
        content = self._find(descriptor)
        return None if content is None else content.head(c.MAX_DOCUMENT_BYTES + 1)

    def blob(self, descriptor: Descriptor, *, what: str, limit: int) -> bytes:
        """Read a blob and verify it."""
        content = self._find(descriptor)
        if content is None:
            raise NotFoundError(f"{what} is not in {self._files.place}.")
        if content.size_bytes != descriptor.size_bytes or content.size_bytes > limit:
            raise IntegrityError(
                f"{what} has {content.size_bytes} bytes in {self._files.place}.",
                expected=f"{descriptor.size_bytes}, and at most {limit}",
            )
        return b"".join(verified([content.head(limit)], descriptor))

    def _refers(self, descriptor: Descriptor, subject: Digest) -> bool:
        """Say whether a manifest, which nobody has verified, names the image as its subject."""
        raw = None if descriptor.media_type != c_oci.OCI_MANIFEST else self.manifest(descriptor)
        if raw is None:
            return False
        try:
            document = JsonObject.parse(raw, what="A manifest", limit=c.MAX_DOCUMENT_BYTES)
            about = document.optional_child("subject")
        except IntegrityError:
            return False  # nobody's
        return about is not None and about.members.get("digest") == str(subject)

    def _entries(self, index: Content) -> list[object]:
        raw = index.head(c_oci.MAX_DOCUMENT_BYTES + 1)
        what = f"An index in {self._files.place}"
        fields = JsonObject.parse(raw, what=what, limit=c_oci.MAX_DOCUMENT_BYTES)
        entries = fields.members.get("manifests")
        return entries if isinstance(entries, list) else []

    def _find(self, descriptor: Descriptor) -> Content | None:
        digest = descriptor.digest
        return self._files.find(f"{c_oci.LAYOUT_BLOBS}/{digest.algorithm}/{digest.encoded}")
