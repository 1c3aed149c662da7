"""A machine's specification as JSON, and back. Owns the "spec" object of machine.json.

docs/formats.md has its members. Reading raises ValueError for anything that is not as written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.tether.errors import StartError
from agent.tether.host_config import parse_host_config
from converter.errors import UsageError
from converter.machine.model import NO_NETWORK, Channel, GuestConfig, MachineSpec, RunConfig
from converter.network.model import read_networking
from converter.volume.mount import read_mount
from tinykernel.record import decode_record


def spec_document(spec: MachineSpec) -> dict[str, Any]:
    """Return what `read_spec` reads."""
    return {
        "chain": [str(link) for link in spec.chain],
        "capacity": spec.capacity_bytes,
        "boot": {"folder": str(spec.boot.folder), **spec.boot.to_json()},
        "root_uuid": spec.guest.root_uuid,
        "hostname": spec.guest.hostname,
        "image_config": dict(spec.guest.image),
        "run": spec.guest.run.to_json(),
        "memory_mib": spec.memory_mib,
        "cpus": spec.cpus,
        "channel": spec.channel.value,
        "volumes": [volume.to_json() for volume in spec.volumes],
        "networking": spec.networking.to_json(),
    }


def read_spec(document: Mapping[str, Any]) -> MachineSpec:
    """Return the specification of `spec_document`. Raises ValueError."""
    try:
        boot = document["boot"]
        return MachineSpec(
            chain=tuple(Path(link) for link in document["chain"]),
            capacity_bytes=int(document["capacity"]),
            boot=decode_record(Path(boot["folder"]), boot),
            guest=GuestConfig(
                root_uuid=str(document["root_uuid"]),
                hostname=str(document["hostname"]),
                image=dict(document["image_config"]),
                run=_read_run(document["run"]),
            ),
            memory_mib=int(document["memory_mib"]),
            cpus=float(document["cpus"]),
            channel=Channel(document["channel"]),
            volumes=tuple(map(read_mount, document["volumes"])),
            networking=read_networking(document.get("networking") or NO_NETWORK.to_json()),
        )
    except (KeyError, TypeError, AttributeError, UsageError, StartError) as error:
        raise ValueError(f"no specification of a machine: {error!r}") from error


def _read_run(document: Mapping[str, Any]) -> RunConfig:
    return RunConfig(
        args=_texts(document["args"]),
        entrypoint=_texts(document["entrypoint"]),
        env=_texts(document["env"]) or (),
        user=document["user"],
        workdir=document["workdir"],
        tty=document["tty"] is True,
        stdin=document["stdin"] is True,
        rows=document["rows"],
        cols=document["cols"],
        host_config=parse_host_config(document["host_config"]),
    )


def _texts(values: list[Any] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(str(value) for value in values)
