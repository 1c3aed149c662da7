"""What an Endpoint reports. Owns the event types, the protocol's errors and its counters."""

from __future__ import annotations

from agent.hints import Dict, Union
from agent.values import dataclass, field


class ProtocolError(Exception):
    """The peer holds the key and breaks the rules; the session cannot go on.

    Noise, truncation, forgery and replay are no errors: they are dropped and counted.
    """


class RefusedError(ProtocolError):
    """The guest has refused this host; `reason` is one of c_frame.Reason.

    After UNKNOWN (the guest was restarted) a new session may begin; after FORGOTTEN and SESSION
    only a new key opens the guest again.
    """

    def __init__(self, message: str, reason: int) -> None:
        super().__init__(message)
        self.reason = reason


class ControlFullError(Exception):
    """More control messages wait than are ever kept: the peer has not taken any for long."""


@dataclass(frozen=True)
class Established:
    """The peer has proved that it holds the key; after a cut, the session goes on where it was.

    `peer` holds version, features, session, incarnation, epoch, max_payload, window and resumed.
    """

    peer: Dict[str, object]


@dataclass(frozen=True)
class Data:
    """Bytes of a stream, in order, each once. Give the credit back with `Endpoint.consumed`.

    `offset` counts the bytes that were written before these, also those that a Gap stands for.
    """

    stream: int
    data: bytes
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Gap:
    """`count` bytes of a stream from `offset` on were dropped at the sender, while we were away."""

    stream: int
    offset: int
    count: int


@dataclass(frozen=True)
class Finished:
    """The peer will send nothing more on this stream."""

    stream: int


@dataclass(frozen=True)
class Control:
    """A control message: a JSON object."""

    message: Dict[str, object]


@dataclass(frozen=True)
class Console:
    """Bytes that were between frames: firmware and kernel text, line noise."""

    data: bytes


@dataclass(frozen=True)
class Writable:
    """A stream that took less than it was offered takes bytes again."""

    stream: int


@dataclass(frozen=True)
class Opened:
    """To the guest: the host has opened the streams of a process; how to start it comes next."""

    process: int


@dataclass(frozen=True)
class Closed:
    """All streams of a process have ended at both ends; they are forgotten, its number is free."""

    process: int


@dataclass(frozen=True)
class Position:
    """To a new host process: how much of a stream of ours the guest has from the one before.

    `offset` counts bytes, on CONTROL whole messages: what was sent beyond it is lost. `finished`
    says that the end of the stream has arrived too.
    """

    stream: int
    offset: int
    finished: bool = False


@dataclass(frozen=True)
class Unopened:
    """To a new host process: the guest never heard of this process; its number is free again."""

    process: int


Event = Union[
    Established,
    Data,
    Gap,
    Finished,
    Control,
    Console,
    Writable,
    Opened,
    Closed,
    Position,
    Unopened,
]


@dataclass
class Counters:
    """What happened on the line so far; only ever counts up."""

    frames_received: int = 0  # with a good tag
    frames_sent: int = 0
    forged: int = 0  # good header, bad tag: damaged, forged, or of an earlier key
    replayed: int = 0  # good tag, but a transmission seen before
    repeated: int = 0  # a sequence that had arrived already
    refused: int = 0  # beyond what we are willing to hold
    discarded_bytes: int = 0  # inside frames that were dropped
    console_bytes: int = 0
    lost: int = 0  # frames of ours that an echo has shown to be lost
    resent: int = 0  # frames of ours that were sent again, whole or in pieces
    pieces: int = 0  # frames of ours that carried a piece
    probes: int = 0
    compressed: int = 0  # frames of ours that were
    gaps: int = 0  # GAP records, sent or received
    gap_bytes: int = 0  # and the bytes that they stand for
