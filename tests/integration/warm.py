"""Commands in processes that need not import the command line: forks of one that already has.

A short command costs a fifth of a second of a processor, and nearly all of it is the interpreter's
start and its imports. So one process imports all verbs, and then does nothing but fork: each fork
gets a command's arguments, environment, folder and streams, and runs the same `main` to the same
end as a process that was started for it.

What is otherwise: forks share the seed of hashes, the interpreter does not see what the environment
has for itself, and all verbs are imported, not one. Who tests such things starts
`prepared.SALTFLAT`.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from io import FileIO
from pathlib import Path

from tests.images.cache import ROOT

_PROGRAM = "from tests.integration import warm; warm.serve()"
_ORDER_DESCRIPTORS = 5  # its text, stdin, stdout, stderr, and where its number and end are told
_PIECE_BYTES = 65536
_END_SECONDS = 20


class Warm:
    """The process that is forked, which is there from the first command on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None

    def run(
        self,
        arguments: Sequence[str],
        *,
        stdin: bytes,
        environment: Mapping[str, str],
        timeout_seconds: float,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command in this folder until it has ended and nobody holds its stdout and stderr.

        Raises TimeoutExpired, when it has been killed, and RuntimeError when there can be none.
        """
        with self._lock:
            orders = self._orders or self._start()
        with ExitStack() as ours:
            ends, theirs = [], []
            for is_input in (True, False, False, False):
                reader, writer = os.pipe()
                mine, its = (writer, reader) if is_input else (reader, writer)
                ends.append(ours.enter_context(open(mine, "wb" if is_input else "rb", 0)))
                theirs.append(its)
            with open(os.memfd_create("order"), "wb") as order:
                order.write(json.dumps([[*arguments], {**environment}, str(Path.cwd())]).encode())
                order.flush()
                socket.send_fds(orders, [b"!"], [order.fileno(), *theirs])
            for descriptor in theirs:
                os.close(descriptor)
            out, err, told = _converse(ends, stdin, time.monotonic() + timeout_seconds)
            number, _, code = told.partition(b" ")
            if not code:
                if not number and self._has_ended():
                    raise RuntimeError("the process that is forked has ended; its stderr says why")
                if number:
                    os.kill(int(number), signal.SIGKILL)
                    ends[-1].readall()  # until it is told
                raise subprocess.TimeoutExpired([*arguments], timeout_seconds, out, err)
        return subprocess.CompletedProcess([*arguments], int(code), out, err)

    def _start(self) -> socket.socket:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self._stop)
        return self._orders

    def _has_ended(self) -> bool:
        assert self._server is not None
        with suppress(subprocess.TimeoutExpired):
            self._server.wait(0.5)
        return self._server.returncode is not None

    def _stop(self) -> None:
        assert self._orders is not None
        assert self._server is not None
        self._orders.close()
        self._server.wait(_END_SECONDS)


COMMANDS = Warm()


def _converse(ends: Sequence[FileIO], stdin: bytes, deadline: float) -> list[bytes]:
    """Write `stdin` to the first of `ends`, and return what comes from the others to their ends.

    Returns early, when it is too late.
    """
    writer, *readers = ends
    come = {reader.fileno(): bytearray() for reader in readers}
    left = memoryview(stdin)
    with selectors.DefaultSelector() as waiting:
        for reader in readers:
            waiting.register(reader, selectors.EVENT_READ)
        os.set_blocking(writer.fileno(), False)
        waiting.register(writer, selectors.EVENT_WRITE)
        while waiting.get_map() and (seconds := deadline - time.monotonic()) > 0:
            for key, _ in waiting.select(seconds):
                if key.fileobj is writer:
                    try:
                        left = left[os.write(key.fd, left[:_PIECE_BYTES]) :]
                    except BrokenPipeError:
                        left = left[:0]
                    if not left:
                        waiting.unregister(writer)
                        writer.close()
                else:
                    data = os.read(key.fd, _PIECE_BYTES)
                    come[key.fd] += data
                    if not data:
                        waiting.unregister(key.fileobj)
    return [bytes(data) for data in come.values()]


def serve() -> None:
    """Fork for each order, and be its command in the fork; end when nobody orders any more."""
    ended = [1]  # the code of a command that raises
    atexit.register(_leave, ended)  # the first to be registered is the last to be called
    import click

    from converter.cli import main
    from converter.cli.app import top

    context = click.Context(top)
    for verb in top.list_commands(context):
        top.get_command(context, verb)  # imports it
    gc.freeze()  # a fork that looked through all objects would get a copy of each page
    if _is_fork(socket.socket(fileno=int(sys.argv[1]))):
        try:
            main()
        except SystemExit as leaving:
            ended[0] = leaving.code if isinstance(leaving.code, int) else 1
            raise
    ended[0] = 0


def _is_fork(orders: socket.socket) -> bool:
    """Fork for each order; return True in a fork, which has all that the order gives."""
    running: dict[int, tuple[int, int]] = {}  # by what is readable at its end: number, told
    while True:
        ready, _, _ = select.select([orders.fileno(), *running], [], [])
        for ended in set(ready) & running.keys():
            number, told = running.pop(ended)
            _, status = os.waitpid(number, 0)
            _tell(told, str(os.waitstatus_to_exitcode(status)))
            os.close(told)
            os.close(ended)
        if orders.fileno() not in ready:
            continue
        data, descriptors, _, _ = socket.recv_fds(orders, 1, _ORDER_DESCRIPTORS)
        if not data:
            return False
        *given, told = descriptors
        number = os.fork()
        if not number:
            others = [other for _, other in running.values()]
            for descriptor in (orders.detach(), told, *running, *others):
                os.close(descriptor)
            _take(*given)
            return True
        for descriptor in given:
            os.close(descriptor)
        running[os.pidfd_open(number)] = number, told
        _tell(told, f"{number} ")


def _tell(descriptor: int, text: str) -> None:
    with suppress(BrokenPipeError):  # it was too late for who ordered
        os.write(descriptor, text.encode())


def _take(order: int, *streams: int) -> None:
    """Have a command's arguments, environment, folder and streams."""
    with open(order, "rb") as file:
        file.seek(0)
        arguments, environment, folder = json.load(file)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    sys.argv = ["-c", *arguments]


def _leave(ended: list[int]) -> None:
    """End where the interpreter would take itself to pieces, for which a fork copies every page."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended[0])
