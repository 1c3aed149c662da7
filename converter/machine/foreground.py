"""A machine in the foreground: start it, attach the user to its process, and wait for its end.

Owns the order of these, and what becomes of the machine when its guest is lost or the user has had
enough. What goes over the line belongs to agent.host, the user's terminal to whoever calls.
"""

from __future__ import annotations

import signal
from contextlib import AbstractContextManager, ExitStack, suppress

from agent.host import client
from agent.host.errors import AbortedError, DetachedError, MachineEndedError, RelayError
from agent.host.status import ExitStatus
from agent.host.stdio import Stdio
from converter.errors import NotFoundError, SaltflatError
from converter.events import Monitor, StepFinished, StepStarted
from converter.machine.machines import MachineRecord, Machines

_STEP = "start machine"


def run_in_foreground(
    machines: Machines,
    machine: MachineRecord,
    seat: AbstractContextManager[tuple[Stdio, client.Manners]],
    *,
    monitor: Monitor,
) -> ExitStatus:
    """Start a machine, relay its process's stdio, and return how it ended when it has.

    `seat` gives the user's end; it is entered once the machine has started, and left before this
    returns or raises. A machine that removes itself is gone then, unless it was left running: as
    one is whose guest starts the process again.
    Raises what Machines.start does, SaltflatError when the guest is lost or the output cannot be
    written, after which the machine has ended; agent.host's AbortedError when a signal ended the
    run, and DetachedError when the user left.
    """
    left_running = False
    try:
        with ExitStack() as stack:
            monitor(StepStarted(_STEP))
            stack.enter_context(machines.started(machine.id))
            monitor(StepFinished(_STEP, minor=True))
            stdio, manners = stack.enter_context(seat)
            try:
                # From the beginning of the log on, every end is the one that we wait for.
                status = client.attach(
                    machines.address(machine.id), stdio, manners=manners, ends_after=0
                )
            except DetachedError:
                left_running = True
                raise
            except AbortedError:
                left_running = not manners.sig_proxy
                if not left_running:
                    _end(machines, machine)
                raise
            except RelayError as error:
                if isinstance(error, MachineEndedError):
                    status = machines.wait(machine.id)
                    if status.signal is not None:  # somebody has cut its power
                        return status
                explained = machines.explain(machine.id, error)
                _end(machines, machine)
                raise explained from error
        left_running = status.restarts
        if not left_running:
            with suppress(NotFoundError):  # one that removes itself may be gone
                machines.wait(machine.id)
        return status
    finally:
        if machine.auto_remove and not left_running:
            with suppress(NotFoundError):
                machines.remove(machine.id, force=True, volumes=True)


def _end(machines: Machines, machine: MachineRecord) -> None:
    """End a machine that nobody wants any more; another error is on its way to the user."""
    with suppress(SaltflatError):
        machines.kill(machine.id, signal.SIGKILL)
