"""What can go wrong between the host and its guest. Imports nothing of ours.

Each error says what happened, what was expected, and what to do next, as the errors of the command
line do; who drives the machine translates them.
"""

from __future__ import annotations

from typing import ClassVar


class RelayError(Exception):
    """Report that the relay cannot go on. `console` is what the guest last printed, or empty."""

    kind: ClassVar[str] = "relay"

    def __init__(
        self,
        what: str,
        *,
        expected: str | None = None,
        hint: str | None = None,
        console: str = "",
    ) -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.hint = hint
        self.console = console


class ChannelError(RelayError):
    """The host's own end of the channel could not be made."""

    kind = "channel"


class NeverConnectedError(RelayError):
    """The hypervisor never connected to the channel."""

    kind = "never-connected"


class NoHelloError(RelayError):
    """The hypervisor connected, but the guest never said hello."""

    kind = "no-hello"


class GuestLostError(RelayError):
    """The guest said hello and then went silent, or its line closed, without an exit status."""

    kind = "guest-lost"


class MachineEndedError(RelayError):
    """The machine ended without an exit status."""

    kind = "machine-ended"


class GuestFaultError(RelayError):
    """The guest holds the key and breaks the protocol, or speaks another version of it."""

    kind = "guest-fault"


class OutputError(RelayError):
    """The guest's output could not be written where it should go."""

    kind = "output"


class AbortedError(RelayError):
    """A signal ended the relay; `signal` is its number."""

    kind = "aborted"

    def __init__(self, what: str, *, signal: int) -> None:
        super().__init__(what)
        self.signal = signal


class AccessError(RelayError):
    """The relay does not let this client do that."""

    kind = "access"


class RequestError(RelayError):
    """The relay cannot do what was asked."""

    kind = "request"


class DetachedError(RelayError):
    """The user pressed the detach keys; the process goes on."""

    kind = "detached"


class CopyError(RelayError):
    """Files could not be copied between host and guest."""

    kind = "copy"
