"""What a machine is told: its disks, its size, and the document that the guest reads.

Owns values only; no process, no file. The channel's key is no part of them: each boot has its own.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.tether.errors import StartError
from agent.tether.health import IMAGE_NAMES, HealthCheck, parse_health
from agent.tether.host_config import DEFAULTS as HOST_DEFAULTS
from agent.tether.host_config import HostConfig
from agent.tether.restart import RestartPolicy
from converter.errors import UsageError
from converter.network.model import Networking
from converter.volume.mount import VolumeMount
from tinykernel.record import BootImage

GUEST_SCHEMA = 1
KEY_BYTES = 32
CHANNEL_NAME = "org.saltflat.tether"
SERIAL_DEVICE = "/dev/ttyS0"
NO_NETWORK = Networking()


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
            "host_config": None
            if self.host_config == HOST_DEFAULTS
            else _lists(vars(self.host_config)),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestConfig:
    """What the one document says that the guest reads at boot, but for the key.

    `image` is the OCI configuration's own "config" object. An empty `hostname` is for the driver
    to fill.
    """

    root_uuid: str
    hostname: str
    image: Mapping[str, Any]
    run: RunConfig

    @property
    def checks_health(self) -> bool:
        """Whether the guest checks the process's health; of what is no check, it says so."""
        own = self.run.host_config.health or HealthCheck()
        try:
            image = parse_health(self.image.get("Healthcheck"), "image.Healthcheck", IMAGE_NAMES)
        except StartError:
            return False
        return own.over(image or HealthCheck()).command() is not None

    def encode(
        self,
        channel: Channel,
        key: bytes | None,
        volumes: Sequence[GuestVolume] = (),
        network: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Return the document's bytes for a guest that talks on `channel` and has `volumes`.

        `network` is the document's; None for none. The bytes hold `key`, KEY_BYTES secret bytes
        that authenticate the channel both ways, fresh for each boot; None leaves it to who hands
        the document over. Raises ValueError for a key of another length.
        """
        if key is not None and len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        document = {
            "schema": GUEST_SCHEMA,
            **({} if key is None else {"key": key.hex()}),
            "channel": channel.to_json(),
            "root": {"uuid": self.root_uuid},
            "hostname": self.hostname,
            "image": dict(self.image),
            "run": self.run.to_json(),
            "volumes": [asdict(volume) for volume in volumes],
            "network": network,
        }
        return json.dumps(document, sort_keys=True).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestVolume:
    """A volume as the guest is told of it: the disk's serial number, and where to mount it.

    `copy` lets an empty volume take over what the image has there.
    """

    serial: str
    path: str
    read_only: bool
    copy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """What a machine is made of: `chain` base first, opened read-only and never changed.

    `capacity_bytes` is the disk's size as the guest sees it. `cpus` is rounded up to whole virtual
    processors.
    """

    chain: tuple[Path, ...]
    capacity_bytes: int
    boot: BootImage
    guest: GuestConfig
    memory_mib: int = 512
    cpus: float = 1
    channel: Channel = Channel.VIRTIO_SERIAL
    volumes: tuple[VolumeMount, ...] = ()
    networking: Networking = NO_NETWORK

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel", Channel(self.channel))
        if not self.chain:
            raise UsageError("a machine needs a disk", expected="a chain of at least one link")
        least = _LEAST_MEMORY_MIB.get(self.boot.kernel_flavour, _MEMORY_MINIMUM_MIB)
        if self.memory_mib < least:
            raise UsageError(
                f"{self.memory_mib} MiB of memory cannot boot a machine",
                expected=f"at least {least} MiB",
            )
        if not 0 < self.cpus < math.inf:
            raise UsageError(f"{self.cpus} processors make no machine", expected="more than 0")

    @property
    def processors(self) -> int:
        """The number of virtual processors."""
        return math.ceil(self.cpus)


# 96 MiB is where the distribution's kernel gives up, measured; the agent needs its share above it.
_MEMORY_MINIMUM_MIB = 128
_LEAST_MEMORY_MIB = {"tiny": 96}


def _lists(value: Any) -> Any:  # noqa: ANN401  # whatever there may be in one
    """Return the value as JSON has it: lists for tuples, all the way down."""
    if isinstance(value, RestartPolicy | HealthCheck):
        value = vars(value)
    if isinstance(value, dict):
        return {name: _lists(inner) for name, inner in value.items()}
    return [_lists(inner) for inner in value] if isinstance(value, list | tuple) else value


def _list(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)
