"""The layout's arithmetic: nothing overlaps, at any capacity."""

from __future__ import annotations

import itertools

import pytest

from converter.errors import UsageError
from converter.ext4 import c_ext4 as c
from converter.ext4.geometry import ALIGNMENT_BLOCKS, INODE_TABLE_BLOCKS, Geometry

MIB = 1 << 20
CAPACITIES = [64, 65, 100, 127, 128, 129, 256, 1000, 1024, 1028, 4096, 16384, 16388, 65536, 262144]
CAPACITIES += [2000 << 10]


@pytest.mark.parametrize("capacity_mib", CAPACITIES)
@pytest.mark.parametrize("journal", [True, False])
def test_no_two_things_share_a_block(capacity_mib: int, journal: bool) -> None:
    geometry = Geometry(capacity_mib * MIB, journal=journal)
    ranges = sorted(geometry.metadata_ranges())
    for (start, length), (following, _) in itertools.pairwise(ranges):
        assert start + length <= following
    assert ranges[-1][0] + ranges[-1][1] <= geometry.blocks
    for group in geometry.backup_groups:
        first = group * c.BLOCKS_PER_GROUP
        for start, length in ranges:
            inside = first <= start < first + geometry.backup_reserved_blocks
            assert not inside or (start, length) == (first, geometry.backup_used_blocks)


@pytest.mark.parametrize("capacity_mib", CAPACITIES)
def test_grains_of_metadata_are_not_shared(capacity_mib: int) -> None:
    geometry = Geometry(capacity_mib * MIB)
    assert geometry.journal_start % ALIGNMENT_BLOCKS == 0
    assert geometry.data_start % ALIGNMENT_BLOCKS == 0
    assert all(table % ALIGNMENT_BLOCKS == 0 for table in geometry.inode_tables)
    assert INODE_TABLE_BLOCKS % ALIGNMENT_BLOCKS == 0


def test_the_default_layout_is_the_documented_one() -> None:
    geometry = Geometry(16 << 30)
    assert geometry.groups == 128
    assert geometry.block_bitmaps[2] == 2
    assert geometry.inode_bitmaps[0] == 3
    assert geometry.journal_start == 272
    assert geometry.journal_blocks == 16384
    assert geometry.inode_tables[0] == 16656
    assert geometry.inode_tables[15] == 32784
    assert geometry.data_start == 149520
    assert geometry.backup_groups == (1, 3, 5, 7, 9, 25, 27, 49, 81, 125)


@pytest.mark.parametrize("capacity", [0, 63 * MIB, 64 * MIB + 1, (2000 << 30) + MIB])
def test_impossible_capacities_are_refused(capacity: int) -> None:
    with pytest.raises(UsageError, match="capacity"):
        Geometry(capacity)
