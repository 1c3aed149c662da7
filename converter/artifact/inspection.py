"""Is a link that came from elsewhere one of ours? Owns what is demanded before it gets a name.

That its bytes are those that its record promises is checked before, and says nothing of whoever
wrote both. A disk is opened by QEMU, which follows what its descriptor names: so the descriptor
must be, byte for byte, the one that follows from the link's identity, and every sector must have
exactly one use. A state is read by us: it must be that of this chain's file system.
"""

from __future__ import annotations

from pathlib import Path

from converter.errors import IntegrityError
from converter.ext4.filesystem import FileSystem
from converter.ext4.state import add_state
from converter.identity import identity_of
from converter.store.links import LinkRecord
from converter.vmdk.c_vmdk import SECTOR
from converter.vmdk.check import check_link
from converter.vmdk.content_id import content_id, long_content_id
from converter.vmdk.descriptor import ParentRef, link_descriptor, render
from converter.vmdk.reader import read_sparse_link


def check_disk(path: Path, record: LinkRecord) -> None:
    """Check the disk at `path`. Raises IntegrityError that names the first fault, OSError."""
    report = check_link(path)
    with read_sparse_link(path) as link:
        header = link.sparse_extent().header
        text = link.file.read_at(header.descriptorOffset * SECTOR, header.descriptorSize * SECTOR)
        grain_bytes = link.grain_bytes
    parent = record.parent
    wanted = link_descriptor(
        record.parameters.capacity_bytes,
        cid=content_id(record.link_id),
        long_content_id=long_content_id(record.link_id),
        parent=ParentRef(content_id(parent), f"{parent}.vmdk") if parent else None,
        file_name=f"{record.link_id}.vmdk",
    )
    found = (report.capacity_bytes, grain_bytes, report.grains)
    parameters = record.parameters
    promised = (parameters.capacity_bytes, parameters.grain_bytes, record.grains)
    if text.rstrip(b"\0") != render(wanted) or found != promised:
        raise IntegrityError(
            f"The disk of the link {record.link_id} is not one that saltflat wrote for it.",
            expected="the descriptor, sizes and grains that follow from its identity and record",
        )


class StateInspection:
    """Holds the states of one chain, base first, to each other and to the chain's identity."""

    def __init__(self) -> None:
        self._filesystem: FileSystem | None = None

    def add(self, record: LinkRecord, state: bytes) -> None:
        """Check the state of the next link, which has the disk that `record` is about.

        Raises IntegrityError, SaltflatError for a state of a newer schema.
        """
        lowest = self._filesystem is None
        filesystem = add_state(self._filesystem, state)
        parameters, geometry = record.parameters, filesystem.geometry
        # Those above have the identity of the lowest, or add_state() would have refused them.
        if (lowest and filesystem.identity != identity_of(record.link_id)) or (
            (geometry.capacity_bytes, geometry.journal)
            != (parameters.capacity_bytes, parameters.journal)
        ):
            raise IntegrityError(f"The state of the link {record.link_id} is of another chain.")
        self._filesystem = filesystem
