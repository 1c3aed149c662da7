"""A guest Endpoint in a thread at the other end of a real Unix socket, for the Session's tests."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from agent.host import Session, Stdio, Timeouts, UnixListener, private_directory
from agent.wire import STDERR, STDOUT, Endpoint, Role

KEY = bytes(range(32))
# Short where the test waits for the limit, long where a loaded machine must not reach it.
QUICK = Timeouts(connect=0.2, hello=10, silence=0.2, reconnect=0.2, linger=5.0)
PATIENT = Timeouts(connect=10, hello=10, silence=10, reconnect=10, linger=10)


class Guest:
    """A guest in a thread: what tether does with its line, with a script in place of a process.

    The script is a generator; each `yield` lets the line move and brings the events.
    """

    def __init__(self, path: Path, script, *, key: bytes = KEY):
        self.endpoint = Endpoint(Role.GUEST, key, nonce=os.urandom(16), now=time.monotonic())
        self.path = path
        self.script = script
        self.socket = None
        self.error = None
        self.thread = threading.Thread(target=self._main, daemon=True)

    def connect(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(os.fspath(self.path))
        self.socket.setblocking(False)

    def reconnect(self):
        self.socket.close()
        self.endpoint.transport_lost()
        self.connect()

    def _main(self):
        try:
            self.connect()
            running = self.script(self)
            events = []
            next(running)
            while True:
                try:
                    running.send(events)
                except StopIteration:
                    break
                events = self.move()
            self.socket.close()
        except BaseException as error:  # shown by the test that joins
            self.error = error

    def move(self):
        """Let the line move for one turn."""
        now = time.monotonic()
        unsent = getattr(self, "unsent", b"") or self.endpoint.data_to_send(now)
        try:
            while unsent:
                unsent = unsent[self.socket.send(unsent) :]
                unsent = unsent or self.endpoint.data_to_send(now)
        except BlockingIOError:
            pass
        except OSError:
            unsent = b""
        self.unsent = unsent
        select.select([self.socket], [self.socket] if unsent else [], [], 0.02)
        events = []
        try:
            while data := self.socket.recv(65536):
                events += self.endpoint.receive(data, time.monotonic())
        except BlockingIOError:
            pass
        except OSError:
            return events
        return events + self.endpoint.tick(time.monotonic())


def until_established(guest):
    """Wait for the host, as tether does not, and say that the process runs."""
    while not guest.endpoint.established:
        yield
    guest.endpoint.control({"type": "started", "pid": 1})
    while guest.endpoint.unacknowledged():
        yield


def ending(guest, code=0):
    """Finish the streams, report the code, and wait as tether does until the host has it all."""
    guest.endpoint.finish(STDOUT)
    guest.endpoint.finish(STDERR)
    guest.endpoint.control({"type": "exited", "code": code, "signal": None, "core": False})
    while guest.endpoint.unacknowledged():
        yield


def sending(guest, stream, data):
    while data:
        data = data[guest.endpoint.send(stream, data) :]
        yield


@contextmanager
def started(script, *, stdin=None, stdout=None, stderr=None, timeouts=PATIENT, key=KEY, **options):
    """Yield a Session and its guest, which is connected and runs `script`."""
    null = os.open(os.devnull, os.O_RDWR)
    with private_directory() as directory, UnixListener(directory / "channel") as listener:
        guest = Guest(listener.path, script, key=key)
        session = Session(
            listener,
            Endpoint(Role.HOST, KEY, nonce=os.urandom(16), now=time.monotonic()),
            Stdio(stdin, null if stdout is None else stdout, null if stderr is None else stderr),
            timeouts=timeouts,
            **options,
        )
        guest.thread.start()
        try:
            yield session, guest
            guest.thread.join(10)
            assert not guest.thread.is_alive()
            if guest.error:
                raise guest.error
        finally:
            os.close(null)


def read_all(descriptor, into):
    while data := os.read(descriptor, 65536):
        into.append(data)


@contextmanager
def collected():
    """Yield the writing end of a pipe, and a function that closes it and returns what went in."""
    reader, writer = os.pipe()
    chunks = []
    thread = threading.Thread(target=read_all, args=(reader, chunks), daemon=True)
    thread.start()
    closed = []

    def finish():
        closed.append(os.close(writer))
        thread.join(10)
        return b"".join(chunks)

    yield writer, finish
    if not closed:
        finish()
    os.close(reader)
