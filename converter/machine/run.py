"""Run a machine in the foreground. Owns the order start, relay, power off, clean up, and errors.

What a machine is belongs to its driver, what goes over the line to agent.host.
"""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import ExitStack

from agent.host.errors import (
    AbortedError,
    MachineEndedError,
    NoHelloError,
    OutputError,
    RelayError,
)
from agent.host.session import Session, Stdio, Timeouts
from agent.host.signals import SignalInbox, catch_signals
from agent.host.status import ExitStatus, printable
from agent.host.terminal import raw_mode, window_size
from agent.host.transport import UnixListener, private_directory
from agent.wire import Endpoint, Role
from converter.errors import HypervisorError, SaltflatError
from converter.events import Monitor, Note, StepFinished, StepStarted
from converter.machine.driver import Driver, Machine
from converter.machine.model import MachineSpec

__all__ = ["ExitStatus", "Stdio", "Timeouts", "run_machine"]

_NONCE_BYTES = 16
_POWER_OFF_SECONDS = 15.0
_CONSOLE_LINES = 12
_SOCKET_FILE = "tether.sock"
_STEP = "start machine"

_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")
_OUT_OF_MEMORY = re.compile(r"deadlocked on memory|Out of memory|out_of_memory")


def run_machine(
    spec: MachineSpec,
    *,
    driver: Driver,
    stdio: Stdio,
    monitor: Monitor,
    timeouts: Timeouts | None = None,
) -> ExitStatus:
    """Start a machine, relay its process's stdio until it ends, and leave nothing behind.

    With `spec.guest.run.tty` and a terminal on stdin, the terminal is in raw mode meanwhile.
    Called in the main thread, signals are forwarded to the guest's process as docker does.
    Raises HypervisorError when the machine cannot be started or is lost, SaltflatError when the
    output cannot be written, and agent.host's AbortedError when a signal ended the run.
    """
    with ExitStack() as stack:
        # First of all, so that Ctrl-C at any later moment takes the way through this stack.
        in_main_thread = threading.current_thread() is threading.main_thread()
        inbox = stack.enter_context(catch_signals()) if in_main_thread else None
        machine: Machine | None = None
        try:
            channel = stack.enter_context(private_directory()) / _SOCKET_FILE
            # Listening before the machine starts: QEMU retries a refused connection only after 1 s.
            listener = stack.enter_context(UnixListener(channel))
            monitor(StepStarted(_STEP))
            machine = stack.enter_context(driver.start(spec, channel=channel))
            session = _session(spec, listener, machine, stdio=stdio, timeouts=timeouts, inbox=inbox)
            if spec.guest.run.tty and stdio.stdin is not None and os.isatty(stdio.stdin):
                stack.enter_context(raw_mode(stdio.stdin))
            monitor(StepFinished(_STEP, minor=True))
            status = session.run()
        except AbortedError:
            raise
        except RelayError as error:
            raise translated_error(error, machine) from error
        if machine.wait(_POWER_OFF_SECONDS) is None:
            monitor(
                Note(f"the machine did not power off within {_POWER_OFF_SECONDS:g} s", warning=True)
            )
        return status


def _session(
    spec: MachineSpec,
    listener: UnixListener,
    machine: Machine,
    *,
    stdio: Stdio,
    timeouts: Timeouts | None,
    inbox: SignalInbox | None,
) -> Session:
    endpoint = Endpoint(
        Role.HOST, spec.guest.key, nonce=os.urandom(_NONCE_BYTES), now=time.monotonic()
    )
    terminal = stdio.stdin if spec.guest.run.tty else None
    return Session(
        listener,
        endpoint,
        stdio,
        timeouts=timeouts,
        inbox=inbox,
        terminal_size=None if terminal is None else lambda: window_size(terminal),
        is_alive=machine.is_alive,
        console=machine.console,
    )


def translated_error(error: RelayError, machine: Machine | None) -> SaltflatError:
    """Say in the tool's terms what went wrong, as precisely as the machine's traces allow."""
    if isinstance(error, OutputError):
        return SaltflatError(error.what, expected=error.expected, hint=error.hint)
    if machine is None:
        return HypervisorError(error.what, expected=error.expected, hint=error.hint)
    console = machine.console() or error.console
    panic = _PANIC.search(console)
    if panic is not None:
        memory = _OUT_OF_MEMORY.search(console) is not None
        return HypervisorError(
            f"The guest's kernel panicked: {printable(panic[1]).strip()}",
            expected=error.expected,
            hint=_with_lines("Give it more memory (--memory)." if memory else error.hint, console),
        )
    ended = machine.wait(0)
    if isinstance(error, MachineEndedError) and ended not in (0, None):
        how = f"was killed by signal {-ended}" if ended < 0 else f"ended with status {ended}"
        return HypervisorError(
            f"The hypervisor {how} before the guest's process had ended.",
            expected=error.expected,
            hint=_with_lines("This is what it said last:", machine.log()),
        )
    shown = console if isinstance(error, (MachineEndedError, NoHelloError)) else error.console
    return HypervisorError(error.what, expected=error.expected, hint=_with_lines(error.hint, shown))


def _with_lines(hint: str | None, text: str) -> str:
    """Append the last lines of `text`, which a guest may have written, to a hint."""
    lines = [printable(line).rstrip() for line in text.splitlines()]
    shown = [line for line in lines if line][-_CONSOLE_LINES:]
    return "\n    ".join([hint or "The last lines were:", *shown])
