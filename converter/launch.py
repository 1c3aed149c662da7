"""From a chain to a machine: what a run of an image asks of the hypervisor. Starts nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from converter.errors import IntegrityError
from converter.identity import identity_of
from converter.image.platform import Platform
from converter.machine.model import Channel, GuestConfig, MachineSpec, RunConfig
from converter.pipeline import Chain
from converter.store.bundle import Bundle
from tinykernel.record import BootImage

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Root:
    """The disk that a machine starts from: `disks` base first, `base_link_id` the lowest's id.

    Their paths are absolute, for the hypervisor runs in the machine's folder, and again when the
    machine is started from elsewhere. `digest` is that of the image's manifest.
    """

    digest: str
    disks: tuple[Path, ...]
    base_link_id: str
    capacity_bytes: int
    platform: Platform
    config_raw: bytes


def root_of_chain(chain: Chain) -> Root:
    """Return the root that an image in the store gives."""
    return Root(
        str(chain.image.digest),
        chain.disks,
        chain.links[0].link_id,
        chain.parameters.capacity_bytes,
        chain.image.platform,
        chain.image.config_raw,
    )


def root_of_bundle(bundle: Bundle) -> Root:
    """Return the root that a bundle gives."""
    return Root(
        bundle.digest,
        tuple(disk.absolute() for disk in bundle.disks),
        bundle.links[0].link_id,
        bundle.parameters.capacity_bytes,
        Platform.parse(bundle.platform),
        bundle.config_raw,
    )


def machine_spec(
    root: Root,
    boot: BootImage,
    run: RunConfig,
    *,
    memory_mib: int,
    cpus: float,
    channel: Channel,
    hostname: str | None = None,
    disk_bytes: int | None = None,
) -> MachineSpec:
    """Return what the hypervisor is to start. A machine without `hostname` is called by its id.

    The disk has `disk_bytes`, rounded up to whole MiB, or as much as the root. Which sizes are
    possible is known to the driver.
    Raises IntegrityError if the image's configuration is not readable.
    """
    try:
        execution = json.loads(root.config_raw).get("config") or {}
    except (ValueError, AttributeError) as error:
        raise IntegrityError(f"The image's configuration is not readable: {error}.") from error
    guest = GuestConfig(
        root_uuid=str(UUID(bytes=identity_of(root.base_link_id).uuid)),
        hostname=hostname or "",
        image=execution,
        run=run,
    )
    return MachineSpec(
        chain=root.disks,
        capacity_bytes=root.capacity_bytes if disk_bytes is None else -(-disk_bytes // MIB) * MIB,
        boot=boot,
        guest=guest,
        memory_mib=memory_mib,
        cpus=cpus,
        channel=channel,
    )
