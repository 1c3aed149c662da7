"""Images in a registry and its mirrors. Joins HTTP clients to references and digests; verifies.

Mirrors are asked first, in their order, for tags too (as containers-registries.conf(5) has it where
nothing else is said). What one of them does not have, does not give, or gives wrongly, the next one
is asked for; the registry itself is the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from converter.errors import (
    AuthError,
    IntegrityError,
    SaltflatError,
    UnavailableError,
    UsageError,
)
from converter.image import c_oci as c
from converter.image.digest import Digest
from converter.image.fetch import blob_path
from converter.image.files import Content
from converter.image.json_object import shown
from converter.image.model import Descriptor, Image
from converter.image.platform import Platform
from converter.image.reference import RegistryReference
from converter.image.resolve import Root, resolve_image
from converter.image.sink import CheckedSink
from converter.image.verify import Verifier, verify_document
from converter.registry.client import RegistryClient
from converter.registry.download import download
from converter.registry.foreign import foreign_place
from converter.registry.options import RegistryOptions
from converter.registry.parts import BlobPlace

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class MirrorPlace:
    """A mirror's client and what precedes the repositories there."""

    client: RegistryClient
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class _Place:
    client: RegistryClient
    repository: str


class RegistrySource:
    """Read one image from a registry through clients, which the caller owns."""

    def __init__(
        self,
        reference: RegistryReference,
        client: RegistryClient,
        mirrors: Sequence[MirrorPlace] = (),
        *,
        known: Path | None = None,
    ) -> None:
        """Begin; `known` is a folder of blobs where documents are that need not be asked for."""
        self.reference = reference
        self._known = known
        repository = reference.repository
        self._places = (
            *(
                _Place(mirror.client, "/".join(filter(None, (mirror.prefix, repository))))
                for mirror in mirrors
            ),
            _Place(client, repository),
        )
        self._unreachable: set[_Place] = set()

    def resolve(self, platform: Platform) -> Image:
        """Find the image for `platform`.

        Raises NotFoundError, AuthError, UnavailableError, IntegrityError, UsageError.
        """
        root = self._first(self._root, _silent)
        return resolve_image(str(self.reference), root, platform, self._read)

    def receive(self, descriptor: Descriptor, into: CheckedSink) -> None:
        """Complete a blob in `into`, which holds its beginning, and check it.

        Raises as `resolve` does; what has arrived before an error stays in `into`, unless it is
        known to be wrong.
        """
        digest = str(descriptor.digest)

        def from_place(place: _Place) -> None:
            _receive(place.client.place_of(place.repository, digest), descriptor, into)

        self._first(from_place, into.note)

    def local_blob(self, _descriptor: Descriptor) -> Content | None:
        """Return None: nothing of a registry is a file here."""
        return None

    def hang_up(self) -> None:
        """Cancel what threads ask of the registry and its mirrors, by its clients; see `Source`."""
        for place in self._places:
            place.client.hang_up()

    def _first(self, ask: Callable[[_Place], _Result], note: Callable[[str], None]) -> _Result:
        """Return what the first place gives that does not fail; raise what the registry raises."""
        *mirrors, registry = self._places
        failed: list[str] = []
        for place in mirrors:
            if place in self._unreachable:
                continue
            try:
                return ask(place)
            except UsageError:
                raise
            except SaltflatError as error:
                # Anything that a mirror does wrong is a reason to ask elsewhere.
                if isinstance(error, UnavailableError | AuthError):
                    self._unreachable.add(place)  # it will not answer the next question either
                failed.append(f"mirror {place.client.host}: {error.what}")
                note(f"{failed[-1]} Asking the next one.")
        try:
            return ask(registry)
        except SaltflatError as error:
            if failed:
                error.hint = " ".join(filter(None, (error.hint, "Before that,", *failed)))
            raise

    def _root(self, place: _Place) -> Root:
        what = f"The manifest of {self.reference}"
        answer = place.client.manifest(
            place.repository, self.reference.identifier, accept=c.ACCEPTED_DOCUMENTS
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
        known = None if self._known is None else _known_document(self._known, descriptor)
        if known is not None:
            return known
        if descriptor.media_type not in c.ACCEPTED_DOCUMENTS:
            body = _Memory(descriptor)
            self.receive(descriptor, body)
            return bytes(body.content)

        def manifest(place: _Place) -> bytes:
            answer = place.client.manifest(
                place.repository, str(descriptor.digest), accept=c.ACCEPTED_DOCUMENTS
            )
            what = f"Manifest {descriptor.digest}"
            verify_document(answer.raw, descriptor.digest, what=what)
            return answer.raw

        return self._first(manifest, _silent)


def _known_document(blobs: Path, descriptor: Descriptor) -> bytes | None:
    """Return a document from a folder of blobs, or None if it is not there, whole and right."""
    try:
        with blob_path(blobs, descriptor.digest).open("rb") as file:
            raw = file.read(descriptor.size_bytes + 1)
    except OSError:
        return None
    is_right = Digest.of(raw, descriptor.digest.algorithm) == descriptor.digest
    return raw if is_right else None


class _Memory:
    """A sink for a document, whose size the caller has found to be small."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self.restart()

    @property
    def position(self) -> int:
        return len(self.content)

    def write(self, chunk: bytes) -> None:
        self._verifier.update(chunk)
        self.content += chunk

    def check(self) -> None:
        self._verifier.finish()

    def restart(self) -> None:
        self._verifier = Verifier(self._descriptor)
        self.content = bytearray()

    def note(self, text: str) -> None:
        pass


def receive_foreign(
    url: str, options: RegistryOptions, descriptor: Descriptor, into: CheckedSink
) -> None:
    """Complete a layer in `into` from an address that its image names, and check it.

    Raises what `converter.registry.foreign` raises, and IntegrityError.
    """
    with foreign_place(url, options, what=f"layer {descriptor.digest}") as place:
        _receive(place, descriptor, into)


def _receive(place: BlobPlace, descriptor: Descriptor, into: CheckedSink) -> None:
    mixed = into.position > 0  # with bytes of another process, or of another registry
    try:
        responses = download(place, descriptor.size_bytes, into)
        mixed = mixed or responses > 1
        into.check()
        return
    except IntegrityError:
        into.restart()
        if not mixed:
            raise
    # Which of the pieces was wrong cannot be told. One answer, whole, decides.
    try:
        download(place, descriptor.size_bytes, into)
        into.check()
    except IntegrityError:
        into.restart()
        raise


def _silent(_text: str) -> None:
    pass
