"""Read a machine's log: from its relay, or from its folder when the relay has ended.

Both streams come in the order of the log, told apart, each piece with the time of its arrival.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.host.client.connection import RECONNECT_SECONDS, Address, Connection, LostError
from agent.host.errors import ChannelError
from agent.host.relay.c_relay import GAP, OUTPUT, FrameKind, RecordKind
from agent.host.relay.journal import RelayState, key_mark, read_state
from agent.host.relay.keys import read_key
from agent.host.relay.log import Missing, read_records, tail_position
from agent.host.relay.records import Record
from agent.host.relay.session import JOURNAL_NAME, LOG_NAME
from agent.host.relay.status import reported_status
from agent.host.status import ExitStatus
from agent.wire import STDERR, kind_of

_LONGEST_LINE = 1 << 20
_LOOK_SECONDS = 0.1  # between two looks for the next relay


@dataclass(frozen=True, slots=True)
class Query:
    """Which part of the log: the last `tail` lines, of those what came in [since, until) (ns)."""

    tail: int | None = None
    since_ns: int = 0
    until_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of output."""

    time_ns: int
    stderr: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """Something else that the log tells.

    `kind`: "gap", `count` bytes were dropped in the guest while no relay was there; "missed",
    `count` bytes of the log were deleted for its cap; "session", the machine was booted; "ended",
    its process ended with `status`.
    """

    kind: str
    time_ns: int = 0
    count: int = 0
    stderr: bool = False
    status: ExitStatus | None = None


def logs(
    address: Address, query: Query | None = None, *, follow: bool = False
) -> Iterator[Output | Note]:
    """Yield the log from a relay; with `follow`, until the main process has ended.

    Who follows goes on with the next relay when one is killed, and gets each byte once. Raises
    ChannelError when no relay is there, LostError when it is killed and none comes.
    """
    query = query or Query()
    request: dict[str, Any] = {"type": "logs", "follow": follow, "since_ns": query.since_ns}
    if query.tail is not None:
        request["tail"] = query.tail
    if query.until_ns is not None:
        request["until_ns"] = query.until_ns
    reading = _Reading(address, request)
    while not reading.done:
        try:
            yield from reading.entries()
        except LostError:
            if not follow:
                raise
            reading.reconnect(RECONNECT_SECONDS)


class _Reading:
    """One reading of a log, over one connection after the other."""

    def __init__(self, address: Address, request: dict[str, Any]) -> None:
        self.done = False
        self._address = address
        self._request = request
        self._connection: Connection | None = None

    def entries(self) -> Iterator[Output | Note]:
        """Yield until the end or until the relay is lost."""
        with self._connection or Connection(self._address) as connection:
            self._connection = None
            begin = connection.ask(self._request)["position"]
            if self._request.get("tail") == 0:  # from the end on, where that is now
                del self._request["tail"]
                self._request["position"] = begin
            while not self.done:
                frame = connection.next_frame(None)
                if frame.kind in {FrameKind.STDOUT, FrameKind.STDERR}:
                    _process, time_ns, position = OUTPUT.unpack_from(frame.payload)
                    stderr = frame.kind == FrameKind.STDERR
                    yield Output(time_ns, stderr, frame.payload[OUTPUT.size :])
                    self._reach(position)
                elif frame.kind == FrameKind.EVENT:
                    event = frame.json()
                    self.done = event.get("type") == "end"
                    note = _read_event(event)
                    if note is not None:
                        yield note
                    self._reach(event.get("end" if note and note.kind == "missed" else "position"))

    def reconnect(self, seconds: float) -> None:
        """Connect to the relay that comes after one that was lost. Raises ChannelError."""
        until = time.monotonic() + seconds
        while self._connection is None:
            try:
                self._connection = Connection(self._address)
            except (ChannelError, LostError):
                if time.monotonic() >= until:
                    raise
                time.sleep(_LOOK_SECONDS)

    def _reach(self, position: object) -> None:
        """Go on from there, should the relay be lost; the last lines were found by then."""
        if isinstance(position, int) and position:
            self._request["position"] = position
            self._request.pop("tail", None)


