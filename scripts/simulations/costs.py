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
    content, each that compression had taken away, each file, and each file of the layers below the
    lowest of its links (their state is loaded). For its content it keeps `content_processors` busy,
    for all else, which is mostly waiting for a disk, `other_processors`. A fetch takes
    `fetch_seconds` and so much for each byte, and wants `fetch_processors`. What wants more than
    there are is slowed down: the processors are so many that several at once are as slow as they
    are. An image's record takes `record_seconds`. The first process can be started after
    `begin_seconds`, and each takes `worker_seconds` more for its first conversion.

    A disk has `disk_bytes` for each byte of blocks with content, and for each file and link. On the
    way to a registry and from there a disk is as long as its blobs, less `regained_bytes` for each
    byte that compression took away there, and a state has `state_bytes` for each file. To compress
    and send a link takes `push_seconds` and so much for each byte of content; to bring one back
    `pull_seconds` and so much for each byte on the way.
    """

    begin_seconds: float = 0.114
    worker_seconds: float = 0.00933
    task_seconds: float = 0.00356
    link_seconds: float = 0.00303
    spared_byte_seconds: float = 8.3e-10
    content_byte_seconds: float = 1.41e-9
    file_seconds: float = 1.6e-5
    file_below_seconds: float = 4.29e-7
    content_processors: float = 1.27
    other_processors: float = 0.967
    fetch_seconds: float = 0.00385
    fetch_byte_seconds: float = 1.25e-9
    fetch_processors: float = 1.39
    record_seconds: float = 0.00322
    disk_bytes: float = 1.01
    disk_file_bytes: float = 261.0
    disk_link_bytes: float = 311_000.0
    regained_bytes: float = 0.0905
    state_bytes: float = 12.9
    push_seconds: float = 0.0369
    push_byte_seconds: float = 5.04e-9
    pull_seconds: float = 0.0475
    pull_byte_seconds: float = 5.79e-10

    def content_seconds(self, blob_bytes: int, content_bytes: int, files: int) -> float:
        """Return what a conversion takes for its content."""
        return (
            self.content_byte_seconds * content_bytes
            + self.spared_byte_seconds * spared_bytes(blob_bytes, content_bytes)
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

    def transport_bytes(self, blob_bytes: int, content_bytes: int, files: int) -> int:
        """Return what goes to a registry for a link: its disk, compressed, and its state."""
        regained = self.regained_bytes * spared_bytes(blob_bytes, content_bytes)
        return int(blob_bytes - regained + self.state_bytes * files)


def spared_bytes(blob_bytes: int, content_bytes: int) -> int:
    """Return what compression took away: what has to be made of others, byte by byte."""
    return max(content_bytes - blob_bytes, 0)


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
