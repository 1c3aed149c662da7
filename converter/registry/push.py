"""Content into a registry. (OCI distribution specification 1.1, "Push")

Owns the requests of it; compressing, and what a manifest says, are the caller's. All functions
raise what the client raises. Whoever pushes many things looks first: `blob_size` tells what is
there.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote, urlencode

from converter.errors import SaltflatError
from converter.registry.auth.authenticator import PUSH, Scope
from converter.registry.client import RegistryClient
from converter.registry.transport import MakeBody

_OCTETS = "application/octet-stream"
_THERE_OR_NOT = (HTTPStatus.OK, HTTPStatus.NOT_FOUND)


@dataclass(frozen=True, slots=True)
class PushedManifest:
    """What the registry said: `subject` is the digest that it indexed this manifest under.

    It is None where the registry has no referrers API, and for a manifest without a subject.
    """

    subject: str | None


def blob_size(client: RegistryClient, repository: str, digest: str) -> int | None:
    """Return the size of a blob that the registry has, or None if it has none."""
    path = _blob_path(repository, digest)

    def attempt() -> int | None:
        with client.exchange(
            "HEAD", path, Scope(repository, PUSH), f"blob {digest}", expect=_THERE_OR_NOT
        ) as response:
            length = response.headers.get("Content-Length", "")
            if response.status_code == HTTPStatus.NOT_FOUND or not length.isdecimal():
                return None
            return int(length)

    return client.patience().repeat(attempt)


def mount_blob(client: RegistryClient, repository: str, digest: str, source: str) -> bool:
    """Take a blob over from the repository `source` of the same registry.

    Returns False if the registry does not do that; then the blob has to be sent.
    """
    query = urlencode({"mount": digest, "from": source})
    scope = Scope(repository, PUSH, (source,))

    def attempt() -> bool:
        with client.exchange(
            "POST",
            f"/v2/{quote(repository)}/blobs/uploads/?{query}",
            scope,
            f"blob {digest}",
            headers={"Content-Length": "0"},
            expect=(HTTPStatus.CREATED, HTTPStatus.ACCEPTED),  # the latter begins an upload
        ) as response:
            return response.status_code == HTTPStatus.CREATED

    return client.patience().repeat(attempt)


def push_blob(
    client: RegistryClient, repository: str, digest: str, size_bytes: int, body: MakeBody
) -> None:
    """Send a blob whole. `body` opens it anew for each attempt, from its first byte.

    The registry checks the digest and refuses what does not match.
    """
    scope = Scope(repository, PUSH)
    what = f"blob {digest}"

    def attempt() -> None:
        with client.exchange(
            "POST",
            f"/v2/{quote(repository)}/blobs/uploads/",
            scope,
            what,
            headers={"Content-Length": "0"},
            expect=(HTTPStatus.ACCEPTED,),
        ) as response:
            location = response.headers.get("Location")
        if not location:
            raise SaltflatError(
                f"{client.host} does not say where to send {what}.", expected="a Location header"
            )
        mark = "&" if "?" in location else "?"
        with client.exchange(
            "PUT",
            f"{location}{mark}{urlencode({'digest': digest})}",
            scope,
            what,
            headers={"Content-Type": _OCTETS, "Content-Length": str(size_bytes)},
            body=body if size_bytes else b"",  # requests would send an empty file in chunks
            expect=(HTTPStatus.CREATED,),
        ):
            pass

    client.patience().repeat(attempt)


def push_manifest(
    client: RegistryClient, repository: str, identifier: str, raw: bytes, media_type: str
) -> PushedManifest:
    """Put a manifest under a tag or its digest. What it names must be there already."""
    mark = "@" if ":" in identifier else ":"
    path = f"/v2/{quote(repository)}/manifests/{quote(identifier, safe=':')}"

    def attempt() -> PushedManifest:
        with client.exchange(
            "PUT",
            path,
            Scope(repository, PUSH),
            f"manifest {client.host}/{repository}{mark}{identifier}",
            headers={"Content-Type": media_type},
            body=raw,
            expect=(HTTPStatus.CREATED,),
        ) as response:
            return PushedManifest(response.headers.get("OCI-Subject"))

    return client.patience().repeat(attempt)


def _blob_path(repository: str, digest: str) -> str:
    return f"/v2/{quote(repository)}/blobs/{quote(digest, safe=':')}"