def _read_event(event: dict[str, Any]) -> Note | None:
    kind = event.get("type")
    time_ns = int(event.get("time_ns", 0))
    if kind == "gap":
        return Note("gap", count=int(event["count"]), stderr=event.get("stderr") is True)
    if kind == "missed":
        return Note("missed", count=int(event["end"]) - int(event["start"]))
    if kind == "session":
        return Note("session", time_ns)
    if kind == "ended":
        return Note("ended", time_ns, status=reported_status(event.get("status")))
    return None


def saved_logs(folder: Path, query: Query | None = None) -> Iterator[Output | Note]:
    """Yield the log from a relay's folder, whether or not a relay has it. Raises OSError."""
    query = query or Query()
    log = folder / LOG_NAME
    position, skip = 0, 0
    if query.tail is not None:
        if query.tail == 0:
            return
        steps = tail_position(log, query.tail, RecordKind.OUTPUT)
        position, skip = next(found for found in steps if found is not None)
    while chunk := read_records(log, position):
        for record in chunk:
            if isinstance(record, Missing):
                if position:  # before the oldest record there is nothing to miss
                    yield Note("missed", count=record.end - position)
            elif record.kind == RecordKind.OUTPUT:
                if query.until_ns is not None and record.time_ns >= query.until_ns:
                    return
                if record.time_ns >= query.since_ns:
                    stderr = kind_of(record.stream) == STDERR
                    yield Output(record.time_ns, stderr, record.payload[skip:])
            else:
                note = _read_record(record)
                if note is not None:
                    yield note
            position, skip = record.end, 0


def _read_record(record: Record) -> Note | None:
    if record.kind == RecordKind.GAP:
        _offset, count = GAP.unpack(record.payload)
        stderr = kind_of(record.stream) == STDERR
        return Note("gap", record.time_ns, count=count, stderr=stderr)
    if record.kind == RecordKind.SESSION:
        return Note("session", record.time_ns)
    if record.kind == RecordKind.EXIT:
        status = reported_status(json.loads(record.payload))
        return Note("ended", record.time_ns, status=status)
    return None


def saved_status(folder: Path) -> ExitStatus | None:
    """Return how the main process ended, from a relay's folder; None: that is not known.

    A status of an earlier boot, with another key than the folder has now, is none. Raises
    ValueError on a journal of another version.
    """
    state = _saved_state(folder)
    return None if state is None else reported_status(state.ended)


def saved_network(folder: Path) -> Mapping[str, Any] | None:
    """Return what the guest said of its network last, in this boot; as `saved_status` otherwise."""
    state = _saved_state(folder)
    return None if state is None else state.network


def _saved_state(folder: Path) -> RelayState | None:
    """Return the journal's sum if it is this boot's. Raises ValueError."""
    try:
        state = read_state(folder / JOURNAL_NAME)
        ours = state.key == key_mark(read_key(folder))
    except (FileNotFoundError, ChannelError):
        return None
    return state if ours else None


def lines(entries: Iterable[Output | Note]) -> Iterator[Output | Note]:
    """Cut output into lines, each with the time of its first byte, for a reader of lines.

    Yields a line with its end when it is complete, at the end what is left without one. A line of
    more than 1 MiB comes in pieces.
    """
    begun: dict[bool, Output] = {}
    for entry in entries:
        if isinstance(entry, Note):
            yield entry
            continue
        for piece in _pieces(entry.data):
            before = begun.pop(entry.stderr, None)
            line = replace(entry, data=piece)
            if before is not None:
                line = replace(before, data=before.data + piece)
            if line.data.endswith(b"\n") or len(line.data) > _LONGEST_LINE:
                yield line
            else:
                begun[entry.stderr] = line
    yield from begun.values()


def _pieces(data: bytes) -> Iterator[bytes]:
    """Cut behind every line feed, and nowhere else."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end
