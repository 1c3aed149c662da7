"""A machine on vSphere as its marks, and back. Pure.

Owns what is written on the VM, which all who may see it can read; no key is in it. The paths in a
specification, which are another host's, are but names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.host.relay.network_news import network_news
from agent.host.relay.status import reported_status, status_json
from agent.host.status import ExitStatus, printable
from converter.errors import UsageError
from converter.machine.machines import MachineRecord, MachineRequest
from converter.machine.model import Channel, MachineSpec
from converter.machine.spec_json import read_spec, spec_document
from converter.machine.state import UNKNOWN_END, Status
from converter.network.model import Card, CardModel, Networking
from converter.vsphere import c_marks as marks
from converter.vsphere.vm import Vm

SCHEMA = 1
NAME_LENGTH = 80  # vSphere's, and the roster's
UNSEEN = "nobody has seen how its process ended"
_DHCP = "dhcp"
_LAST_OCTET_MASK = 0x3F  # 00:50:56:00:00:00 to :3f:ff:ff are for those who choose themselves


@dataclass(frozen=True, slots=True)
class End:
    """How a machine's last run ended, and when: 0 where nobody wrote it down."""

    status: ExitStatus
    finished_ns: int
    reason: str = ""

    def encode(self, vm: Vm) -> str:
        """Return the mark's value for the run that has ended, so that it is no later one's."""
        document = {
            "schema": SCHEMA,
            "started": vm.extra.get(marks.STARTED),
            "status": status_json(self.status),
            "finished_ns": self.finished_ns,
            "reason": self.reason,
        }
        return json.dumps(document, sort_keys=True)


UNSEEN_END = End(UNKNOWN_END, 0, UNSEEN)


def spec_for_vsphere(machine: str, spec: MachineSpec) -> MachineSpec:
    """Return what a machine of this id is there, of what was asked for.

    Raises UsageError for what it cannot have there.
    """
    if spec.volumes:
        raise UsageError(
            "A volume is a disk of this host, which a machine on vSphere cannot have.",
            hint="Leave out -v and --mount, also of volumes that the image names.",
        )
    asked = spec.networking
    if asked.ports:
        raise UsageError(
            "No port of this host leads to a machine on vSphere, which has addresses of its own.",
            hint="Leave out -p and -P; saltflat inspect shows the machine's addresses.",
        )
    if len(asked.cards) > 1 or any(card.ip or card.ip6 for card in asked.cards):
        raise UsageError(
            "A machine on vSphere has one network card, which asks for its addresses.",
            hint="Leave out --ip and --ip6, and name at most one --network.",
        )
    cards = tuple(
        Card(network=_DHCP, mac=card.mac or _mac(machine), model=CardModel.VMXNET3, ipv6=True)
        for card in asked.cards
    )
    return replace(
        spec,
        channel=Channel.SERIAL,
        chain=tuple(Path(link.name) for link in spec.chain),
        boot=replace(spec.boot, folder=Path(spec.boot.id)),
        guest=replace(spec.guest, hostname=spec.guest.hostname or machine[:12]),
        networking=Networking(cards=cards, exposed=asked.exposed),
    )


def _mac(machine: str) -> str:
    first, second, third = bytes.fromhex(machine[-6:])
    return f"00:50:56:{first & _LAST_OCTET_MASK:02x}:{second:02x}:{third:02x}"


def marks_of(
    machine: str, name: str, request: MachineRequest, *, boot: str, created_ns: int
) -> dict[str, str]:
    """Return what is to be written on a new machine; `request.spec` is as it is there."""
    return {
        marks.MACHINE: machine,
        marks.NAME: name,
        marks.IMAGE: request.image,
        marks.DIGEST: request.image_digest,
        marks.CREATED: str(created_ns),
        marks.LABELS: json.dumps(dict(request.labels), sort_keys=True),
        marks.SPEC: json.dumps({"schema": SCHEMA, **spec_document(request.spec)}, sort_keys=True),
        marks.BOOT: boot,
        **({marks.AUTO_REMOVE: marks.YES} if request.auto_remove else {}),
    }


def guest_document(spec: MachineSpec, enrolment: Mapping[str, object]) -> str:
    """Return the document for a boot: what the guest is to run, and the relay's part of it."""
    network: dict[str, Any] | None = None
    if spec.networking.cards:
        interfaces = [
            {"mac": card.mac, "dhcp": True, "slaac": True} for card in spec.networking.cards
        ]
        network = {"interfaces": interfaces}
    document = json.loads(spec.guest.encode(spec.channel, None, network=network))
    return json.dumps({**document, **enrolment}, sort_keys=True)


