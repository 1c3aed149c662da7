"""Records and parcels of chains that hold nothing: for whoever reads what is said of them."""

from __future__ import annotations

import hashlib

from converter.artifact.codec import Codec
from converter.artifact.manifest import Parcel, disk_descriptor, state_descriptor
from converter.artifact.records import ChainRecord
from converter.image.digest import Digest
from converter.image.platform import DEFAULT_PLATFORM
from converter.store.links import ChainParameters, LinkRecord, link_id


def link(parent: str, name: str, *, empty: bool = False, **parameters: object) -> LinkRecord:
    """Return the record of the layer `name` on top of `parent`."""
    layers = (str(Digest.of(name.encode())),)
    choice = ChainParameters(**parameters)  # type: ignore[arg-type]  # whatever the test asks for
    identity = link_id(parent, layers, choice)
    if empty:
        return LinkRecord(identity, parent, layers, choice, empty=True, producer="saltflat 0")
    return LinkRecord(
        identity,
        parent,
        layers,
        choice,
        size_bytes=1000,
        sha256=hashlib.sha256(b"disk").hexdigest(),
        state_size_bytes=10,
        state_sha256=hashlib.sha256(b"state").hexdigest(),
        grains=3,
        producer="saltflat 0",
    )


def chain(*names: str, **parameters: object) -> ChainRecord:
    """Return the record of a chain of the layers `names`, base first."""
    links: list[LinkRecord] = []
    for name in names:
        links.append(link(links[-1].link_id if links else "", name, **parameters))
    return ChainRecord("example.org/app:1", DEFAULT_PLATFORM, tuple(links))


def parcel(record: LinkRecord, codec: Codec = Codec.ZSTD) -> Parcel:
    """Return a link with blobs somewhere."""
    disk = disk_descriptor(record, codec, digest=Digest.of(b"compressed"), size_bytes=500)
    return Parcel(record, disk, state_descriptor(record))
