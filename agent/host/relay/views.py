"""What a client sees: the log from some position on, or one process's output, as frames.

A view fetches when its client's socket has room, from the disk, so no client holds another and
none costs more memory than one fetch. Owns the order of output, gaps and the end of the view.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from agent.host.relay.c_relay import (
    GAP,
    OUTPUT,
    READ_BYTES,
    FrameKind,
    RecordKind,
)
from agent.host.relay.condition import Condition, Diagnosis
from agent.host.relay.frames import encode_frame, encode_json
from agent.host.relay.log import Missing, read_records, record_position, tail_position
from agent.host.relay.machine import MachineRelay
from agent.host.relay.processes import Process
from agent.host.relay.records import Record
from agent.host.relay.requests import MOST, LogsRequest
from agent.host.relay.status import status_json
from agent.wire import STDERR, kind_of, process_of

_GONE = frozenset((Condition.ENDED, Condition.FAULT, Condition.FORGOTTEN))


def event(kind: str, **members: object) -> bytes:
    """Return an event's frame."""
    return encode_json(FrameKind.EVENT, {"type": kind, **members})


def output_frame(stream_kind: int, process: int, time_ns: int, position: int, data: bytes) -> bytes:
    """Return the frame of a piece of output."""
    kind = FrameKind.STDERR if stream_kind == STDERR else FrameKind.STDOUT
    return encode_frame(kind, OUTPUT.pack(process, time_ns, position), data)


class LogView:
    """The log from `position` on: of an attachment (`attached`), or of a reader of logs.

    An attachment ends with the process, as of ends that stand behind `ends_after`.

    `done` once the last frame was fetched. `hold` and `moved_at` are for the relay.
    """

    def __init__(
        self,
        machine: MachineRelay,
        position: int,
        *,
        attached: bool,
        request: LogsRequest | None = None,
        last_bytes: int | None = None,
        ends_after: int = MOST,
    ) -> None:
        self.position = position
        self.done = False
        self._machine = machine
        self._attached = attached
        self._ends_after = ends_after
        self._follow = attached or (request is not None and request.follow)
        self._last = MOST if self._follow else machine.session.committed
        self._since = request.since_ns if request else 0
        self._until = request.until_ns if request else MOST
        self._skip = 0  # bytes of the first record
        self._seek: Iterator[tuple[int, int] | None] | None = None
        tail = request.tail if request else None
        if tail == 0:
            self.position = machine.session.committed
        elif tail is not None:
            folder = machine.session.log.folder
            self._seek = tail_position(folder, tail, RecordKind.OUTPUT)
        if last_bytes is not None:
            wanted = max(position, machine.session.committed - last_bytes)
            self._seek = record_position(machine.session.log.folder, wanted)

    @property
    def seeking(self) -> bool:
        """Whether `fetch` has more to do though it returned nothing."""
        return self._seek is not None

    def fetch(self) -> bytes:
        """Return the next frames; nothing when there are none yet. Raises OSError.

        There may be more where `position` has moved: records that are passed over have no frames.
        """
        if self._seek is not None:
            found = next(self._seek, None)
            if found is not None:
                self.position, self._skip = max(found[0], self.position), found[1]
                self._seek = None
            return b""
        if self.done:
            return b""
        end = min(self._machine.session.committed, self._last)
        if self.position >= end:
            return self._end()
        frames: list[bytes] = []
        for record in read_records(self._machine.session.log.folder, self.position, READ_BYTES):
            if record.end > end:
                break
            if isinstance(record, Missing):
                frames.append(event("missed", start=self.position, end=record.end))
            elif record.time_ns >= self._until and record.kind == RecordKind.OUTPUT:
                # What is logged later came later, so that nobody need wait for it.
                self._last, self._follow = self.position, False
                break
            else:
                frames.extend(self._frames(record))
                self.done = self._is_end(record)
            self.position = record.end
            self._skip = 0
            if self.done:
                break
        if not frames and self.position >= self._last:
            return self._end()
        return b"".join(frames)

    def _is_end(self, record: Record) -> bool:
        """Say whether an attachment ends here though the process is started again."""
        if not self._attached or record.kind != RecordKind.EXIT or record.end <= self._ends_after:
            return False
        return json.loads(record.payload).get("restarts") is True

    def _frames(self, record: Record) -> Iterator[bytes]:
        if record.kind == RecordKind.OUTPUT and record.time_ns >= self._since:
            yield output_frame(
                kind_of(record.stream),
                process_of(record.stream),
                record.time_ns,
                record.end,
                record.payload[self._skip :],
            )
        elif record.kind == RecordKind.GAP:
            offset, count = GAP.unpack(record.payload)
            stderr = kind_of(record.stream) == STDERR
            yield event("gap", stderr=stderr, offset=offset, count=count, position=record.end)
        elif self._is_end(record):
            said = json.loads(record.payload)
            yield event("exited", status=said, position=record.end)
        elif record.kind == RecordKind.EXIT and not self._attached:
            said = json.loads(record.payload)
            yield event("ended", status=said, time_ns=record.time_ns, position=record.end)
        elif record.kind == RecordKind.SESSION and not self._attached:
            yield event("session", time_ns=record.time_ns, position=record.end)

    def _end(self) -> bytes:
        """Return the last frame when all has been seen that there will be."""
        if not self._follow:
            self.done = True
            return event("end", position=self.position)
        said = self._machine.session.state.ended
        if said is not None and self._machine.session.committed <= self.position:
            self.done = True
            if self._attached:
                return event("exited", status=said, position=self.position)
            return event("end", position=self.position)
        diagnosis = self._machine.diagnosis()
        if diagnosis.condition in _GONE and not self._machine.line_connected:
            self.done = True
            if self._attached:
                console = self._machine.session.console.text()
                return condition_event(diagnosis, console)
            return event("end", position=self.position)
        return b""


def condition_event(diagnosis: Diagnosis, console: str) -> bytes:
    """Return the frame that tells how things stand."""
    return event(
        "condition",
        condition=str(diagnosis.condition),
        seconds=round(diagnosis.seconds, 3),
        overdue=diagnosis.overdue,
        detail=diagnosis.detail,
        line=str(diagnosis.line),
        console=console,
    )


class ProcessView:
    """The output of one process beside the main one, and how it ended."""

    def __init__(self, machine: MachineRelay, process: Process, *, until_started: bool) -> None:
        self.process = process
        self.done = False
        self.seeking = False
        self._machine = machine
        self._until_started = until_started
        self._said_started = False

    def fetch(self) -> bytes:
        """Return the next frames; nothing when there are none yet."""
        process = self.process
        if self.done:
            return b""
        if process.pid is not None and not self._said_started:
            self._said_started = True
            self.done = self._until_started
            return event("started", process=process.number, pid=process.pid)
        item = self._machine.session.processes.fetch(process)
        if item is not None:
            kind, data, time_ns = item
            step = 32768
            return b"".join(
                output_frame(kind, process.number, time_ns, 0, data[start : start + step])
                for start in range(0, len(data), step)
            )
        if process.status is not None and process.over:
            self.done = True
            return event("exited", status=status_json(process.status))
        if process.lost:
            self.done = True
            return event("lost")
        return b""
