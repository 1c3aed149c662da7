"""One machine's relay: the session on its line, the readers of its log, and how things stand.

Owns when what is done: one piece of work per turn of the loop, the timers, and who may hold the
guest back. Knows neither sockets nor frames of clients; its line is what agent.host.vspc.seam
calls one, and this class is a LineUser.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from agent.host.loop import slept_seconds
from agent.host.relay.asking import Asking, Looking
from agent.host.relay.c_relay import STDIN_WINDOW
from agent.host.relay.condition import Condition, Diagnosis
from agent.host.relay.options import RelayOptions
from agent.host.relay.readers import Bequest, Reader, Visitor
from agent.host.relay.session import RelaySession
from agent.host.status import ExitStatus
from agent.host.vspc.identity import Claims
from agent.host.vspc.seam import Line, Notice, Scheduler, Timer
from agent.wire import ProtocolError, Reason, RefusedError

_LOOK_SECONDS = 1.0
_PAUSE_SECONDS = 2.0  # of an answer, or of our own sleep: its clock may have stood still
_RETRY_SECONDS = 1.0  # after the disk was full
_SEND_BYTES = 65536
# While bytes pour in, so many at once, a turn's work is done once for so many of them, or so long
# after the last one: each costs the guest an acknowledgement to read, and it is slower than we are.
_BULK_BYTES = 16384
_WORK_BYTES = 262144
_WORK_SECONDS = 0.008
_STDIN_BYTES = 32768  # in one record of the spool
_BEQUESTS = 64  # of readers who left


class RelayLoop(Scheduler, Protocol):
    """What a relay needs of a loop: time, and a call before the next wait."""

    def call_soon(self, call: Callable[[], None]) -> None:
        """Have `call` called before the next wait."""


class MachineRelay:
    """Drive one machine's session over `line`; everything it has to remember is in `folder`.

    `changed` is called when the condition, the status or the process's life is another than before.
    Raises ChannelError when the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        line: Line,
        loop: RelayLoop,
        *,
        options: RelayOptions | None = None,
        notice: Callable[[Notice], None] = lambda _notice: None,
        changed: Callable[[], None] = lambda: None,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.options = options or RelayOptions()
        self.readers: set[Reader] = set()
        self.visitors: set[Visitor] = set()
        self._bequests: list[Bequest] = []
        self._line = line
        self._loop = loop
        self._notice = notice
        self._changed = changed
        self._connected = False
        self._connected_at = loop.now()
        self._gone: str | None = None
        self._fault: str | None = None
        self._forgotten = False  # the fault is that we do not know the guest's session
        self._stuck: str | None = None
        self._renew = False
        self._looking = Looking(loop.now(), *self.options.looking_seconds)
        self._slept = slept_seconds()
        self._asking = Asking(*self.options.asking_seconds)
        self._scheduled = False
        self._unworked = 0  # bytes that came since `_work`
        self._worked_at = float("-inf")
        self._work_timer: Timer | None = None
        self._closed = False
        self._timer: Timer | None = None
        self._timer_at: float | None = None
        self.session = RelaySession(
            folder, self.options, now=loop.now, wall_ns=wall_ns, work=self.schedule
        )
        self._ever_connected = self.session.said_hello
        self._life = self.session.state.life  # that `changed` was called for
        self._condition = Condition.NEVER_CONNECTED
        self._since = loop.now()
        self._condition = self._judge()
        self._look_timer = loop.call_at(loop.now() + _LOOK_SECONDS, self._look)
        self.schedule()

    # --- for its owner and for clients -----------------------------------------------------------

    @property
    def status(self) -> ExitStatus | None:
        """Return how the main process ended, once that cannot be lost any more."""
        return self.session.status

    @property
    def acknowledged(self) -> bool:
        """Whether the guest knows that we have all of it: it may power off."""
        return not self.session.endpoint.unacknowledged()

    @property
    def line_connected(self) -> bool:
        """Whether the hypervisor is connected."""
        return self._connected

    def diagnosis(self) -> Diagnosis:
        """Return how things stand."""
        condition = self._see()
        seconds = self._loop.now() - self._since
        if condition is Condition.SILENT:
            heard = self.session.endpoint.last_heard
            seconds = self._loop.now() - (self._connected_at if heard is None else heard)
        limit = self.options.patience.of(condition)
        detail = self._gone if condition is Condition.ENDED else self._fault or self._stuck
        overdue = limit is not None and seconds >= limit
        return Diagnosis(condition, seconds, overdue, detail or "", self.options.line)

    def description(self) -> dict[str, Any]:
        """Return all that can be told, as JSON."""
        session = self.session
        diagnosis = self.diagnosis()
        return {
            "condition": str(diagnosis.condition),
            "seconds": round(diagnosis.seconds, 3),
            "overdue": diagnosis.overdue,
            "detail": diagnosis.detail,
            "line": str(diagnosis.line),
            "console": session.console.text() if diagnosis.overdue else "",
            "started": session.state.started,
            "network": session.state.network,
            "ended": session.state.ended,
            "life": session.life.to_json(),
            "session": session.state.wire.session.hex(),
            "incarnation": session.state.wire.incarnation,
            "boot": session.state.boot,
            "begin": session.log.begin,
            "end": session.committed,
            "counters": dict(vars(session.endpoint.counters)),
        }

    def machine_ended(self, detail: str = "") -> None:
        """Learn that the machine is gone and all that it sent was received. Until it connects."""
        self._gone = detail
        self.session.end_now()
        self.schedule()

    def control(self, message: dict[str, Any]) -> None:
        """Send a control message, and again if a restart of this process loses it.

        Raises ValueError when it is too long, ControlFullError when too many wait.
        """
        self.session.control(message)
        self.schedule()

    def schedule(self) -> None:
        """Have everything that is due done before the loop waits again."""
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._work)

    def visit(self, visitor: Visitor) -> None:
        """Learn that somebody is here, who may want to know how things stand."""
        self.visitors.add(visitor)
        self._asking.want(self._loop.now())
        self._looking.visited(self._loop.now())

    def leave(self, reader: Reader) -> None:
        """Let a reader go; its stdin is taken when there is room for it, as if it were here.

        What those who left have not got rid of is bounded: beyond that it is lost, and told.
        """
        if reader in self.readers:
            self.readers.discard(reader)
            waiting = sum(len(bequest.stdin) for bequest in self._bequests)
            if waiting + len(reader.stdin) > STDIN_WINDOW or len(self._bequests) >= _BEQUESTS:
                self._notice(Notice("a client left before the guest took its stdin, which is lost"))
            elif reader.stdin or reader.stdin_ended:
                left = Bequest(reader.writer, bytearray(reader.stdin), reader.stdin_ended)
                self._bequests.append(left)
        self.schedule()

    def come_back(self, writer: bytes) -> int:
        """Return how many bytes of a client's stdin were taken: it sends the rest, maybe again.

        So what an earlier connection of its has brought beyond that, or still brings, is forgotten:
        it would be taken twice. That connection may be one whose end nobody has seen yet.
        """
        if any(writer):  # else it has no name, and does not come back
            self._bequests = [left for left in self._bequests if left.writer != writer]
            for reader in [reader for reader in self.readers if reader.writer == writer]:
                reader.stdin.clear()
                reader.stdin_ended = False
                reader.close()
        return self.session.taken_stdin(writer)

    # --- LineUser --------------------------------------------------------------------------------

    def connected(self, claims: Claims) -> None:
        """Greet the guest on a new connection."""
        self._connected = self._ever_connected = True
        self._connected_at = self._loop.now()
        self._gone = None
        self._asking.reset()
        self._notice(Notice(f"connected: {claims}", minor=True))
        self.schedule()

    def moved(self, claims: Claims) -> None:
        """Learn that the VM is at another host; no byte was lost."""
        self._notice(Notice(f"moved: {claims}", minor=True))

    def lost(self, reason: str) -> None:
        """Learn that the connection is gone."""
        self._connected = False
        self.session.endpoint.transport_lost()
        self._notice(Notice(f"disconnected: {reason}", minor=True))
        self.schedule()

    def room(self) -> int:
        """Return how many bytes may come: none while they cannot be written down."""
        return 0 if self._stuck is not None else _SEND_BYTES

    def receive(self, data: bytes) -> None:
        """Take bytes of the line."""
        if self._fault is None and not self._renew:
            self._guard(lambda: self.session.receive(data))
        self._unworked += len(data)
        due = self._worked_at + _WORK_SECONDS
        pours_in = len(data) >= _BULK_BYTES
        if not pours_in or self._unworked >= _WORK_BYTES or self._loop.now() >= due:
            self.schedule()
        elif self._work_timer is None:
            self._work_timer = self._loop.call_at(due, self.schedule)

    def writable(self) -> None:
        """Go on sending."""
        self.schedule()

    def idle(self) -> bool:
        """Say whether nobody would miss it now."""
        return not self.readers and self.session.endpoint.away

    def close(self) -> None:
        """Write down what there is, and let go of everything and everybody."""
        if not self._closed:
            self._work()
            self._closed = True
            for visitor in list(self.visitors):
                visitor.close()
            self._look_timer.cancel()
            for timer in (self._timer, self._work_timer):
                if timer is not None:
                    timer.cancel()
            self.session.close()

    # --- the work of a turn ----------------------------------------------------------------------

    def _guard(self, call: Callable[[], None]) -> None:
        """Call what the guest has a say in."""
        try:
            call()
        except RefusedError as error:
            if error.reason == Reason.UNKNOWN:  # it was restarted, and knows nothing of before
                self._renew = True
            else:
                self._forgotten = error.reason in {Reason.SESSION, Reason.FORGOTTEN}
                self._blame(str(error))
        except ProtocolError as error:
            self._blame(str(error))

    def _blame(self, what: str) -> None:
        self._fault = what
        self._notice(Notice(f"the guest broke the protocol: {what}", warning=True))

    def _work(self) -> None:
        self._scheduled = False
        if self._work_timer is not None:
            self._work_timer.cancel()
            self._work_timer = None
        if self._closed:
            return
        self._unworked, self._worked_at = 0, self._loop.now()
        try:
            if self._renew:
                self.session.begin_anew()
                self._renew = False
                self._notice(Notice("the guest was restarted: another session begins"))
            if self._fault is None:
                self._guard(self.session.tick)
                self._take_stdin()
                self._guard(self.session.feed)
            self.session.commit(self._kept_position())
        except OSError as error:
            self._be_stuck(str(error))
            return
        if self._stuck is not None:
            self._stuck = None
            self._line.resume()
        if self.session.state.life is not self._life:
            self._life = self.session.state.life
            self._changed()
        if self._fault is None and not self._renew:
            self._send()
        self._set_timer()
        self._see()
        for reader in list(self.readers):
            reader.wake()

    def _be_stuck(self, why: str) -> None:
        if self._stuck is None:
            self._notice(Notice(f"nothing can be written down: {why}", warning=True))
        self._stuck = why
        self._see()
        self._work_timer = self._loop.call_at(self._loop.now() + _RETRY_SECONDS, self.schedule)

    def _send(self) -> None:
        while self._connected and (room := self._line.room()) > 0:
            limit = min(room, _SEND_BYTES)
            data = self.session.endpoint.data_to_send(self._loop.now(), limit)
            if not data:
                return
            self._line.send(data)

    def _set_timer(self) -> None:
        due = self.session.endpoint.deadline() if self._fault is None else None
        if due is not None and not (self._connected and self._line.room()):
            due = None  # nothing can be sent: the line says when
        if due == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = None if due is None else self._loop.call_at(due, self._due)

    def _due(self) -> None:
        self._timer = self._timer_at = None
        self.schedule()

    # --- stdin and readers -----------------------------------------------------------------------

    def _take_stdin(self) -> None:
        """Take what readers offer, a piece from each in its turn."""
        session = self.session
        givers: list[Reader | Bequest] = [*self._bequests, *self.readers]
        offering = [giver for giver in givers if giver.stdin or giver.stdin_ended]
        while offering:
            for reader in list(offering):
                if session.stdin_over:
                    reader.stdin.clear()
                count = min(len(reader.stdin), session.stdin_room(), _STDIN_BYTES)
                if count:
                    session.take_stdin(reader.writer, bytes(reader.stdin[:count]))
                    del reader.stdin[:count]
                if not reader.stdin and reader.stdin_ended:
                    reader.stdin_ended = False
                    session.finish_stdin()
                if not reader.stdin or not session.stdin_room():
                    offering.remove(reader)
        self._bequests = [left for left in self._bequests if left.stdin or left.stdin_ended]

    def _kept_position(self) -> int:
        """Return the position from which on the log must stay: readers hold the guest back."""
        return min((r.position for r in self.readers if r.hold), default=self.session.committed)

    def _let_go(self) -> None:
        """Hold for nobody who takes nothing while others wait for what comes next."""
        now = self._loop.now()
        if not self.session.waits_for_room or len(self.readers) < 2:
            return
        for reader in self.readers:
            behind = reader.position < self.session.committed
            if reader.hold and behind and now - reader.moved_at > self.options.hold_seconds:
                reader.hold = False
                self._notice(Notice("a client is too slow; it may miss output from here on"))
                self.schedule()

    # --- how things stand ------------------------------------------------------------------------

    def _look(self) -> None:
        """Do what is to be done now and then."""
        if self._closed:
            return
        now = self._loop.now()
        self._look_timer = self._loop.call_at(now + _LOOK_SECONDS, self._look)
        endpoint = self.session.endpoint
        took = self._asking.heard(endpoint.last_heard)
        slept, self._slept = self._slept, slept_seconds()
        if self._slept - slept > _PAUSE_SECONDS or (took is not None and took > _PAUSE_SECONDS):
            self._looking.paused(now)
        if endpoint.established and self._fault is None and self._looking.is_due(now):
            self.session.mention({"type": "look"})
        quiet_since = max(self._since, endpoint.last_heard or self._since)
        if (
            endpoint.established
            and self._fault is None
            and self._asking.is_due(now, quiet_since, owes=endpoint.unacknowledged())
        ):
            endpoint.request_probe()
            self.schedule()
        self._let_go()
        self._see()
        if self.diagnosis().overdue:
            for reader in list(self.readers):
                reader.wake()

    def _see(self) -> Condition:
        """Return the condition; note since when it is what it is."""
        condition = self._judge()
        if condition is not self._condition:
            self._condition = condition
            self._since = self._loop.now()
            self._changed()
            for reader in list(self.readers):
                reader.wake()
        return condition

    def _judge(self) -> Condition:
        if self.session.state.ended is not None:
            return Condition.EXITED
        if self._fault is not None:
            return Condition.FORGOTTEN if self._forgotten else Condition.FAULT
        if self._gone is not None:
            return Condition.ENDED
        if self._stuck is not None:
            return Condition.STUCK
        if not self._ever_connected:
            return Condition.NEVER_CONNECTED
        if not self.session.said_hello:
            return Condition.NO_HELLO
        if not self._connected:
            return Condition.DISCONNECTED
        # It owes the answer to a probe; or on a new connection, of this process or another before
        # it, the one to our HELLO.
        asked = self._asking.asked_at if self.session.endpoint.established else self._connected_at
        if asked is not None and self._loop.now() - asked >= self.options.patience.silence:
            return Condition.SILENT
        return Condition.ALIVE
