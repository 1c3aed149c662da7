"""One client's connection: what it asks for, and the frames that it gets.

A connection does one thing: its first request says which. While it attaches or executes, it may
also resize and signal. Owns the dialogue and its bounds: requests that are small, stdin that stays
within its window, output that is fetched only when the socket has room.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.host.loop import GONE, READABLE, WRITABLE, Loop
from agent.host.relay.access import Access, Identity
from agent.host.relay.c_relay import (
    CLIENT_VERSION,
    HELLO_SECONDS,
    LINGER_SECONDS,
    OUT_BYTES,
    STDIN_HEADER,
    STDIN_WINDOW,
    TAKEN,
    WRITER_SIZE,
    FrameKind,
)
from agent.host.relay.channel import Channel
from agent.host.relay.frames import Frame, FrameError, FrameParser, encode_frame, encode_json
from agent.host.relay.machine import MachineRelay
from agent.host.relay.requests import (
    VERBS,
    read_attach,
    read_copy,
    read_exec,
    read_logs,
    read_order,
)
from agent.host.relay.views import LogView, ProcessView, condition_event, event
from agent.wire import ControlFullError

_READS = 4  # per turn
_SAID_BYTES = 65536  # of responses that wait, before no more requests are read


class Client:
    """Serve one connection. `find` returns the machine of a name; `closed` is called at the end."""

    def __init__(
        self,
        channel: Channel,
        loop: Loop,
        access: Access,
        *,
        find: Callable[[str], MachineRelay | None],
        closed: Callable[[Client], None],
    ) -> None:
        self.hold = False
        self.moved_at = loop.now()
        self.writer = bytes(WRITER_SIZE)
        self.stdin = bytearray()
        self.stdin_ended = False
        self._channel = channel
        self._loop = loop
        self._access = access
        self._identity = Identity()
        self._name = ""  # of the machine
        self._find = find
        self._on_closed = closed
        self._parser = FrameParser()
        self._machine: MachineRelay | None = None
        self._view: LogView | ProcessView | None = None
        self._waiting = False  # for the main process's end
        self._restarts: int | None = None  # that there had been when it began to wait
        self._takes_stdin = False
        self._stdin_offset = 0  # of the next byte that it is to send
        self._told_taken = 0
        self._told_warnings: set[str] = set()
        self._told_condition = ""
        self._attached = False  # to the main process
        self._told_started: int | None = None  # the boot whose process it knows to run
        self._said: list[bytes] = []
        self._said_bytes = 0
        self._ending = False
        self._lingering = False
        self._closed = False
        self._woken = False
        self._timer = loop.call_at(loop.now() + HELLO_SECONDS, self._overdue)
        loop.watch(channel.fileno(), READABLE, self._ready)

    @property
    def position(self) -> int:
        """Return how far it is in the log."""
        return self._view.position if isinstance(self._view, LogView) else 0

    def close(self) -> None:
        """Let go of it."""
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        self._loop.forget(self._channel.fileno())
        self._channel.close()
        self._leave()
        self._on_closed(self)

    def _leave(self) -> None:
        """Have no part in the machine any more."""
        machine, view = self._machine, self._view
        if machine is not None:
            machine.visitors.discard(self)
            machine.leave(self)
            if isinstance(view, ProcessView):
                machine.session.processes.leave(view.process)

    def wake(self) -> None:
        """Learn that there is more to fetch, or that something changed."""
        if not self._woken and not self._closed:
            self._woken = True
            self._loop.call_soon(self._pump)

    # --- the socket ------------------------------------------------------------------------------

    def _overdue(self) -> None:
        if self._view is None and not self._waiting:
            self.close()

    def _ready(self, events: int) -> None:
        if self._closed:
            return
        if events & (READABLE | GONE):
            for _ in range(_READS):
                data = self._channel.receive()
                if data is None:
                    self.close()
                    return
                if not data or not self._take(data):
                    break
            else:  # TLS may have more already, of which the descriptor says nothing
                self._loop.call_soon(lambda: self._ready(READABLE))
        if not self._closed:
            self._pump()

    def _take(self, data: bytes) -> bool:
        try:
            for frame in self._parser.feed(data):
                self._take_frame(frame)
                if self._closed:
                    return False
        except FrameError as error:
            self._refuse("protocol", str(error))
            return False
        return True

    def _pump(self) -> None:
        """Send what there is, as far as the client takes it."""
        self._woken = False
        if self._closed or self._lingering:
            return
        self._note()
        channel = self._channel
        channel.send()  # what was left over first: then there may be room for more
        more = True
        sent = 0
        while more and not channel.blocked and sent < OUT_BYTES:
            seeks = self._view is not None and self._view.seeking
            before = self.position
            data = self._next()
            if data:
                sent += len(data)
                self.moved_at = self._loop.now()
                channel.send(data)
            else:
                more = seeks or self.position != before
                sent += OUT_BYTES // 4  # a step of seeking or of passing over is work too
        if channel.send():  # else the socket tells when it takes the rest
            if more:  # it was blocked, or had its share of this turn: nobody else would wake us
                self.wake()
            elif self._ending or (self._view is not None and self._view.done):
                self._finish()
        if not self._closed:
            events = READABLE if self._said_bytes < _SAID_BYTES else 0
            events |= WRITABLE if channel.wants_write else 0
            self._loop.watch(channel.fileno(), events, self._ready)

    def _next(self) -> bytes:
        if self._said:
            data, self._said, self._said_bytes = b"".join(self._said), [], 0
            return data
        if self._view is None or self._ending:
            return b""
        before = self.position
        try:
            data = self._view.fetch()
        except OSError as error:
            self._refuse("output", f"the log cannot be read: {error}")
            return b""
        machine = self._machine
        if self.position != before and machine is not None and machine.session.waits_for_room:
            machine.schedule()
        return data

    def _finish(self) -> None:
        """Close once the client has: what TCP still carries would be lost if we were first."""
        if not self._lingering:
            self._lingering = True
            self._leave()
            self._channel.shut()
            self._timer.cancel()
            self._timer = self._loop.call_at(self._loop.now() + LINGER_SECONDS, self.close)

    # --- what it is told -------------------------------------------------------------------------

    def _say(self, data: bytes) -> None:
        self._said.append(data)
        self._said_bytes += len(data)

    def _respond(self, **members: object) -> None:
        self._say(encode_json(FrameKind.RESPONSE, {"ok": True, **members}))

    def _refuse(self, kind: str, what: str) -> None:
        error = {"kind": kind, "message": what}
        self._say(encode_json(FrameKind.RESPONSE, {"ok": False, "error": error}))
        self._ending = True
        self.wake()

    def _note(self) -> None:
        """Say what has changed: stdin that was taken, a condition, the end that is waited for."""
        machine = self._machine
        if machine is None:
            return
        taken = self._taken()
        if self._takes_stdin and taken > self._told_taken:
            self._told_taken = taken
            self._say(encode_frame(FrameKind.TAKEN, TAKEN.pack(taken)))
        state = machine.session.state
        if self._attached and state.started is not None and self._told_started != state.boot:
            self._told_started = state.boot
            self._say(event("started", process=0, **state.started))
        if self._attached and state.network is not None:
            for warning in state.network["warnings"]:
                if warning not in self._told_warnings:
                    self._told_warnings.add(warning)
                    self._say(event("warning", text=warning))
        diagnosis = machine.diagnosis()
        told = f"{diagnosis.condition} {diagnosis.overdue}"
        watches = self._waiting or isinstance(self._view, LogView | ProcessView)
        if watches and told != self._told_condition:
            self._told_condition = told
            console = machine.session.console.text() if diagnosis.overdue else ""
            self._say(condition_event(diagnosis, console))
        ended = state.ended
        if (
            self._restarts is not None
            and ended is None
            and machine.session.life.restarts > self._restarts
        ):
            ended = machine.session.life.end  # and it is started again
        if self._waiting and ended is not None:
            self._waiting = False
            self._ending = True
            self._say(event("exited", status=ended))

    def _taken(self) -> int:
        if isinstance(self._view, ProcessView):
            return self._view.process.taken
        return self._stdin_offset - len(self.stdin)

    # --- what it says ----------------------------------------------------------------------------

    def _take_frame(self, frame: Frame) -> None:
        if self._ending or self._lingering:
            return
        if self._machine is None:
            if frame.kind != FrameKind.HELLO:
                raise FrameError("a frame before HELLO")
            self._take_hello(frame.json())
        elif frame.kind == FrameKind.REQUEST:
            self._take_request(frame.json())
        elif frame.kind == FrameKind.STDIN and self._takes_stdin:
            self._take_stdin(frame.payload)
        elif frame.kind == FrameKind.STDIN_END and self._takes_stdin:
            if isinstance(self._view, ProcessView):
                self._view.process.stdin_ended = True
            else:
                self.stdin_ended = True
            self._machine.schedule()
        else:
            raise FrameError(f"a frame of kind {frame.kind} that has no place here")

    def _take_hello(self, message: dict[str, Any]) -> None:
        version = message.get("version")
        if version != CLIENT_VERSION:
            self._refuse("version", f"this relay speaks version {CLIENT_VERSION}, not {version!r}")
            return
        name = message.get("machine", "")
        token = message.get("token")
        if not isinstance(name, str) or not isinstance(token, str | None):
            raise FrameError("a HELLO whose members are no texts")
        self._identity = self._channel.identity(token)
        machine = self._find(name)
        # The same answer for both: who may not reach a machine need not learn that it is there.
        if machine is None or not self._access.reaches(self._identity, name):
            self._refuse("denied", "there is no such machine, or it is not yours to reach")
            return
        self._machine = machine
        machine.visit(self)
        self._name = name
        self._say(encode_json(FrameKind.HELLO, {"version": CLIENT_VERSION}))

    def _take_stdin(self, payload: bytes) -> None:
        machine = self._machine
        assert machine is not None
        (offset,) = STDIN_HEADER.unpack_from(payload)
        data = payload[STDIN_HEADER.size :]
        into = self._view.process.stdin if isinstance(self._view, ProcessView) else self.stdin
        if offset != self._stdin_offset:
            raise FrameError(f"stdin at {offset} instead of {self._stdin_offset}")
        if len(into) + len(data) > STDIN_WINDOW:
            raise FrameError("more stdin than the window allows")
        self._stdin_offset += len(data)
        if isinstance(self._view, ProcessView) and self._view.process.status is not None:
            self._view.process.taken += len(data)  # nobody is there to read it
        else:
            into += data
        machine.schedule()

    def _take_request(self, message: dict[str, Any]) -> None:
        machine = self._machine
        assert machine is not None
        kind = message.get("type")
        verb = VERBS.get(kind) if isinstance(kind, str) else None
        if verb is None:
            self._refuse("request", f"{str(kind)[:40]!r} is no request")
            return
        if not self._access.allows(self._identity, self._name, verb):
            self._refuse("denied", f"{kind} is not allowed to you on this machine")
            return
        try:
            self._serve(str(kind), message, machine)
        except ControlFullError as error:
            self._refuse("busy", str(error))
        except ValueError as error:
            self._refuse("request", f"{kind}: {error}")

    def _serve(self, kind: str, message: dict[str, Any], machine: MachineRelay) -> None:
        if kind in {"signal", "resize"} and isinstance(self._view, ProcessView):
            order = read_order(message)
            machine.control({**order, "process": self._view.process.number})
            return
        if kind in {"signal", "resize", "stop", "power-off"}:
            machine.control(read_order(message))
            if self._view is None:
                self._respond()
                self._ending = True
            return
        if self._view is not None or self._waiting:
            raise ValueError("this connection is in use")
        if kind == "status":
            self._respond(status=machine.description())
            self._ending = True
        elif kind == "wait":
            self._respond()
            self._waiting = True
            self._restarts = machine.session.life.restarts
            machine.readers.add(self)
        elif kind == "attach":
            self._attach(message, machine)
        elif kind == "logs":
            request = read_logs(message)
            start = machine.session.log.begin if request.position is None else request.position
            self._view = LogView(machine, start, attached=False, request=request)
            self._respond(position=self._view.position)
            machine.readers.add(self)
        else:
            self._start(kind, message, machine)

    def _attach(self, message: dict[str, Any], machine: MachineRelay) -> None:
        request = read_attach(message)
        boot, end = machine.session.state.boot, machine.session.committed
        position = boot if request.position is None else request.position
        if request.replay == 0 and request.position is None:
            position = end
        if not 0 <= position <= end:
            raise ValueError(f"the log ends at {end}, not at {position}")
        last = request.replay if request.position is None and request.replay else None
        ends_after = end if request.ends_after is None else request.ends_after
        self._view = LogView(
            machine, position, attached=True, last_bytes=last, ends_after=ends_after
        )
        self._attached = True
        self.hold = request.hold
        self.writer = request.writer
        self._takes_stdin = request.stdin
        self._stdin_offset = self._told_taken = machine.come_back(request.writer)
        started = machine.session.state.started
        self._respond(
            position=position, taken=self._stdin_offset, started=started, ends_after=ends_after
        )
        machine.readers.add(self)
        self.wake()

    def _start(self, kind: str, message: dict[str, Any], machine: MachineRelay) -> None:
        order = read_exec(message) if kind == "exec" else read_copy(message)
        detach = kind == "exec" and message.get("detach") is True
        stdin = kind == "copy-in" or (kind == "exec" and order["stdin"] and not detach)
        if machine.status is not None:
            raise ValueError("the main process has ended")
        self._takes_stdin = stdin
        self._waiting = True  # keeps it open until the guest can be told

        def start() -> None:
            self._waiting = False
            if self._closed:
                return
            try:
                process = machine.session.processes.start(order, self, stdin=stdin)
            except (ValueError, ControlFullError) as error:
                self._refuse("busy", f"{kind}: {error}")
                return
            self._view = ProcessView(machine, process, until_started=detach)
            self._respond(process=process.number)
            machine.readers.add(self)
            machine.schedule()
            self.wake()

        machine.session.when_placed(start)
