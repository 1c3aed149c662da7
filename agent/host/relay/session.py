"""A session that outlives its process: endpoint, log, journal and spool, and their order.

What the guest sent is in the log, then in the journal, then acknowledged; what clients sent is in
the spool or the journal before it leaves. So the process may be killed between any two
instructions. Knows no line, no loop and no client.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.host.console import ConsoleTail
from agent.host.errors import ChannelError
from agent.host.relay.c_relay import (
    GAP,
    RECORD_PAYLOAD,
    WAITING_REQUESTS,
    RecordKind,
)
from agent.host.relay.journal import SCHEMA, Journal, RelayState, key_mark
from agent.host.relay.keys import read_key
from agent.host.relay.life import Life, read_life
from agent.host.relay.log import Log
from agent.host.relay.network_news import network_news
from agent.host.relay.options import RelayOptions
from agent.host.relay.processes import Processes
from agent.host.relay.spool import Spool
from agent.host.relay.status import reported_status, status_json
from agent.host.status import ExitStatus
from agent.wire import (
    CONTROL,
    STDERR,
    STDIN,
    STDOUT,
    Closed,
    Console,
    Control,
    ControlFullError,
    Data,
    Endpoint,
    Established,
    Event,
    Finished,
    Gap,
    Position,
    ProtocolError,
    Role,
    Unopened,
    process_of,
)

JOURNAL_NAME, LOG_NAME, STDIN_NAME = "journal", "log", "stdin"
_NONCE_BYTES = 16
_OUTPUTS = frozenset((STDOUT, STDERR))


class RelaySession:
    """Keep one machine's session in `folder`. `now` is monotonic, `wall_ns` for the log's times.

    `work` is called when something is to be committed and sent. Raises ChannelError when the
    folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        options: RelayOptions,
        *,
        now: Callable[[], float],
        wall_ns: Callable[[], int],
        work: Callable[[], None],
    ) -> None:
        self.folder = folder
        self.console = ConsoleTail()
        self.said_hello = False
        self.processes = Processes(self._say, work)
        self._options = options
        self._now = now
        self._wall_ns = wall_ns
        self._key = read_key(folder)
        self.log = Log(
            folder / LOG_NAME, segment_bytes=options.segment_bytes, total_bytes=options.log_bytes
        )
        self._journal = Journal(folder / JOURNAL_NAME)
        self._spool = Spool(folder / STDIN_NAME)
        self._news: dict[str, Any] = {}  # for the journal, beside what the endpoint has
        self._unwritten: list[dict[str, Any]] = []  # records that the disk did not take
        self._owed: dict[int, int] = {}  # credit of the main process's streams
        self._backlog = b""  # of stdin: taken, and not known to the endpoint of this process
        self._placed = True  # how much the guest has of what an earlier process sent is known
        self._stdin_placed = True
        self._later: list[Callable[[], None]] = []
        self._size: dict[str, Any] | None = None  # of the main process's terminal: likewise
        self._reported: dict[str, Any] | None = None  # how the main process ended
        self._finished: set[int] = set()  # of its streams
        self.endpoint = self._open()

    # --- beginning -------------------------------------------------------------------------------

    def _open(self) -> Endpoint:
        try:
            self._journal.open()
            state = self._journal.state
            self.log.recover(state.log_end)
            self._spool.open()
            if state.key != key_mark(self._key) or not state.wire.session:
                return self._begin()
            return self._go_on(state)
        except OSError as error:
            raise ChannelError(
                f"The relay's folder {self.folder} cannot be used: {error}.",
                expected="a folder of the relay's own, on a disk with room",
            ) from error

    def _make(self, state: RelayState | None) -> Endpoint:
        # A session goes on with what it was begun with, or more.
        window = max(self._options.window, state.wire.window if state else 0)
        payload = max(self._options.max_payload, state.wire.max_payload if state else 0)
        self._spool.keep = 2 * window  # the endpoint has no more: what came before, the guest has
        return Endpoint(
            Role.HOST,
            self._key,
            nonce=os.urandom(_NONCE_BYTES),
            max_payload=payload,
            window=window,
            # The endpoint reads it when the guest has answered, while it is being added to here.
            state=copy.deepcopy(state.wire) if state else None,
            now=self._now(),
        )

    def _begin(self) -> Endpoint:
        endpoint = self._make(None)
        wire = endpoint.journal() or {}
        self._spool.clear()
        self.log.flush()
        boot = self.log.end
        self._journal.write(
            {"schema": SCHEMA, "key": key_mark(self._key), "boot": boot, "log": boot, "wire": wire}
        )
        self._news, self._unwritten, self._owed = {}, [], {}
        self._backlog, self._later = b"", []
        self._placed, self._stdin_placed, self.said_hello = True, True, False
        self._reported, self._finished = None, set()
        self.processes.begin(endpoint, set(), 1)
        session = json.dumps({"session": wire["session"]}).encode("ascii")
        self.log.append(RecordKind.SESSION, 0, self._wall_ns(), session)
        return endpoint

    def _go_on(self, state: RelayState) -> Endpoint:
        endpoint = self._make(state)
        self._placed = self._stdin_placed = False
        self._reported = state.reported
        self._finished = {stream for stream, at in state.wire.streams.items() if at.finished}
        self.said_hello = state.wire.joined
        self.processes.begin(endpoint, state.wire.processes - {0}, state.next_process)
        return endpoint

    def begin_anew(self) -> None:
        """Begin another session: the guest was restarted and knows none. Raises OSError."""
        later = self._later
        self.endpoint = self._begin()
        self._say_later(later)  # there is nothing left to wait for

    # --- what is known ---------------------------------------------------------------------------

    @property
    def state(self) -> RelayState:
        """Return what is in the journal: what a restart would know."""
        return self._journal.state

    @property
    def committed(self) -> int:
        """Return the position up to which a restart does not cut the log."""
        return self._journal.state.log_end or 0

    @property
    def life(self) -> Life:
        """Return what is in the journal of the main process's restarts and health."""
        return read_life(self.state.life)

    @property
    def status(self) -> ExitStatus | None:
        """Return how the main process ended, once that is in the journal."""
        return reported_status(self._journal.state.ended)

    # --- what the line brings --------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes of the line. Raises ProtocolError."""
        self._take(self.endpoint.receive(data, self._now()))

    def tick(self) -> None:
        """Let the timers run. Raises ProtocolError."""
        self._take(self.endpoint.tick(self._now()))

    def _take(self, events: list[Event]) -> None:
        recount: int | None = None
        for event in events:
            if isinstance(event, Data):
                self._take_data(event)
            elif isinstance(event, Gap):
                if not process_of(event.stream):
                    record = GAP.pack(event.offset, event.count)
                    self.log.append(RecordKind.GAP, event.stream, self._wall_ns(), record)
            elif isinstance(event, Control):
                self._take_control(event.message)
            elif isinstance(event, Console):
                self.console.write(event.data)
            elif isinstance(event, Established):
                self.said_hello = True
                self.mention({"type": "look"})
            elif isinstance(event, Position):
                if event.stream == CONTROL:
                    recount = event.offset
                elif event.stream == STDIN:
                    self._place_stdin(event)
                else:
                    self.processes.place(event.stream, finished=event.finished)
            elif isinstance(event, Finished):
                if event.stream in _OUTPUTS:
                    self._finished.add(event.stream)
                self._end_when_complete()
                self.processes.take_finished(event.stream)
            elif isinstance(event, Closed):
                self.processes.take_closed(event.process)
            elif isinstance(event, Unopened):
                self.processes.take_unopened(event.process)
        if recount is not None:
            self._place_control(recount)

    def _take_data(self, event: Data) -> None:
        if process_of(event.stream):
            self.processes.take_data(event.stream, event.data, self._wall_ns())
            return
        now = self._wall_ns()
        for start in range(0, len(event.data), RECORD_PAYLOAD):
            piece = event.data[start : start + RECORD_PAYLOAD]
            self.log.append(RecordKind.OUTPUT, event.stream, now, piece)
        self._owed[event.stream] = self._owed.get(event.stream, 0) + len(event.data)

    def _take_control(self, message: dict[str, Any]) -> None:
        process = message.get("process", 0)
        if isinstance(process, bool) or not isinstance(process, int):
            raise ProtocolError("a control message about a process that is no number")
        try:
            if not process:
                self._take_life(message)
            status = reported_status({**message, "restarts": False})
        except ValueError as error:
            raise ProtocolError(str(error)) from error
        if status is not None:
            if process:
                self.processes.take_status(process, status)
            elif self._reported is None:
                self._reported = self._news["reported"] = status_json(status)
                self._end_when_complete()
        elif message.get("type") == "started":
            pid = message.get("pid")
            if isinstance(pid, bool) or not isinstance(pid, int):
                raise ProtocolError("a process that was started with a number that is none")
            if process:
                self.processes.take_started(process, pid)
            else:
                self._news["started"] = {"pid": pid}
        elif message.get("type") == "clock":
            asked = message.get("asked_ns")
            self.mention({"type": "clock", "asked_ns": asked, "unix_ns": self._wall_ns()})
        elif message.get("type") == "network":
            self._news["network"] = network_news(message)

    def _take_life(self, message: dict[str, Any]) -> None:
        """Take what is said of the main process's restarts and health. Raises ValueError."""
        before = read_life(self._news.get("life", self.state.life))
        life = before.after(message, self._wall_ns())
        if life is not before:
            self._news["life"] = life.to_json()
        if life.restarts > before.restarts:
            self.log.append(RecordKind.EXIT, 0, self._wall_ns(), json.dumps(life.end).encode())
            self._news["started"] = None

    def mention(self, message: dict[str, Any]) -> None:
        """Send a control message, unless too much waits for the guest already."""
        with contextlib.suppress(ControlFullError):
            self.control(message)

    def _end_when_complete(self) -> None:
        """Let the main process have ended once its output has: control overtakes data."""
        said = self._reported
        if said is not None and (said["type"] == "failed" or self._finished >= _OUTPUTS):
            self.end_now()

    def end_now(self) -> None:
        """Let the main process have ended, if it was said, though its output may lack its end."""
        said = self._reported
        if said is not None and self.state.ended is None and "ended" not in self._news:
            text = json.dumps(said).encode("ascii")
            self.log.append(RecordKind.EXIT, 0, self._wall_ns(), text)
            self._news["ended"] = said

    # --- control ---------------------------------------------------------------------------------

    def control(self, message: dict[str, Any]) -> None:
        """Send a control message; a process after this one sends it again if it was lost.

        Raises ValueError when it is too long, ControlFullError when too many wait.
        """
        # Until then there is no other process that anybody could be at.
        if message.get("type") == "resize" and not self._placed:
            self._size = message  # of many, as a window is drawn larger, the last one counts
        else:
            self.when_placed(lambda: self._say(message))

    def when_placed(self, call: Callable[[], None]) -> None:
        """Call now, or when the guest has told this process where it stands.

        Raises ControlFullError when too many wait for that.
        """
        if self._placed:
            call()
        elif len(self._later) >= WAITING_REQUESTS:
            raise ControlFullError("too many requests wait for the guest")
        else:
            self._later.append(call)

    def _say(self, message: dict[str, Any]) -> None:
        self.endpoint.control(message)
        self._news.setdefault("controls", []).append(message)

    def _place_control(self, count: int) -> None:
        """Go on behind the messages that the guest has; say again what it has not."""
        lost = [m for number, m in sorted(self.state.unconfirmed.items()) if number >= count]
        self._news["recount"] = count
        self._news.pop("controls", None)
        self._placed = True
        for message in lost:
            if message.get("type") != "exec" or self.processes.knows(message.get("process")):
                self.mention(message)
        later, self._later = self._later, []
        self._say_later(later)

    def _say_later(self, later: list[Callable[[], None]]) -> None:
        """Do what had to wait until it was known where the guest stands."""
        size, self._size = self._size, None
        for call in later:
            with contextlib.suppress(ControlFullError):
                call()
        if size is not None:
            self.mention(size)

    # --- stdin of the main process ---------------------------------------------------------------

    def _place_stdin(self, position: Position) -> None:
        backlog = self._spool.since(position.offset)
        if backlog is None:
            raise ProtocolError("the guest has other bytes of stdin than were sent")
        self._backlog = b"" if position.finished else backlog
        self._stdin_placed = True
        if self._spool.ended and not self._backlog and not position.finished:
            self.endpoint.finish(STDIN)

    def stdin_room(self) -> int:
        """Return how many bytes of stdin can be taken now."""
        if not self._stdin_placed or self._backlog or self._spool.ended:
            return 0
        return self.endpoint.writable(STDIN)

    @property
    def stdin_over(self) -> bool:
        """Whether no more stdin will be wanted, so that what comes may be thrown away."""
        return self._spool.ended or self.state.ended is not None

    def taken_stdin(self, writer: bytes) -> int:
        """Return how many bytes of a client were taken."""
        return self._spool.taken(writer)

    def take_stdin(self, writer: bytes, data: bytes) -> None:
        """Take bytes of a client, at most `stdin_room()`. Raises OSError; then none were taken."""
        self._spool.append(writer, data)
        taken = self.endpoint.send(STDIN, data)
        assert taken == len(data), "more than there was room for"

    def finish_stdin(self) -> None:
        """Close the main process's stdin, after all that was taken. Raises OSError."""
        if not self._spool.ended:
            self._spool.finish()
            if self._stdin_placed and not self._backlog:
                self.endpoint.finish(STDIN)

    def feed(self) -> None:
        """Hand on what an earlier process took, and the stdin of other processes."""
        if self._backlog:
            self._backlog = self._backlog[self.endpoint.send(STDIN, self._backlog) :]
            if not self._backlog and self._spool.ended:
                self.endpoint.finish(STDIN)
        self.processes.feed()

    # --- making it certain -----------------------------------------------------------------------

    def commit(self, keep: int) -> None:
        """Write down what has happened, and give credit; nothing may be sent before.

        The log keeps all from the position `keep` on, and there is no credit when it is full of
        that. Raises OSError: then nothing is lost, and it is to be called again.
        """
        self.log.flush()
        record = dict(self._news)
        if self.processes.next_number != self.state.next_process:
            record["next_process"] = self.processes.next_number
        if self._placed and self.state.unconfirmed and not self.endpoint.unacknowledged():
            record["confirmed"] = self.state.controls
        wire = self.endpoint.journal()
        if wire:
            record["wire"] = wire
        if self.log.end != self.state.log_end:
            record["log"] = self.log.end
        self._news = {}
        if record:
            self._unwritten.append(record)
        while self._unwritten:
            self._journal.write(self._unwritten[0])
            del self._unwritten[0]
        self._journal.compact()
        self._spool.compact()
        if not self.log.is_full(keep):
            owed, self._owed = self._owed, {}
            for stream, count in owed.items():
                self.endpoint.consumed(stream, count)
        self.log.trim(keep)

    @property
    def waits_for_room(self) -> bool:
        """Whether the guest gets no credit, for the log is full of what a reader still wants."""
        return bool(self._owed)

    def close(self) -> None:
        """Let go of the files."""
        self.log.close()
        self._journal.close()
        self._spool.close()
