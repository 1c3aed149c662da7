"""Bugs to plant into a copy of the product, and the search that has to find them.

Each is a change of one place, such as a person makes: a check left out, a wrong exception let
through, a loop without an end. Whether the search can find it is what shows that it works at all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from scripts.fuzzers.targets import ROOT

_TIMEOUT_SECONDS = 110
_COPIED = ("converter", "scripts", "tests/corpus", "tests/images", "tests/unit")


@dataclass(frozen=True, slots=True)
class Plant:
    """A bug: in the module `file`, `new` in the place of `old`, which stands there once."""

    target: str
    name: str
    file: str
    old: str
    new: str


PLANTS = (
    Plant(
        "tar",
        "a name without a bound",
        "converter/layer/paths.py",
        "        if len(component) > MAX_NAME_BYTES:",
        "        if len(component) > MAX_PATH_BYTES:",
    ),
    Plant(
        "tar",
        "dots at the end of a path are let through",
        "converter/layer/paths.py",
        r"""_COMPONENT = rb"(?!\.{1,2}(?:/|\Z))""",
        r"""_COMPONENT = rb"(?!\.{1,2}/)""",
    ),
    Plant(
        "tar",
        "a wrong checksum of gzip is accepted",
        "converter/layer/gzip_members.py",
        "            if trailer != (crc32, size_bytes % 2**32):",
        "            if trailer[1] != size_bytes % 2**32:",
    ),
    Plant(
        "tar",
        "links in a circle are followed without an end",
        "converter/rootfs/tree.py",
        "            component = pending.pop()\n            steps += 1\n",
        "            component = pending.pop()\n            followed = 0\n",
    ),
    Plant(
        "ext4",
        "an extent beyond the disk is read",
        "converter/ext4/read_extents.py",
        "        if high or not 0 < start < start + length <= disk_blocks:",
        "        if high or not 0 < start < start + length:",
    ),
    Plant(
        "ext4",
        "a directory entry without a length is an endless loop",
        "converter/ext4/read_directory.py",
        "        if length < needed or length % 4 or at + length > c.BLOCK_SIZE:",
        "        if length % 4 or at + length > c.BLOCK_SIZE:",
    ),
    Plant(
        "ext4",
        "a file type without a meaning is looked up",
        "converter/ext4/read_directory.py",
        "        kind = _KINDS.get(file_type)\n",
        "        kind = _KINDS[file_type]\n",
    ),
    Plant(
        "vmdk",
        "grains of no size are divided by",
        "converter/vmdk/header.py",
        "    if grain & (grain - 1) or not 1 <= grain <= GRAIN_SIZE_READ_MAX:",
        "    if grain & (grain - 1) or grain > GRAIN_SIZE_READ_MAX:",
    ),
    Plant(
        "vmdk",
        "a hole takes memory for its grains",
        "converter/vmdk/check.py",
        "    if extent.file.sectors > SECTOR_LIMIT + header.grainSize:",
        "    if extent.file.sectors > SECTOR_LIMIT * header.overHead:",
    ),
    Plant(
        "vmdk",
        "a parent is opened outside the folder",
        "converter/vmdk/chain.py",
        "    if fault := file_name_fault(parent.file_name):",
        '    if fault := file_name_fault(parent.file_name.replace("/", "")):',
    ),
    Plant(
        "vmdk",
        "zeroed grains without the flag",
        "converter/vmdk/hosted.py",
        "        return self.has_zeroed_grains and entry == SPARSE_GTE_ZEROED",
        "        return entry == SPARSE_GTE_ZEROED",
    ),
    Plant(
        "vmdk",
        "an extent is opened outside the folder",
        "converter/vmdk/reader.py",
        "        if fault := file_name_fault(name):",
        '        if fault := file_name_fault(name.replace("/", "")):',
    ),
    Plant(
        "vmdk",
        "a stream that does not unfold is not expected",
        "converter/vmdk/compressed.py",
        "        except zlib.error as error:",
        "        except EOFError as error:",
    ),
    Plant(
        "vmdk",
        "grains of a redo log of no size are divided by",
        "converter/vmdk/cowd.py",
        "    if grain & (grain - 1) or not 1 <= grain <= COWD_GRAIN_SIZE_MAX:",
        "    if grain & (grain - 1) or grain > COWD_GRAIN_SIZE_MAX:",
    ),
    Plant(
        "state",
        "a wrong type is not expected",
        "converter/ext4/state.py",
        "        TypeError,\n",
        "",
    ),
    Plant(
        "state",
        "a section that is missing is not expected",
        "converter/ext4/state.py",
        "        LookupError,\n",
        "",
    ),
    Plant(
        "state",
        "blocks of a file that the state does not have",
        "converter/ext4/filesystem.py",
        "            runs = self.spilled.get(node)\n",
        "            runs = self.spilled[node]\n",
    ),
    Plant(
        "state",
        "a section takes the memory that it claims",
        "converter/ext4/state.py",
        "self.pieces(_PIECE_BYTES)",
        "self.pieces(self.size)",
    ),
)


def plant(bug: Plant, folder: Path) -> None:
    """Copy the project to `folder`, with the bug in it."""
    for name in _COPIED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    path = folder / bug.file
    source = path.read_text()
    if source.count(bug.old) != 1:
        raise ValueError(f"{bug.file} has {source.count(bug.old)} times {bug.old!r}, not once")
    path.write_text(source.replace(bug.old, bug.new))


def search_in(folder: Path, target: str, *, count: int, seed: int) -> dict[str, object]:
    """Run the bounded search in the copy at `folder` (or in the project itself); see `Outcome`."""
    result = subprocess.run(
        [sys.executable, "-m", "scripts.fuzzers.bounded", target, str(count), str(seed)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.fspath(folder), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=True,
    )
    found: dict[str, object] = json.loads(result.stdout)
    return found
