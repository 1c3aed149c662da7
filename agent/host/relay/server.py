"""The relay of one machine under QEMU: a line, a door, and the loop that they share.

Owns the folder: `key`, `journal`, `stdin`, `log/`, `relay.sock`, and the lock that says whose it
is. Start it again on the same folder after it was killed, and everything goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from agent.host.errors import ChannelError
from agent.host.loop import Handler, Loop
from agent.host.relay.door import local_door
from agent.host.relay.line import UnixLine
from agent.host.relay.machine import MachineRelay
from agent.host.relay.options import RelayOptions
from agent.host.status import ExitStatus
from agent.host.vspc.seam import Notice

SOCKET_NAME = "relay.sock"
LOCK_NAME = "lock"


class RelayServer:
    """Relay between the machine that connects to `line_path` and the clients of `folder`.

    The folder holds the key (keys.write_key) and is 0700; the clients' socket is relay.sock in it.
    `changed` is called in the loop when the condition or the status is another. Raises
    ChannelError when another relay has the folder, or it cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        line_path: Path,
        *,
        options: RelayOptions | None = None,
        notice: Callable[[Notice], None] = lambda _notice: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        with contextlib.ExitStack() as stack:
            self._lock = _lock(folder)
            stack.callback(os.close, self._lock)
            self.loop = Loop()
            stack.callback(self.loop.close)
            self._line = UnixLine(os.fspath(line_path), self.loop, folder.name)
            stack.callback(self._line.close)
            self.machine = MachineRelay(
                folder, self._line, self.loop, options=options, notice=notice, changed=changed
            )
            self._line.user = self.machine
            stack.callback(self.machine.close)
            self._door = local_door(folder / SOCKET_NAME, self.loop, find=self._find)
            stack.callback(self._door.close)
            self._stack = stack.pop_all()

    def __enter__(self) -> RelayServer:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @property
    def status(self) -> ExitStatus | None:
        """Return how the main process ended, once that survives a restart of this process."""
        return self.machine.status

    @property
    def clients(self) -> int:
        """Return how many clients are connected."""
        return self._door.clients

    def run(self) -> None:
        """Relay until `stop` is called, from the loop."""
        self.loop.run()

    def stop(self) -> None:
        """End `run` after the present turn."""
        self.loop.stop()

    def watch(self, descriptor: int, events: int, handler: Handler) -> None:
        """Have the loop watch a descriptor of the owner's too, as Loop.watch."""
        self.loop.watch(descriptor, events, handler)

    def call_every(self, seconds: float, call: Callable[[], None]) -> None:
        """Call now and then, from the loop, for as long as it runs."""

        def again() -> None:
            self.loop.call_at(self.loop.now() + seconds, again)
            call()

        self.loop.call_at(self.loop.now() + seconds, again)

    def close(self) -> None:
        """Write down what there is, and close everything. The machine goes on without us."""
        self._stack.close()

    def _find(self, name: str) -> MachineRelay | None:
        return self.machine if name == "" else None


def _lock(folder: Path) -> int:
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ChannelError(f"The relay's folder {folder} cannot be used: {error}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ChannelError(
            f"Another relay has {folder}.",
            expected="one relay for one machine",
            hint="Use that one, or end it first.",
        ) from None
    return descriptor
