"""What an Endpoint reports. Owns the event types, the protocol's error and its counters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Union


class ProtocolError(Exception):
    """The peer holds the key and breaks the rules; the session cannot go on.

    Noise, truncation, forgery and replay are no errors: they are dropped and counted.
    """


@dataclass(frozen=True)
class Established:
    """The peer has proved that it holds the key; after a cut, the session goes on where it was.

    `peer` holds version, session, epoch, max_payload, window and resumed.
    """

    peer: Dict[str, object]


@dataclass(frozen=True)
class Data:
    """Bytes of a stream, in order, each once. Give the credit back with `Endpoint.consumed`."""

    stream: int
    data: bytes


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


Event = Union[Established, Data, Finished, Control, Console, Writable]


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
    resent: int = 0
    probes: int = 0
