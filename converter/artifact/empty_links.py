"""Which links without a disk belong to a chain. Owns the search for them in a store.

A chain is known by its disks. Layers between them that change nothing have records as well, which
spare whoever has them the fetching of these layers.
"""

from __future__ import annotations

from collections.abc import Sequence

from converter.image.model import Image
from converter.store.layout import Store
from converter.store.links import ChainParameters, LinkRecord, find_link, link_id


def with_empty_links(
    image: Image, links: Sequence[LinkRecord], store: Store
) -> tuple[LinkRecord, ...]:
    """Return `links`, the disks of `image`, and in between the empty ones that `store` has.

    Base first, both ways. The links are the image's (`image_documents.check_layers`).
    """
    rest = [str(layer.diff_id) for layer in image.layers]
    parameters = links[0].parameters
    whole: list[LinkRecord] = []
    below = ""
    for link in links:
        end = rest.index(link.diff_ids[0]) if link.diff_ids else 0
        whole += _empty_links(store, below, tuple(rest[:end]), parameters)
        whole.append(link)
        below = link.link_id
        del rest[: end + len(link.diff_ids)]
    whole += _empty_links(store, below, tuple(rest), parameters)
    return tuple(whole)


def _empty_links(
    store: Store, parent: str, diff_ids: tuple[str, ...], parameters: ChainParameters
) -> list[LinkRecord]:
    """Return the empty links on `parent` that cover `diff_ids`, as far as the store has them.

    Several layers may share one: how many, only the records tell.
    """
    found: list[LinkRecord] = []
    first = 0
    while first < len(diff_ids):
        for last in range(first + 1, len(diff_ids) + 1):
            record = find_link(store, link_id(parent, diff_ids[first:last], parameters))
            if record is not None and record.empty:
                break
        else:
            return found
        found.append(record)
        first = last
    return found
