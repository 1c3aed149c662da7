"""ESXi hosts, a VM that moves between them, and clients: the other sides of a concentrator.

Owns a second implementation of the telnet extension, written from its documents alone and without
a line of the product's, byte by byte. It complains (`Vm.violations`) about what a host would not
forgive: bytes for the VM at the source after GOAHEAD, or at the target before COMPLETE.

Nothing waits by itself: a `Lab` moves all bytes until a condition holds.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PATIENCE_SECONDS = 60.0
MAIN = "from converter.cli import main; main()"

BEGIN, GOAHEAD, NOTNOW, PEER, PEER_OK, COMPLETE, ABORT = 40, 41, 43, 44, 45, 46, 48
KNOWN_1, KNOWN_2, UNKNOWN_1, UNKNOWN_2 = 0, 1, 2, 3
DO_PROXY, WILL_PROXY, WONT_PROXY = 70, 71, 73
ANSWERS = {81: 80, 83: 82, 85: 84, 87: 86}  # GET-...: what answers it
KNOWN = bytes([0, 1, 2, 3, 40, 41, 43, 44, 45, 46, 48, 70, 71, 73, *range(80, 88)])
# WILL 232, DO and WILL BINARY, DO and WILL SGA, DO ECHO: unasked, as hosts do.
OPENING = bytes.fromhex("fffbe8 fffd00 fffb00 fffd03 fffb03 fffd01")


class Pollable:
    """Something with a socket, bytes to write, and what it does with bytes that came."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.out = bytearray()
        self.closed = False  # by the other side
        self.reads = True

    def fileno(self) -> int:
        return self.socket.fileno()

    def take(self, data: bytes) -> None:
        raise NotImplementedError

    def on_readable(self) -> None:
        try:
            data = self.socket.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return
        self.take(data)
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            self.on_readable()

    def on_writable(self) -> None:
        try:
            while self.out:
                del self.out[: self.socket.send(self.out[:65536])]
        except (BlockingIOError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self.out.clear()

    def close(self) -> None:
        self.socket.close()
        self.closed = True


class Lab:
    """Everything that talks to one concentrator."""

    def __init__(self) -> None:
        self.members: list[Pollable] = []
        self.each_turn: list[Callable[[], None]] = []  # of those that act by themselves

    def add(self, member: Pollable) -> None:
        self.members.append(member)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_exception: object) -> None:
        for member in self.members:
            member.close()

    def until(self, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Move bytes until the condition holds."""
        end = time.monotonic() + seconds
        while True:
            self.turn(0.0)
            if condition():
                return
            assert time.monotonic() < end, f"nothing came within {seconds} s"
            self.turn(0.01)

    def settle(self) -> None:
        """Move bytes until nothing has moved for a while: something does not take them."""
        quiet_turns = 0
        while quiet_turns < 30:
            quiet_turns = 0 if self.turn(0.01) else quiet_turns + 1

    def turn(self, patience: float) -> bool:
        """Move what can be moved, and say whether anything could."""
        for act in self.each_turn:
            act()
        for member in self.members:
            if member.closed:
                member.socket.close()
        self.members = [member for member in self.members if not member.closed]
        readers = [member for member in self.members if member.reads]
        writers = [member for member in self.members if member.out]
        readable, writable, _ = select.select(readers, writers, [], patience)
        for member in readable:
            member.on_readable()
        for member in writable:
            member.on_writable()
        return bool(readable or writable)


class Client(Pollable):
    """Whoever is attached to a VM's Unix socket."""

    def __init__(self, lab: Lab, path: Path) -> None:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(os.fspath(path))
        except OSError:
            sock.close()
            raise
        super().__init__(sock)
        self.received = bytearray()
        lab.add(self)

    def take(self, data: bytes) -> None:
        self.received += data


class Vm:
    """A virtual machine: its names, and what its serial port has received, wherever it runs."""

    def __init__(self, number: int = 1, *, name: str = "", uri: str = "saltflat") -> None:
        self.uuid = f"501c62c0-f137-4aa0-8d3e-{number:012x}"
        self.name = name or f"vm-{number}"
        self.uri = uri
        self.received = bytearray()
        self.violations: list[str] = []


class Host(Pollable):
    """One host's connection for the serial port of a VM: the client of the extension.

    `answers` is False for a host that does not say who its VM is.
    """

    def __init__(
        self,
        lab: Lab,
        address: tuple[str, int],
        vm: Vm,
        *,
        context: ssl.SSLContext | None = None,
        opening: bool = True,
        answers: bool = True,
    ) -> None:
        sock = socket.create_connection(address, timeout=PATIENCE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            try:
                sock = context.wrap_socket(sock, server_hostname="127.0.0.1")
            finally:
                if not isinstance(sock, ssl.SSLSocket):
                    sock.close()
        super().__init__(sock)
        self.vm = vm
        self.answers = answers
        self.running = True  # the VM runs here
        self.words: list[tuple[int, bytes]] = []  # suboptions that came: code, parameters
        self.options: list[tuple[int, int]] = []
        self.transcript: list[tuple[str, int, bytes]] = []  # direction, code, parameters
        self._state = ""
        self._suboption = bytearray()
        lab.add(self)
        if opening:
            self.open()

    def open(self) -> None:
        """Say what a host says first."""
        self.out += OPENING
        self.say(KNOWN_1, KNOWN)
        self.say(DO_PROXY, b"C" + self.vm.uri.encode())

    def say(self, code: int, parameters: bytes = b"") -> None:
        """Send a suboption."""
        self.transcript.append(("host", code, parameters))
        body = bytes([code]) + parameters
        self.out += b"\xff\xfa\xe8" + body.replace(b"\xff", b"\xff\xff") + b"\xff\xf0"

    def write(self, data: bytes) -> None:
        """Send what the VM has written to its port."""
        self.out += data.replace(b"\xff", b"\xff\xff")

    def heard(self, code: int) -> bytes | None:
        """Return the parameters of the last such suboption, None when there was none."""
        return next((p for c, p in reversed(self.words) if c == code), None)

    def take(self, data: bytes) -> None:
        """Parse byte by byte, except that runs without an IAC are taken whole."""
        if not self._state and 0xFF not in data:
            self._to_vm(data)
            return
        run = bytearray()
        for byte in data:
            state = self._state
            if not state:
                if byte == 0xFF:
                    self._state = "iac"
                else:
                    run.append(byte)
            elif state == "iac":
                self._state = ""
                if byte == 0xFF:
                    run.append(byte)
                elif 251 <= byte <= 254:
                    self._state = f"option {byte}"
                elif byte == 250:
                    self._state = "sub"
                    self._suboption.clear()
                else:
                    self.vm.violations.append(f"command {byte}")
            elif state.startswith("option"):
                self.options.append((int(state[7:]), byte))
                self._state = ""
            elif state == "sub":
                if byte == 0xFF:
                    self._state = "sub iac"
                else:
                    self._suboption.append(byte)
            elif byte == 0xFF:
                self._suboption.append(byte)
                self._state = "sub"
            else:
                if byte != 240:
                    self.vm.violations.append(f"command {byte} in a suboption")
                if run:
                    self._to_vm(bytes(run))
                    run.clear()
                self._state = ""
                self._word(bytes(self._suboption))
        if run:
            self._to_vm(bytes(run))

    def _to_vm(self, data: bytes) -> None:
        if not self.running:
            self.vm.violations.append(f"{len(data)} bytes where the VM does not run")
        self.vm.received += data

    def _word(self, content: bytes) -> None:
        if content[:1] != b"\xe8" or len(content) < 2:
            self.vm.violations.append(f"suboption {content.hex()}")
            return
        code, parameters = content[1], content[2:]
        self.words.append((code, parameters))
        self.transcript.append(("proxy", code, parameters))
        if code == GOAHEAD:
            self.running = False  # frozen from here on, until ABORT
        if self.answers and code in ANSWERS:
            uuid = self.vm.uuid.replace("-", "")
            pairs = " ".join(uuid[at : at + 2] for at in range(0, 32, 2))
            shown = f"{pairs[:23]}-{pairs[24:]}"  # as VMware writes it: "50 1c ... -8d 3e ..."
            self.say(ANSWERS[code], self.vm.name.encode() if code == 83 else shown.encode())

    @property
    def served(self) -> bool:
        """Whether the concentrator has agreed to be the VM's proxy."""
        return self.heard(WILL_PROXY) is not None


class Concentrator:
    """`saltflat vspc serve` as a process; `log` returns what it has written to stderr."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        scheme: str = "telnet",
        allow: str = "--allow-all",
        sockets: bool = True,
    ) -> None:
        self.sockets = folder / "sockets"
        self._log = folder / "log"
        listen = f"{scheme}://127.0.0.1:0"
        command = [sys.executable, "-c", MAIN, "-v", "--progress", "plain", "vspc", "serve"]
        command += ["--listen", listen, *allow.split()]
        command += ["--sockets", os.fspath(self.sockets)] if sockets else []
        with self._log.open("wb") as log:
            self.process = subprocess.Popen([*command, *arguments], stderr=log)
        self.address = ("127.0.0.1", self.port("Listening on "))

    def port(self, what: str) -> int:
        """Return the port at the end of the first line of the log that begins so."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            for line in self.log().splitlines():
                if line.startswith(what):
                    return int(line.rpartition(":")[2])
            if self.process.poll() is not None:
                raise RuntimeError(f"the concentrator has ended: {self.log()}")
            time.sleep(0.01)
        raise TimeoutError(f"the concentrator does not listen: {self.log()}")

    def log(self) -> str:
        return self._log.read_text("utf-8")

    def socket_of(self, vm: Vm) -> Path:
        return self.sockets / f"{vm.uuid}.sock"

    def stop(self) -> int:
        """End it as a service manager does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)


@contextlib.contextmanager
def concentrator(folder: Path, *arguments: str, **options: str | bool) -> Iterator[Concentrator]:
    """Run a concentrator, and see to it that it is gone afterwards."""
    running = Concentrator(folder, *arguments, **options)  # type: ignore[arg-type]  # passed through
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait(PATIENCE_SECONDS)


def connect(lab: Lab, server: Concentrator, vm: Vm, **options: object) -> Host:
    """Power a VM on, and wait until it is served."""
    host = Host(lab, server.address, vm, **options)  # type: ignore[arg-type]  # passed through
    lab.until(lambda: host.served and server.socket_of(vm).exists())
    return host


def migrate(
    lab: Lab,
    address: tuple[str, int],
    source: Host,
    *,
    sequence: bytes,
    tail: bytes = b"",
    context: ssl.SSLContext | None = None,
    close_first: bool = False,
    before_options: bool = False,
) -> Host:
    """Move the VM to a new host and return that; `tail` is what it still has to say at the source.

    `close_first` closes the source before COMPLETE, `before_options` sends PEER before everything.
    """
    source.say(BEGIN, sequence)
    lab.until(lambda: source.heard(GOAHEAD) is not None or source.closed)
    cookie = source.heard(GOAHEAD)
    assert cookie is not None
    assert cookie.startswith(sequence)
    source.write(tail)
    target = Host(lab, address, source.vm, context=context, opening=not before_options)
    target.running = False
    target.say(PEER, cookie)
    if before_options:
        target.open()
    lab.until(lambda: target.heard(PEER_OK) is not None or target.closed)
    assert target.heard(PEER_OK) in (sequence, cookie)
    if close_first:
        lab.until(lambda: not source.out)
        source.close()
    target.running = True
    target.say(COMPLETE, sequence)
    if not close_first:
        lab.until(lambda: not source.out)
        source.close()
    return target
