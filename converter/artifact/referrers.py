"""What refers to an image in a repository: listed, and added to. Owns the tag fall-back.

(OCI distribution specification 1.1, "Listing Referrers", "Pushing Manifests with Subject" and
"Referrers Tag Schema".) A registry that has the referrers API keeps the list by itself. For one
without, clients keep an index under a tag, which they read, change and write back: the API offers
no way to do that as one step. So writers that share a store take turns under a lock, and each looks
afterwards whether its entry is still there. A writer elsewhere can undo an entry between two looks;
pushing again, which sends nothing else, puts it back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from converter.artifact import c_artifact as c
from converter.errors import SaltflatError, UnavailableError
from converter.image import c_oci
from converter.image.digest import Digest
from converter.image.documents import parse_descriptor
from converter.image.json_object import JsonObject
from converter.image.model import Descriptor
from converter.registry.artifacts import ArtifactRepository, document_bytes

_ATTEMPTS = 5
_MAX_ALGORITHM = 32
_MAX_ENCODED = 64
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that names an image as its subject."""

    descriptor: Descriptor
    artifact_type: str
    entry: Mapping[str, object] = field(hash=False, repr=False)  # as it is listed


def referrers_tag(digest: Digest) -> str:
    """Return the tag of the index that lists what refers to `digest`, where there is no API."""
    algorithm = _NOT_IN_TAGS.sub("-", digest.algorithm[:_MAX_ALGORITHM])
    return f"{algorithm}-{_NOT_IN_TAGS.sub('-', digest.encoded[:_MAX_ENCODED])}"


def list_chains(repository: ArtifactRepository, digest: Digest) -> tuple[Referrer, ...]:
    """Return the chains that refer to the image `digest`, in the registry's order.

    Raises the registry's errors.
    """
    found = list_referrers(repository, digest, c.CHAIN)
    return tuple(one for one in found if one.artifact_type == c.CHAIN)


def list_referrers(
    repository: ArtifactRepository, digest: Digest, artifact_type: str = ""
) -> tuple[Referrer, ...]:
    """Return what refers to the image `digest`, in the registry's order.

    A type is a wish: there may be others. Malformed entries are passed over. Raises the registry's
    errors.
    """
    listed = repository.referrers(str(digest), artifact_type)
    if listed is None:
        listed = _tagged(repository, digest)
    return parse_referrers(listed)


def parse_referrers(entries: Iterable[object]) -> tuple[Referrer, ...]:
    """Return the entries of an index, without those that are malformed."""
    found = [_parse(entry) for entry in entries]
    return tuple(one for one in found if one is not None)


def attach(
    repository: ArtifactRepository,
    subject: Digest,
    entry: Mapping[str, object],
    *,
    turn: AbstractContextManager[None],
) -> None:
    """Make sure that `entry`, the descriptor of a manifest with this subject, is listed.

    To be called after the manifest was put, where the registry did not say that it lists it itself.
    `turn` is the lock of writers that share a store. Raises UnavailableError when others undo it
    again and again, and the registry's errors.
    """
    if repository.referrers(str(subject), c.CHAIN) is not None:
        return
    tag = referrers_tag(subject)
    with turn:
        for _ in range(_ATTEMPTS):
            listed = _tagged(repository, subject)
            if any(_is(other, entry) for other in listed):
                return  # also the look after an attempt
            index = {
                "schemaVersion": 2,
                "mediaType": c_oci.OCI_INDEX,
                "manifests": [*listed, dict(entry)],
            }
            repository.push_index(index, c_oci.OCI_INDEX, tag)
    raise UnavailableError(
        f"Others keep changing the referrers of {subject} in {repository.name}.",
        hint="Push again: only the entry may still be missing.",
    )


def _tagged(repository: ArtifactRepository, digest: Digest) -> list[object]:
    """Return the entries of the index that clients keep, none if there is no index."""
    answer = repository.manifest(referrers_tag(digest), accept=(c_oci.OCI_INDEX,))
    if answer is None:
        return []
    what = f"The referrers of {digest} in {repository.name}"
    index = JsonObject.parse(answer.raw, what=what, limit=c_oci.MAX_DOCUMENT_BYTES)
    entries = index.members.get("manifests")
    if not isinstance(entries, list):
        index.fail("manifests", "a list")
    return entries


def _parse(entry: object) -> Referrer | None:
    if not isinstance(entry, dict):
        return None
    fields = JsonObject(entry, "A referrer")
    try:
        artifact_type = fields.optional_text("artifactType") or ""
        return Referrer(parse_descriptor(fields), artifact_type, entry)
    except SaltflatError:
        return None


def _is(listed: object, entry: Mapping[str, object]) -> bool:
    return isinstance(listed, dict) and listed.get("digest") == entry["digest"]


def index_entry(document: Mapping[str, object], digest: Digest) -> dict[str, object]:
    """Return how a manifest is to be listed. (distribution-spec: "Listing Referrers")"""
    return {
        "mediaType": document["mediaType"],
        "digest": str(digest),
        "size": len(document_bytes(document)),
        "artifactType": document["artifactType"],
        "annotations": document.get("annotations", {}),
    }
