"""Measure LinkWriter.write against os.write of the same buffers to the same file system.

    python -m tests.benchmarks.vmdk_write [FOLDER] [MIB]

Prints one JSON line: MB/s of both (median of the rounds, taken in turns, without sync), their
ratio, MB/s of a link where every other grain is zero, and the writer's own processor time per MiB,
measured with a file that swallows everything: on a busy machine the one figure to trust.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from converter.vmdk.sparse import LinkWriter, ParentRef

MIB = 1 << 20
GRAIN = 65536
ROUNDS = 7


def through_link_writer(path: Path, buffer: bytearray, count: int) -> float:
    """Return the seconds that `count` buffers take as a link, with finish()."""
    with path.open("wb+", buffering=0) as file:
        link = LinkWriter(
            file,
            capacity_bytes=count * MIB,
            cid=1,
            long_content_id=f"{1:032x}",
            parent=ParentRef(2, "base.vmdk"),
        )
        begin = time.perf_counter()
        for at in range(count):
            link.write(at * MIB, buffer)
        link.finish()
        return time.perf_counter() - begin


def plainly(path: Path, buffer: bytearray, count: int) -> float:
    """Return the seconds that `count` buffers take as they are."""
    with path.open("wb+", buffering=0) as file:
        begin = time.perf_counter()
        for _ in range(count):
            assert os.write(file.fileno(), buffer) == MIB
        return time.perf_counter() - begin


class Swallower(io.RawIOBase):
    """A file that takes all and keeps nothing."""

    def write(self, data: memoryview) -> int:  # type: ignore[override]  # narrower than RawIOBase's
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return offset


def own_microseconds(buffer: bytearray, count: int) -> float:
    """Return the processor time that the writer itself takes for one buffer."""
    link = LinkWriter(
        Swallower(),  # type: ignore[arg-type]  # it has all of BinaryIO that the writer uses
        capacity_bytes=count * MIB,
        cid=1,
        long_content_id=f"{1:032x}",
        parent=None,
    )
    begin = time.process_time()
    for at in range(count):
        link.write(at * MIB, buffer)
    return (time.process_time() - begin) / count * 1e6


def main(folder: str = ".", mib: str = "256") -> None:
    """Run all rounds and print the line."""
    count = int(mib)
    data = bytearray(os.urandom(MIB))
    holey = bytearray(data)
    for offset in range(0, MIB, 2 * GRAIN):
        holey[offset : offset + GRAIN] = bytes(GRAIN)
    ways = {
        "link_writer": (through_link_writer, data),
        "os_write": (plainly, data),
        "half_zero": (through_link_writer, holey),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for number in range(ROUNDS * len(ways)):
            name = list(ways)[number % len(ways)]
            way, buffer = ways[name]
            path = Path(scratch) / "file"
            seconds[name].append(way(path, buffer, count))
            path.unlink()
    rates = {name: count * MIB / 1e6 / statistics.median(each) for name, each in seconds.items()}
    result: dict[str, object] = {f"{name}_mb_per_s": round(rate) for name, rate in rates.items()}
    result["ratio"] = round(rates["link_writer"] / rates["os_write"], 3)
    result["own_us_per_mib"] = round(min(own_microseconds(data, count) for _ in range(ROUNDS)), 1)
    sys.stdout.write(json.dumps({"bench": "vmdk_write", "mib": count, **result}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
