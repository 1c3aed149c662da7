"""A chain that is in the store now, as `convert` and `pull` show it: as lines, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converter.image.model import Image
from converter.store.links import ChainParameters, LinkRecord


def chain_lines(image: Image, links: Sequence[LinkRecord], bundle: Path | None) -> list[str]:
    """Return the image, each link with its disk's size in bytes, and the bundle if there is one."""
    lines = [f"{image.reference}  {image.digest}"]
    lines += [f"{link.link_id}  {link.size_bytes:>12,} bytes" for link in links]
    if bundle is not None:
        lines.append(f"bundle: {bundle}")
    return lines


def chain_document(
    image: Image,
    parameters: ChainParameters,
    links: Sequence[LinkRecord],
    disks: Sequence[Path],
    bundle: Path | None,
) -> dict[str, object]:
    """Return the members that both verbs' results have; `disks` are the links', in their order."""
    return {
        "reference": image.reference,
        "digest": str(image.digest),
        "platform": str(image.platform),
        "capacity": parameters.capacity_bytes,
        "links": [
            {
                "link_id": link.link_id,
                "parent": link.parent,
                "layers": list(link.diff_ids),
                "file": str(disk),
                "size": link.size_bytes,
                "sha256": link.sha256,
            }
            for link, disk in zip(links, disks, strict=True)
        ],
        "bundle": None if bundle is None else str(bundle),
    }
