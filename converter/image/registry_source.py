"""Images in a registry. Joins the HTTP client to references and digests; verifies documents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from converter.errors import IntegrityError
from converter.image import c_oci as c
from converter.image.digest import Digest
from converter.image.files import Content
from converter.image.json_object import shown
from converter.image.model import Descriptor, Image
from converter.image.platform import Platform
from converter.image.reference import RegistryReference
from converter.image.resolve import Root, resolve_image
from converter.image.verify import verify_document
from converter.registry.client import RegistryClient


class RegistrySource:
    """Read one image from a registry through `client`, which the caller owns."""

    def __init__(self, reference: RegistryReference, client: RegistryClient) -> None:
        self.reference = reference
        self._client = client

    def resolve(self, platform: Platform) -> Image:
        """Find the image for `platform`.

        Raises NotFoundError, AuthError, UnavailableError, IntegrityError, UsageError.
        """
        return resolve_image(str(self.reference), self._root(), platform, self._read)

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Yield the blob's bytes as they arrive, not verified. Raises as `resolve` does."""
        with self._client.blob(self.reference.repository, str(descriptor.digest)) as chunks:
            yield chunks

    def local_blob(self, _descriptor: Descriptor) -> Content | None:
        """Return None: nothing of a registry is a file here."""
        return None

    def _root(self) -> Root:
        what = f"The manifest of {self.reference}"
        answer = self._client.manifest(
            self.reference.repository, self.reference.identifier, accept=c.ACCEPTED_DOCUMENTS
        )
        # A tag's digest is ours to compute; what the registry says must agree with it.
        if self.reference.digest is not None:
            verify_document(answer.raw, self.reference.digest, what=what)
        elif answer.content_digest is not None:
            try:
                announced = Digest.parse(answer.content_digest)
            except ValueError as error:
                raise IntegrityError(
                    f"{what} came with a malformed digest: {shown(answer.content_digest)}.",
                    expected=str(error),
                ) from None
            verify_document(answer.raw, announced, what=what)
        digest = self.reference.digest or Digest.of(answer.raw)
        return Root(answer.raw, digest, answer.media_type)

    def _read(self, descriptor: Descriptor) -> bytes:
        if descriptor.media_type in c.ACCEPTED_DOCUMENTS:
            return self._client.manifest(
                self.reference.repository, str(descriptor.digest), accept=c.ACCEPTED_DOCUMENTS
            ).raw
        body = bytearray()
        with self.open_blob(descriptor) as chunks:
            for chunk in chunks:
                body += chunk
                if len(body) > descriptor.size_bytes:
                    break  # the caller's verification will say that it is too long
        return bytes(body)
