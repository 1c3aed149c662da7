"""The log on disk: segments of records, appended, rotated, capped, and read at any position.

A position is the offset of a record in all that was ever logged; a segment's file is named by the
position of its first byte, so positions stay good when the oldest segments are deleted. Owns the
files under log/. One process writes; anybody may read what it has written.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.host.relay.c_relay import (
    LOG_BYTES,
    READ_BYTES,
    RECORD,
    RECORD_LIMIT,
    SEGMENT_BYTES,
    SEGMENT_DIGITS,
)
from agent.host.relay.records import DamagedError, Record, decode_records, encode_record

_SUFFIX = ".log"


@dataclass(frozen=True, slots=True)
class Missing:
    """Records that are not there any more; the next one begins at `end`."""

    end: int


def segment_starts(folder: Path) -> list[int]:
    """Return the positions at which the segments in `folder` begin, in order."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are wanted, not paths
    except FileNotFoundError:
        return []
    stems = (name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))
    return sorted(int(s) for s in stems if len(s) == SEGMENT_DIGITS and s.isdecimal())


def segment_path(folder: Path, start: int) -> Path:
    """Return the file of the segment that begins at a position."""
    return folder / f"{start:0{SEGMENT_DIGITS}d}{_SUFFIX}"


def read_records(folder: Path, position: int, limit: int = READ_BYTES) -> list[Record | Missing]:
    """Return some of the records from `position` on; none when there are none yet.

    At most one segment is looked into and `limit` bytes are read, but one whole record at least is
    returned where there is one. A Missing comes where records were deleted, or damaged on disk.
    Raises OSError when the disk fails.
    """
    starts = segment_starts(folder)
    if not starts:
        return []
    if position < starts[0]:
        return [Missing(starts[0])]
    index = bisect_right(starts, position) - 1
    start = starts[index]
    following = starts[index + 1] if index + 1 < len(starts) else None
    try:
        with segment_path(folder, start).open("rb") as file:
            file.seek(position - start)
            data = file.read(max(limit, RECORD.size + RECORD_LIMIT))
    except FileNotFoundError:  # deleted since it was listed
        return read_records(folder, position, limit) if following is not None else []
    found: list[Record | Missing] = []
    try:
        for record in decode_records(data, position):
            if found and record.end - position > limit:
                break
            found.append(record)
    except DamagedError:
        if not found and following is not None:
            return [Missing(following)]
        return found
    if not found and following is not None:
        return [Missing(following)]  # the host crashed, and this is where the log went on
    return found


