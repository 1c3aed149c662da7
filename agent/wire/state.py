"""What a host process leaves to the one after it. Owns the journal's records and their sum.

The guest keeps nothing for this: whatever it has not been told to forget it sends again. So the
host writes down what it has received, before it acknowledges it, and goes on from there.
"""

from __future__ import annotations

from agent.hints import Callable, Dict, List, Mapping, Set, Tuple
from agent.values import dataclass, field
from agent.wire.c_frame import LAST_INCARNATION, LAST_PROCESS, MAX_COUNT, SESSION_SIZE
from agent.wire.incoming import Received
from agent.wire.stream_ids import process_of


@dataclass
class SessionState:
    """The sum of the journal's records; `apply` them in order, from an empty one on."""

    session: bytes = b""
    incarnation: int = 0
    max_payload: int = 0
    window: int = 0
    joined: bool = False
    expected: int = 0  # the next sequence that has not been kept
    control: bytes = b""  # the beginning of a control message
    processes: Set[int] = field(default_factory=lambda: {0})
    streams: Dict[int, Received] = field(default_factory=dict)

    def apply(self, record: Mapping[str, object]) -> None:
        """Take a record, as `Endpoint.journal` made it and JSON brought it back.

        Raises ValueError when it is none.
        """
        try:
            self._apply(record)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("not a record of a session's journal") from error

    def check(self, max_payload: int, window: int) -> None:
        """Raise ValueError when no process can go on from here with such sizes."""
        if not self.session:
            raise ValueError("there is no session to go on with")
        if self.incarnation >= LAST_INCARNATION:
            raise ValueError("the session has had %d host processes" % self.incarnation)
        if max_payload < self.max_payload or window < self.window:
            raise ValueError("the session was begun with larger frames or a larger window")

    def record(self) -> Dict[str, object]:
        """Return the one record that stands for all that were applied: a journal begun anew."""
        return {
            "session": self.session.hex(),
            "incarnation": self.incarnation,
            "max_payload": self.max_payload,
            "window": self.window,
            "joined": self.joined,
            "expected": self.expected,
            "control": self.control.hex(),
            "processes": {str(process): True for process in sorted(self.processes)},
            "streams": {str(n): list(self.streams[n]) for n in sorted(self.streams)},
        }

    def _apply(self, record: Mapping[str, object]) -> None:
        if "session" in record:
            self.session = bytes.fromhex(str(record["session"]))
            if len(self.session) != SESSION_SIZE:
                raise ValueError("a session id of %d bytes" % len(self.session))
            self.incarnation = _number(record["incarnation"], LAST_INCARNATION)
            self.max_payload = _number(record["max_payload"], MAX_COUNT)
            self.window = _number(record["window"], MAX_COUNT)
        self.joined = self.joined or record.get("joined") is True
        self.expected = _number(record.get("expected", self.expected), MAX_COUNT)
        self.control = bytes.fromhex(str(record.get("control", self.control.hex())))
        for process, is_open in _items(record, "processes"):
            number = _number(int(process), LAST_PROCESS)
            if is_open is True:
                self.processes.add(number)
            else:
                self._forget(number)
        for stream, received in _items(record, "streams"):
            if not isinstance(received, list) or len(received) != len(Received._fields):
                raise ValueError("not how far a stream has come: %r" % (received,))
            self.streams[int(stream)] = Received(
                _number(received[0], MAX_COUNT),
                _number(received[1], MAX_COUNT),
                finished=received[2] is True,
            )

    def _forget(self, process: int) -> None:
        self.processes.discard(process)
        for stream in [stream for stream in self.streams if process_of(stream) == process]:
            del self.streams[stream]


class Changes:
    """What has changed since the last record of the journal, on the streams' side."""

    def __init__(self, control: bytes) -> None:
        self._control = control
        self._streams: Set[int] = set()
        self._processes: Dict[int, bool] = {}

    def received(self, stream: int) -> None:
        """Note that a stream has come further."""
        self._streams.add(stream)

    def opened(self, process: int) -> None:
        """Note a new process."""
        self._processes[process] = True

    def forgotten(self, process: int) -> None:
        """Note that a process is no more, and its streams with it."""
        self._processes[process] = False
        self._streams = {stream for stream in self._streams if process_of(stream) != process}

    def record(self, received: Callable[[int], Received], control: bytes) -> Dict[str, object]:
        """Return the part of a record; `received` says how far a stream has come."""
        record: Dict[str, object] = {}
        if self._processes:
            record["processes"] = {str(n): is_open for n, is_open in self._processes.items()}
        if self._streams:
            record["streams"] = {str(n): list(received(n)) for n in sorted(self._streams)}
        if control != self._control:
            record["control"] = control.hex()
        self._control, self._streams, self._processes = control, set(), {}
        return record


def _items(record: Mapping[str, object], name: str) -> List[Tuple[str, object]]:
    return list(record.get(name, {}).items())  # type: ignore[attr-defined]  # as above


def _number(value: object, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError("a number that is out of bounds: %r" % (value,))
    return value
