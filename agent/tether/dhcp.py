"""The DHCP client of one interface: busybox's udhcpc, a child of the agent, and what it tells.

Owns the child, its pipe and its restarts. It is in the agent's world, out of the process's reach,
and only talks: the interface is changed by `network`. Its script prints each event as a record, for
every event is another program that lives for a moment.
"""

from __future__ import annotations

import os
import select
import zlib

from agent import bare_signal as signal
from agent.bare_tools import suppress
from agent.hints import List, Mapping, Optional, Tuple
from agent.tether import log, syscalls
from agent.tether.errors import StartError

# Where the boot image has them (tinykernel/initramfs.py). NEEDS lists what must stay for them. The
# program is deflated until it is needed, so that no other machine's start waits for its bytes.
FOLDER = "/usr/lib/saltflat/dhcp"
PROGRAM = FOLDER + "/busybox"
PACKED = PROGRAM + ".z"
SCRIPT = FOLDER + "/event"
NEEDS = FOLDER + "/needs"

# Four questions in eight seconds, and all over again after ten, for ever.
_PATIENCE = ("-t", "4", "-T", "2", "-A", "10")
_OPTIONS = ("-O", "mtu", "-O", "search", "-O", "staticroutes")
_MAX_RECORD_BYTES = 1 << 16
_PIECE_BYTES = 1 << 14
_FIRST_PAUSE_SECONDS = 1.0  # before a client that ended is started again; then twice as long
_LONGEST_PAUSE_SECONDS = 60.0
_GOOD_SECONDS = 120.0  # one that ran so long was in order
_RELEASE_SECONDS = 1.0

Event = Mapping[str, str]  # "event" is its name; the rest are the client's variables


class DhcpClient:
    """A client for the interface `name`, which asks in the name of `host_name`.

    Raises OSError when there can be no pipe.
    """

    def __init__(self, name: str, host_name: str) -> None:
        self.name = name
        self._host_name = host_name
        # One pipe for all children: it never ends, and what a killed one began is thrown away.
        self.descriptor, self._told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self._told, True)
        self._buffer = bytearray()
        self._pid: Optional[int] = None
        self._started_at = 0.0
        self._start_at: Optional[float] = None
        self._pause = _FIRST_PAUSE_SECONDS
        self._is_new = False  # it has told nothing yet

    def start(self, now: float, *, address: Optional[str] = None) -> None:
        """Start the child, which asks for `address` if that is given.

        Raises StartError when the boot image has no client, or there is no room for one: then it
        is due again, later.
        """
        self._start_at = None
        self._buffer.clear()
        arguments = ["udhcpc", "-f", "-R", "-i", self.name, "-s", SCRIPT, *_PATIENCE, *_OPTIONS]
        arguments += ["-x", "hostname:" + self._host_name]
        if address is not None:
            arguments += ["-r", address]
        try:
            _unpack(PACKED, PROGRAM)
            self._pid = os.posix_spawn(
                PROGRAM,
                arguments,
                {},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, self._told, 1),
                    (os.POSIX_SPAWN_OPEN, 2, "/dev/kmsg", os.O_WRONLY, 0),
                ],
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python ignores
            )
        except OSError as error:
            self._start_later(now)
            raise StartError(
                "network", "the DHCP client {}: {}".format(PROGRAM, error.strerror)
            ) from error
        self._started_at = now
        self._is_new = True

    def read(self) -> List[Event]:
        """Return the events that have been told since, in their order."""
        events: List[Event] = []
        while True:
            try:
                data = os.read(self.descriptor, _MAX_RECORD_BYTES)
            except BlockingIOError:
                return events
            self._buffer += data
            while True:
                end = self._buffer.find(b"\0\0")
                if end < 0:
                    break
                record = bytes(self._buffer[:end])
                del self._buffer[: end + 2]
                event = _read_record(record)
                # The first word of every child is that nothing is configured. That is so at the
                # first start; at another one the lease of its predecessor still counts.
                begins = self._is_new and event.get("event") == "deconfig"
                self._is_new = False
                if not begins:
                    events.append(event)
            if len(self._buffer) > _MAX_RECORD_BYTES:
                self._buffer.clear()

    # --- its end ---------------------------------------------------------------------------------

    def take_end(self, pid: int, status: int, now: float) -> bool:
        """Learn of a child's end; say whether it was this one. It is started again, later."""
        if pid != self._pid:
            return False
        self._pid = None
        if now - self._started_at >= _GOOD_SECONDS:
            self._pause = _FIRST_PAUSE_SECONDS
        text = "the DHCP client of {} ended (wait status {}), and is started again in {:g} s"
        log.error(text.format(self.name, status, self._pause))
        self._start_later(now)
        return True

    def _start_later(self, now: float) -> None:
        self._start_at = now + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)

    def look_for_end(self, now: float) -> None:
        """Learn of its end where nobody else collects children."""
        if self._pid is not None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self.take_end(pid, status, now)

    def due(self) -> Optional[float]:
        """Return when it is to be started again."""
        return self._start_at

    def ask_to_end(self) -> None:
        """Have it give its lease back and end. To be followed by `close`."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGTERM)

    def close(self) -> None:
        """Wait a moment for its end, then kill it."""
        if self._pid is not None:
            end = syscalls.open_process(self._pid)
            if not select.select([end], [], [], _RELEASE_SECONDS)[0]:
                os.kill(self._pid, signal.SIGKILL)
            os.close(end)
            os.waitpid(self._pid, 0)
            self._pid = None
        os.close(self.descriptor)
        os.close(self._told)


def needed_files() -> Tuple[str, ...]:
    """Return the files of the boot image that a client needs at every event, if it has any."""
    with suppress(OSError), open(NEEDS, encoding="utf-8") as file:
        return (*file.read().split("\n"), PROGRAM)
    return ()


def _unpack(packed: str, program: str) -> None:
    """Make `program` of `packed`, once."""
    with suppress(FileNotFoundError), open(packed, "rb") as file:
        inflate = zlib.decompressobj()
        descriptor = os.open(program, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o755)
        with open(descriptor, "wb") as target:
            while not inflate.eof:
                target.write(inflate.decompress(file.read(_PIECE_BYTES)))
        os.unlink(packed)


def _read_record(record: bytes) -> Event:
    fields = (field.decode("utf-8", "replace") for field in record.split(b"\0"))
    return dict(field.partition("=")[::2] for field in fields)
