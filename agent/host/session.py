"""One foreground run seen from the host: relay stdio until the guest reports how it ended.

Owns the loop and its deadlines. Single-threaded: wait for whatever is ready, hand bytes between
descriptors and the Endpoint, look at the clock. Nothing here grows without bound: stdin is read
only as far as the guest's credit goes, and the guest gets credit back only for output that was
written. The transport is always read, whatever else is stuck, so that control gets through.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from agent.host.console import ConsoleTail
from agent.host.errors import (
    AbortedError,
    GuestFaultError,
    GuestLostError,
    MachineEndedError,
    NeverConnectedError,
    NoHelloError,
)
from agent.host.output import Output
from agent.host.signals import Action, SignalInbox, SignalPolicy
from agent.host.status import ExitStatus, exit_status
from agent.host.transport import Connection, UnixListener
from agent.wire import (
    STDERR,
    STDIN,
    STDOUT,
    Console,
    Control,
    Data,
    Endpoint,
    Established,
    Event,
    ProtocolError,
)

_POLL_SECONDS = 0.25  # between two looks at the machine
_KEEPALIVE_SECONDS = 5.0
_STDIN_BYTES = 65536
_LINE_READS = 4  # per turn, so that a fast guest does not starve stdin and the signals
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL


@dataclass(frozen=True, slots=True)
class Stdio:
    """The host's descriptors; `stdin` is None when the guest's process is to have none."""

    stdin: int | None = None
    stdout: int = 1
    stderr: int = 2


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How many seconds each wait may last."""

    connect: float = 30.0  # for the hypervisor to connect
    hello: float = 180.0  # for the guest to boot and say hello, where it is emulated
    silence: float = 60.0  # without an answer to a probe, once it has said hello
    reconnect: float = 10.0  # for the hypervisor to come back after the line closed
    linger: float = 10.0  # after the exit status, for the guest to learn that we have it


