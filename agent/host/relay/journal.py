"""What one relay process leaves to the next: a file of checked JSON lines, and their sum.

Owns the file `journal` and the meaning of its records. A record is written with one write(2) after
the log and before anything is acknowledged; a torn last line was never acted upon and is cut off.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.host.errors import ChannelError
from agent.host.relay.appended import AppendedFile
from agent.host.relay.c_relay import JOURNAL_BYTES, UNCONFIRMED_MESSAGES
from agent.wire import SessionState

SCHEMA = 1
Json = dict[str, Any]


def key_mark(key: bytes) -> str:
    """Return what a journal may say about a key: the same for the same key, and no help with it."""
    return hashlib.blake2b(key, digest_size=16, person=b"saltflat journal").hexdigest()


@dataclass
class RelayState:
    """The sum of the journal's records. `wire` is the part that the protocol itself needs."""

    key: str = ""
    wire: SessionState = field(default_factory=SessionState)
    log_end: int | None = None
    boot: int = 0  # the position in the log at which this session began
    started: Json | None = None  # as the guest said it, of the main process
    network: Json | None = None  # what the guest said of it last
    reported: Json | None = None  # `exited` or `failed` of it; what it wrote may still come
    ended: Json | None = None  # the same, after all that it wrote
    life: Json | None = None  # restarts and health: agent.host.relay.life
    next_process: int = 1
    controls: int = 0  # messages sent in this session
    unconfirmed: dict[int, Json] = field(default_factory=dict)  # by their numbers

    def apply(self, record: Mapping[str, Any]) -> None:
        """Take a record. Raises ValueError when it is none."""
        try:
            if "schema" in record:
                if record["schema"] != SCHEMA:
                    raise ValueError(f"a journal of schema {record['schema']!r}")
                self.__init__()  # type: ignore[misc]  # a new session knows nothing of the old one
                self.key = str(record["key"])
                self.boot = int(record["boot"])
            self.wire.apply(record.get("wire", {}))
            self.log_end = record.get("log", self.log_end)
            self.started = record.get("started", self.started)
            self.network = record.get("network", self.network)
            self.reported = record.get("reported", self.reported)
            self.ended = record.get("ended", self.ended)
            self.life = record.get("life", self.life)
            self.next_process = int(record.get("next_process", self.next_process))
            if "confirmed" in record:
                confirmed = int(record["confirmed"])
                self.controls = max(self.controls, confirmed)
                for number in [n for n in self.unconfirmed if n < confirmed]:
                    del self.unconfirmed[number]
            if "recount" in record:  # what lies beyond was lost
                self.controls = int(record["recount"])
                self.unconfirmed.clear()
            for message in record.get("controls", ()):
                self.unconfirmed[self.controls] = dict(message)
                self.controls += 1
            while len(self.unconfirmed) > UNCONFIRMED_MESSAGES:
                del self.unconfirmed[min(self.unconfirmed)]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("not a record of a relay's journal") from error

    def snapshot(self) -> list[Json]:
        """Return records whose sum is this state."""
        wire = self.wire
        first: Json = {
            "schema": SCHEMA,
            "key": self.key,
            "boot": self.boot,
            "log": self.log_end,
            "started": self.started,
            "network": self.network,
            "reported": self.reported,
            "ended": self.ended,
            "life": self.life,
            "next_process": self.next_process,
        }
        if wire.session:
            first["wire"] = {
                "session": wire.session.hex(),
                "incarnation": wire.incarnation,
                "max_payload": wire.max_payload,
                "window": wire.window,
                "joined": wire.joined,
                "expected": wire.expected,
                "control": wire.control.hex(),
                "processes": {str(process): True for process in sorted(wire.processes)},
                "streams": {str(stream): list(at) for stream, at in sorted(wire.streams.items())},
            }
        waiting = [self.unconfirmed[number] for number in sorted(self.unconfirmed)]
        return [first, {"recount": self.controls - len(waiting), "controls": waiting}]


class Journal:
    """The file. Reading it cuts off a torn end. Raises ChannelError when it cannot be used."""

    def __init__(self, path: Path) -> None:
        self.state = RelayState()
        self._file = AppendedFile(path)

    def open(self) -> bool:
        """Read what there is, and be ready to append; return whether there was anything."""
        self._file.open()
        whole = 0
        for line in self._file.read().splitlines(keepends=True):
            record = _decode(line)
            if record is None:
                break
            try:
                self.state.apply(record)
            except ValueError as error:
                raise ChannelError(
                    f"The relay's journal {self._file.path} cannot be read: {error}.",
                    expected="records of this version",
                    hint="It was written by another version; give the machine a new key.",
                ) from error
            whole += len(line)
        self._file.cut(whole)
        return whole > 0

    def write(self, record: Json) -> None:
        """Append a record and take it into the state. Raises OSError; then it is not there."""
        self._file.append(_encode(record))
        self.state.apply(record)

    def compact(self, limit: int = JOURNAL_BYTES) -> None:
        """Write the sum in place of the records, when they are more than `limit` bytes."""
        if self._file.size > limit:
            self._file.replace(b"".join(_encode(record) for record in self.state.snapshot()))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_state(path: Path) -> RelayState:
    """Return what a journal says, without touching it: for readers beside the relay.

    Raises ValueError on one of another version, FileNotFoundError when there is none.
    """
    state = RelayState()
    for line in path.read_bytes().splitlines(keepends=True):
        record = _decode(line)
        if record is None:
            break
        state.apply(record)
    return state


def _encode(record: Json) -> bytes:
    text = json.dumps(record, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _decode(line: bytes) -> Json | None:
    if not line.endswith(b"\n") or line[8:9] != b" ":
        return None
    text = line[9:-1]
    if line[:8] != b"%08x" % zlib.crc32(text):
        return None
    value = json.loads(text)
    return value if isinstance(value, dict) else None
