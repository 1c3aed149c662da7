"""Machines of a vCenter: what converter.machine.machines promises, by clones of templates.

All that is known of a machine stands on it (vsphere_record), but for its key, which its relay has
alone. So any number of commands may be at work, on any hosts, and any of them may be killed. Two at
the same machine: it is made by one request of the server, whose folders have each name once; who
starts or removes one does so alone, by a lock beside the keys (relays).
"""

from __future__ import annotations

import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from agent.host import client
from agent.host.client import Address
from agent.host.errors import ChannelError, RelayError
from agent.host.relay.life import NO_LIFE, Life, read_life
from agent.host.relay.status import reported_status
from agent.host.status import ExitStatus
from converter.errors import HypervisorError, NotFoundError, SaltflatError, UsageError
from converter.events import Monitor, StepAdvanced, StepFinished, StepStarted
from converter.machine.directory import no_machine
from converter.machine.explain import translated_error
from converter.machine.machines import MachineRecord, MachineRequest
from converter.machine.model import MachineSpec
from converter.machine.names import check_name, new_name
from converter.machine.relays import Relays
from converter.machine.state import CUT_END, Status
from converter.machine.vsphere_record import (
    NAME_LENGTH,
    End,
    guest_document,
    is_id,
    is_machine,
    marks_of,
    new_end,
    record_of,
    spec_for_vsphere,
    spec_of,
    uuid_of,
)
from converter.package.vmx import SERVICE_URI, check_serial
from converter.vsphere import c_marks as marks
from converter.vsphere.connection import Connection
from converter.vsphere.datastore_files import DatastoreFiles
from converter.vsphere.hardware import boot_medium, network_card, serial_line
from converter.vsphere.inventory import Inventory
from converter.vsphere.placement import Placement, find_datacenter, find_folder, place
from converter.vsphere.survey import survey
from converter.vsphere.templates import Template, import_template
from converter.vsphere.vms import (
    Clone,
    Vm,
    clone,
    destroy,
    look,
    power_off,
    power_on,
    set_extra,
    shut_guest_down,
    template_devices,
    vm_called,
    vm_with_uuid,
    vms_below,
    wait_until_off,
)
from tinykernel.media.record import Kind, Medium, load_media
from tinykernel.record import BootImage

STOP_SECONDS = 10.0  # docker's, between the stop signal and SIGKILL

_GRACE_SECONDS = 10.0  # for a guest to die of SIGKILL and switch itself off, before it is cut
_CUT_SECONDS = 60.0
_ID_BYTES = 32
_ID_DIGITS = "0123456789abcdef"
_CUT = "its power was cut"
_STEP = "boot medium"
_ADVANCE_BYTES = 8 << 20  # between two events


