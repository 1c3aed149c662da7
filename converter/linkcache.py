"""The seam between conversions and links that were made elsewhere. Owns the interface alone.

`converter.pipeline` asks and offers; `converter.artifact.cache` answers from a registry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from converter.store.links import ChainParameters, LinkRecord


class LinkCache(Protocol):
    """Links that others made, by identity. A cache that fails is as good as an empty one.

    All methods are called while the store is in use, and raise only what a conversion is to fail
    of.
    """

    def bring(self, layers: Sequence[tuple[str, ...]], parameters: ChainParameters) -> None:
        """Bring a chain's links into the store, from the lowest up, as far as they are there.

        `layers` are the diffIDs of each link, base first.
        """

    def fetch(self, draft: LinkRecord, below: Callable[[], object]) -> LinkRecord | None:
        """Bring the link that `draft` describes into the store, or return None.

        `below` waits until the links that it stands on are there.
        """

    def offer(self, record: LinkRecord) -> None:
        """Take note of a link that was just made; from any thread."""

    def stop(self) -> None:
        """End what is under way: the conversion failed, or was interrupted."""


class NoCache:
    """The cache of who has none."""

    def bring(self, layers: Sequence[tuple[str, ...]], parameters: ChainParameters) -> None:
        """Bring nothing."""

    def fetch(self, draft: LinkRecord, below: Callable[[], object]) -> LinkRecord | None:
        """Know nothing."""

    def offer(self, record: LinkRecord) -> None:
        """Keep nothing."""

    def stop(self) -> None:
        """Have nothing to end."""


NO_CACHE = NoCache()
