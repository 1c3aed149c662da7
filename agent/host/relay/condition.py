"""How things stand with a machine's guest, as a state with the time since when. Pure.

"The hypervisor never connected", "it connected, but the guest never said hello" and "the guest said
hello and went silent" have different causes and different remedies, so they are different states.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, fields

from agent.host.errors import (
    GuestFaultError,
    GuestLostError,
    MachineEndedError,
    NeverConnectedError,
    NoHelloError,
    OutputError,
    RelayError,
)

PATIENCE_VARIABLE = "SALTFLAT_PATIENCE"  # for machines of this host
_LONGEST_SECONDS = 1e9


class LineKind(enum.StrEnum):
    """What the machine's line is, which decides what helps when nothing comes over it."""

    LOCAL = "local"  # a hypervisor of this host connects
    VSPC = "vspc"  # a host of vSphere does, to the concentrator


class Condition(enum.StrEnum):
    """What is known of the guest."""

    NEVER_CONNECTED = "never-connected"
    NO_HELLO = "no-hello"
    ALIVE = "alive"
    DISCONNECTED = "disconnected"  # said hello before; its line is closed
    SILENT = "silent"  # said hello before; does not answer
    EXITED = "exited"  # the main process's end is known
    ENDED = "ended"  # the machine is gone, and there will be no exit status
    FAULT = "fault"  # it holds the key and breaks the protocol
    FORGOTTEN = "forgotten"  # it goes on with a session whose state the relay does not have
    STUCK = "stuck"  # the log cannot be written


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds after which a condition is overdue: a diagnosis rather than a state of things."""

    connect: float = 30.0  # for the hypervisor to connect
    hello: float = 180.0  # for the guest to boot and say hello, where it is emulated
    silence: float = 60.0  # without an answer, once it has said hello
    reconnect: float = 10.0  # for the hypervisor to come back after the line closed

    def of(self, condition: Condition) -> float | None:
        """Return how long a condition may last; None: for ever."""
        return {
            Condition.NEVER_CONNECTED: self.connect,
            Condition.NO_HELLO: self.hello,
            Condition.DISCONNECTED: self.reconnect,
            Condition.SILENT: 0.0,  # the silence itself has lasted that long
            Condition.ENDED: 0.0,
            Condition.FAULT: 0.0,
            Condition.FORGOTTEN: 0.0,
            Condition.STUCK: 0.0,
        }.get(condition)


def read_patience(settings: Iterable[str]) -> Patience:
    """Read WHAT=SECONDS, each WHAT a member of Patience; the last counts. Raises ValueError."""
    names = [one.name for one in fields(Patience)]
    given: dict[str, float] = {}
    for setting in settings:
        what, _, seconds = setting.partition("=")
        try:
            given[what] = float(seconds)
        except ValueError:
            given[what] = -1
        if what not in names or not 0 < given[what] < _LONGEST_SECONDS:
            raise ValueError(f"{setting!r} is not {'|'.join(names)}=SECONDS")
    return Patience(**given)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A condition, how many seconds it has lasted, and whether that is too long."""

    condition: Condition
    seconds: float
    overdue: bool
    detail: str = ""
    line: LineKind = LineKind.LOCAL

    def error(self, console: str = "") -> RelayError | None:
        """Return the error that says what is wrong and what to do; None when nothing is."""
        if not self.overdue:
            return None
        return condition_error(self.condition, self.seconds, self.detail, console, self.line)


_VSPC_HINTS = {
    Condition.NEVER_CONNECTED: "See that the VM is powered on, that its serial port is connected "
    "and names this concentrator, and that its host's firewall lets remoteSerialPort out.",
    Condition.NO_HELLO: "The guest did not boot, its agent did not start, or it was given another "
    "key than this relay: look at the VM's console in vSphere.",
    Condition.DISCONNECTED: "The VM was powered off or lost its serial port, or its host cannot "
    "reach this concentrator.",
    Condition.SILENT: "The guest may have run out of memory or hung, or the VM is suspended.",
}


def condition_error(
    condition: str,
    seconds: float,
    detail: str = "",
    console: str = "",
    line: str = LineKind.LOCAL,
) -> RelayError | None:
    """Return the error for an overdue condition; None for those that are no fault."""
    error = _local_error(condition, seconds, detail, console)
    if error is not None and line == LineKind.VSPC:
        error.hint = _VSPC_HINTS.get(Condition(condition), error.hint)
    return error


def _local_error(condition: str, seconds: float, detail: str, console: str) -> RelayError | None:
    if condition == Condition.NEVER_CONNECTED:
        return NeverConnectedError(
            f"The hypervisor has not connected to the guest's channel for {seconds:.0f} s.",
            expected="a connection from the hypervisor as soon as it starts",
            hint="See whether the hypervisor started, and with the channel's socket.",
            console=console,
        )
    if condition == Condition.NO_HELLO:
        return NoHelloError(
            f"The hypervisor connected, but the guest has not said hello for {seconds:.0f} s.",
            expected="a HELLO that proves the guest's key",
            hint="The guest did not boot, or its agent did not start: look at its console.",
            console=console,
        )
    if condition in {Condition.DISCONNECTED, Condition.SILENT}:
        state = "its line closed" if condition == Condition.DISCONNECTED else "then went silent"
        return GuestLostError(
            f"The guest said hello, but {state} {seconds:.0f} s ago, without an exit status.",
            expected="an answer from the guest's agent, or its exit status",
            hint="The guest may have run out of memory, hung or been paused by its hypervisor.",
            console=console,
        )
    if condition == Condition.ENDED:
        return MachineEndedError(
            f"The machine ended before its process reported an exit status{_of(detail)}.",
            expected="an exit status from the guest before it powers off",
            hint="Look at the console text: a kernel panic or a full disk shows there.",
            console=console,
        )
    if condition == Condition.FAULT:
        return GuestFaultError(
            f"The guest broke the protocol{_of(detail)}.",
            expected="frames as docs/protocol.md has them",
            hint="Rebuild the boot image with `saltflat boot build`, so that both ends match.",
            console=console,
        )
    if condition == Condition.FORGOTTEN:
        return GuestFaultError(
            f"The guest goes on with a session that this relay does not know{_of(detail)}.",
            expected="a relay that has the machine's folder, with the journal of that session",
            hint="Give the machine a new key: saltflat vspc rekey, and the document to its guest.",
            console=console,
        )
    if condition == Condition.STUCK:
        return OutputError(
            f"The guest's output cannot be written to the log{_of(detail)}.",
            expected="room on the disk that holds the machine's folder",
            hint="Make room: the relay goes on by itself, and nothing is lost until then.",
        )
    return None


def _of(detail: str) -> str:
    return f": {detail}" if detail else ""
