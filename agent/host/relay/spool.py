"""The stdin of the main process, on disk until the guest has it. Owns the file `stdin`.

What a client sent counts as taken when it is here: a relay that is started again goes on from the
byte that the guest has, and the client from the byte that the relay has.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from pathlib import Path

from agent.host.relay.appended import AppendedFile
from agent.host.relay.c_relay import SPOOL, SPOOL_BYTES, SPOOL_WRITERS, RecordKind
from agent.host.relay.records import DamagedError, Record, decode_records, encode_record


class Spool:
    """Append to the stream's bytes; give back those that a new process must send again.

    `end` is the number of bytes taken in all, `ended` whether there will be no more. `keep` is how
    many of the last bytes the guest may lack.
    """

    def __init__(self, path: Path) -> None:
        self.keep = SPOOL_BYTES
        self._file = AppendedFile(path)
        self._writers: OrderedDict[bytes, int] = OrderedDict()
        self.end = 0
        self.ended = False

    def open(self) -> None:
        """Read what there is, and be ready to append. Raises OSError."""
        self._file.open()
        whole = 0
        for record in self._records():
            whole = record.end
            if record.kind == RecordKind.STDIN_END:
                self.ended = True
            elif record.kind in (RecordKind.STDIN, RecordKind.WRITER):
                writer, written, offset = SPOOL.unpack_from(record.payload)
                self._remember(writer, written)
                self.end = offset + len(record.payload) - SPOOL.size
        self._file.cut(whole)

    def clear(self) -> None:
        """Forget everything: another session begins."""
        self._file.cut(0)
        self.end = 0
        self.ended = False
        self._writers.clear()

    def taken(self, writer: bytes) -> int:
        """Return how many bytes of a client are here or have been."""
        return self._writers.get(writer, 0)

    def append(self, writer: bytes, data: bytes) -> None:
        """Take bytes. Raises OSError; then they were not taken."""
        written = self.taken(writer) + len(data)
        header = SPOOL.pack(writer, written, self.end)
        self._file.append(encode_record(RecordKind.STDIN, 0, 0, header + data))
        self.end += len(data)
        self._remember(writer, written)

    def finish(self) -> None:
        """Note the end of the stream."""
        if not self.ended:
            self._file.append(encode_record(RecordKind.STDIN_END, 0, 0, b""))
            self.ended = True

    def since(self, offset: int) -> bytes | None:
        """Return the bytes from an offset in the stream on; None when they are gone."""
        pieces: list[bytes] = []
        first = None
        for record in self._records():
            if record.kind == RecordKind.STDIN:
                begin = SPOOL.unpack_from(record.payload)[2]
                first = begin if first is None else first
                pieces.append(record.payload[SPOOL.size + max(0, offset - begin) :])
        if offset > self.end or offset < (self.end if first is None else first):
            return None
        return b"".join(pieces)

    def compact(self, limit: int = SPOOL_BYTES) -> None:
        """Drop what the guest has for certain, when the file is longer than `limit`."""
        if self._file.size <= limit:
            return
        lines = [
            encode_record(RecordKind.WRITER, 0, 0, SPOOL.pack(writer, written, self.end))
            for writer, written in self._writers.items()
        ]
        for record in self._records():
            if record.kind == RecordKind.STDIN:
                begin = SPOOL.unpack_from(record.payload)[2]
                if begin + len(record.payload) - SPOOL.size > self.end - self.keep:
                    lines.append(encode_record(RecordKind.STDIN, 0, 0, record.payload))
        if self.ended:
            lines.append(encode_record(RecordKind.STDIN_END, 0, 0, b""))
        self._file.replace(b"".join(lines))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _remember(self, writer: bytes, written: int) -> None:
        # A writer's own record may be older than its count: compaction puts the counts first.
        self._writers[writer] = max(written, self._writers.get(writer, 0))
        self._writers.move_to_end(writer)
        if len(self._writers) > SPOOL_WRITERS:
            self._writers.popitem(last=False)

    def _records(self) -> list[Record]:
        """Return the whole records of the file, which is small."""
        found: list[Record] = []
        with contextlib.suppress(DamagedError):  # a torn end was never acted upon
            for record in decode_records(self._file.read()):
                found.append(record)
        return found
