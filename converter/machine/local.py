"""Machines of this host, under QEMU: what converter.machine.machines promises. Owns the life cycle.

Nothing here outlives a call but what is in the machine's folder and its supervisor. So any number
of commands may be at work on the same machine, and any of them, or the supervisor, or QEMU, may be
killed at any instant: the next who comes finds out how things stand and goes on.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from agent.host import client
from agent.host.client import Address, Note, Output, Query
from agent.host.errors import RelayError
from agent.host.relay import SOCKET_NAME
from agent.host.status import ExitStatus
from converter.errors import (
    HypervisorError,
    IntegrityError,
    NotFoundError,
    SaltflatError,
    UsageError,
)
from converter.events import Monitor, ignore
from converter.machine.address import MachineAddress
from converter.machine.directory import (
    CHANGING,
    LINGERING,
    QEMU_LOG,
    SERVING,
    STARTING,
    MachineFolder,
)
from converter.machine.explain import translated_error
from converter.machine.kvm import choose_accelerator
from converter.machine.launching import Launch, prepare
from converter.machine.machines import MachineRecord, MachineRequest
from converter.machine.model import MachineSpec
from converter.machine.process import qemu_version, tail
from converter.machine.qemu_command import CONSOLE_FILE, Accelerator
from converter.machine.registry import Registry
from converter.machine.removal import all_names, remove_machine
from converter.machine.settle import has_ended, look, settle
from converter.machine.spec_json import read_spec
from converter.machine.state import CUT_END, Status
from converter.volume.volumes import Lent, Volumes

STOP_SECONDS = 10.0  # docker's, between the stop signal and SIGKILL

_GRACE_SECONDS = 10.0  # for a guest to die of SIGKILL, before its power is cut
_CUT_SECONDS = 15.0
_HUNG_SECONDS = 5.0  # of a supervisor that does not do as it is told
_BUSY_SECONDS = 30.0
_SETTLE_SECONDS = 5.0
_POLL_SECONDS = 0.02
_CUT = "its power was cut"


class LocalMachines:
    """The machines below `root`. `accelerator` "tcg" or "kvm" takes that one without asking.

    Raises SaltflatError when the folder cannot be used.
    """

    def __init__(
        self, root: Path, *, monitor: Monitor = ignore, accelerator: str | None = None
    ) -> None:
        self._registry = Registry(root)
        self._volumes = Volumes(root)
        self._kvm_record = self._registry.machines.parent / "kvm.json"
        self._monitor = monitor
        self._accelerator = accelerator

    def check_name(self, name: str) -> None:
        """Refuse a name that cannot be; see Machines."""
        self._registry.check_name(name)

    def create(self, request: MachineRequest) -> MachineRecord:
        """Make a machine; see Machines."""
        return self._registry.create(request)

    def list(self) -> tuple[MachineRecord, ...]:
        """Return all machines, the newest first."""
        found = self._registry.list()
        for record in found:
            if record.auto_remove and record.status is Status.EXITED and not record.supervised:
                # Its supervisor was killed before it could remove it: another one does, once
                # nobody reads its output any more.
                with suppress(SaltflatError):
                    self._adopt(self._registry.folder(record.id))
        return found

    def find(self, name: str) -> MachineRecord:
        """Return the machine of this name, id or beginning of an id; see Machines."""
        return self._registry.find(name)

    # --- starting --------------------------------------------------------------------------------

    def start(self, machine: str) -> None:
        """Start a machine; see Machines."""
        with self.started(machine):
            pass

    @contextmanager
    def started(self, machine: str) -> Iterator[None]:
        """Start a machine, and have its relay stay for the block; see Machines."""
        launch = self._start(self._registry.folder(machine))
        try:
            yield
        finally:
            if launch is not None:
                launch.close()

    def _start(self, folder: MachineFolder) -> Launch | None:
        """Start or adopt; return what is to be closed when the relay may go, None: it ran."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while (lock := folder.try_lock(STARTING)) is None:
            owner = folder.supervisor()
            serves = owner is not None and owner.role == SERVING
            if serves and folder.state().status is Status.RUNNING:
                return None
            if owner is not None and not serves:  # somebody still reads the last run's output
                owner.mark.signal(signal.SIGTERM)
            _wait_turn(folder, deadline)
        try:
            runs = settle(folder).status is Status.RUNNING
            name = str(folder.machine()["name"])
            # A QEMU that runs has its volumes in its own hands.
            spec = None if runs else _spec(folder)
            with self._volumes.lend(folder.id, name, spec.volumes if spec else ()) as lent:
                held = [volume.descriptor for volume in lent]
                launch = Launch(folder, "start" if spec else "adopt", lock, for_qemu=held)
                try:
                    if spec is not None:
                        self._prepare(folder, spec, lent)
                    launch.go()
                except BaseException:
                    launch.close()
                    raise
                return launch
        finally:
            os.close(lock)

    def _prepare(self, folder: MachineFolder, spec: MachineSpec, volumes: Sequence[Lent]) -> None:
        temporary = folder.machine()["auto_remove"] is True
        prepare(folder, spec, self._choose(spec), temporary=temporary, volumes=volumes)

    def _choose(self, spec: MachineSpec) -> Accelerator:
        version = qemu_version()
        if self._accelerator is not None:
            return Accelerator(self._accelerator, version)
        return choose_accelerator(
            spec.boot, qemu_version=version, record=self._kvm_record, monitor=self._monitor
        )

    # --- the relay -------------------------------------------------------------------------------

    def address(self, machine: str) -> Address:
        """Return where the machine's relay is; see Machines. It is started when it is wanted."""
        folder = self._registry.folder(machine)
        if look(folder).status is Status.CREATED:
            raise UsageError(
                f"The machine {folder.name} was never started.",
                hint=f"Start it with: saltflat start {folder.name}",
            )
        return MachineAddress(folder.relay / SOCKET_NAME, adopt=lambda: self._adopt(folder))

    def _adopt(self, folder: MachineFolder) -> None:
        """See to it that the machine has a supervisor, whether it still runs or has ended."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while (lock := folder.try_lock(STARTING)) is None:
            if folder.supervisor() is not None:
                return
            _wait_turn(folder, deadline)
        try:
            with closing(Launch(folder, "adopt", lock)) as launch:
                launch.go()
        finally:
            os.close(lock)

    def saved_logs(self, machine: str, query: Query | None = None) -> Iterator[Output | Note]:
        """Yield the log from the disk: that needs no relay, so none is started for it."""
        return client.saved_logs(self._registry.folder(machine).relay, query)

    def console(self, machine: str) -> str:
        """Return the last part of the guest's console."""
        return tail(self._registry.folder(machine).path / CONSOLE_FILE)

    def explain(self, machine: str, error: RelayError) -> SaltflatError:
        """Say what went wrong, as precisely as the machine's traces allow."""
        try:
            folder = self._registry.folder(machine)
            self._wait_for_end(folder, _SETTLE_SECONDS if error.kind == "machine-ended" else 0)
            state = look(folder)
        except NotFoundError:
            return translated_error(error, console="", log="", hypervisor_exit=None)
        ended = state.status is Status.EXITED
        return translated_error(
            error,
            console=tail(folder.path / CONSOLE_FILE),
            log=tail(folder.path / QEMU_LOG),
            hypervisor_exit=state.hypervisor_exit if ended else None,
        )

    # --- ending ----------------------------------------------------------------------------------

    def stop(self, machine: str, timeout_seconds: float | None, number: int | None = None) -> None:
        """Have the process stop, and wait until the machine has ended; see Machines."""
        folder = self._registry.folder(machine)
        if look(folder).status is not Status.RUNNING:
            return
        seconds = timeout_seconds
        if seconds is None:
            asked = _spec(folder).guest.run.host_config.stop_seconds
            seconds = STOP_SECONDS if asked is None else asked
        with suppress(RelayError):
            client.stop(self.address(machine), seconds, number)
        if not self._wait_for_end(folder, None if seconds < 0 else seconds + _GRACE_SECONDS):
            self._cut(folder)

    def kill(self, machine: str, number: int) -> None:
        """Send the process a signal; see Machines."""
        folder = self._registry.folder(machine)
        if look(folder).status is not Status.RUNNING:
            raise UsageError(f"The machine {folder.name} does not run.")
        if number != signal.SIGKILL:
            try:
                client.send_signal(self.address(machine), number)
            except RelayError as error:
                raise self.explain(machine, error) from error
            return
        started = False
        with suppress(RelayError):
            described = client.describe(self.address(machine))
            # In the guest it is a wish to end, though its process may just not be running.
            started = described["started"] is not None or described["life"]["waits"]
            if started:
                client.send_signal(self.address(machine), number)
        if not self._wait_for_end(folder, _GRACE_SECONDS if started else 0):
            self._cut(folder)

    def wait(self, machine: str) -> ExitStatus:
        """Wait until the machine has ended; return how."""
        folder = self._registry.folder(machine)
        end: ExitStatus | None = None
        if look(folder).status is Status.RUNNING:
            with suppress(RelayError):
                end = client.wait(self.address(machine))
            if end is not None and end.restarts:
                return end
            self._wait_for_end(folder, None)
        try:
            state = look(folder)
        except NotFoundError:
            if end is None:
                raise
            return end  # it has removed itself
        if state.end is None:
            raise UsageError(f"The machine {folder.name} was never started.")
        return state.end

    def remove(self, machine: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a machine; see Machines."""
        ours = False  # to end it, so that it is no fault when it goes by itself
        try:
            folder = self._registry.folder(machine)
            deadline = time.monotonic() + _BUSY_SECONDS
            while (lock := folder.try_lock(CHANGING)) is None:
                owner = folder.supervisor()
                if owner is not None and owner.role == LINGERING:
                    owner.mark.signal(signal.SIGTERM)
                elif owner is not None and not has_ended(folder):
                    _refuse_running(folder, force=force)
                    ours = True
                    self._cut(folder)
                _wait_turn(folder, deadline)
            try:
                if folder.living_qemu() is not None:
                    _refuse_running(folder, force=force)
                    _end_qemu(folder)
                remove_machine(folder, volumes=volumes)
            finally:
                os.close(lock)
        except NotFoundError:
            with all_names(self._registry.machines):  # whoever removes it has finished then
                pass
            if not ours:
                raise

    def _wait_for_end(self, folder: MachineFolder, seconds: float | None) -> bool:
        """Wait until the machine has ended and that is written down; say whether it has."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            if has_ended(folder):
                return True
            left = 1.0 if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            qemu = folder.living_qemu()
            if qemu is None:
                time.sleep(_POLL_SECONDS)
                continue
            if folder.supervisor() is None:  # nobody would take what it sends
                self._adopt(folder)
            qemu.wait(min(1.0, left))

    def _cut(self, folder: MachineFolder) -> None:
        """Cut the machine's power, and wait until it has ended. Raises HypervisorError."""
        begun = time.monotonic()
        while True:
            owner = folder.supervisor()
            if owner is not None:
                hung = time.monotonic() - begun > _HUNG_SECONDS
                owner.mark.signal(signal.SIGKILL if hung else signal.SIGTERM)
                owner.mark.wait(_POLL_SECONDS * 5)
            elif (lock := folder.try_lock(CHANGING)) is not None:
                try:
                    _end_qemu(folder)
                    with suppress(IntegrityError):  # of what was damaged before, and stays so
                        _settle_cut(folder)
                finally:
                    os.close(lock)
            if has_ended(folder):
                return
            if time.monotonic() - begun > _CUT_SECONDS:
                raise HypervisorError(
                    f"The machine {folder.name} does not end.",
                    hint="A process stuck in the kernel waits for a disk: look at the host's log.",
                )
            time.sleep(_POLL_SECONDS)


def _spec(folder: MachineFolder) -> MachineSpec:
    try:
        return read_spec(folder.machine()["spec"])
    except (ValueError, KeyError) as error:
        raise IntegrityError(
            f"The machine {folder.name} is damaged: {error}.", hint="Remove it: saltflat rm"
        ) from error


def _end_qemu(folder: MachineFolder) -> None:
    """Kill a QEMU that has no supervisor; the lock is held. Raises HypervisorError."""
    qemu = folder.living_qemu()
    if qemu is not None:
        qemu.signal(signal.SIGKILL)
        if not qemu.wait(_CUT_SECONDS):
            raise HypervisorError(
                f"QEMU (process {qemu.pid}) does not end when killed.",
                hint="A process stuck in the kernel waits for a disk: look at the host's log.",
            )


def _settle_cut(folder: MachineFolder) -> None:
    """Write down the end of a machine whose power was cut; the lock is held."""
    if folder.state().status is Status.RUNNING:
        state = settle(folder)
        if state.reason:
            folder.write_state(replace(state, end=CUT_END, reason=_CUT))


def _refuse_running(folder: MachineFolder, *, force: bool) -> None:
    if not force:
        raise UsageError(
            f"The machine {folder.name} runs.",
            hint="Stop it first with saltflat stop, or remove it as it is: saltflat rm --force",
        )


def _wait_turn(folder: MachineFolder, deadline: float) -> None:
    """Let whoever has the lock go on for a moment. Raises SaltflatError after the deadline."""
    if time.monotonic() > deadline:
        raise SaltflatError(
            f"Another process has been at work on the machine {folder.name} for too long.",
            hint="See what it does, or end it.",
        )
    time.sleep(_POLL_SECONDS)