class VsphereMachines:
    """The machines in the folder that `connect`'s settings name, and those below it.

    `connect` is called once, when a server is needed first. `serial` is the concentrator's URI as
    hosts reach it, for new machines; what it relays is found by `relays`.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        relays: Relays,
        *,
        serial: str | None,
        monitor: Monitor,
    ) -> None:
        self._connect = connect
        self._relays = relays
        self._serial = serial
        self._monitor = monitor
        self._lock = threading.RLock()
        self._opened: Connection | None = None
        self._surveyed: Inventory | None = None

    # --- the server ------------------------------------------------------------------------------

    @property
    def connection(self) -> Connection:
        """The session. Raises as `connect`."""
        with self._lock:
            if self._opened is None:
                self._opened = self._connect()
            return self._opened

    @property
    def inventory(self) -> Inventory:
        """The places that there are, as they were when they were needed first."""
        with self._lock:
            if self._surveyed is None:
                self._surveyed = survey(self.connection)
            return self._surveyed

    @property
    def folder(self) -> object:
        """The folder of machines."""
        wishes = self.connection.settings.wishes
        datacenter = find_datacenter(self.inventory, wishes)
        return find_folder(self.inventory, wishes, datacenter).reference

    def _placement(self) -> Placement:
        return place(self.inventory, self.connection.settings.wishes)

    def _vm(self, machine: str) -> Vm:
        """Return a machine's VM by its id. Raises NotFoundError."""
        found = vm_with_uuid(self.connection, uuid_of(machine)) if is_id(machine) else None
        if found is None or found.extra.get(marks.MACHINE) != machine:
            # The server may have changed a UUID that it found twice.
            found = next((vm for vm in self._vms() if vm.extra[marks.MACHINE] == machine), None)
        if found is None:
            raise no_machine(machine)
        return found

    def _vms(self) -> Iterator[Vm]:
        return (vm for vm in vms_below(self.connection, self.folder) if is_machine(vm))

    # --- making ----------------------------------------------------------------------------------

    def check_name(self, name: str) -> None:
        """Refuse a name that cannot be; see Machines."""
        check_name(name)
        if len(name) > NAME_LENGTH:
            raise UsageError(
                f"{name[:NAME_LENGTH]!r}... is no name for a machine on vSphere.",
                expected=f"at most {NAME_LENGTH} characters",
            )
        if vm_called(self.connection, self.folder, name) is not None:
            raise UsageError(
                f"The name {name} is taken on {self.connection.settings.address.host}.",
                hint="Choose another one, or remove what has it.",
            )
        self._relays.check_name(name)

    def import_base(self, template: Template, spec: MachineSpec) -> str:
        """Return the id of the template for a machine, made now if it is not there.

        Raises UsageError for what `spec` cannot have on vSphere, and as import_template does.
        """
        self._require_clones()
        spec_for_vsphere("0" * 2 * _ID_BYTES, spec)  # before anything that takes time
        made = import_template(
            self.connection, self._placement(), template, replace=False, monitor=self._monitor
        )
        return made.machine

    def create(self, request: MachineRequest) -> MachineRecord:
        """Make a machine of the template `request.base`; see Machines."""
        connection, placement, base = self.connection, self._placement(), request.base
        self._require_clones()
        if self._serial is None:
            raise UsageError(
                "Where the machine's line is to lead is not said.",
                expected="--serial telnet://HOST:PORT of a concentrator (saltflat vspc serve)",
            )
        check_serial(self._serial)
        if base is None:
            raise UsageError("A machine on vSphere needs a template.", expected="its id")
        machine = secrets.token_hex(_ID_BYTES)
        boot = request.spec.boot
        request = replace(request, spec=spec_for_vsphere(machine, request.spec))
        spec = request.spec
        name = request.name or new_name({vm.name for vm in vms_below(connection, self.folder)})
        self.check_name(name)
        medium = _iso(boot)
        files = self._files(placement)
        path = f"{marks.BOOT_FOLDER}/{medium.sha256}{marks.BOOT_SUFFIX}"
        self._ensure_medium(files, path, medium)
        template = connection.machine(base)
        mac = next((card.mac for card in spec.networking.cards), None)
        devices = [
            *network_card(
                connection, template_devices(connection, template), placement.network, mac
            ),
            *boot_medium(files.full(path), placement.datastore),
            *serial_line(self._serial, SERVICE_URI),
        ]
        wanted = Clone(
            name=name,
            instance_uuid=uuid_of(machine),
            processors=spec.processors,
            memory_mib=spec.memory_mib,
            extra=marks_of(machine, request, files.full(path), time.time_ns()),
            annotation=f"{request.image}\n{request.image_digest}",
            devices=devices,
        )
        try:
            vm = clone(connection, template, placement, wanted)
        except HypervisorError as error:
            if error.cause != "name-taken":
                raise
            raise UsageError(
                f"The name {name} is taken on {connection.settings.address.host}.",
                hint="Choose another one, or remove what has it.",
            ) from error
        self._ensure_medium(files, path, medium)  # gc may not have known that somebody needs it
        return self._record(vm)

    def _require_clones(self) -> None:
        if not self.connection.about.is_vcenter:
            raise HypervisorError(
                f"{self.connection.about.name} makes no clones, which machines are.",
                expected="a vCenter",
                hint="Name the vCenter that has this host with --vsphere-url.",
                cause="not-supported",
            )

    def _files(self, placement: Placement) -> DatastoreFiles:
        return DatastoreFiles(
            self.connection,
            placement.datacenter,
            self.inventory.path(placement.datacenter),
            placement.datastore,
        )

    def _ensure_medium(self, files: DatastoreFiles, path: str, medium: Medium) -> None:
        if files.size(path) == medium.size_bytes:
            return
        self._monitor(StepStarted(_STEP, medium.size_bytes))
        shown = 0

        def told(sent: int) -> None:
            nonlocal shown
            if sent - shown >= _ADVANCE_BYTES:
                shown = sent
                self._monitor(StepAdvanced(_STEP, sent))

        with medium.path.open("rb") as file:
            files.put(path, file, medium.size_bytes, told)
        self._monitor(StepFinished(_STEP, f"{medium.size_bytes / 1e6:,.1f} MB"))

    # --- looking ---------------------------------------------------------------------------------

    def list(self) -> tuple[MachineRecord, ...]:
        """Return all machines, the newest first."""
        found = [self._record(vm) for vm in self._vms()]
        return tuple(sorted(found, key=lambda record: (-record.created_ns, record.id)))

    def find(self, name: str) -> MachineRecord:
        """Return the machine of this name, id or beginning of an id; see Machines."""
        vm = vm_called(self.connection, self.folder, name)
        if vm is None or not is_machine(vm):
            vm = self._search(name)
        return self._whole(vm, self._record(vm))

    def _search(self, name: str) -> Vm:
        """Return the machine that `name` is, in folders further down or by its id."""
        vms = list(self._vms())
        found = [vm for vm in vms if vm.name == name]
        if not found and set(name) <= set(_ID_DIGITS):
            found = [vm for vm in vms if vm.extra[marks.MACHINE].startswith(name)]
        if not found:
            raise no_machine(name)
        if len(found) > 1:
            records = [self._record(vm) for vm in found]
            candidates = ", ".join(f"{record.short_id} ({record.name})" for record in records)
            raise UsageError(
                f"Several machines are called {name}, or their ids begin so: {candidates}.",
                expected="enough of an id to tell it from the others",
            )
        return found[0]

    def _record(self, vm: Vm) -> MachineRecord:
        return record_of(
            vm,
            server=self.connection.settings.address.url,
            end=None if vm.is_on else self._relays.end(vm.name),
        )

    def _whole(self, vm: Vm, record: MachineRecord) -> MachineRecord:
        """Return a machine with what its relay knows of it, if that answers."""
        if record.status is not Status.RUNNING:
            return record
        life: Life = NO_LIFE
        with suppress(RelayError, SaltflatError, ValueError, KeyError):
            life = read_life(client.describe(self._relays.address(vm.name))["life"])
        return replace(
            record,
            restarts=life.restarts,
            restarting=life.waits,
            health=life.health,
            end=reported_status(life.end) if life.waits else record.end,
            finished_ns=life.ended_ns if life.waits else record.finished_ns,
            network=self._relays.network(vm.name),
        )

    # --- starting --------------------------------------------------------------------------------

    def start(self, machine: str) -> None:
        """Start a machine with a fresh key; see Machines."""
        found = self._vm(machine)
        with self._relays.working_on(found.instance_uuid):
            vm = self._now(found)
            if vm.is_on:
                return
            try:
                spec = spec_of(vm)
            except ValueError as error:
                raise HypervisorError(
                    f"The machine {vm.name} is damaged: {error}.",
                    hint="Remove it: saltflat rm",
                    cause="damaged",
                ) from error
            enrolment = self._relays.enrol(vm.name, vm.instance_uuid)
            told = {
                marks.GUEST_DOCUMENT: guest_document(spec, enrolment.document()),
                marks.STARTED: str(time.time_ns()),
                **{name: "" for name in (marks.END, marks.NOTED) if name in vm.extra},
                **{
                    name: ""
                    for name in (marks.GUEST_STATUS, marks.GUEST_NETWORK)
                    if name in vm.extra
                },
            }
            set_extra(self.connection, vm, told)
            power_on(self.connection, vm)

    @contextmanager
    def started(self, machine: str) -> Iterator[None]:
        """Start a machine; its relay stays in any case."""
        self.start(machine)
        yield

    def _now(self, vm: Vm) -> Vm:
        try:
            return look(self.connection, vm)
        except NotFoundError as error:
            raise no_machine(vm.name) from error

    # --- the relay -------------------------------------------------------------------------------

    def address(self, machine: str) -> Address:
        """Return where the machine's relay is; see Machines. Nobody starts one here."""
        vm = self._vm(machine)
        if marks.STARTED not in vm.extra:
            raise UsageError(
                f"The machine {vm.name} was never started.",
                hint=f"Start it with: saltflat start {vm.name}",
            )
        return self._relays.address(vm.name)

    def log_folder(self, machine: str) -> Path:
        """Return the relay's folder. Raises UsageError when it is on another host."""
        return self._relays.log_folder(self._vm(machine).name)

    def console(self, machine: str) -> str:
        """Return nothing: a machine has no port that its console is written to."""
        self._vm(machine)
        return ""

    def explain(self, machine: str, error: RelayError) -> SaltflatError:
        """Say what went wrong."""
        if isinstance(error, ChannelError):
            return HypervisorError(
                error.what,
                expected="the relay of the machine",
                hint="Start the concentrator: saltflat vspc serve --relays DIR --listen ...",
                cause=error.kind,
            )
        return translated_error(error, console="", log="", hypervisor_exit=None)

    # --- ending ----------------------------------------------------------------------------------

    def stop(self, machine: str, timeout_seconds: float | None, number: int | None = None) -> None:
        """Have the process stop, and wait until the machine is off; see Machines.

        Its relay passes it on; where none answers, vSphere's own way to the guest is tried.
        """
        vm = self._vm(machine)
        if not vm.is_on:
            return
        seconds = timeout_seconds
        if seconds is None:
            asked = None
            with suppress(ValueError):
                asked = spec_of(vm).guest.run.host_config.stop_seconds
            seconds = STOP_SECONDS if asked is None else asked
        try:
            client.stop(self._relays.address(vm.name), seconds, number)
            asked_for = True
        except (RelayError, UsageError):
            asked_for = shut_guest_down(self.connection, vm)
        patience = None if seconds < 0 else seconds + _GRACE_SECONDS
        if not wait_until_off(self.connection, vm, patience if asked_for else 0):
            self._cut(vm)
        else:
            self._settle(vm)

    def kill(self, machine: str, number: int) -> None:
        """Send the process a signal; see Machines."""
        vm = self._vm(machine)
        if not vm.is_on:
            raise UsageError(f"The machine {vm.name} does not run.")
        if number != signal.SIGKILL:
            try:
                client.send_signal(self._relays.address(vm.name), number)
            except RelayError as error:
                raise self.explain(machine, error) from error
            return
        started = False
        with suppress(RelayError, UsageError):
            address = self._relays.address(vm.name)
            described = client.describe(address)
            # In the guest it is a wish to end, though its process may just not be running.
            started = described["started"] is not None or described["life"]["waits"]
            if started:
                client.send_signal(address, number)
        if not wait_until_off(self.connection, vm, _GRACE_SECONDS if started else 0):
            self._cut(vm)
        else:
            self._settle(vm)

    def wait(self, machine: str) -> ExitStatus:
        """Wait until the machine is off; return how its process ended."""
        vm = self._vm(machine)
        end: ExitStatus | None = None
        if vm.is_on:
            with suppress(RelayError, UsageError):
                end = client.wait(self._relays.address(vm.name))
            if end is not None and end.restarts:
                return end
            wait_until_off(self.connection, vm, None)
        elif marks.STARTED not in vm.extra:
            raise UsageError(f"The machine {vm.name} was never started.")
        try:
            return self._settle(vm, end).status
        except NotFoundError:
            if end is None:
                raise
            return end  # it has removed itself

    def remove(self, machine: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a machine, its disk, its key and its log; see Machines. It has no volumes."""
        del volumes
        self.remove_vm(self._vm(machine), force=force)

    def remove_vm(self, found: Vm, *, force: bool = False) -> None:
        """Remove a machine by its VM; as `remove`."""
        with self._relays.working_on(found.instance_uuid):
            vm = self._now(found)
            if vm.is_on:
                if not force:
                    raise UsageError(
                        f"The machine {vm.name} runs.",
                        hint="Stop it first with saltflat stop, or remove it as it is: "
                        "saltflat rm --force",
                    )
                power_off(self.connection, vm)
            # First, so that whatever is killed, no key is left without its machine.
            self._relays.forget(vm.name, vm.instance_uuid)
            try:
                destroy(self.connection, vm)
            except NotFoundError as error:
                raise no_machine(vm.name) from error

    def _cut(self, vm: Vm) -> None:
        power_off(self.connection, vm)
        if not wait_until_off(self.connection, vm, _CUT_SECONDS):
            raise HypervisorError(
                f"The machine {vm.name} does not end.",
                hint="Look at its tasks in the client.",
            )
        with suppress(NotFoundError):
            self._write_end(self._now(vm), End(CUT_END, time.time_ns(), _CUT))

    def _settle(self, vm: Vm, told: ExitStatus | None = None) -> End:
        """Write on a machine that is off how it ended, unless that is written there. Return it."""
        now = self._now(vm)
        end = new_end(now, told or self._relays.end(now.name))
        self._write_end(now, end)
        return end

    def _write_end(self, vm: Vm, end: End) -> None:
        if marks.END in vm.extra or marks.STARTED not in vm.extra or vm.is_on:
            return
        with suppress(NotFoundError):
            set_extra(self.connection, vm, {marks.END: end.encode()})


def _iso(boot: BootImage) -> Medium:
    media = load_media(boot)
    for medium in () if media is None else media.media:
        if medium.kind is Kind.ISO:
            return medium
    raise NotFoundError(
        f"The boot image {boot.id[:12]} has no ISO image for a machine to start from.",
        hint=f"Make it with: saltflat boot build --media {Kind.ISO.value}",
    )
