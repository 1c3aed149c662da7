"""Make a machine on a vCenter: its template, its boot medium, and the clone with its devices."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace

from converter.errors import HypervisorError, IntegrityError, NotFoundError, UsageError
from converter.events import Monitor, StepAdvanced, StepFinished, StepStarted
from converter.machine.machines import MachineRequest
from converter.machine.model import MachineSpec
from converter.machine.names import check_name, new_name
from converter.machine.relays import Relays
from converter.machine.vsphere_place import VspherePlace
from converter.machine.vsphere_record import NAME_LENGTH, marks_of, spec_for_vsphere
from converter.package.vmx import SERVICE_URI, check_serial
from converter.vsphere import c_marks as marks
from converter.vsphere.cloning import Clone, inherited_devices, make_clone
from converter.vsphere.datastore_files import DatastoreFiles
from converter.vsphere.hardware import boot_medium, network_card, serial_line
from converter.vsphere.vm import Vm, uuid_of
from converter.vsphere.vms import look, vm_called, vms_below
from tinykernel.media.record import Kind, Medium, digest_of, read_media
from tinykernel.record import BootImage

_ID_BYTES = 32
_NAME_ATTEMPTS = 8  # where nobody chose one, and others are faster
_CONCENTRATORS = ("telnet://", "telnets://")
_STEP = "boot medium"
_ADVANCE_BYTES = 8 << 20  # between two events


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes machines in a place. `serial` is the concentrator's URI as hosts reach it."""

    place: VspherePlace
    relays: Relays
    serial: str | None
    monitor: Monitor

    def check_name(self, name: str) -> None:
        """Raise UsageError for a name that is none, or is taken there or at the relays."""
        check_name(name)
        if len(name) > NAME_LENGTH:
            raise UsageError(
                f"{name[:NAME_LENGTH]!r}... is no name for a machine on vSphere.",
                expected=f"at most {NAME_LENGTH} characters",
            )
        if vm_called(self.place.connection, self.place.folder, name) is not None:
            raise self._taken(name)
        self.relays.check_name(name)

    def check_ready(self) -> None:
        """Raise UsageError, HypervisorError for what no machine can do without."""
        if self.serial is None:
            raise UsageError(
                "Where the machine's line is to lead is not said.",
                expected="--serial telnet://HOST:PORT of a concentrator (saltflat vspc serve)",
            )
        check_serial(self.serial)
        if not self.serial.startswith(_CONCENTRATORS):
            raise UsageError(
                f"{self.serial!r} is no concentrator, which the line of a machine leads to.",
                expected="telnet://HOST:PORT or telnets://HOST:PORT",
            )
        self.relays.check_directory()

    def check_spec(self, spec: MachineSpec) -> None:
        """Raise UsageError for what a machine cannot have there."""
        spec_for_vsphere("0" * 2 * _ID_BYTES, spec)

    def make(self, request: MachineRequest) -> Vm:
        """Clone the template `request.base` as a machine, which does not run.

        Raises UsageError, NotFoundError without a boot medium, HypervisorError.
        """
        self.check_ready()
        self.check_spec(request.spec)
        if request.base is None:
            raise UsageError("A machine on vSphere needs a template.", expected="its id")
        medium = _iso(request.spec.boot)
        files = self.place.files(self.place.placement())
        path = f"{marks.BOOT_FOLDER}/{medium.sha256}{marks.BOOT_SUFFIX}"
        self._ensure_medium(files, path, medium)
        vm = self._clone_by_name(request, request.base, files.full(path))
        self._ensure_medium(files, path, medium)  # gc may not have known that somebody needs it
        return vm

    def _clone_by_name(self, request: MachineRequest, base: str, boot: str) -> Vm:
        if request.name is not None:
            self.check_name(request.name)
            return self._clone(request, request.name, base, boot)
        for attempt in range(1, _NAME_ATTEMPTS + 1):
            taken = {vm.name for vm in vms_below(self.place.connection, self.place.folder)}
            name = new_name(taken)
            try:
                self.check_name(name)
                return self._clone(request, name, base, boot)
            except UsageError:
                if attempt == _NAME_ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _clone(self, request: MachineRequest, name: str, base: str, boot: str) -> Vm:
        connection, placement = self.place.connection, self.place.placement()
        machine = secrets.token_hex(_ID_BYTES)
        request = replace(request, spec=spec_for_vsphere(machine, request.spec))
        spec = request.spec
        template = connection.machine(base)
        mac = next((card.mac for card in spec.networking.cards), None)
        present = inherited_devices(connection, template)
        assert self.serial is not None
        wanted = Clone(
            name=name,
            uuid=uuid_of(machine),
            processors=spec.processors,
            memory_mib=spec.memory_mib,
            extra={
                **marks_of(machine, name, request, boot=boot, created_ns=time.time_ns()),
                # A clone has this in any case, a machine with a child of the disk has it not.
                marks.IMPORT: look(connection, template).extra.get(marks.IMPORT, ""),
            },
            devices=[
                *network_card(connection, present, placement.network, mac),
                *boot_medium(boot, placement.datastore),
                *serial_line(self.serial, SERVICE_URI),
            ],
        )
        try:
            return make_clone(connection, template, placement, wanted)
        except HypervisorError as error:
            if error.cause != "name-taken":
                raise
            raise self._taken(name) from error

    def _taken(self, name: str) -> UsageError:
        return UsageError(
            f"The name {name} is taken on {self.place.host}.",
            hint="Choose another one, or remove what has it.",
        )

    def _ensure_medium(self, files: DatastoreFiles, path: str, medium: Medium) -> None:
        if files.size(path) == medium.size_bytes:
            return
        if digest_of(medium.path) != medium.sha256:
            raise IntegrityError(
                f"The boot medium {medium.path} is damaged.",
                expected=f"sha256 {medium.sha256}",
                hint="Remove its folder and make it anew: saltflat boot build --media iso",
            )
        self.monitor(StepStarted(_STEP, medium.size_bytes))
        shown = 0

        def told(sent: int) -> None:
            nonlocal shown
            if sent - shown >= _ADVANCE_BYTES:
                shown = sent
                self.monitor(StepAdvanced(_STEP, sent))

        with medium.path.open("rb") as file:
            files.put(path, file, medium.size_bytes, told)
        self.monitor(StepFinished(_STEP, f"{medium.size_bytes / 1e6:,.1f} MB"))


def _iso(boot: BootImage) -> Medium:
    media = read_media(boot)  # proven when it is sent
    for medium in () if media is None else media.media:
        if medium.kind is Kind.ISO:
            return medium
    raise NotFoundError(
        f"The boot image {boot.id[:12]} has no ISO image for a machine to start from.",
        hint=f"Make it with: saltflat boot build --media {Kind.ISO.value}",
    )
