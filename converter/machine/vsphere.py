"""Machines on vSphere: what converter.machine.machines promises, on children of templates' disks.

All that is known of a machine stands on it (vsphere_record), but for its key, which its relay has
alone. So any number of commands may be at work, on any hosts, and any of them may be killed. Two at
the same machine: it is made by one request of the server, whose folders have each name once; who
starts or removes one does so alone, by a lock beside the keys (relays).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from agent.host import client
from agent.host.client import Address, Note, Output, Query
from agent.host.errors import ChannelError, RelayError
from agent.host.relay.life import NO_LIFE, Life, read_life
from agent.host.relay.status import reported_status
from agent.host.status import ExitStatus
from converter.errors import HypervisorError, NotFoundError, SaltflatError, UsageError
from converter.events import Monitor
from converter.machine.directory import no_machine
from converter.machine.explain import translated_error
from converter.machine.machines import MachineRecord, MachineRequest
from converter.machine.model import MachineSpec
from converter.machine.relays import Relays
from converter.machine.state import CUT_END, Status
from converter.machine.vsphere_making import Maker
from converter.machine.vsphere_place import FindPlace, VspherePlace
from converter.machine.vsphere_record import (
    UNSEEN_END,
    End,
    end_of,
    guest_document,
    record_of,
    relay_name,
    spec_of,
    told_network,
    without_end,
    written_end,
)
from converter.vsphere import c_marks as marks
from converter.vsphere.connection import Connection
from converter.vsphere.vm import Vm, is_id, machine_id, uuid_of
from converter.vsphere.vms import (
    destroy,
    has_running_task,
    look,
    power_off,
    power_on,
    set_extra,
    shut_guest_down,
    vm_called,
    vm_with_uuid,
    vms_below,
    wait_until_off,
)

STOP_SECONDS = 10.0  # docker's, between the stop signal and SIGKILL

_GRACE_SECONDS = 10.0  # for a guest to die of SIGKILL and switch itself off, before it is cut
_CUT_SECONDS = 60.0
_ID_DIGITS = "0123456789abcdef"
_CUT = "its power was cut"


class VsphereMachines:
    """The machines in the folder that `connect`'s settings name, and those below it.

    `connect` is called once, when a server is needed first. `serial` is the concentrator's URI as
    hosts reach it, for new machines; what it relays is found by `relays`.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        find_place: FindPlace,
        relays: Relays,
        *,
        serial: str | None,
        monitor: Monitor,
    ) -> None:
        self.place = VspherePlace(connect, find_place)
        self._relays = relays
        self._maker = Maker(self.place, relays, serial, monitor)

    @property
    def connection(self) -> Connection:
        """The session."""
        return self.place.connection

    def _vm(self, machine: str) -> Vm:
        """Return a machine's VM by its id. Raises NotFoundError."""
        found = vm_with_uuid(self.connection, uuid_of(machine)) if is_id(machine) else None
        if found is None or machine_id(found) != machine:
            raise no_machine(machine)
        return found

    def _vms(self) -> Iterator[Vm]:
        return (
            vm for vm in vms_below(self.connection, self.place.folder) if machine_id(vm) is not None
        )

    # --- making ----------------------------------------------------------------------------------

    def check_name(self, name: str) -> None:
        """Refuse a name that cannot be; see Machines."""
        self._maker.check_name(name)

    def check_spec(self, spec: MachineSpec) -> None:
        """Raise UsageError now for what `create` would refuse of `spec`."""
        self._maker.check_spec(spec)

    def check_ready(self, *, to_attach: bool) -> None:
        """Raise UsageError, HypervisorError now for what `create`, or attaching, would lack."""
        self._maker.check_ready()
        if not to_attach:
            return
        try:
            self._relays.check_answers("")
        except ChannelError as error:
            raise _no_relay(error) from error

    def create(self, request: MachineRequest) -> MachineRecord:
        """Make a machine of the template `request.base`; see Machines."""
        return self._record(self._maker.make(request))

    # --- looking ---------------------------------------------------------------------------------

    def list(self) -> tuple[MachineRecord, ...]:
        """Return all machines, the newest first."""
        found = [self._record(vm) for vm in self._vms()]
        return tuple(sorted(found, key=lambda record: (-record.created_ns, record.id)))

    def find(self, name: str) -> MachineRecord:
        """Return the machine of this name, id or beginning of an id; see Machines."""
        vm = vm_called(self.connection, self.place.folder, name)
        if vm is None or machine_id(vm) is None:
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
            end=self._relay_end(vm),
        )

    def _relay_end(self, vm: Vm) -> ExitStatus | None:
        """Return how a machine ended as its relay knows it, where that is not written on it."""
        if vm.is_on or marks.END in vm.extra or marks.STARTED not in vm.extra:
            return None
        with suppress(UsageError):  # nobody said where the relay is
            return self._relays.end(relay_name(vm))
        return None

    def _whole(self, vm: Vm, record: MachineRecord) -> MachineRecord:
        """Return a machine with what its relay knows of it, if that answers."""
        if record.status is not Status.RUNNING:
            return record
        life: Life = NO_LIFE
        with suppress(RelayError, SaltflatError, ValueError, KeyError):
            life = read_life(client.describe(self._relays.address(relay_name(vm)))["life"])
        return replace(
            record,
            restarts=life.restarts,
            restarting=life.waits,
            health=life.health,
            end=reported_status(life.end) if life.waits else record.end,
            finished_ns=life.ended_ns if life.waits else record.finished_ns,
            network=self._relays.network(relay_name(vm)) or told_network(vm),
        )

    # --- starting --------------------------------------------------------------------------------

    def start(self, machine: str) -> None:
        """Start a machine with a fresh key; see Machines."""
        found = self._vm(machine)
        with self._relays.working_on(found.instance_uuid):
            vm = self._now(found)
            if vm.is_suspended:  # somebody did that in the client: it goes on, with its key
                power_on(self.connection, vm)
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
            enrolment = self._relays.enrol(relay_name(vm), vm.instance_uuid)
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
            try:
                power_on(self.connection, vm)
            except SaltflatError:
                self._take_back(vm, told)
                raise

    def _take_back(self, vm: Vm, told: Iterable[str]) -> None:
        """Have a machine that was not started say what it said before, without the key.

        Raises nothing: what hinders it has hindered the start, which is what is to be told.
        """
        with suppress(SaltflatError):
            now = look(self.connection, vm.reference)
            if not now.is_on and not has_running_task(self.connection, now):
                before = {name: vm.extra.get(name, "") for name in told}
                set_extra(self.connection, now, {**before, marks.GUEST_DOCUMENT: ""})

    @contextmanager
    def started(self, machine: str) -> Iterator[None]:
        """Start a machine; its relay stays in any case."""
        self.start(machine)
        yield

    def _now(self, vm: Vm) -> Vm:
        try:
            return look(self.connection, vm.reference)
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
        return self._relays.address(relay_name(vm))

    def saved_logs(self, machine: str, query: Query | None = None) -> Iterator[Output | Note]:
        """Yield the log, from the relay's folder where that is on this host."""
        return self._relays.logs(relay_name(self._vm(machine)), query)

    def console(self, machine: str) -> str:
        """Return nothing: a machine has no port that its console is written to."""
        self._vm(machine)
        return ""

    def explain(self, machine: str, error: RelayError) -> SaltflatError:
        """Say what went wrong."""
        del machine
        if isinstance(error, ChannelError):
            return _no_relay(error)
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
            client.stop(self._relays.address(relay_name(vm)), seconds, number)
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
                client.send_signal(self._relays.address(relay_name(vm)), number)
            except RelayError as error:
                raise self.explain(machine, error) from error
            return
        started = False
        with suppress(RelayError, UsageError):
            address = self._relays.address(relay_name(vm))
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
        """Wait until the machine is off, or its process has ended long enough ago; return how."""
        vm = self._vm(machine)
        end: ExitStatus | None = None
        if vm.is_on:
            with suppress(RelayError, UsageError):
                end = client.wait(self._relays.address(relay_name(vm)))
            if end is not None and end.restarts:
                return end
            # A guest whose process has ended may still not manage to switch itself off.
            wait_until_off(self.connection, vm, None if end is None else _CUT_SECONDS)
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
            self._relays.forget(relay_name(vm), vm.instance_uuid)
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
            self._settle(vm, otherwise=End(CUT_END, time.time_ns(), _CUT))

    def _settle(
        self, vm: Vm, told: ExitStatus | None = None, *, otherwise: End = UNSEEN_END
    ) -> End:
        """Write on a machine that is off how it ended, unless that is written there. Return it.

        `told` is by its relay, `otherwise` counts where neither relay nor guest know. That nobody
        does is not written: somebody else may.
        """
        now = self._now(vm)
        if now.is_on or marks.STARTED not in now.extra:
            return End(told, 0) if told else otherwise
        with suppress(ValueError, KeyError, TypeError):
            if (written := written_end(now)) is not None:
                return written
        end = end_of(without_end(now), told or self._relay_end(now))
        if end is UNSEEN_END:
            end = otherwise
        if end is not UNSEEN_END:
            end = replace(end, finished_ns=time.time_ns())
            with suppress(NotFoundError):
                set_extra(self.connection, now, {marks.END: end.encode(now)})
        return end


def _no_relay(error: ChannelError) -> HypervisorError:
    return HypervisorError(
        error.what,
        expected="the relay of the machine",
        hint="Start the concentrator: saltflat vspc serve --relays DIR --listen ...",
        cause=error.kind,
    )
