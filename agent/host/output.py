"""Write the guest's output to a descriptor that may be slow or gone. Owns what is not yet written.

The descriptor is shared with other processes (a terminal, a pipe of the shell), so it is left
blocking: O_NONBLOCK would be set for them too. A write of PIPE_BUF bytes after poll(2) says that
there is room does not block.
"""

from __future__ import annotations

import errno
import os
import select
from collections import deque

from agent.host.errors import OutputError

_WRITE_BYTES = select.PIPE_BUF


class Output:
    """One destination. How much waits here is bounded by the stream's credit, not by this class."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._chunks: deque[memoryview] = deque()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._gone = False

    @property
    def pending(self) -> bool:
        """Whether bytes wait for the descriptor to take them."""
        return bool(self._chunks)

    def push(self, data: bytes) -> None:
        """Queue bytes."""
        self._chunks.append(memoryview(data))

    def flush(self) -> int:
        """Write what the descriptor takes now; return the bytes disposed of.

        When its reader is gone, everything counts as disposed of: the process in the guest goes
        on, as it does under docker. Raises OutputError when the bytes cannot be written, as on a
        full disk.
        """
        disposed = 0
        while self._chunks and (self._gone or self._poll.poll(0)):
            chunk = self._chunks.popleft()
            written = len(chunk) if self._gone else self._write(chunk[:_WRITE_BYTES])
            if written < len(chunk):
                self._chunks.appendleft(chunk[written:])
            disposed += written
            if not written and not self._gone:
                break
        return disposed

    def _write(self, data: memoryview) -> int:
        try:
            return os.write(self.descriptor, data)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            self._gone = True
            return 0
        except OSError as error:
            if error.errno == errno.EBADF:  # closed before we were started: `>&-`
                self._gone = True
                return 0
            raise OutputError(
                f"The guest's output could not be written: {error.strerror}.",
                hint="Look at where stdout and stderr lead.",
            ) from error
