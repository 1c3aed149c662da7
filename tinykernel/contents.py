"""What a boot image's initramfs holds. Owns contents.json, and what each file is there for.

The list is made when the image is built and is proven by boot.json, so that the initramfs can be
held against it file by file (`tinykernel.verify`), and its size be told by component.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinykernel.cpio import ArchiveEntry
from tinykernel.initramfs import AGENT_ROOT, DEBUG_SHELL, DHCP_ROOT

SCHEMA = 1
OURS = "saltflat"  # the origin of what is in no package

_HEX_DIGEST = re.compile(r"[0-9a-f]{64}")


class Part(enum.StrEnum):
    """What a file of the initramfs is there for."""

    INTERPRETER = "interpreter"
    LIBRARIES = "libraries"
    STANDARD_LIBRARY = "standard library"
    AGENT = "tether"
    NETWORK = "network"  # the DHCP client
    MODULES = "modules"
    DEBUG = "debug shell"
    OTHER = "other"


# The first that matches a path's beginning counts.
_PARTS: tuple[tuple[re.Pattern[str], Part], ...] = tuple(
    (re.compile(pattern), part)
    for pattern, part in (
        (rf"{DHCP_ROOT}/", Part.NETWORK),
        (rf"{DEBUG_SHELL}$", Part.DEBUG),
        (rf"{AGENT_ROOT}/", Part.AGENT),
        (r"init$", Part.AGENT),
        (r"usr/bin/python3[.\d]*$", Part.INTERPRETER),
        (r"usr/lib/python3[.\d]*/", Part.STANDARD_LIBRARY),
        (r"usr/lib/modules/", Part.MODULES),
        (r"(usr/)?lib(64|/x86_64-linux-gnu)?/[^/]+\.so(\.|$)", Part.LIBRARIES),
    )
)


@dataclass(frozen=True, slots=True)
class Content:
    """One name of the initramfs.

    `mode` has its type bits. `sha256` is of a regular file's content; `target` a symbolic link's.
    `origin` names the package that a file's bytes came from, or were made of.
    """

    path: str
    mode: int
    size_bytes: int = 0
    sha256: str | None = None
    target: str | None = None
    origin: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return its part of contents.json."""
        optional = {"sha256": self.sha256, "target": self.target, "origin": self.origin}
        document: dict[str, Any] = {"path": self.path, "mode": f"{self.mode:06o}"}
        if self.sha256 is not None:
            document["size_bytes"] = self.size_bytes
        return document | {key: value for key, value in optional.items() if value is not None}


@dataclass(frozen=True, slots=True)
class PartSize:
    """How much of an initramfs, unpacked, is there for one thing."""

    part: Part
    files: int
    size_bytes: int


def part_of(path: str) -> Part:
    """Return what the file `path`, relative to /, is there for."""
    return next((part for pattern, part in _PARTS if pattern.match(path)), Part.OTHER)


def describe(entry: ArchiveEntry, origin: str | None = None) -> Content:
    """Return what is kept of an entry whose bytes come from `origin`."""
    if entry.is_regular:
        sha256 = hashlib.sha256(entry.data).hexdigest()
        return Content(entry.path, entry.mode, len(entry.data), sha256, origin=origin)
    if stat.S_ISLNK(entry.mode):
        target = entry.data.decode("utf-8", "surrogateescape")
        return Content(entry.path, entry.mode, target=target)
    return Content(entry.path, entry.mode)


def breakdown(contents: Iterable[Content]) -> list[PartSize]:
    """Return the sizes of the regular files by part, in the parts' order, without empty parts."""
    sizes: dict[Part, list[int]] = {part: [] for part in Part}
    for content in contents:
        if content.sha256 is not None:
            sizes[part_of(content.path)].append(content.size_bytes)
    return [PartSize(part, len(each), sum(each)) for part, each in sizes.items() if each]


def encode_contents(contents: Sequence[Content]) -> bytes:
    """Return the exact bytes of contents.json, sorted by path."""
    rows = sorted(contents, key=lambda content: content.path)
    # One entry per line: a person compares two of these.
    lines = ",\n".join(json.dumps(row.to_json()) for row in rows)
    return f'{{"schema": {SCHEMA}, "contents": [\n{lines}\n]}}\n'.encode()


def decode_contents(data: bytes) -> list[Content]:
    """Read contents.json. Raises ValueError, KeyError or TypeError for what is none."""
    document = json.loads(data)
    if document["schema"] != SCHEMA:
        raise ValueError(f"schema {document['schema']!r}")
    return [_decoded(row) for row in document["contents"]]


def _decoded(row: Mapping[str, Any]) -> Content:
    sha256 = row.get("sha256")
    if sha256 is not None and not _HEX_DIGEST.fullmatch(sha256):
        raise ValueError(f"{sha256!r} is not a sha256")
    return Content(
        path=str(row["path"]),
        mode=int(row["mode"], 8),
        size_bytes=int(row.get("size_bytes", 0)),
        sha256=sha256,
        target=row.get("target"),
        origin=row.get("origin"),
    )
