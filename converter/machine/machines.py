"""The one interface to machines, whoever runs them. Owns requests and records; runs nothing.

converter.machine.local has it for QEMU on this host, converter.machine.vsphere for a vCenter. A
machine has an id of 64 hexadecimal digits that nobody chooses, and a name that is its own among its
kind. It is created once, started any number of times, and stays, with its disk and its log, until
it is removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from agent.host.client import Address, Note, Output, Query
from agent.host.errors import RelayError
from agent.host.relay.life import HealthReport
from agent.host.relay.status import status_json
from agent.host.status import ExitStatus
from converter.errors import SaltflatError
from converter.machine.directory import SHORT_ID_DIGITS
from converter.machine.model import MachineSpec
from converter.machine.spec_json import spec_document
from converter.machine.state import Status
from converter.network.model import Binding

__all__ = ["MachineRecord", "MachineRequest", "Machines", "Status"]

RECORD_SCHEMA = 1
NAME_RULE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")  # docker's


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRequest:
    """A machine to create.

    `image` is what the user called the image and `image_digest` its manifest's digest; both are
    only told again. `store` is the store's folder: the links and the boot image of `spec` that lie
    there stay there for as long as the machine exists, so call `create` inside `using(store)`.
    Without a `name` the machine gets one. With `auto_remove` it goes when it has ended. `base` is
    the driver's own name for the disk that the machine's begins with, where that is not
    `spec.chain`.
    """

    spec: MachineSpec
    image: str
    image_digest: str
    store: Path
    name: str | None = None
    auto_remove: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    base: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRecord:
    """All that can be told of a machine; no secret is in it. Times are nanoseconds since 1970.

    `end` is how its process ended the last time, None while it runs or before it ever did;
    `reason` is a sentence where that end was not the process's own, else empty. `restarts` is how
    often its guest has started the process again, `restarting` that it is about to: then `end` and
    `finished_ns` are of the last end, though the machine runs. `spec` is None for
    a DEAD machine. `supervised` says whether somebody keeps the relay of a running machine; one
    without is taken on by the next `address`. `details` are the driver's own, for `inspect`. Of one
    that runs, `ports` are this host's that lead to it, and `network` what its guest says it has
    (docs/protocol.md), None before it said anything, and in lists.
    """

    id: str
    name: str
    status: Status
    image: str
    image_digest: str
    created_ns: int
    started_ns: int | None = None
    finished_ns: int | None = None
    end: ExitStatus | None = None
    reason: str = ""
    supervised: bool = False
    auto_remove: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    restarts: int = 0
    restarting: bool = False
    health: HealthReport | None = None
    spec: MachineSpec | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    ports: tuple[Binding, ...] = ()
    network: Mapping[str, Any] | None = None

    @property
    def short_id(self) -> str:
        """The beginning of the id, for people."""
        return self.id[:SHORT_ID_DIGITS]

    @property
    def command(self) -> tuple[str, ...]:
        """What the machine executes: the entrypoint and its arguments, as docker merges them."""
        if self.spec is None:
            return ()
        run, image = self.spec.guest.run, self.spec.guest.image
        entrypoint = image.get("Entrypoint") if run.entrypoint is None else run.entrypoint
        # An entrypoint of the user's own makes the image's arguments meaningless.
        default = image.get("Cmd") if run.entrypoint is None else None
        arguments = default if run.args is None else run.args
        return (*map(str, entrypoint or ()), *map(str, arguments or ()))

    def to_json(self) -> dict[str, Any]:
        """Return the machine as `inspect` shows it."""
        spec = self.spec
        return {
            "schema": RECORD_SCHEMA,
            "kind": "machine",
            "id": self.id,
            "name": self.name,
            "status": self.status.value,
            "image": self.image,
            "image_digest": self.image_digest,
            "created_ns": self.created_ns,
            "started_ns": self.started_ns,
            "finished_ns": self.finished_ns,
            "exit_code": None if self.end is None else self.end.code,
            "end": None if self.end is None else status_json(self.end),
            "reason": self.reason,
            "supervised": self.supervised,
            "auto_remove": self.auto_remove,
            "labels": dict(self.labels),
            "restart_count": self.restarts,
            "restarting": self.restarting,
            "health": None if self.health is None else asdict(self.health),
            "command": list(self.command),
            "spec": None if spec is None else spec_document(spec),
            "network": self._network_json(),
            "details": dict(self.details),
        }

    def _network_json(self) -> dict[str, Any]:
        ports: dict[str, list[dict[str, Any]]] = {}
        if self.spec is not None:
            ports = {name: [] for name in self.spec.networking.exposed}
        for binding in self.ports:
            host = {"host_ip": binding.host_ip, "host_port": binding.host_port}
            ports.setdefault(binding.name, []).append(host)
        told = self.network or {}
        return {
            "ports": ports,
            "interfaces": list(told.get("interfaces", ())),
            "name_servers": list(told.get("name_servers", ())),
            "search_domains": list(told.get("search_domains", ())),
            "warnings": list(told.get("warnings", ())),
        }


class Machines(Protocol):
    """Create, look at, start and end machines. Every `machine` is an id, as `find` returns it.

    All methods raise NotFoundError for an id that is no machine (any more), SaltflatError when
    the place where machines are kept cannot be used.
    """

    def check_name(self, name: str) -> None:
        """Raise UsageError now for a name that `create` would refuse as taken, or as none."""

    def create(self, request: MachineRequest) -> MachineRecord:
        """Make a machine, which does not run yet.

        Raises UsageError for a name that is taken or none, or a disk that cannot be; IntegrityError
        for a damaged chain.
        """

    def start(self, machine: str) -> None:
        """Start a machine and return when its relay can be reached; nothing if it runs already.

        It boots on its own disk, as that was left. Raises HypervisorError, NotFoundError when the
        hypervisor or a disk is missing, UsageError when a volume is in use.
        """

    def started(self, machine: str) -> AbstractContextManager[None]:
        """Start as `start` does; within the block, an end does not take the relay away.

        Nor is a machine that removes itself removed before the block is left or its process dies.
        So whoever attaches within gets all output and the exit status, however soon it ends.
        """

    def list(self) -> tuple[MachineRecord, ...]:
        """Return all machines, the newest first."""

    def find(self, name: str) -> MachineRecord:
        """Return the machine with this name, id, or beginning of an id that only one has.

        Raises NotFoundError, UsageError that names the candidates when there are several.
        """

    def address(self, machine: str) -> Address:
        """Return where the machine's relay is for agent.host.client; one is started if need be.

        It serves a machine that has ended, too: attach gives its output and status. Raises
        UsageError when it was never started, HypervisorError.
        """

    def stop(self, machine: str, timeout_seconds: float | None, number: int | None = None) -> None:
        """Have the process stop, and return when the machine has ended; nothing if it has.

        The process gets its stop signal, or `number`, and SIGKILL after `timeout_seconds`; -1 waits
        for ever, None is as long as the run asked for, or else 10. It is not started again. A guest
        that does not answer has its power cut soon after that.
        """

    def kill(self, machine: str, number: int) -> None:
        """Send the process the signal `number`. With SIGKILL, return when the machine has ended.

        A guest that does not answer to SIGKILL has its power cut. What the signal means for a
        policy of restarts is decided in the guest (agent.tether.restart). Raises UsageError when
        the machine does not run.
        """

    def wait(self, machine: str) -> ExitStatus:
        """Wait until the machine has ended, whoever else must be waited for; return how.

        Where the guest starts its process again, until the process has ended: then the status says
        so. Raises UsageError when it was never started.
        """

    def remove(self, machine: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a machine, its disk and its log; with `volumes` its anonymous volumes too.

        Raises UsageError when it runs, unless `force`: then its power is cut first.
        """

    def saved_logs(self, machine: str, query: Query | None = None) -> Iterator[Output | Note]:
        """Yield what is in the machine's log, as agent.host.client.saved_logs; it may run or not.

        Raises as that does, and RelayError where the log is at a relay.
        """

    def console(self, machine: str) -> str:
        """Return the last part of the guest's console."""

    def explain(self, machine: str, error: RelayError) -> SaltflatError:
        """Say in the tool's terms what went wrong, as precisely as the machine's traces allow."""
