"""What a machine is told: its disks, its size, and the document that the guest reads.

Owns values only; no process, no file. Key material is kept out of every repr.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.tether.host_config import DEFAULTS as HOST_DEFAULTS
from agent.tether.host_config import HostConfig
from converter.errors import UsageError
from tinykernel.record import BootImage

GUEST_SCHEMA = 1
KEY_BYTES = 32
CHANNEL_NAME = "org.saltflat.tether"
SERIAL_DEVICE = "/dev/ttyS0"


class Channel(enum.StrEnum):
    """The line between host and guest."""

    VIRTIO_SERIAL = "virtio-serial"
    SERIAL = "serial"

    def to_json(self) -> dict[str, str]:
        """Return how the guest's document names the line."""
        if self is Channel.VIRTIO_SERIAL:
            return {"kind": self.value, "name": CHANNEL_NAME}
        return {"kind": self.value, "device": SERIAL_DEVICE}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What this run changes of the image's own configuration; None leaves it as it is."""

    args: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()  # "K=V", already resolved
    user: str | None = None
    workdir: str | None = None
    tty: bool = False
    stdin: bool = False
    rows: int | None = None
    cols: int | None = None
    host_config: HostConfig = HOST_DEFAULTS  # privileges, limits, mounts, names

    def to_json(self) -> dict[str, Any]:
        """Return the "run" object of the guest's document."""
        return {
            "args": _list(self.args),
            "entrypoint": _list(self.entrypoint),
            "env": list(self.env),
            "user": self.user,
            "workdir": self.workdir,
            "tty": self.tty,
            "stdin": self.stdin,
            "rows": self.rows,
            "cols": self.cols,
            "host_config": None if self.host_config == HOST_DEFAULTS else asdict(self.host_config),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestConfig:
    """The one document that the guest reads at boot.

    `image` is the OCI configuration's own "config" object; `key` 32 secret bytes that
    authenticate the channel both ways, fresh for each run.
    """

    key: bytes = field(repr=False)
    root_uuid: str
    hostname: str
    image: Mapping[str, Any]
    run: RunConfig

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(self.key)}")

    def encode(self, channel: Channel) -> bytes:
        """Return the document's bytes for a guest that talks on `channel`. They hold the key."""
        document = {
            "schema": GUEST_SCHEMA,
            "key": self.key.hex(),
            "channel": channel.to_json(),
            "root": {"uuid": self.root_uuid},
            "hostname": self.hostname,
            "image": dict(self.image),
            "run": self.run.to_json(),
        }
        return json.dumps(document, sort_keys=True).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """A machine to start: `chain` base first, opened read-only and never changed.

    `capacity_bytes` is the disk's size as the guest sees it. `cpus` is rounded up to whole virtual
    processors. Without a `folder` the machine lives in a private temporary one and leaves nothing.
    """

    chain: tuple[Path, ...]
    capacity_bytes: int
    boot: BootImage
    guest: GuestConfig
    memory_mib: int = 512
    cpus: float = 1
    channel: Channel = Channel.VIRTIO_SERIAL
    folder: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel", Channel(self.channel))
        if not self.chain:
            raise UsageError("a machine needs a disk", expected="a chain of at least one link")
        # 96 MiB is where the kernel gives up, measured; the agent needs its share above that.
        if self.memory_mib < _MEMORY_MINIMUM_MIB:
            raise UsageError(
                f"{self.memory_mib} MiB of memory cannot boot a machine",
                expected=f"at least {_MEMORY_MINIMUM_MIB} MiB",
            )
        if not 0 < self.cpus < math.inf:
            raise UsageError(f"{self.cpus} processors make no machine", expected="more than 0")

    @property
    def processors(self) -> int:
        """The number of virtual processors."""
        return math.ceil(self.cpus)


_MEMORY_MINIMUM_MIB = 128


def _list(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)
