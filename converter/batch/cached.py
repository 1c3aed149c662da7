"""Which links a shared cache has, asked for a plan: then nothing is fetched for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from converter.artifact.cache import CacheMode, CachePolicy
from converter.artifact.link_artifact import find_link_artifact
from converter.batch.lookup import PARALLEL_LOOKUPS
from converter.batch.orders import CacheOrder
from converter.batch.plan import Whereabouts
from converter.batch.planning import FoundLink
from converter.errors import SaltflatError, UnavailableError
from converter.registry.artifacts import ArtifactRepository


def reads(cache: CacheOrder) -> bool:
    """Tell whether links are taken from `cache`."""
    return CachePolicy(CacheMode(cache.mode), cache.verify).reads


def cached_links(
    repository: ArtifactRepository, identities: Sequence[str]
) -> Mapping[str, FoundLink]:
    """Return what `repository` has of the links with these identities.

    A cache that does not answer is as good as an empty one; whoever converts warns of it.
    """
    gone = False

    def ask(identity: str) -> FoundLink | None:
        nonlocal gone
        if gone:
            return None
        try:
            parcel = find_link_artifact(repository, identity)
        except UnavailableError:
            gone = True  # it will not answer the next question either
            return None
        except SaltflatError:
            return None
        return None if parcel is None else FoundLink(Whereabouts.CACHE, parcel.record.empty)

    with ThreadPoolExecutor(PARALLEL_LOOKUPS, thread_name_prefix="cache") as threads:
        found = list(threads.map(ask, identities))
    return {
        identity: link for identity, link in zip(identities, found, strict=True) if link is not None
    }