def relay_name(vm: Vm) -> str:
    """Return by which name a machine's relay knows it, whatever somebody calls the VM now."""
    return vm.extra.get(marks.NAME, vm.name)


def spec_of(vm: Vm) -> MachineSpec:
    """Return a machine's specification. Raises ValueError."""
    document = _loads(vm.extra.get(marks.SPEC, "null"))
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError("no specification that this version knows")
    return read_spec(document)


def record_of(vm: Vm, *, server: str, end: ExitStatus | None) -> MachineRecord:
    """Return what a machine's marks say; `end` is what a relay knows of its last boot's end."""
    extra = vm.extra
    machine = extra[marks.MACHINE]
    details = {
        "driver": "vsphere",
        "server": server,
        "vm": vm.id,
        "instance_uuid": vm.instance_uuid,
        "boot_medium": extra.get(marks.BOOT, ""),
    }
    try:
        spec = spec_of(vm)
        labels = {str(key): str(value) for key, value in _loads(extra[marks.LABELS]).items()}
        created_ns = int(extra[marks.CREATED])
        started = extra.get(marks.STARTED)
        started_ns = None if started is None else int(started)
        finished = None if vm.is_on or started is None else end_of(vm, end)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return MachineRecord(
            id=machine,
            name=printable(vm.name),
            status=Status.DEAD,
            image="",
            image_digest="",
            created_ns=0 if vm.created is None else int(vm.created.timestamp() * 1e9),
            reason=f"what is written on it is damaged: {error}",
            details=details,
        )
    status = Status.CREATED if started is None else Status.EXITED
    return MachineRecord(
        id=machine,
        name=printable(vm.name),
        status=Status.RUNNING if vm.is_on else status,
        image=extra.get(marks.IMAGE, ""),
        image_digest=extra.get(marks.DIGEST, ""),
        created_ns=created_ns,
        started_ns=started_ns,
        finished_ns=None if finished is None else finished.finished_ns or None,
        end=None if finished is None else finished.status,
        reason="" if finished is None else finished.reason,
        supervised=vm.is_on,
        auto_remove=extra.get(marks.AUTO_REMOVE) == marks.YES,
        labels=labels,
        spec=spec,
        details=details,
    )


def end_of(vm: Vm, told: ExitStatus | None) -> End:
    """Return how a machine that is off ended: as is written on it, as the relay or guest told.

    Raises ValueError, KeyError, TypeError for a mark that is none.
    """
    written = written_end(vm)
    if written is not None:
        return written
    status = told or _guest_status(vm.extra.get(marks.GUEST_STATUS))
    return UNSEEN_END if status is None else End(status, 0)


def without_end(vm: Vm) -> Vm:
    """Return a machine as if no end were written on it."""
    return replace(vm, extra={key: vm.extra[key] for key in vm.extra if key != marks.END})


def written_end(vm: Vm) -> End | None:
    """Return the end of a machine's last run that is written on it. Raises as `end_of`."""
    written = vm.extra.get(marks.END)
    if written is None:
        return None
    document = _loads(written)
    status = reported_status(document["status"])
    if status is None:
        raise ValueError("an end that is none")
    end = End(status, int(document["finished_ns"]), str(document["reason"]))
    # Whoever saw an earlier run's end may have been slow to write it.
    return end if document["started"] == vm.extra.get(marks.STARTED) else None


def told_network(vm: Vm) -> Mapping[str, Any] | None:
    """Return what the guest says of its network by vSphere; None if nothing, or nothing legible."""
    try:
        found = _loads(vm.extra.get(marks.GUEST_NETWORK) or "null")
    except ValueError:
        return None
    return network_news(found) if isinstance(found, dict) else None


def _guest_status(text: str | None) -> ExitStatus | None:
    """Read what the guest wrote for its manager, who need not believe it."""
    try:
        found = _loads(text or "null")
        return reported_status(found) if isinstance(found, dict) else None
    except ValueError:
        return None


def _loads(text: str) -> Any:  # noqa: ANN401  # whatever somebody wrote
    """Parse JSON; ValueError for what is none, or too deep."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON that is too deep") from error
