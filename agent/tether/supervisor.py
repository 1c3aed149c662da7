"""The running guest: one loop over the line to the host, the process's stdio, and signals.

Owns relaying, reaping and the end of the process. One thread, one epoll, one place that waits for
children: SIGCHLD wakes the loop and waitpid(-1) collects the process and any orphan alike, so no
status can be taken by somebody else. The order at the end is fixed: the process dies, the kernel
kills the rest of its PID namespace, its pipes reach their end and are read to it, both streams are
finished, and only then the exit is reported. Nothing is dropped on the way: a host that does not
take the output holds up the end as well.
"""

from __future__ import annotations

import math
import os
import select
import signal
import socket
import time
from types import FrameType
from typing import Callable, Dict, Mapping, Optional

from agent.tether import log, terminal
from agent.tether.errors import StartError
from agent.tether.line import Line
from agent.tether.process import Process
from agent.tether.standard_input import StandardInput
from agent.wire import (
    CONTROL_LIMIT,
    STDERR,
    STDIN,
    STDOUT,
    Control,
    Data,
    Event,
    Finished,
)

READ_BYTES = 65536  # a pipe's size; asking for more costs a third of the speed
FAREWELL_SECONDS = 10.0  # how long the host may take to acknowledge the last message
STOP_SECONDS = 10.0  # Docker's default between the stop signal and SIGKILL
# A timer that is due again at once, on a line that takes nothing, must not become a busy loop.
MIN_WAIT_SECONDS = 0.005
MAX_NUMBER = 1e9  # above any signal, any size and 30 years of seconds
MAX_WAIT_SECONDS = 600.0  # epoll counts milliseconds in 32 bits

STOP_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGPWR)  # SIGINT is Ctrl-Alt-Del


