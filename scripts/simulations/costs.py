"""What work costs: the model's parameters and its arithmetic. Owns no measurement and no clock.

All are of one machine; docs/simulation.md says what each stands for. `scripts/simulate costs`
measures them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds and bytes of a batch's tasks, each for itself on a machine that does nothing else.

    A conversion takes `task_seconds`, for each link `link_seconds`, and so much for each byte of
    its blobs, each byte of their content, each file in them, and each file of the layers below the
    lowest of its links (their state is loaded). For its content it keeps `content_processors` busy,
    for all else, which is mostly waiting for a disk, `other_processors`. A fetch takes
    `fetch_seconds` and so much for each byte, and wants `fetch_processors`: so many that several
    at once, with a registry on the same machine, are as slow as they are. An image's record takes
    `record_seconds`, and before its first conversion each process `worker_seconds`.

    A disk has `disk_bytes` for each byte of blocks with content, and for each file and link. On the
    way to a registry and from there a disk has `sent_bytes` for each one of its blobs, and a state
    `state_bytes` for each file. To compress and send a link takes `push_seconds` and so much for
    each byte of content; to bring one back `pull_seconds` and so much for each byte on the way.
    """

    worker_seconds: float = 0.00596
    task_seconds: float = 0.00692
    link_seconds: float = 0.00305
    blob_byte_seconds: float = 0.0
    content_byte_seconds: float = 1.96e-9
    file_seconds: float = 1.38e-5
    file_below_seconds: float = 2.64e-7
    content_processors: float = 0.891
    other_processors: float = 0.634
    fetch_seconds: float = 0.00453
    fetch_byte_seconds: float = 1.43e-9
    fetch_processors: float = 1.61
    record_seconds: float = 0.00517
    disk_bytes: float = 1.02
    disk_file_bytes: float = 310.0
    disk_link_bytes: float = 319_000.0
    sent_bytes: float = 0.905
    state_bytes: float = 15.6
    push_seconds: float = 0.0386
    push_byte_seconds: float = 7.08e-9
    pull_seconds: float = 0.0342
    pull_byte_seconds: float = 2.07e-9

    def content_seconds(self, blob_bytes: int, content_bytes: int, files: int) -> float:
        """Return what a conversion takes for its content."""
        return (
            self.blob_byte_seconds * blob_bytes
            + self.content_byte_seconds * content_bytes
            + self.file_seconds * files
        )

    def other_seconds(self, links: int, files_below: int) -> float:
        """Return what a conversion takes whatever is in its links."""
        return self.task_seconds + self.link_seconds * links + self.file_below_seconds * files_below

    def link_bytes(self, block_bytes: int, files: int) -> int:
        """Return the size of a link's disk."""
        own = self.disk_bytes * block_bytes + self.disk_file_bytes * files
        return int(self.disk_link_bytes + own)

    def offer_seconds(self, content_bytes: int) -> float:
        """Return what it takes to have a link in a registry, beside the network's time."""
        return self.push_seconds + self.push_byte_seconds * content_bytes

    def transport_bytes(self, blob_bytes: int, files: int) -> int:
        """Return what goes to a registry for a link: its disk, compressed, and its state."""
        return int(self.sent_bytes * blob_bytes + self.state_bytes * files)


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster: workers with a machine each, and networks between, in bytes per second.

    Of the `slots` tasks that a worker has at a time one is converted, the others are on their way.
    """

    workers: int
    slots: int = 1
    source_rate: float = 1.25e9  # 10 Gbit/s
    cache_rate: float = 1.25e9
    worker_rate: float = 1.25e8  # 1 Gbit/s


def read_costs(path: Path) -> Costs:
    """Read what `write_costs` wrote. Raises ValueError, OSError."""
    document = json.loads(path.read_bytes())
    if not isinstance(document, dict) or document.pop("schema", None) != SCHEMA:
        raise ValueError(f"{path} has no costs of schema {SCHEMA}")
    names = {field.name for field in fields(Costs)}
    if set(document) != names or not all(isinstance(one, int | float) for one in document.values()):
        raise ValueError(f"{path} does not have exactly these numbers: {', '.join(sorted(names))}")
    return Costs(**document)


def write_costs(path: Path, costs: Costs) -> None:
    """Keep costs in a file."""
    path.write_text(json.dumps({"schema": SCHEMA, **asdict(costs)}, indent=1) + "\n")
