"""From the machine's document to the first frame: how PID 1 comes to speak with its host.

Owns the choice of the document's source, the channel's drivers and the greeting. What follows is
`guest`'s, which is imported while the greeting is on its way.
"""

from __future__ import annotations

import time

from agent.hints import TYPE_CHECKING, Optional, Tuple
from agent.tether import c_linux, channel, config, entropy, log, modules, sources
from agent.tether.errors import StartError
from agent.tether.line import guest_line
from agent.tether.messages import MAIN, describe_failure
from agent.tether.renewals import Renewals
from agent.tether.uevents import UeventListener
from agent.values import dataclass

if TYPE_CHECKING:
    from agent.tether.guestinfo import GuestInfo


@dataclass(frozen=True)
class Machine:
    """What PID 1 has before it knows what it is for.

    `started` is when it began, by the monotonic clock. The root disk will be mounted at `root`, in
    the agent's own world, whose other mounts are `mounts`.
    """

    started: float
    events: UeventListener
    loader: modules.ModuleLoader
    root: str
    mounts: Tuple[str, ...]


def serve(command_line: str, machine: Machine, fault: Optional[StartError]) -> None:
    """Be the guest; what goes wrong before there is a channel is told to guestinfo, if any.

    `fault` is what has gone wrong already.
    """
    shared = _open_guestinfo(machine.loader)
    try:
        if fault is not None:
            raise fault
        _serve_host(command_line, machine, shared)
    except StartError as error:
        if shared is not None:
            shared.report(describe_failure(MAIN, error))
        raise


def _open_guestinfo(loader: modules.ModuleLoader) -> Optional[GuestInfo]:
    """Return VMware's variables, if this is VMware's machine; a guest runs without them as well."""
    if c_linux.PCI_VMWARE_VMCI not in modules.read_pci_ids():
        return None
    from agent.tether import guestinfo  # noqa: PLC0415 - other machines do not pay its memory

    try:
        return guestinfo.open_guestinfo(loader)
    except StartError as error:
        log.error("guestinfo cannot be used: {}".format(error.message))
        return None


def _serve_host(command_line: str, machine: Machine, shared: Optional[GuestInfo]) -> None:
    """Read the config, open the channel, and report whatever happens through it."""
    source = sources.choose_source(command_line, machine.loader, shared)
    document = config.load_document(source.read())
    source.forget()
    connection = config.parse_connection(document)
    entropy.seed(connection.key)
    renewals = Renewals(source, config.parse_renewal(document).epoch)
    rules, fault = config.output_rules(document)
    if isinstance(connection.channel, config.Vsock):
        for name in modules.drivers_for(modules.read_pci_ids(), modules.VSOCK_DRIVERS):
            machine.loader.load(name)
    transport = channel.open_transport(connection.channel, machine.events)
    line = guest_line(transport, connection.key, rules)
    line.greet(time.monotonic())
    from agent.tether import guest  # noqa: PLC0415 - most of the agent; the host need not await it

    guest.serve(
        machine,
        line,
        document,
        fault=fault,
        linger_seconds=rules.linger_seconds,
        renew=renewals.look if source.renews else None,  # else the guest can sleep
        shared=shared,
    )
