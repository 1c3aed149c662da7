"""The other end of a guest's loop under test, and processes started the way tether does it.

Owns a host in a thread and what surrounds the loop: pipes, launches, the line. No test is here.
"""

from __future__ import annotations

import array
import json
import os
import secrets
import select
import signal
import socket
import threading
import time

from agent.tether import channel, supervisor, terminal
from agent.tether.line import Line
from agent.tether.process import Launch, Process
from agent.wire import (
    STDERR,
    STDIN,
    STDOUT,
    Control,
    Data,
    Endpoint,
    Finished,
    Gap,
    Role,
)

KEY = bytes(range(32))
LIMITS = channel.Limits(1024, 8192, 4096)
GIVE_UP_SECONDS = 30


class Host(threading.Thread):
    """The other end. `on_output` and `on_control` may act each time something has come."""

    def __init__(
        self, line, *, stdin=None, on_output=None, on_control=None, stall_seconds=0.0, key=KEY
    ):
        super().__init__(daemon=True)
        self.left = threading.Event()  # it goes, and keeps nothing
        self.endpoint = None
        self._key = key
        self.output = {STDOUT: b"", STDERR: b""}
        self.order = []
        self.controls = []
        self.gaps = []
        self.failure = None
        self._line = line
        self._stdin = stdin
        self._on_output = on_output
        self._on_control = on_control
        self._stall_until = time.monotonic() + stall_seconds
        self._held = []

    def run(self):
        try:
            self._serve()
        except Exception as error:
            self.failure = error

    def _serve(self):
        started = time.monotonic()
        endpoint = self.endpoint = Endpoint(
            Role.HOST,
            self._key,
            nonce=secrets.token_bytes(32),
            max_payload=1024,
            window=8192,
            now=started,
        )
        self._line.settimeout(0.02)
        while time.monotonic() < started + GIVE_UP_SECONDS and not self.left.is_set():
            try:
                data = self._line.recv(65536)
                if not data:
                    return
            except TimeoutError:
                data = b""
            now = time.monotonic()
            for event in [*endpoint.receive(data, now), *endpoint.tick(now)]:
                self._take(endpoint, event)
            if now > self._stall_until:
                for stream, count in self._held:
                    endpoint.consumed(stream, count)
                self._held = []
            if self._stdin is not None and endpoint.established:
                self._stdin = self._stdin[endpoint.send(STDIN, self._stdin) :]
                if not self._stdin:
                    endpoint.finish(STDIN)
                    self._stdin = None
            while due := endpoint.data_to_send(now):
                self._line.settimeout(None)
                self._line.sendall(due)
                self._line.settimeout(0.02)
        if not self.left.is_set():
            raise TimeoutError("the guest did not end")

    def _take(self, endpoint, event):
        if isinstance(event, Data):
            self.output[event.stream] += event.data
            self._held.append((event.stream, len(event.data)))
            if self._on_output and self._on_output(self.output[STDOUT], endpoint):
                self._on_output = None
        elif isinstance(event, Gap):
            self.gaps.append(event)
        elif isinstance(event, Finished):
            self.order.append(event.stream)
        elif isinstance(event, Control):
            self.controls.append(event.message)
            if self._on_control:
                self._on_control(event.message, endpoint)
            self.order.append(event.message["type"])


def guest_line(guest):
    transport = channel.Device(guest.fileno(), limits=LIMITS, read_bytes=4096)
    endpoint = Endpoint(
        Role.GUEST,
        KEY,
        nonce=secrets.token_bytes(32),
        max_payload=LIMITS.max_payload_bytes,
        window=LIMITS.window_bytes,
        now=time.monotonic(),
    )
    return Line(transport, endpoint)


def spawn(script, *, with_stdin=False):
    """Start a shell the way tether does, without the world around it."""
    return launched(spawn_plain(script, with_stdin=with_stdin))


def spawn_plain(script, *, with_stdin=False):
    stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
    pid = os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", script],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, stdin[0], 0),
            (os.POSIX_SPAWN_DUP2, stdout[1], 1),
            (os.POSIX_SPAWN_DUP2, stderr[1], 2),
        ],
        setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGQUIT],  # ignored in the background
    )
    for end in (stdin[0], stdout[1], stderr[1]):
        os.close(end)
    if not with_stdin:
        os.close(stdin[1])
    return Process(pid, stdin[1] if with_stdin else None, stdout[0], stderr[0])


def launched(process, *, failure=None):
    """Return a launch whose report has come: nothing, or a failure."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if failure is not None:
        theirs.send(json.dumps(failure).encode())
    theirs.close()
    return Launch(process.pid, ours, process, with_stdin=process.stdin is not None)


def supervise(lines, launch, host, *, stop_signal=signal.SIGTERM, oom=False, start=None, **options):
    host.start()
    with supervisor.Supervisor(guest_line(lines[0])) as guest:
        guest.supervise(
            launch, stop_signal=stop_signal, oom_kills=lambda: int(oom), start=start, **options
        )
    lines[0].close()
    host.join(GIVE_UP_SECONDS)
    assert host.failure is None
    return host


def exited(code, **fields):
    message = {"type": "exited", "process": 0, "code": code, "signal": None, "core": False}
    return {**message, "oom": False, **fields}


def when_ready(message):
    def act(output, endpoint):
        if b"ready" in output:
            endpoint.control(message)
            return True
        return False

    return act


def spawn_on_terminal(script):
    master, slave = terminal.open_terminal()
    terminal.set_size(slave, 24, 80)
    pid = os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", script],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, slave, fd) for fd in (0, 1, 2)],
        setsid=True,
    )
    report, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    descriptors = array.array("i", [master, slave])
    theirs.sendmsg([b"{}"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
    for end in (master, slave):
        os.close(end)
    theirs.close()
    return Launch(pid, report, None, with_stdin=True)


class Clockwork:
    """A companion: it reads a pipe, waits for a moment, has a child, and says each thing once."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.child = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 5"], os.environ)
        self.moment: float | None = None
        self.ended: int | None = None
        self.tell = None

    def attach(self, poller, tell):
        self.tell = tell
        poller.watch(self.reader, select.EPOLLIN, self.read)
        assert tell({"type": "clock", "what": "begun"})

    def read(self, _mask):
        os.read(self.reader, 100)
        self.tell({"type": "clock", "what": "read"})
        self.moment = time.monotonic() + 0.05

    def due(self):
        return self.moment

    def tick(self, now):
        if self.moment is not None and now >= self.moment:
            self.moment = None
            self.tell({"type": "clock", "what": "moment"})

    def take_end(self, pid, status):
        if pid == self.child:
            self.ended = os.WEXITSTATUS(status)
            return True
        return False

    def repeat(self):
        self.tell({"type": "clock", "what": "again"})

    def close(self):
        for end in (self.reader, self.writer):
            os.close(end)
