"""A machine in the foreground: start it, attach the user's descriptors, and wait for its end.

Owns the order of these, the terminal's raw mode, and what becomes of the machine when its guest is
lost or the user has had enough. What goes over the line belongs to agent.host.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from agent.host import client
from agent.host.client import UNANSWERED
from agent.host.errors import AbortedError, DetachedError, MachineEndedError, RelayError
from agent.host.signals import SignalInbox
from agent.host.status import ExitStatus
from agent.host.stdio import Stdio
from agent.host.terminal import raw_mode, window_size
from converter.errors import NotFoundError, SaltflatError
from converter.events import Monitor, StepFinished, StepStarted
from converter.machine.machines import MachineRecord, Machines

_STEP = "start machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """How the user is attached. `inbox` gets the signals, None where they are not ours to catch.

    Without `sig_proxy` no signal goes to the process: one that ends us leaves the machine alone.
    """

    stdio: Stdio
    inbox: SignalInbox | None = None
    detach_keys: bytes = b""
    sig_proxy: bool = True
    tty: bool = False


def run_in_foreground(
    machines: Machines, machine: MachineRecord, attachment: Attachment, *, monitor: Monitor
) -> ExitStatus:
    """Start a machine, relay its process's stdio, and return how it ended when it has.

    With a `tty` and a terminal on stdin, the terminal is in raw mode meanwhile. A machine that
    removes itself is gone when this returns or raises, unless it was left running. Raises what
    Machines.start does, SaltflatError when the guest is lost or the output cannot be written, after
    which the machine has ended; agent.host's AbortedError when a signal ended the run, and
    DetachedError when the user left.
    """
    left_running = False
    try:
        with ExitStack() as stack:
            monitor(StepStarted(_STEP))
            stack.enter_context(machines.started(machine.id))
            stdin = attachment.stdio.stdin
            if attachment.tty and stdin is not None and os.isatty(stdin):
                stack.enter_context(raw_mode(stdin))
            monitor(StepFinished(_STEP, minor=True))
            try:
                status = client.attach(
                    machines.address(machine.id), attachment.stdio, manners=_manners(attachment)
                )
            except DetachedError:
                left_running = True
                raise
            except AbortedError:
                left_running = not attachment.sig_proxy
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


def _manners(attachment: Attachment) -> client.Manners:
    terminal = attachment.stdio.stdin if attachment.tty else None
    return client.Manners(
        detach_keys=attachment.detach_keys,
        sig_proxy=attachment.sig_proxy,
        inbox=attachment.inbox,
        terminal_size=None if terminal is None else lambda: window_size(terminal),
        fatal=UNANSWERED,
    )