class Session:
    """Drive an Endpoint(HOST) over the connections of a listener, for one run.

    `terminal_size` makes the run one with a terminal: it is called for (rows, columns) at the
    start and at every SIGWINCH. `is_alive` says whether the machine still runs and `on_tick` is
    called now and then, both at least every quarter second. `console` returns console text that
    came another way than through this line.
    """

    def __init__(
        self,
        listener: UnixListener,
        endpoint: Endpoint,
        stdio: Stdio,
        *,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.monotonic,
        inbox: SignalInbox | None = None,
        terminal_size: Callable[[], tuple[int, int] | None] | None = None,
        is_alive: Callable[[], bool] = lambda: True,
        on_tick: Callable[[], None] = lambda: None,
        console: Callable[[], str] = lambda: "",
    ) -> None:
        self._listener = listener
        self._endpoint = endpoint
        self._stdin = stdio.stdin
        self._outputs = {STDOUT: Output(stdio.stdout), STDERR: Output(stdio.stderr)}
        self._timeouts = timeouts or Timeouts()
        self._clock = clock
        self._inbox = inbox
        self._terminal_size = terminal_size
        self._is_alive = is_alive
        self._on_tick = on_tick
        self._other_console = console
        self._policy = SignalPolicy(terminal=terminal_size is not None)
        self._console = ConsoleTail()
        self._line: Connection | None = None
        self._ever_connected = False
        self._said_hello = False
        self._process_runs = False
        self._status: ExitStatus | None = None
        self._now = clock()
        self._waiting_since = self._now  # the start of whatever `_deadline` bounds
        self._look_at = self._now
        self._probed_at: float | None = None  # the oldest keepalive that is unanswered
        self._alive = True
        self._line_is_dry = True  # nothing came in the last turn

    def run(self) -> ExitStatus:
        """Relay until the guest has reported its exit status and its output is written.

        Raises NeverConnectedError, NoHelloError, GuestLostError, MachineEndedError,
        GuestFaultError, OutputError or AbortedError.
        """
        try:
            while not self._over():
                ready = self._wait()
                self._now = self._clock()
                self._turn(ready)
                self._check()
                self._look_at_machine()
        except ProtocolError as error:
            raise GuestFaultError(
                f"The guest broke the protocol: {error}.",
                expected="frames as docs/protocol.md has them",
                hint="Rebuild the boot image with `saltflat boot build`, so that both ends match.",
                console=self._console_text(),
            ) from error
        finally:
            if self._line is not None:
                self._line.close()
        assert self._status is not None
        return self._status

    def control(self, message: dict[str, object]) -> None:
        """Send a control message; from `on_tick` or before `run`."""
        self._endpoint.control(message)

    # --- one turn of the loop --------------------------------------------------------------------

    def _interest(self) -> Iterator[tuple[int, int]]:
        yield self._listener.fileno(), select.POLLIN
        if self._line is not None:
            yield self._line.fileno(), select.POLLIN
            if self._line.blocked:
                yield self._line.fileno(), select.POLLOUT
        if self._inbox is not None:
            yield self._inbox.fileno(), select.POLLIN
        if self._stdin is not None and self._stdin_room():
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
        now = self._clock()
        until = min(now + _POLL_SECONDS, self._deadline())
        due = self._endpoint.deadline()
        if due is not None and self._line is not None and not self._line.blocked:
            until = min(until, due)
        return dict(poll.poll(max(0.0, until - now) * 1000))

    def _turn(self, ready: Mapping[int, int]) -> None:
        accepted = bool(ready.get(self._listener.fileno())) and self._accept()
        readable = self._line is not None and ready.get(self._line.fileno(), 0) & _READABLE
        self._line_is_dry = not accepted and not readable
        if not self._line_is_dry:
            self._read_line()
        if self._inbox is not None and ready.get(self._inbox.fileno()):
            for number in self._inbox.drain():
                self._take_signal(number)
        if self._stdin is not None and ready.get(self._stdin, 0) & _READABLE:
            self._read_stdin(self._stdin)
        for stream, output in self._outputs.items():
            if output.pending:
                self._endpoint.consumed(stream, output.flush())
        self._keep_alive()
        self._take(self._endpoint.tick(self._now))
        self._send()

    def _send(self) -> None:
        while self._line is not None and self._line.send():
            data = self._endpoint.data_to_send(self._now)
            if not data:
                return
            self._line.send(data)

    # --- the line --------------------------------------------------------------------------------

    def _accept(self) -> bool:
        accepted = self._listener.accept()
        if accepted is None:
            return False
        if self._line is not None:
            self._lose_line()  # the hypervisor has come back before we saw it go
        self._line = accepted
        self._waiting_since = self._now
        self._ever_connected = True
        return True

    def _lose_line(self) -> None:
        assert self._line is not None
        self._line.close()
        self._line = None
        self._waiting_since = self._now
        self._probed_at = None
        self._endpoint.transport_lost()

    def _read_line(self) -> None:
        for _ in range(_LINE_READS):
            assert self._line is not None
            data = self._line.receive()
            if data is None:
                self._lose_line()
                return
            if not data:
                return
            self._take(self._endpoint.receive(data, self._now))

    def _keep_alive(self) -> None:
        """Find out whether the guest is there, when there is no other traffic to tell."""
        heard = self._endpoint.last_heard
        if self._probed_at is not None and heard is not None and heard >= self._probed_at:
            self._probed_at = None
        quiet_since = max(self._waiting_since, heard or self._waiting_since)
        if (
            self._endpoint.established
            and self._probed_at is None
            and self._now - quiet_since >= min(_KEEPALIVE_SECONDS, self._timeouts.silence / 2)
        ):
            self._probed_at = self._now
            self._endpoint.request_probe()

    # --- what came -------------------------------------------------------------------------------

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Data):
                self._outputs[event.stream].push(event.data)
            elif isinstance(event, Control):
                self._take_control(event.message)
            elif isinstance(event, Console):
                self._console.write(event.data)
            elif isinstance(event, Established) and not self._said_hello:
                self._said_hello = True
                self._send_size()

    def _take_control(self, message: Mapping[str, object]) -> None:
        if self._status is not None:
            return
        self._process_runs = self._process_runs or message.get("type") == "started"
        try:
            self._status = exit_status(message)
        except ValueError as error:
            raise ProtocolError(str(error)) from error
        if self._status is not None:
            self._waiting_since = self._now

    def _take_signal(self, number: int) -> None:
        action = self._policy.decide(number, self._now, reachable=self._process_runs)
        if action is Action.RESIZE:
            self._send_size()
        elif action is Action.FORWARD:
            self._endpoint.control({"type": "signal", "signal": number})
        else:
            raise AbortedError(f"The run was ended by signal {number}.", signal=number)

    def _send_size(self) -> None:
        size = self._terminal_size() if self._terminal_size is not None else None
        if size is not None and self._said_hello:
            self._endpoint.control({"type": "resize", "rows": size[0], "cols": size[1]})

    # --- stdin -----------------------------------------------------------------------------------

    def _stdin_room(self) -> int:
        return 0 if self._status is not None else self._endpoint.writable(STDIN)

    def _read_stdin(self, descriptor: int) -> None:
        room = min(self._stdin_room(), _STDIN_BYTES)
        if not room:
            return
        try:
            data = os.read(descriptor, room)
        except BlockingIOError:
            return
        except OSError:  # the terminal is gone: there will be no more input
            data = b""
        if data:
            self._endpoint.send(STDIN, data)
        else:
            self._endpoint.finish(STDIN)
            self._stdin = None

    # --- the end ---------------------------------------------------------------------------------

    def _unwritten(self) -> bool:
        return any(output.pending for output in self._outputs.values())

    def _over(self) -> bool:
        if self._status is None or self._unwritten():
            return False
        # The guest powers off once it knows that we have its status. Its line closing says so.
        return (
            self._line is None
            or not self._alive
            or self._now >= self._waiting_since + self._timeouts.linger
        )

    def _deadline(self) -> float:
        """Return when the present wait is over; output waits for its reader as long as it takes."""
        timeouts = self._timeouts
        if self._unwritten():
            return float("inf")
        if self._status is not None:
            return self._waiting_since + timeouts.linger
        if self._line is None:
            limit = timeouts.reconnect if self._ever_connected else timeouts.connect
            return self._waiting_since + limit
        if not self._said_hello:
            return self._waiting_since + timeouts.hello
        if not self._endpoint.established:
            return self._waiting_since + timeouts.silence
        return float("inf") if self._probed_at is None else self._probed_at + timeouts.silence

    def _look_at_machine(self) -> None:
        # After reading, so that one more turn takes what a machine sent before it ended.
        if self._now >= self._look_at:
            self._look_at = self._now + _POLL_SECONDS
            self._on_tick()
            self._alive = self._alive and self._is_alive()

    def _check(self) -> None:
        """Raise the error that says why there will be no exit status, when there will be none."""
        if self._status is not None or self._unwritten():
            return
        console = self._console_text()
        if not self._alive and self._line_is_dry:
            raise MachineEndedError(
                "The machine ended before its process reported an exit status.",
                expected="an exit status from the guest before it powers off",
                hint="Look at the console text: a kernel panic or a full disk shows there.",
                console=console,
            )
        if self._now < self._deadline():
            return
        if not self._ever_connected:
            raise NeverConnectedError(
                f"The hypervisor did not connect to the guest's channel within "
                f"{self._timeouts.connect:g} s.",
                expected=f"a connection to {self._listener.path}",
                hint="See whether the hypervisor started, and with the channel's socket.",
                console=console,
            )
        if not self._said_hello:
            raise NoHelloError(
                f"The hypervisor connected, but the guest did not say hello within "
                f"{self._timeouts.hello:g} s.",
                expected="a HELLO that proves the guest's key",
                hint="The guest did not boot, or its agent did not start: look at its console.",
                console=console,
            )
        state = "its line closed" if self._line is None else "then went silent"
        raise GuestLostError(
            f"The guest said hello, but {state} before it reported an exit status.",
            expected="an answer from the guest's agent, or its exit status",
            hint="The guest may have run out of memory, hung or been paused by its hypervisor.",
            console=console,
        )

    def _console_text(self) -> str:
        return self._console.text() or self._other_console()
