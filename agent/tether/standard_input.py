"""The process's standard input: what the host has sent and the process has not taken yet.

Owns the bytes between the two, never more than the stream's window, and what the end of the stream
means to a pipe and to a terminal. It does not close the descriptor.
"""

from __future__ import annotations

import os
from itertools import islice

from agent.bare_tools import deque
from agent.hints import Deque, Union
from agent.tether import terminal

_TOGETHER = 64  # chunks in one write; the kernel takes 1024


class StandardInput:
    """A queue that is written without blocking."""

    def __init__(self, descriptor: int, *, is_terminal: bool) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.ended = False  # nothing that comes later can reach the process: close it
        self._is_terminal = is_terminal
        self._waiting: Deque[Union[bytes, memoryview]] = deque()
        self._finishing = False
        self._line_open = False

    @property
    def pending(self) -> bool:
        """Whether `write` has something to do."""
        return bool(self._waiting) or self._finishing

    @property
    def waiting_bytes(self) -> int:
        """How many bytes wait to be written."""
        return sum(map(len, self._waiting))

    def append(self, data: bytes) -> None:
        """Take bytes from the host."""
        self._waiting.append(data)

    def finish(self) -> None:
        """Note that no more will come."""
        self._finishing = True

    def write(self) -> int:
        """Write as much as goes; return how many of the host's bytes are disposed of."""
        done = 0
        try:
            while self._waiting:
                # Together: each write to an empty pipe wakes its reader, who takes the processor.
                chunks = list(islice(self._waiting, _TOGETHER))
                count = os.writev(self.descriptor, chunks)
                done += count
                self._forget(count)
                if count < sum(map(len, chunks)):
                    return done  # it has no more room
            if self._finishing:
                self._write_end()
        except BlockingIOError:
            return done
        except OSError:
            # EPIPE: nobody reads any more. That is the process's right and no failure.
            self.ended = True
        return done

    def _forget(self, count: int) -> None:
        while count:
            chunk = self._waiting.popleft()
            if count < len(chunk):
                self._waiting.appendleft(memoryview(chunk)[count:])
                chunk = chunk[:count]
            self._line_open = chunk[-1] not in b"\r\n"
            count -= len(chunk)

    def discard(self) -> int:
        """Forget what is waiting; return how many bytes that is."""
        dropped = self.waiting_bytes
        self._waiting.clear()
        self._finishing = False
        return dropped

    def _write_end(self) -> None:
        if self._is_terminal:
            os.write(
                self.descriptor,
                terminal.end_of_input(self.descriptor, line_open=self._line_open),
            )
        else:
            self.ended = True
        self._finishing = False
