"""Time, connections and users without any I/O, for what is sans-IO in the concentrator."""

from __future__ import annotations

from collections.abc import Callable

from agent.host.vspc.allow import AllowList
from agent.host.vspc.c_vspc import QUEUE_BYTES, VMWARE_TELNET_EXT, Code
from agent.host.vspc.identity import Claims
from agent.host.vspc.line import VmLine
from agent.host.vspc.port import Port
from agent.host.vspc.registry import Registry
from agent.host.vspc.seam import Line, Notice
from agent.host.vspc.telnet import Data, Suboption, TelnetDecoder, suboption

OPENING = bytes.fromhex("fffbe8 fffd00 fffb00 fffd03 fffb03 fffd01")
UUID = "501c62c0-f137-4aa0-8d3e-5c2b1e6f0a11"
KNOWN = bytes([0, 1, 2, 3, 40, 41, 43, 44, 45, 46, 48, 70, 71, 73, *range(80, 88)])


class FakeTimer:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeScheduler:
    """Time that passes only in `advance`."""

    def __init__(self) -> None:
        self.time = 0.0
        self.timers: list[FakeTimer] = []

    def now(self) -> float:
        return self.time

    def call_at(self, when: float, call: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(when, call)
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while True:
            self.timers = [timer for timer in self.timers if not timer.cancelled]
            due = min(self.timers, key=lambda timer: timer.when, default=None)
            if due is None or due.when > end:
                break
            self.timers.remove(due)
            self.time = max(self.time, due.when)
            due.call()
        self.time = end


class FakePort(Port):
    """A connection whose socket takes everything at once, unless `stuck`."""

    __slots__ = ("_decoder", "options", "registry", "stuck", "to_vm", "words")

    def __init__(self, address: str = "127.0.0.1") -> None:
        super().__init__(address)
        self.registry: Registry | None = None
        self.stuck = False
        self.to_vm = b""
        self.words: list[tuple[int, bytes]] = []
        self.options: list[tuple[int, int]] = []
        self._decoder = TelnetDecoder()

    def wake(self) -> None:
        if self.stuck or not self.session.outgoing:
            return
        out = bytes(self.session.outgoing)
        self.session.outgoing.clear()
        for event in self._decoder.feed(out):
            if isinstance(event, Data):
                self.to_vm += event.data
            elif isinstance(event, Suboption):
                assert event.option == VMWARE_TELNET_EXT
                self.words.append((event.payload[0], event.payload[1:]))
            else:
                self.options.append((event.command, event.option))
        if self.registry is not None:
            self.registry.written(self)

    def shut(self, _why: str) -> None:
        self.wake()

    def heard(self, code: int) -> bytes | None:
        return next((p for c, p in reversed(self.words) if c == code), None)


class FakeUser:
    """What stands behind a line: keeps everything, takes it as long as there is `space`."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.space = 1 << 30
        self.received = b""
        self.told: list[str] = []
        self.closed = False
        self.attached = False

    def connected(self, claims: Claims) -> None:
        self.told.append(f"connected {claims.address}")

    def moved(self, claims: Claims) -> None:
        self.told.append(f"moved {claims.address}")

    def lost(self, reason: str) -> None:
        self.told.append("lost")

    def room(self) -> int:
        return self.space

    def receive(self, data: bytes) -> None:
        assert self.space > 0
        assert self.told[-1] != "lost"
        assert self.told
        assert len(data) <= QUEUE_BYTES
        self.space -= len(data)
        self.received += data

    def writable(self) -> None:
        pass

    def idle(self) -> bool:
        return not self.attached

    def close(self) -> None:
        self.closed = True


class House:
    """A registry with its surroundings; hosts speak to it through `say`, `data` and so on."""

    def __init__(self, allow: AllowList | None = None, max_lines: int = 100) -> None:
        self.scheduler = FakeScheduler()
        self.log: list[Notice] = []
        self.users: dict[str, FakeUser] = {}
        self.secrets = 0
        self.registry = Registry(
            self,
            allow or AllowList(everybody=True),
            self.scheduler,
            secret=self._secret,
            log=self.log.append,
            max_lines=max_lines,
        )

    def _secret(self) -> bytes:
        self.secrets += 1
        return b"s%03d" % self.secrets

    def open(self, line: Line, _claims: Claims) -> FakeUser:
        self.users[line.uuid] = user = FakeUser(line)
        return user

    def connect(self, address: str = "127.0.0.1", *, opening: bool = True) -> FakePort:
        """Accept a connection, and let the host say its options and what it knows."""
        port = FakePort(address)
        self.registry.opened(port)
        port.registry = self.registry
        port.wake()
        if opening:
            self.feed(port, OPENING)
            self.say(port, Code.KNOWN_SUBOPTIONS_1, KNOWN)
        return port

    def serve(self, address: str = "127.0.0.1", uuid: str = UUID, uri: str = "u") -> FakePort:
        """Accept a connection of a VM that says all that is asked for."""
        port = self.connect(address)
        self.introduce(port, uuid, uri)
        return port

    def introduce(self, port: FakePort, uuid: str = UUID, uri: str = "u") -> None:
        for code, parameters in (
            (Code.DO_PROXY, b"C" + uri.encode()),
            (Code.VM_VC_UUID, uuid.encode()),
            (Code.VM_NAME, b"web"),
            (Code.VM_BIOS_UUID, b""),
            (Code.VM_LOCATION_UUID, b""),
        ):
            if not port.closed:
                self.say(port, code, parameters)

    def feed(self, port: FakePort, data: bytes) -> None:
        """Let bytes come over a connection, as they are on the line."""
        assert port.wants_read
        self.registry.receive(port, data)
        port.wake()

    def say(self, port: FakePort, code: int, parameters: bytes = b"") -> None:
        self.feed(port, suboption(VMWARE_TELNET_EXT, bytes([code]) + parameters))

    def data(self, port: FakePort, data: bytes) -> None:
        self.feed(port, data.replace(b"\xff", b"\xff\xff"))

    def end(self, port: FakePort) -> None:
        """Let the host close a connection."""
        port.ended = True
        self.registry.ended(port, "closed")

    def begin(self, port: FakePort, sequence: bytes = b"seq") -> bytes:
        """Begin a vMotion and return its cookie."""
        self.say(port, Code.VMOTION_BEGIN, sequence)
        cookie = port.heard(Code.VMOTION_GOAHEAD)
        assert cookie is not None
        return cookie

    @property
    def user(self) -> FakeUser:
        return self.users[UUID]

    @property
    def line(self) -> VmLine:
        return self.registry.lines[UUID]

    def warnings(self) -> str:
        return "\n".join(notice.text for notice in self.log if notice.warning)


def moving(house: House) -> tuple[FakePort, FakePort, bytes]:
    """Return source, target and cookie of a vMotion whose target has been accepted."""
    source = house.serve("source")
    cookie = house.begin(source)
    target = house.connect("target")
    house.say(target, Code.VMOTION_PEER, cookie)
    assert target.heard(Code.VMOTION_PEER_OK) == cookie
    return source, target, cookie


def complete(house: House, target: FakePort, token: bytes = b"seq") -> None:
    house.say(target, Code.VMOTION_COMPLETE, token)
