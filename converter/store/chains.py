"""A whole chain in the store, found by what it would be. Makes nothing and asks nobody."""

from __future__ import annotations

from collections.abc import Iterable

from converter.store.layout import Store
from converter.store.links import ChainParameters, LinkRecord, find_link, link_id


def find_chain(
    store: Store, groups: Iterable[tuple[str, ...]], parameters: ChainParameters
) -> tuple[LinkRecord, ...] | None:
    """Return the links for the diffIDs of `groups`, base first and none of them empty.

    None if one is missing. To be called while the store is in use. Raises what `find_link` does.
    """
    links: list[LinkRecord] = []
    for diff_ids in groups:
        record = find_link(store, link_id(_top(links), diff_ids, parameters))
        if record is None:
            return None
        if not record.empty:
            links.append(record)
    if not links:  # layers that change nothing, or none: the file system alone
        record = find_link(store, link_id("", (), parameters))
        return None if record is None else (record,)
    return tuple(links)


def _top(links: list[LinkRecord]) -> str:
    return links[-1].link_id if links else ""
