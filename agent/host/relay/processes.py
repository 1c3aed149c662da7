"""Processes beside the main one: execs and copies. Owns their numbers, their stdin and output.

The output of one goes to the client that asked for it and to nobody else; credit is given back as
that client takes it. A process whose client has gone goes on, as with docker, and its output is
dropped.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from agent.host.status import ExitStatus
from agent.wire import (
    LAST_PROCESS,
    MAX_PROCESSES,
    STDIN,
    Endpoint,
    kind_of,
    process_of,
    stream_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Sink(Protocol):
    """Who gets the output of a process."""

    def wake(self) -> None:
        """Learn that there is more to fetch."""


class Process:
    """One process beside the main one."""

    def __init__(self, number: int, sink: Sink | None, *, stdin: bool) -> None:
        self.number = number
        self.sink = sink
        self.stdin = bytearray()  # of the client, not yet taken
        self.stdin_ended = not stdin
        self.stdin_finished = False
        self.taken = 0
        self.output: deque[tuple[int, bytes, int]] = deque()  # kind of stream, bytes, time
        self.pid: int | None = None
        self.status: ExitStatus | None = None
        self.lost = False  # the session that it was part of is over
        self.finished: set[int] = set()  # of its output
        self.closed = False

    @property
    def over(self) -> bool:
        """Whether it has ended and nothing more of its output will come."""
        if self.status is None or self.output:
            return False
        return self.closed or len(self.finished) == 2 or self.status.failure is not None


class Processes:
    """All of them. `say` sends a control message; `work` has the relay do what is due."""

    def __init__(self, say: Callable[[dict[str, Any]], None], work: Callable[[], None]) -> None:
        self._say = say
        self._work = work
        self._open: dict[int, Process] = {}
        self._endpoint: Endpoint | None = None
        self.next_number = 1

    def begin(self, endpoint: Endpoint, numbers: set[int], next_number: int) -> None:
        """Go on with a session: a new one, or one in which `numbers` run without clients."""
        for process in self._open.values():
            process.lost = True
            process.output.clear()
            if process.sink is not None:
                process.sink.wake()
        self._endpoint = endpoint
        self._open = {number: Process(number, None, stdin=False) for number in numbers}
        self.next_number = next_number

    def start(self, message: dict[str, Any], sink: Sink | None, *, stdin: bool) -> Process:
        """Start a process. Raises ValueError when there are too many, or the message too long."""
        assert self._endpoint is not None
        if len(self._open) >= MAX_PROCESSES:
            raise ValueError(f"{MAX_PROCESSES} processes run beside the main one")
        number = self.next_number
        while number in self._open:
            number = number % LAST_PROCESS + 1
        self._endpoint.open(number)
        self.next_number = number % LAST_PROCESS + 1
        process = Process(number, sink, stdin=stdin)
        self._open[number] = process
        self._say({**message, "process": number})
        self._work()
        return process

    def knows(self, number: object) -> bool:
        """Whether a process of that number is open."""
        return number in self._open

    # --- what the guest says ---------------------------------------------------------------------

    def take_data(self, stream: int, data: bytes, time_ns: int) -> None:
        """Take output."""
        assert self._endpoint is not None
        process = self._open.get(process_of(stream))
        if process is None or process.sink is None:
            self._endpoint.consumed(stream, len(data))
            return
        process.output.append((kind_of(stream), data, time_ns))
        process.sink.wake()

    def take_started(self, number: int, pid: int) -> None:
        """Learn that a process runs."""
        process = self._open.get(number)
        if process is not None:
            process.pid = pid
            if process.sink is not None:
                process.sink.wake()

    def take_status(self, number: int, status: ExitStatus) -> None:
        """Learn how a process ended."""
        process = self._open.get(number)
        if process is None or process.status is not None:
            return
        process.status = status
        process.stdin.clear()
        process.stdin_ended = True
        if process.sink is not None:
            process.sink.wake()
        self._forget(process)

    def take_finished(self, stream: int) -> None:
        """Learn that a stream of output has come to its end."""
        process = self._open.get(process_of(stream))
        if process is not None:
            process.finished.add(stream)
            if process.sink is not None:
                process.sink.wake()

    def take_closed(self, number: int) -> None:
        """Learn that the streams of a process are no more."""
        process = self._open.get(number)
        if process is not None:
            process.closed = process.stdin_finished = True
            if process.sink is not None:
                process.sink.wake()
            self._forget(process)

    def take_unopened(self, number: int) -> None:
        """Learn that the guest never heard of a process."""
        self._open.pop(number, None)

    def _forget(self, process: Process) -> None:
        # Streams may end long before the process does: both must have been said.
        if process.closed and process.status is not None:
            self._open.pop(process.number, None)

    # --- what the client does --------------------------------------------------------------------

    def fetch(self, process: Process) -> tuple[int, bytes, int] | None:
        """Return the next output, and give its credit back."""
        if not process.output:
            return None
        item = process.output.popleft()
        self._give_back(process, item)
        return item

    def leave(self, process: Process) -> None:
        """Let a process go on without its client."""
        process.sink = None
        process.stdin.clear()
        process.stdin_ended = True
        while process.output:
            self._give_back(process, process.output.popleft())
        self._work()

    def _give_back(self, process: Process, item: tuple[int, bytes, int]) -> None:
        assert self._endpoint is not None
        if not process.lost:
            self._endpoint.consumed(stream_of(process.number, item[0]), len(item[1]))
            self._work()

    # --- stdin -----------------------------------------------------------------------------------

    def place(self, stream: int, *, finished: bool) -> None:
        """Learn how far stdin of a process has come: what an earlier client sent is lost."""
        process = self._open.get(process_of(stream))
        if process is not None:
            process.stdin_finished = finished

    def feed(self) -> None:
        """Hand stdin on as far as there is credit."""
        endpoint = self._endpoint
        assert endpoint is not None
        for process in self._open.values():
            if process.stdin_finished or process.closed:
                continue
            stream = stream_of(process.number, STDIN)
            if process.stdin:
                count = endpoint.send(stream, bytes(process.stdin[: endpoint.writable(stream)]))
                del process.stdin[:count]
                process.taken += count
                if count and process.sink is not None:
                    process.sink.wake()
            if process.stdin_ended and not process.stdin:
                endpoint.finish(stream)
                process.stdin_finished = True
