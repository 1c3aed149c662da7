"""A layer of very many members: converted within its limits of memory, and clean; refused above.

Members of all kinds, small and with long ways to them, some twice, some markers that hide nothing.
Then the same layer has one member more than `--max-entries` allows.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.images.cache import ROOT
from tests.images.heavy import bound_bytes, peak_bytes
from tests.images.prepared import SALTFLAT
from tests.images.raw_layout import write_layout, zstd_layer
from tests.images.raw_tar import header, padded

COUNT = 1_000_000  # members
_TIMEOUT_SECONDS = 600
_PIECE_MEMBERS = 10_000


def run(count: int, seed: int) -> list[str]:
    """Convert a layer of `count` members, chosen by `seed`; figures go to stderr."""
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="saltflat-entries-", dir="/var/tmp") as name:
        folder = Path(name)
        source = write_layout(folder / "image", [zstd_layer(_pieces(count, seed))])
        started, before = time.monotonic(), os.times()
        try:
            peak = peak_bytes(folder / "image", folder / "store")
        except subprocess.CalledProcessError as error:
            return [f"the conversion failed: {error.stderr}"]
        seconds, after = time.monotonic() - started, os.times()
        worked = after.children_user + after.children_system
        worked -= before.children_user + before.children_system
        (disk,) = (folder / "store" / "links").glob("*.vmdk")
        sys.stderr.write(
            f"{count} members: {seconds:.1f} s, of which {worked:.1f} s on processors; "
            f"peak memory {peak / 1e6:.0f} MB; disk {disk.stat().st_size / 1e6:.0f} MB\n"
        )
        if peak > bound_bytes(count):
            failures.append(f"{peak} bytes of memory for {count} members")
        failures += _check(disk, folder / "raw")

        refused = _refused(folder / "other", source, count - 1)
        if refused.returncode != 5 or "--max-entries" not in refused.stderr:
            failures.append(f"not refused: {refused.returncode} {refused.stderr[:300]}")
        failures += [
            f"left in the store: {path.name}" for path in (folder / "other" / "links").iterdir()
        ]
    return failures


def _pieces(count: int, seed: int) -> Iterator[bytes]:
    """Yield the archive in pieces of some thousand members."""
    choose = random.Random(seed)
    folders = [b"d"]
    files = [b"d/f"]
    members = [header(b"d", b"5"), header(b"d/f", size=1) + padded(b"x")]
    for number in range(2, count):
        folder = folders[choose.randrange(len(folders))]
        path = b"%s/%x" % (folder, number)
        kind = choose.randrange(100)
        if kind < 5 and len(path) < 90:
            folders.append(path)
            members.append(header(path, b"5"))
        elif kind < 60:
            files.append(path)
            content = b"x" if kind < 10 else b""
            members.append(header(path, size=len(content)) + padded(content))
        elif kind < 75:
            members.append(header(path, b"2", linkname=folder))
        elif kind < 90:
            target = files[choose.randrange(len(files))]
            members.append(header(path, b"1", linkname=target))
        elif kind < 95:
            members.append(header(files[choose.randrange(len(files))]))  # for a second time
        else:
            members.append(header(b"%s/.wh.%x" % (folder, number)))
        if len(members) == _PIECE_MEMBERS:
            yield b"".join(members)
            members.clear()
    yield b"".join(members) + bytes(1024)


def _refused(store: Path, source: str, max_entries: int) -> subprocess.CompletedProcess[str]:
    """Convert with a limit below what the layer has."""
    limit = ["--max-entries", f"{max_entries}"]
    return subprocess.run(
        [*SALTFLAT, "-q", "convert", "--store", f"{store}", *limit, source],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


def _check(disk: Path, raw: Path) -> list[str]:
    """Let e2fsck look at the disk."""
    flatten = ["qemu-img", "convert", "-f", "vmdk", "-O", "raw", f"{disk}", f"{raw}"]
    subprocess.run(flatten, check=True, timeout=_TIMEOUT_SECONDS)
    done = subprocess.run(
        ["e2fsck", "-fn", f"{raw}"],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
        env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
    )
    if done.returncode or "? no" in done.stdout:
        return [f"e2fsck: {done.stdout[-500:]}"]
    counted = re.search(r"(\d+)/\d+ files", done.stdout)
    sys.stderr.write(f"e2fsck is content: {counted[0] if counted else 'no count'}\n")
    return []
