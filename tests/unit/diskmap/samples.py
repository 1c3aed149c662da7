"""Disk maps made by hand, small ones and the largest there may be."""

from __future__ import annotations

from converter.diskmap.model import DiskMap, MapFile, MapLayer, MapLink
from converter.diskmap.runs import Runs

MIB = 1 << 20
HOSTILE = (
    b'</title><script>alert("1")</script>&amp;',
    b"\xff\xfe not UTF-8",
    b"\x1b[31mred\x00\x07\n\t",
    "\u202egnp.exe \u2066\ufeff\U000e0001".encode(),
    "wide \u6f22\u5b57".encode() * 100,
    b"/".join([b"d" * 255] * 16),
    b"back\\x41slash",
    b"]]><!--",
)


def link(number: int, *, files: Runs = (), structure: Runs = (), **more: Runs) -> MapLink:
    """Return the link `number` (from 0) of a chain with one layer each."""
    digits = f"{number:02x}" * 32
    return MapLink(
        digits,
        (MapLayer(number + 1, f"sha256:{digits}", f"sha256:{digits[::-1]}", f"RUN step {number}"),),
        5 * MIB,
        files,
        structure,
        more.get("replaced", ()),
        more.get("unused", ()),
        more.get("visible", (*structure, *files)),
        tuple(MapFile(name, 4096 * (9 - at), gone=at == 1) for at, name in enumerate(HOSTILE)),
    )


def small() -> DiskMap:
    """Return a map of two links on a disk of 64 MiB."""
    below = link(
        0,
        structure=((0, MIB),),
        files=((8 * MIB, 20 * MIB),),
        replaced=((20 * MIB, 21 * MIB),),
        unused=((21 * MIB, 21 * MIB + 4096),),
        visible=((4096, MIB), (8 * MIB, 20 * MIB)),
    )
    top = link(1, structure=((0, 4096),), files=((30 * MIB, 31 * MIB),))
    return DiskMap(
        "registry.example/app:1", "sha256:" + "0" * 64, "linux/amd64", 64 * MIB, 3, (below, top)
    )


def largest() -> DiskMap:
    """Return 24 links on 1 TiB, each with thousands of short runs all over, and hostile names."""
    links = []
    for number in range(24):
        # All kinds in all columns, in ever other proportions.
        runs: list[list[tuple[int, int]]] = [[], [], [], []]
        for at in range(4000):
            begin = at * (256 * MIB) + number * MIB
            size = 4096 * (1 + (at * (number + 3)) % 200)
            runs[at % 4].append((begin, begin + size))
        files, structure, replaced, unused = map(tuple, runs)
        links.append(
            link(number, files=files, structure=structure, replaced=replaced, unused=unused)
        )
    return DiskMap("x" * 5000, "sha512:" + "f" * 128, "linux/arm64/v8", 1 << 40, 24, tuple(links))
