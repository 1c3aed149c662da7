"""What a registry lists: tags, and the manifests that refer to one. Owns pages and their links."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote, urlencode, urljoin

from converter.errors import SaltflatError
from converter.registry.auth.authenticator import Scope
from converter.registry.client import RegistryClient
from converter.registry.transport import origin

_MAX_PAGES = 10_000  # a registry that lists without end must not keep us for ever


def tags(client: RegistryClient, repository: str) -> Iterator[str]:
    """Yield a repository's tags; raise what the client does. (distribution-spec "Listing Tags")"""
    path = f"/v2/{quote(repository)}/tags/list"
    for page in _pages(client, repository, path, "the tags"):
        names = page.get("tags")
        if isinstance(names, list):
            yield from (name for name in names if isinstance(name, str))


def referrers(
    client: RegistryClient, repository: str, digest: str, *, artifact_type: str | None = None
) -> Iterator[object]:
    """Yield descriptors, as JSON has them, of manifests whose subject is `digest`.

    Raises NotFoundError where the registry has no such API; there the specification's tag schema
    says where to look. `artifact_type` is a wish: registries may list others as well.
    """
    query = f"?{urlencode({'artifactType': artifact_type})}" if artifact_type else ""
    path = f"/v2/{quote(repository)}/referrers/{quote(digest, safe=':')}{query}"
    for page in _pages(client, repository, path, f"the referrers of {digest}"):
        found = page.get("manifests")
        if isinstance(found, list):
            yield from found


def _pages(
    client: RegistryClient, repository: str, path: str, what: str
) -> Iterator[dict[str, object]]:
    what = f"{what} of {client.host}/{repository}"
    target: str | None = path
    for _ in range(_MAX_PAGES):
        if target is None:
            return
        document, target = _page(client, repository, target, what)
        yield document
    raise SaltflatError(f"{client.host} lists {what} on more than {_MAX_PAGES} pages.")


def _page(
    client: RegistryClient, repository: str, target: str, what: str
) -> tuple[dict[str, object], str | None]:
    def attempt() -> tuple[bytes, str, str | None]:
        with client.exchange("GET", target, Scope(repository), what) as response:
            link = response.links.get("next", {}).get("url")
            return client.whole(response, what), response.url, link

    raw, here, link = client.patience().repeat(attempt)
    document = None
    with suppress(ValueError, RecursionError):
        document = json.loads(raw)
    if not isinstance(document, dict):
        raise SaltflatError(f"{client.host} sent no list as {what}.", expected="a JSON object")
    if link is None:
        return document, None
    with suppress(ValueError):
        following = urljoin(here, link)
        if origin(following) == origin(here):
            return document, following
    raise SaltflatError(f"{client.host} continues {what} in another place than its own.")
