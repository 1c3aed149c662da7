"""A blob into a registry. (OCI distribution specification 1.1, "Push")

Owns the requests of it; compressing, and asking whether it is there already, are the caller's.
"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote, urlencode

from converter.errors import SaltflatError
from converter.registry.auth.authenticator import PUSH, Scope
from converter.registry.client import RegistryClient
from converter.registry.transport import MakeBody

_OCTETS = "application/octet-stream"


def push_blob(
    client: RegistryClient, repository: str, digest: str, size_bytes: int, body: MakeBody
) -> None:
    """Send a blob whole. `body` opens it anew for each attempt, from its first byte.

    The registry checks the digest and refuses what does not match. Raises what the client raises.
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
