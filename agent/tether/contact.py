"""From the machine's document to the first frame: how PID 1 comes to speak with its host.

Owns the choice of the document's source, the drivers and the greeting. What follows is `guest`'s,
which is imported while the greeting is on its way and the disks answer.
"""

from __future__ import annotations

import time

from agent.hints import TYPE_CHECKING, Optional, Tuple
from agent.tether import channel, config, disks, entropy, modules, sources, vmware
from agent.tether.errors import StartError
from agent.tether.line import guest_line
from agent.tether.messages import MAIN, describe_failure
from agent.tether.renewals import Renewals
from agent.tether.uevents import UeventListener
from agent.values import dataclass

if TYPE_CHECKING:
    from agent.tether.guestinfo import Hypervisor

_CHANNEL_DRIVERS = (
    (config.VirtioSerial, modules.PORT_DRIVERS),
    (config.Vsock, modules.VSOCK_DRIVERS),
)


@dataclass(frozen=True)
class Machine:
    """What PID 1 has before it knows what it is for.

    The root disk will be mounted at `root`, in the agent's own world, whose other mounts are
    `mounts`. `started` is when it began, by the monotonic clock.
    """

    loader: modules.ModuleLoader
    events: UeventListener
    root: str
    mounts: Tuple[str, ...]
    started: float


def serve(command_line: str, *, root: str, mounts: Tuple[str, ...], started: float) -> None:
    """Be the guest; what goes wrong before there is a channel is told to guestinfo, if any.

    The rest is for `Machine`.
    """
    with UeventListener() as events:
        machine = Machine(modules.read_order(), events, root, mounts, started)
        hypervisor = _open_hypervisor(machine.loader)
        try:
            _serve_host(command_line, machine, hypervisor)
        except StartError as error:
            if hypervisor is not None:
                hypervisor.guestinfo.report(describe_failure(MAIN, error))
            raise


def _open_hypervisor(loader: modules.ModuleLoader) -> Optional[Hypervisor]:
    """Return the ways to VMware's hypervisor, if this is VMware's machine."""
    ids = modules.read_pci_ids()
    if not vmware.is_here(ids):
        return None
    from agent.tether import guestinfo  # noqa: PLC0415 - other machines do not pay its memory

    return guestinfo.open_hypervisor(loader, ids)


def _serve_host(command_line: str, machine: Machine, hypervisor: Optional[Hypervisor]) -> None:
    """Read the config, open the channel, and report whatever happens through it."""
    shared = None if hypervisor is None else hypervisor.guestinfo
    source = sources.choose_source(command_line, machine.loader, shared)
    document = config.load_document(source.read())
    source.forget()
    connection = config.parse_connection(document)
    entropy.seed(connection.key)
    renewals = Renewals(source, config.parse_renewal(document).epoch)
    rules, fault = config.output_rules(document)
    ids = modules.read_pci_ids()
    for kind, drivers in _CHANNEL_DRIVERS:
        if isinstance(connection.channel, kind):
            machine.loader.load_all(modules.drivers_for(ids, drivers))
    transport = channel.open_transport(connection.channel, machine.events)
    line = guest_line(transport, connection.key, rules)
    line.greet(time.monotonic())
    try:
        machine.loader.load_all(modules.drivers_for(ids))
        disks.scan_scsi(disks.USUAL_PLACE)
    except StartError as error:
        fault = fault or error
    from agent.tether import guest  # noqa: PLC0415 - most of the agent, while host and disks answer

    guest.serve(
        machine,
        line,
        document,
        fault=fault,
        linger_seconds=rules.linger_seconds,
        renew=renewals.look if source.renews else None,  # else the guest can sleep
        hypervisor=hypervisor,
    )