class Supervisor:
    """Serves the host until the process has ended and the host knows.

    A context manager: inside, it holds the program's signal handlers.
    """

    def __init__(self, line: Line, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._line = line
        self._endpoint = line.endpoint
        self._clock = clock
        self._process: Optional[Process] = None
        self._status: Optional[int] = None
        self._stop_signal: int = signal.SIGTERM
        self._kill_at: Optional[float] = None
        self._outputs: Dict[int, int] = {}  # descriptor to stream, until its end was read
        self._input: Optional[StandardInput] = None
        self._watched: Dict[int, int] = {}  # descriptor to epoll mask
        self._poll = select.epoll()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._handlers: Dict[int, object] = {}

    def __enter__(self) -> Supervisor:
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, *STOP_REQUESTS):
            self._handlers[number] = signal.signal(number, _only_wake)
        self._poll.register(self._wake_reader.fileno(), select.EPOLLIN)
        # Edges only: an unconnected virtio port would otherwise report HUP without end.
        self._poll.register(
            self._line.descriptor, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET
        )
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave us
        self._poll.close()
        self._wake_reader.close()
        self._wake_writer.close()

    def report_failure(self, failure: StartError) -> None:
        """Tell the host that there is no process; return when it knows or does not answer."""
        message = failure.message[: CONTROL_LIMIT // 8]  # JSON escapes may cost six bytes a letter
        self._endpoint.control(
            {"type": "failed", "code": failure.code, "kind": failure.kind, "message": message}
        )
        self._say_farewell()

    def supervise(
        self, process: Process, *, stop_signal: int, out_of_memory: Callable[[], bool]
    ) -> None:
        """Relay for the process until it has ended and the host knows how.

        Raises agent.wire.ProtocolError when the host holds the key and breaks the protocol: there
        is nobody left to serve then, and the process goes on until the caller ends it.
        """
        self._process = process
        self._stop_signal = stop_signal
        self._outputs = {process.stdout: STDOUT}
        if process.stderr is None:
            self._endpoint.finish(STDERR)
        else:
            self._outputs[process.stderr] = STDERR
        for descriptor in self._outputs:
            os.set_blocking(descriptor, False)
        if process.stdin is not None:
            self._input = StandardInput(process.stdin, is_terminal=process.has_terminal)
        self._endpoint.control({"type": "started", "pid": process.pid})
        self._reap()  # its SIGCHLD may have come before our handler
        while self._status is None or self._outputs:
            self._turn(self._kill_at)
        if process.has_terminal:
            os.close(process.stdout)
        assert self._status is not None
        self._endpoint.control(describe_exit(self._status, out_of_memory=out_of_memory()))
        self._say_farewell()

    def _say_farewell(self) -> None:
        give_up_at = self._clock() + FAREWELL_SECONDS
        self._line.send(self._clock())
        while self._endpoint.unacknowledged():
            if self._clock() >= give_up_at:
                log.error("the host did not acknowledge the last message")
                return
            self._turn(give_up_at)

    # --- one turn of the loop --------------------------------------------------------------------

    def _turn(self, wake_at: Optional[float]) -> None:
        self._watch()
        ready = self._poll.poll(self._wait_seconds(wake_at))
        now = self._clock()
        for descriptor, _ in ready:
            if descriptor == self._wake_reader.fileno():
                self._take_signals()
        for event in self._line.receive(now):
            self._handle(event)
        for descriptor, mask in ready:
            if descriptor in self._outputs and mask & ~select.EPOLLOUT:
                self._read_output(descriptor)
        if self._input and self._input.pending:
            self._endpoint.consumed(STDIN, self._input.write())
            if self._input.ended:
                self._close_input()
        self._line.send(now)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self._kill()

    def _wait_seconds(self, wake_at: Optional[float]) -> float:
        if self._line.has_more:
            return 0.0
        due = [time for time in (wake_at, self._line.deadline()) if time is not None]
        wait = min(due, default=math.inf) - self._clock()
        return min(MAX_WAIT_SECONDS, max(MIN_WAIT_SECONDS, wait))

    def _watch(self) -> None:
        """Watch exactly what can be served: output without credit must not wake us."""
        wanted = {
            descriptor: select.EPOLLIN
            for descriptor, stream in self._outputs.items()
            if self._endpoint.writable(stream)
        }
        if self._input and self._input.pending:
            wanted[self._input.descriptor] = wanted.get(self._input.descriptor, 0) | select.EPOLLOUT
        for descriptor in list(self._watched):
            if descriptor not in wanted:
                self._poll.unregister(descriptor)
                del self._watched[descriptor]
        for descriptor, mask in wanted.items():
            if descriptor not in self._watched:
                self._poll.register(descriptor, mask)
            elif self._watched[descriptor] != mask:
                self._poll.modify(descriptor, mask)
            self._watched[descriptor] = mask

    def _unwatch(self, descriptor: int) -> None:
        if self._watched.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    # --- the process's stdio ---------------------------------------------------------------------

    def _read_output(self, descriptor: int) -> None:
        stream = self._outputs[descriptor]
        room = min(READ_BYTES, self._endpoint.writable(stream))
        if not room:
            return
        try:
            data = os.read(descriptor, room)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # EIO: the last slave of the terminal was closed
        if data:
            self._endpoint.send(stream, data)
            return
        self._unwatch(descriptor)
        del self._outputs[descriptor]
        assert self._process is not None
        if not self._process.has_terminal:  # its master may still be wanted for input
            os.close(descriptor)
        self._endpoint.finish(stream)

    def _close_input(self) -> None:
        """Give the credit of what nobody will read any more back, and read no more."""
        if self._input is None:
            return
        self._unwatch(self._input.descriptor)
        self._endpoint.consumed(STDIN, self._input.discard())
        assert self._process is not None
        if not self._process.has_terminal:
            os.close(self._input.descriptor)
        self._input = None

    # --- the host's wishes -----------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        if isinstance(event, Data):
            if self._input is None:
                self._endpoint.consumed(STDIN, len(event.data))
            else:
                self._input.append(event.data)
        elif isinstance(event, Finished):
            if self._input is not None:
                self._input.finish()
        elif isinstance(event, Control):
            self._obey(event.message)

    def _obey(self, message: Mapping[str, object]) -> None:
        """Carry out a control message. One that we do not know or that is malformed is ignored."""
        kind = message.get("type")
        process = self._process
        if process is None or self._status is not None:
            return
        if kind == "resize":
            rows, columns = _number(message, "rows"), _number(message, "cols")
            if process.has_terminal and 0 <= rows <= 0xFFFF and 0 <= columns <= 0xFFFF:
                terminal.set_size(process.stdout, int(rows), int(columns))
        elif kind == "signal":
            number = int(_number(message, "signal"))
            if 1 <= number <= signal.SIGRTMAX:
                os.kill(process.pid, number)
        elif kind == "stop":
            self._stop(_number(message, "timeout_seconds"))

    def _stop(self, timeout_seconds: float) -> None:
        if self._process is None or self._status is not None:
            return
        seconds = timeout_seconds if timeout_seconds >= 0 else STOP_SECONDS
        os.kill(self._process.pid, self._stop_signal)
        self._kill_at = self._clock() + seconds

    def _kill(self) -> None:
        if self._process is not None and self._status is None:
            os.kill(self._process.pid, signal.SIGKILL)

    # --- signals and children --------------------------------------------------------------------

    def _take_signals(self) -> None:
        try:
            numbers = self._wake_reader.recv(4096)
        except BlockingIOError:
            return
        if signal.SIGCHLD in numbers:
            self._reap()
        if any(number in numbers for number in STOP_REQUESTS):
            self._stop(STOP_SECONDS)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            process = self._process
            if process is not None and pid == process.pid:
                self._status = status
                self._kill_at = None
                self._close_input()
                if process.slave is not None:
                    # The last one: now the master comes to its end once it has been read.
                    os.close(process.slave)


def describe_exit(status: int, *, out_of_memory: bool) -> Dict[str, object]:
    """Return the "exited" message for a wait status, with the code as Docker numbers it."""
    if os.WIFSIGNALED(status):
        number: Optional[int] = os.WTERMSIG(status)
        code = 128 + os.WTERMSIG(status)
    else:
        number, code = None, os.WEXITSTATUS(status)
    return {
        "type": "exited",
        "code": code,
        "signal": number,
        "core": os.WCOREDUMP(status),
        "oom": out_of_memory,
    }


def _number(message: Mapping[str, object], name: str) -> float:
    """Return a number of a message, or -1 when it is none or none that could make sense."""
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return -1
    return value if 0 <= value <= MAX_NUMBER else -1  # NaN fails both comparisons


def _only_wake(_number: int, _frame: Optional[FrameType]) -> None:
    """Do nothing: the wakeup descriptor has the signal already."""