class Log:
    """Append to the log; nothing is there for readers before `flush`.

    `end` is the position behind what was flushed, `begin` that of the oldest record kept.
    `segment_bytes` and `total_bytes` bound the files, as exactly as whole records and whole
    segments allow. Raises OSError when the disk fails.
    """

    def __init__(
        self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES, total_bytes: int = LOG_BYTES
    ) -> None:
        self.folder = folder
        self._segment_bytes = min(segment_bytes, total_bytes)
        self._total_bytes = total_bytes
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        folder.mkdir(mode=0o700, exist_ok=True)
        self._starts = segment_starts(folder)
        self._descriptor = -1
        self.end = 0

    @property
    def begin(self) -> int:
        """Return the position of the oldest record."""
        return self._starts[0] if self._starts else self.end

    def recover(self, committed: int | None) -> None:
        """Go on behind `committed`, which is the end of what the journal knows of.

        What lies behind it was never acknowledged and is cut off, so is a torn last record. None:
        there is no journal, and every whole record counts.
        """
        while self._starts and committed is not None and self._starts[-1] > committed:
            segment_path(self.folder, self._starts.pop()).unlink()
        end = 0
        if self._starts:
            end = _whole_end(self.folder, self._starts[-1])
            if committed is not None and committed < end:
                end = committed
            os.truncate(segment_path(self.folder, self._starts[-1]), end - self._starts[-1])
        # More than there is: the host itself crashed. Positions are never used twice.
        self.end = max(end, committed or 0)
        if not self._starts or end < self.end:
            self._begin_segment(self.end)
        else:
            self._open(self._starts[-1])

    def append(self, kind: int, stream: int, time_ns: int, payload: bytes) -> None:
        """Add a record to what the next `flush` writes."""
        record = encode_record(kind, stream, time_ns, payload)
        self._pending.append(record)
        self._pending_bytes += len(record)

    def flush(self) -> None:
        """Write what was appended. When that fails it still waits, and none of it is in the log."""
        if not self._pending:
            return
        if self.end - self._starts[-1] >= self._segment_bytes:
            self._begin_segment(self.end)
        data = b"".join(self._pending)
        offset = self.end - self._starts[-1]
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], offset + written)
        except OSError:
            os.ftruncate(self._descriptor, offset)
            raise
        self._pending, self._pending_bytes = [], 0
        self.end += len(data)

    def is_full(self, keep: int) -> bool:
        """Whether there is no room below the cap while all from the position `keep` on must stay.

        One segment less than the cap, since a whole one is what can be deleted.
        """
        index = max(0, bisect_right(self._starts, keep) - 1)
        held = self.end + self._pending_bytes - self._starts[index]
        return held > self._total_bytes - self._segment_bytes

    def trim(self, keep: int) -> None:
        """Delete the oldest segments as far as the cap demands, and none from `keep` on."""
        while (
            len(self._starts) > 1
            and self._starts[1] <= keep
            and self.end - self._starts[1] >= self._total_bytes - self._segment_bytes
        ):
            segment_path(self.folder, self._starts[0]).unlink(missing_ok=True)
            del self._starts[0]

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _begin_segment(self, start: int) -> None:
        """Go on in a new file; without one, what is appended still belongs to the last."""
        self._open(start)
        self._starts.append(start)

    def _open(self, start: int) -> None:
        path = segment_path(self.folder, start)
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.close()
        self._descriptor = opened


def _whole_end(folder: Path, start: int) -> int:
    """Return the position behind the last whole record of a segment."""
    position = start
    with segment_path(folder, start).open("rb") as file:
        kept = b""
        while data := file.read(READ_BYTES):
            kept += data
            end = position
            try:
                for record in decode_records(kept, position):
                    end = record.end
            except DamagedError:
                return end
            kept, position = kept[end - position :], end
    return position


def tail_position(folder: Path, lines: int, output: int) -> Iterator[tuple[int, int] | None]:
    """Find where the last `lines` lines of the records of kind `output` begin, step by step.

    Yields None after every so many bytes, and last (position of the record, bytes of it to skip).
    A last line without its end counts as one.
    """
    counted = 0
    last_seen = False
    following: int | None = None
    for start in reversed(segment_starts(folder)):
        records: list[tuple[int, bytes]] = []
        position = start
        while following is None or position < following:
            chunk = read_records(folder, position)
            if not chunk:
                break
            for record in chunk:
                if isinstance(record, Record) and record.kind == output:
                    records.append((position, record.payload))
                position = record.end
            yield None
            if isinstance(chunk[-1], Missing):
                break
        for where, payload in reversed(records):
            end = len(payload)
            if not last_seen and end:
                last_seen = True
                end -= payload.endswith(b"\n")
            while (found := payload.rfind(b"\n", 0, end)) >= 0:
                counted += 1
                if counted == lines:
                    yield where, found + 1
                    return
                end = found
        following = start
    yield segment_starts(folder)[0] if segment_starts(folder) else 0, 0


def record_position(folder: Path, wanted: int) -> Iterator[tuple[int, int] | None]:
    """Find the first record that begins at `wanted` or behind it, step by step, as tail_position.

    From the beginning of its segment: in the middle, what a guest printed may look like a record.
    """
    starts = segment_starts(folder)
    position = starts[max(0, bisect_right(starts, wanted) - 1)] if starts else wanted
    while position < wanted and (chunk := read_records(folder, position)):
        for record in chunk:
            if position >= wanted:
                break
            position = record.end
        yield None
    yield position, 0
