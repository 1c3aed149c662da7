"""Chains for tests: a plan of what links write, their files, the disk as a plain bytearray."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from converter.vmdk.sparse import LinkSummary, LinkWriter, ParentRef

ZEROS = 0  # the content number of a grain of zeros


@dataclass(frozen=True)
class Write:
    """One call of write(): whole grains from `grain` on, a content number for each."""

    grain: int
    contents: tuple[int, ...]

    def data(self, grain_bytes: int) -> bytes:
        """Return the bytes to write."""
        return b"".join(
            content_bytes(self.grain + at, content, grain_bytes)
            for at, content in enumerate(self.contents)
        )


@dataclass(frozen=True)
class LinkPlan:
    """What one link writes."""

    grain_bytes: int
    writes: tuple[Write, ...] = field(default=())


def content_bytes(grain: int, content: int, grain_bytes: int) -> bytes:
    """Return a grain of zeros for ZEROS, else one that names its place and content.

    An even content is zero but for the last bytes, against zero tests that look too briefly.
    """
    if content == ZEROS:
        return bytes(grain_bytes)
    mark = content.to_bytes(4, "little") + grain.to_bytes(4, "little")
    if content % 2 == 0:
        return bytes(grain_bytes - len(mark)) + mark
    return mark * (grain_bytes // len(mark))


def cid_of(index: int) -> int:
    """Return the CID of link `index` of a test chain."""
    return 0xC0DE0000 + index


def write_link(
    path: Path,
    plan: LinkPlan,
    capacity_bytes: int,
    *,
    cid: int = cid_of(0),
    parent: ParentRef | None = None,
) -> LinkSummary:
    """Write the link of `plan` to `path`."""
    with path.open("wb+", buffering=0) as file:
        link = LinkWriter(
            file,
            capacity_bytes=capacity_bytes,
            grain_bytes=plan.grain_bytes,
            cid=cid,
            long_content_id=f"{cid:032x}",
            parent=parent,
            file_name=path.name,
        )
        for write in plan.writes:
            link.write(write.grain * plan.grain_bytes, write.data(plan.grain_bytes))
        return link.finish()


def write_chain(folder: Path, plans: Sequence[LinkPlan], capacity_bytes: int) -> list[Path]:
    """Write link 0, 1, ... of `plans` to `folder`; return their files, base first."""
    paths: list[Path] = []
    for index, plan in enumerate(plans):
        path = folder / f"link-{index}.vmdk"
        parent = ParentRef(cid_of(index - 1), paths[-1].name) if paths else None
        write_link(path, plan, capacity_bytes, cid=cid_of(index), parent=parent)
        paths.append(path)
    return paths


def disk_of(plans: Iterable[LinkPlan], capacity_bytes: int) -> bytearray:
    """Return what the disk must read as."""
    disk = bytearray(capacity_bytes)
    for plan in plans:
        for write in plan.writes:
            data = write.data(plan.grain_bytes)
            begin = write.grain * plan.grain_bytes
            disk[begin : begin + len(data)] = data
    return disk
