"""Move bytes between a user's descriptors and a process in the guest, through a relay.

Owns the loop of `attach` and `exec`: what waits where, and how much of it. Memory is bounded: stdin
is read only within the relay's window and kept until the relay has it, frames are read only while
the outputs take them, which is what slows the guest down for a slow reader.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.host.client.conditions import raise_condition
from agent.host.client.connection import Connection, LostError, raise_refusal
from agent.host.client.keys import DetachKeys
from agent.host.errors import AbortedError, DetachedError, GuestLostError, RelayError
from agent.host.output import Output
from agent.host.relay.c_relay import OUTPUT, STDIN_HEADER, STDIN_WINDOW, TAKEN, FrameKind
from agent.host.relay.frames import Frame
from agent.host.relay.status import reported_status
from agent.host.signals import Action, SignalInbox, SignalPolicy
from agent.host.status import ExitStatus
from agent.host.stdio import Stdio

_STDIN_BYTES = 32768  # in one frame
_PENDING_BYTES = 262144  # of output that may wait for its descriptor
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Manners:
    """How a client behaves. `terminal_size` makes it one with a terminal: (rows, columns)."""

    detach_keys: bytes = b""
    sig_proxy: bool = True
    end_stdin: bool = True  # the end of our input is the end of the process's
    inbox: SignalInbox | None = None
    terminal_size: Callable[[], tuple[int, int] | None] | None = None
    # The conditions that end it when they are overdue; others are only reported.
    fatal: frozenset[str] = frozenset()
    on_event: Callable[[dict[str, Any]], None] = field(default=lambda _event: None)


class Pump:
    """Run one attachment or execution until its process has ended.

    `connect` returns a connection whose request was granted, and how many bytes of stdin the relay
    has of us; it is called again, for as long as `reconnect_seconds`, when the relay was lost.
    """

    def __init__(
        self,
        connect: Callable[[Pump], tuple[Connection, int]],
        stdio: Stdio,
        manners: Manners,
        *,
        reconnect_seconds: float = 0.0,
    ) -> None:
        self.position: int | None = None  # in the log: everything before it was taken
        self.started = False
        self.ends_after: int | None = None  # the position in the log behind which an end is ours
        self._connect = connect
        self._manners = manners
        self._reconnect_seconds = reconnect_seconds
        self._stdin = stdio.stdin
        self._outputs = {
            FrameKind.STDOUT: Output(stdio.stdout),
            FrameKind.STDERR: Output(stdio.stderr),
        }
        self._pending_bytes = 0
        self._keys = DetachKeys(manners.detach_keys)
        self._policy = SignalPolicy(terminal=manners.terminal_size is not None)
        self._kept = bytearray()  # stdin that the relay has not taken
        self._taken = 0  # what it has
        self._unsent = 0  # how much of the end of `_kept` was not sent
        self._end_unsent = False
        self._ended = False  # stdin, ours
        self._connection: Connection | None = None
        self._status: ExitStatus | None = None

    def run(self) -> ExitStatus:
        """Return how the process ended, after its output was written.

        Raises DetachedError, AbortedError, OutputError, and whatever the relay refuses.
        """
        try:
            self._open()
            while self._status is None or self._pending_bytes:
                self._turn()
        finally:
            if self._connection is not None:
                self._connection.close()
        return self._status

    # --- the relay -------------------------------------------------------------------------------

    def _open(self) -> None:
        self._connection, taken = self._connect(self)
        # What it has, we need not keep; the rest we send again. A relay that has less than before
        # begins to count anew: the machine was given another key.
        del self._kept[: max(0, taken - self._taken)]
        self._taken = taken
        self._unsent = len(self._kept)
        self._end_unsent = self._ended
        self._send_size()

    def _reopen(self, error: LostError) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        until = time.monotonic() + self._reconnect_seconds
        while True:
            if time.monotonic() >= until:
                raise error
            try:
                self._open()
            except (LostError, RelayError) as again:
                if not isinstance(again, LostError) and again.kind != "channel":
                    raise
                select.poll().poll(100)  # nobody listens yet: look again in a tenth of a second
            else:
                return

    def _turn(self) -> None:
        try:
            self._send_stdin()
            ready = self._wait()
            for output in self._outputs.values():
                if ready.get(output.descriptor, 0):
                    self._pending_bytes -= output.flush()
            # Before signals: what has come may say that there is a process to send them to.
            self._read_frames(ready)
            if self._manners.inbox is not None and ready.get(self._manners.inbox.fileno()):
                for number in self._manners.inbox.drain():
                    self._take_signal(number)
            if self._stdin is not None and ready.get(self._stdin, 0) & _READABLE:
                self._read_stdin(self._stdin)
        except LostError as error:
            if self._status is None:
                self._reopen(error)

    def _read_frames(self, ready: dict[int, int]) -> None:
        connection = self._connection
        if connection is None or not self._wants_frames():
            return
        if connection.holds_frames or ready.get(connection.fileno(), 0) & _READABLE:
            for frame in connection.ready_frames():
                self._take(frame)

    def _wants_frames(self) -> bool:
        return self._status is None and self._pending_bytes < _PENDING_BYTES

    def _interest(self) -> Iterator[tuple[int, int]]:
        if self._connection is not None and self._wants_frames():
            yield self._connection.fileno(), select.POLLIN
        if self._manners.inbox is not None:
            yield self._manners.inbox.fileno(), select.POLLIN
        if self._stdin is not None and len(self._kept) < STDIN_WINDOW and self._status is None:
            yield self._stdin, select.POLLIN
        for output in self._outputs.values():
            if output.pending:
                yield output.descriptor, select.POLLOUT

    def _wait(self) -> dict[int, int]:
        interest: dict[int, int] = {}
        for descriptor, events in self._interest():
            interest[descriptor] = interest.get(descriptor, 0) | events
        poll = select.poll()
        for descriptor, events in interest.items():
            poll.register(descriptor, events)
        connection = self._connection
        at_once = connection is not None and self._wants_frames() and connection.holds_frames
        return dict(poll.poll(0 if at_once else _POLL_SECONDS * 1000))

    # --- what comes ------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        if frame.kind in self._outputs:
            _process, _time, position = OUTPUT.unpack_from(frame.payload)
            data = frame.payload[OUTPUT.size :]
            output = self._outputs[frame.kind]
            output.push(data)
            self._pending_bytes += len(data)
            self._pending_bytes -= output.flush()
            self._reach(position)
        elif frame.kind == FrameKind.TAKEN:
            (taken,) = TAKEN.unpack_from(frame.payload)
            del self._kept[: taken - self._taken]
            self._taken = taken
        elif frame.kind == FrameKind.EVENT:
            self._take_event(frame.json())
        elif frame.kind == FrameKind.RESPONSE:
            raise_refusal(frame.json())  # of something that was said meanwhile

    def _reach(self, position: object) -> None:
        if isinstance(position, int) and position and self.position is not None:
            self.position = position

    def _take_event(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        self._reach(event.get("end" if kind == "missed" else "position"))
        if kind == "exited":
            self._status = reported_status(event.get("status"))
            if self._status is None:
                raise GuestLostError("The relay reported an end that is none.")
        elif kind == "started":
            self.started = True
            self._send_size()  # what was said before it ran had nobody to hear it
        elif kind == "lost":
            raise GuestLostError(
                "The guest was restarted while the process ran.",
                expected="the process's exit status",
            )
        elif kind == "condition":
            self.judge(event)
        self._manners.on_event(event)

    def judge(self, event: Mapping[str, Any]) -> None:
        """Raise what the event means, when that ends us."""
        raise_condition(event, self._manners.fatal)

    # --- what goes -------------------------------------------------------------------------------

    def _read_stdin(self, descriptor: int) -> None:
        room = min(STDIN_WINDOW - len(self._kept), _STDIN_BYTES)
        if room <= 0:
            return
        try:
            data = os.read(descriptor, room)
        except BlockingIOError:
            return
        except OSError:  # the terminal is gone: there will be no more input
            data = b""
        passed, detach = self._keys.feed(data) if data else (self._keys.rest(), False)
        self._kept += passed
        self._unsent += len(passed)
        if not data:
            self._stdin = None
            self._ended = self._end_unsent = self._manners.end_stdin
        self._send_stdin()
        if detach:
            raise DetachedError("The client was detached; the process goes on.")

    def _send_stdin(self) -> None:
        connection = self._connection
        if connection is None or self._status is not None:
            return
        while self._unsent:
            start = len(self._kept) - self._unsent
            piece = bytes(self._kept[start : start + _STDIN_BYTES])
            header = STDIN_HEADER.pack(self._taken + start)
            connection.send_frame(FrameKind.STDIN, header, piece)
            self._unsent -= len(piece)
        if self._end_unsent:
            self._end_unsent = False
            connection.send_frame(FrameKind.STDIN_END)

    def _take_signal(self, number: int) -> None:
        ended = self._status is not None
        if ended and not self._pending_bytes:
            return  # the process was faster, and its status is the result
        reachable = self._manners.sig_proxy and self.started and not ended
        action = self._policy.decide(number, time.monotonic(), reachable=reachable)
        if action is Action.RESIZE:
            self._send_size()
        elif action is Action.FORWARD:
            if self._connection is not None:
                self._connection.say({"type": "signal", "signal": number})
        else:
            raise AbortedError(f"The client was ended by signal {number}.", signal=number)

    def _send_size(self) -> None:
        measure = self._manners.terminal_size
        size = measure() if measure is not None else None
        if size is not None and self._connection is not None:
            self._connection.say({"type": "resize", "rows": size[0], "cols": size[1]})
