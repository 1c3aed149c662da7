"""Lists of contents (SBOMs) that an image carries: found among its referrers, passed on unchanged.

Owns what counts as one and what its file is called. Whoever may push to a repository may add a
referrer; that a list is true is not ours to say, only that its bytes are the ones that were pushed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from converter.artifact import c_artifact as c
from converter.artifact.referrers import Referrer
from converter.errors import SaltflatError
from converter.events import Monitor, Note
from converter.image import c_oci
from converter.image.digest import Digest
from converter.image.documents import parse_descriptor
from converter.image.json_object import JsonObject
from converter.image.model import Descriptor
from converter.image.verify import verify_document


@dataclass(frozen=True, slots=True)
class Sbom:
    """A list of contents, verified; `ending` is what its file's name ends with, from a dot on."""

    ending: str
    digest: Digest
    data: bytes


class Carrier(Protocol):
    """A place that has an image and what refers to it."""

    def referrers(self, subject: Digest) -> Sequence[Referrer]:
        """Return what may refer to the image."""

    def manifest(self, descriptor: Descriptor) -> bytes | None:
        """Return a manifest, not verified; None if it is not there."""

    def blob(self, descriptor: Descriptor, *, what: str, limit: int) -> bytes:
        """Return a blob of at most `limit` bytes, verified."""


def find_sboms(carrier: Carrier, subject: Digest, *, monitor: Monitor) -> tuple[Sbom, ...]:
    """Return the lists of contents that refer to the image `subject`, each once.

    In order of their endings, then of their digests, so that a registry's order does not matter;
    several with the same ending have a number in it. What is malformed or too large is passed over
    with a warning. Raises IntegrityError for bytes that are not those of their digest, and the
    carrier's errors.
    """
    found: dict[tuple[str, Digest], Descriptor] = {}
    for ending, descriptor in _documents(carrier, subject, monitor):
        found.setdefault((ending, descriptor.digest), descriptor)
    left = 2 * c.MAX_SBOM_BYTES
    kept: list[tuple[str, Descriptor]] = []
    for (ending, digest), descriptor in sorted(found.items(), key=lambda each: each[0]):
        if descriptor.size_bytes > min(c.MAX_SBOM_BYTES, left):
            text = f"The list of contents {digest} has {descriptor.size_bytes} bytes: left out."
            monitor(Note(text, warning=True))
            continue
        left -= descriptor.size_bytes
        kept.append((ending, descriptor))
    many = Counter(ending for ending, _ in kept)
    told: Counter[str] = Counter()
    sboms = []
    for ending, descriptor in kept:
        told[ending] += 1
        data = carrier.blob(
            descriptor, what=f"The list of contents {descriptor.digest}", limit=c.MAX_SBOM_BYTES
        )
        number = f".{told[ending]}" if many[ending] > 1 else ""
        sboms.append(Sbom(f"{number}{ending}", descriptor.digest, data))
    return tuple(sboms)


def _documents(
    carrier: Carrier, subject: Digest, monitor: Monitor
) -> Iterator[tuple[str, Descriptor]]:
    """Yield (ending, descriptor) of each list of contents in what refers to `subject`."""
    listed = [one for one in carrier.referrers(subject) if _may_carry(one)]
    listed.sort(key=lambda one: _ending(one.artifact_type) is None)
    if len(listed) > c.MAX_REFERRERS:
        text = f"{len(listed)} artifacts refer to {subject}; {c.MAX_REFERRERS} are looked at."
        monitor(Note(text, warning=True))
    for referrer in listed[: c.MAX_REFERRERS]:
        digest = referrer.descriptor.digest
        raw = carrier.manifest(referrer.descriptor)
        if raw is None:
            continue  # deleted, and the list does not know
        verify_document(raw, digest, what=f"The manifest {digest}")
        try:
            yield from _documents_of(raw, subject, what=f"The manifest {digest}")
        except SaltflatError as error:
            monitor(Note(f"{error.what} Passed over.", warning=True))


def _may_carry(referrer: Referrer) -> bool:
    media_type, artifact_type = referrer.descriptor.media_type, referrer.artifact_type
    return media_type == c_oci.OCI_MANIFEST and artifact_type not in {c.CHAIN, c.LINK, c.BOOT}


def _documents_of(raw: bytes, subject: Digest, *, what: str) -> list[tuple[str, Descriptor]]:
    """Read a manifest. One that has another subject, or none, carries nothing of this image."""
    fields = JsonObject.parse(raw, what=what, limit=c.MAX_DOCUMENT_BYTES)
    about = fields.optional_child("subject")
    if about is None or parse_descriptor(about).digest != subject:
        return []
    config_type = fields.child("config").text("mediaType")
    whole = _ending(fields.optional_text("artifactType") or config_type)
    layers = [parse_descriptor(layer) for layer in fields.children("layers")]
    found = [(_ending(layer.media_type), layer) for layer in layers]
    if len(layers) == 1:
        found = [(found[0][0] or whole, layers[0])]
    return [(ending, layer) for ending, layer in found if ending is not None]


def _ending(media_type: str) -> str | None:
    """Return the ending for a type, whatever its parameters and case (RFC 6838)."""
    return c.SBOM_ENDINGS.get(media_type.partition(";")[0].strip().lower())
