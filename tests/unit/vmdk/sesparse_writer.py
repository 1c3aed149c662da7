"""Write a seSparse extent for tests: no program but ESXi writes one for readers to read.

    header | volatile header | journal header | journal | directory | tables | bitmap | back map |
    grains

Journal, bitmap and back map are zeros, which no reader that we know looks at.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from converter.vmdk import c_sesparse as c

GRAIN_BYTES = c.SESPARSE_GRAIN_SIZE * 512
_UNUSED_SECTORS = 8  # each of what stands between
_TABLE_REACH = c.SESPARSE_NUM_GTES_PER_GT


def write_sesparse(
    path: Path, capacity_bytes: int, grains: Mapping[int, bytes], *, first_place: int
) -> None:
    """Write `grains`, by number, 4 KiB each; those of zeros as entries that say so.

    The first one stands in place `first_place` of those that the file has. From 4096 on, both
    halves of a rotated place are in use, and the file is long.
    """
    tables = sorted({number // _TABLE_REACH for number in grains})
    table_of = {index: place for place, index in enumerate(reversed(tables))}  # in no plain order
    counts = -(-(capacity_bytes // GRAIN_BYTES) // _TABLE_REACH)
    sizes = {
        "volatile_header": 1,
        "journal_header": _UNUSED_SECTORS,
        "journal": _UNUSED_SECTORS,
        "grain_dir": -(-counts * c.SESPARSE_ENTRY_BYTES // 512),
        "grain_tables": max(1, len(tables)) * c.SESPARSE_GRAIN_TABLE_SIZE,
        "free_bitmap": _UNUSED_SECTORS,
        "backmap": _UNUSED_SECTORS,
        "grains": (first_place + len(grains)) * c.SESPARSE_GRAIN_SIZE,
    }
    fields: dict[str, int] = {}
    sector = 8
    for name, size in sizes.items():
        fields |= {f"{name}_offset": sector, f"{name}_size": size}
        sector += size
    header = c.SESparseConstHeader(
        magic=c.SESPARSE_CONST_HEADER_MAGIC,
        version=c.SESPARSE_VERSION,
        capacity=capacity_bytes // 512,
        grain_size=c.SESPARSE_GRAIN_SIZE,
        grain_table_size=c.SESPARSE_GRAIN_TABLE_SIZE,
        flags=0,
        reserved1=0,
        reserved2=0,
        reserved3=0,
        reserved4=0,
        **fields,
    )
    with path.open("wb") as file:
        file.write(c.SESPARSE_CONST_HEADER.pack(*header))
        file.seek(header.volatile_header_offset * 512)
        volatile = c.SESparseVolatileHeader(c.SESPARSE_VOLATILE_HEADER_MAGIC, 0, 0, 0)
        file.write(c.SESPARSE_VOLATILE_HEADER.pack(*volatile))
        for index, place in table_of.items():
            _write_entry(file, header.grain_dir_offset, index, c.SESPARSE_GDE_ALLOCATED | place)
        place = first_place
        for number, data in grains.items():
            index, slot = divmod(number, _TABLE_REACH)
            table = header.grain_tables_offset + table_of[index] * c.SESPARSE_GRAIN_TABLE_SIZE
            if not any(data):
                _write_entry(file, table, slot, c.SESPARSE_GTE_ZERO)
                continue
            low = (place & 0xFFF) << c.SESPARSE_GTE_LOW_SHIFT
            entry = c.SESPARSE_GTE_ALLOCATED | low | place >> c.SESPARSE_GTE_HIGH_SHIFT
            _write_entry(file, table, slot, entry)
            file.seek(header.grains_offset * 512 + place * GRAIN_BYTES)
            file.write(data)
            place += 1
        file.truncate((header.grains_offset + header.grains_size) * 512)


def _write_entry(file: BinaryIO, sector: int, index: int, value: int) -> None:
    file.seek(sector * 512 + index * c.SESPARSE_ENTRY_BYTES)
    file.write(struct.pack("<Q", value))
