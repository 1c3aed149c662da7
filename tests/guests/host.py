"""A small host for booted guests: an Endpoint on the line, and what each process has said so far.

Owns the pumping of bytes. It keeps everything in memory and decides nothing. For tests that hold
the guest to the protocol; with a relay in between, see `relayed`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.host.transport import Connection, UnixListener, private_directory
from agent.wire import (
    STDERR,
    STDIN,
    STDOUT,
    Closed,
    Control,
    Data,
    Endpoint,
    Finished,
    Gap,
    Role,
    kind_of,
    process_of,
    stream_of,
)
from converter.machine.model import Channel, GuestConfig, GuestVolume, MachineSpec, RunConfig
from converter.machine.process import QemuProcess, qemu_version
from converter.machine.qemu import make_scratch, write_guest_document
from converter.machine.qemu_command import Accelerator, machine_arguments
from tests.guests import disk
from tests.guests.vsock import vsock_arguments, vsock_device
from tests.guests.vsock_streams import PORT
from tests.images import prepared
from tinykernel.record import BootImage

BOOT_SECONDS = 120.0


@dataclass
class Record:
    """What one process has said. `order` has FINs and types of messages as they came."""

    output: dict[int, bytearray] = field(
        default_factory=lambda: {STDOUT: bytearray(), STDERR: bytearray()}
    )
    gap_bytes: int = 0
    gaps: int = 0
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    order: list[object] = field(default_factory=list)
    closed: bool = False
    input: memoryview = field(default_factory=lambda: memoryview(b""))  # what is left
    ends_input: bool = False

    @property
    def stdout(self) -> bytes:
        return bytes(self.output[STDOUT])

    @property
    def stderr(self) -> bytes:
        return bytes(self.output[STDERR])

    @property
    def code(self) -> int | None:
        """The exit code, None as long as there is none."""
        message = self.messages.get("exited") or self.messages.get("failed")
        return None if message is None else message["code"]


class GuestHost:
    """The host end of one guest."""

    def __init__(self, listener: UnixListener, key: bytes) -> None:
        self.endpoint = Endpoint(
            Role.HOST, key, nonce=secrets.token_bytes(32), now=time.monotonic()
        )
        self.processes: dict[int, Record] = {0: Record()}
        self.held: set[int] = set()  # processes whose output is not consumed
        self._unconsumed: dict[int, int] = {}
        self._listener = listener
        self._line: Connection | None = None

    # --- what a test asks for --------------------------------------------------------------------

    def start(self, number: int, kind: str = "exec", **fields: object) -> Record:
        """Ask for a process beside the main one."""
        self.endpoint.open(number)
        record = self.processes[number] = Record()
        self.endpoint.control({"type": kind, "process": number, **fields})
        return record

    def write(self, number: int, data: bytes, *, end: bool = False) -> None:
        """Give a process its whole stdin."""
        record = self.processes[number]
        assert not record.input
        record.input = memoryview(data)
        record.ends_input = end

    def release(self, number: int) -> None:
        """Consume what was held back of a process's output, and all that comes."""
        self.held.discard(number)
        for which in (STDOUT, STDERR):
            stream = stream_of(number, which)
            self.endpoint.consumed(stream, self._unconsumed.pop(stream, 0))

    def wait(self, done: Callable[[], bool], seconds: float = 60.0) -> None:
        """Pump until `done`. Raises TimeoutError."""
        wait_together([self], done, seconds)

    def cut(self) -> None:
        """Lose the connection; the other end may make it anew."""
        self._lose()

    def close(self) -> None:
        """Let go of the line."""
        self._lose()

    # --- the pump --------------------------------------------------------------------------------

    def turn(self, most_seconds: float) -> None:
        """Wait for so long at most, and do what is due."""
        watched = [self._listener.fileno()]
        blocked = []
        if self._line is not None:
            watched.append(self._line.fileno())
            blocked = [self._line.fileno()] if self._line.blocked else []
        due = self.endpoint.deadline()
        wait = most_seconds
        if due is not None:
            wait = min(wait, max(0.0, due - time.monotonic()))
        select.select(watched, blocked, [], wait)
        accepted = self._listener.accept()
        if accepted is not None:
            self._lose()
            self._line = accepted
        now = time.monotonic()
        if self._line is not None:
            data = self._line.receive()
            if data is None:
                self._lose()
            elif data:
                self._take(self.endpoint.receive(data, now))
        self._take(self.endpoint.tick(now))
        for number, record in self.processes.items():
            self._feed(number, record)
        while self._line is not None and self._line.send():
            due_bytes = self.endpoint.data_to_send(now)
            if not due_bytes:
                break
            self._line.send(due_bytes)

    def _lose(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
            self.endpoint.transport_lost()

    def _feed(self, number: int, record: Record) -> None:
        stream = stream_of(number, STDIN)
        if record.input:
            taken = self.endpoint.send(stream, bytes(record.input[:131072]))
            record.input = record.input[taken:]
        if not record.input and record.ends_input and not record.closed:
            record.ends_input = False
            self.endpoint.finish(stream)

    def _take(self, happened: list[Any]) -> None:
        for event in happened:
            if isinstance(event, Data):
                number = process_of(event.stream)
                self.processes[number].output[kind_of(event.stream)] += event.data
                if number in self.held:
                    waiting = self._unconsumed.get(event.stream, 0)
                    self._unconsumed[event.stream] = waiting + len(event.data)
                else:
                    self.endpoint.consumed(event.stream, len(event.data))
            elif isinstance(event, Gap):
                record = self.processes[process_of(event.stream)]
                record.gaps += 1
                record.gap_bytes += event.count
            elif isinstance(event, Finished):
                self.processes[process_of(event.stream)].order.append(kind_of(event.stream))
            elif isinstance(event, Control):
                self._note(event.message)
            elif isinstance(event, Closed):
                self.processes[event.process].closed = True

    def _note(self, message: dict[str, Any]) -> None:
        record = self.processes[message.get("process", 0)]
        record.messages[message["type"]] = message
        record.order.append(message["type"])
        if message["type"] in ("exited", "failed") and message.get("process"):
            record.input = memoryview(b"")
            record.ends_input = False
            with contextlib.suppress(ValueError):  # Closed may have come with the same bytes
                self.endpoint.finish(stream_of(message["process"], STDIN))


def wait_together(hosts: Sequence[GuestHost], done: Callable[[], bool], seconds: float) -> None:
    """Be the hosts of several guests, none of which may miss its own, until `done`.

    Raises TimeoutError.
    """
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the guest did not do it within {seconds:g} s")
        for host in hosts:
            host.turn(0.1 / len(hosts))


class _Guest(GuestConfig):
    """A guest's document with rules for output, and any network.

    `alone`: for an agent that prepares no machine. `vsock`: whatever the channel.
    """

    output: dict[str, object]
    network: object
    alone: bool
    vsock: bool

    def encode(
        self,
        channel: Channel,
        key: bytes | None,
        volumes: Sequence[GuestVolume] = (),
        network: Mapping[str, Any] | None = None,
    ) -> bytes:
        document = json.loads(super().encode(channel, key, volumes, network))
        if self.alone:
            del document["root"], document["hostname"]
        if self.vsock:
            document["channel"] = {"kind": "vsock", "port": PORT}
        return json.dumps({**document, "output": self.output, "network": self.network}).encode()


@dataclass
class Booted:
    """A machine, its folder, and the line that it connects to."""

    machine: QemuProcess
    folder: Path
    key: bytes
    path: Path

    def console(self) -> str:
        return self.machine.console()


@contextlib.contextmanager
def booted(
    work: Path,
    link: Path,
    run: RunConfig,
    *,
    channel: Channel = Channel.VIRTIO_SERIAL,
    output: dict[str, object] | None = None,
    memory_mib: int = 256,
    initrd: Path | None = None,
    devices: Sequence[str] = (),
    boot: BootImage | None = None,
    volumes: Sequence[GuestVolume] = (),
    capacity_bytes: int = disk.CAPACITY_BYTES,
    alone: bool = False,
    network: object = None,
    vsock: bool = False,
    change: Callable[[list[str]], list[str]] = lambda arguments: arguments,
) -> Iterator[Booted]:
    """Start a machine from the disk `link`; nobody listens on its line yet.

    `boot` is this checkout's usual image when None; `initrd` takes the place of its own.
    `devices` are further arguments for QEMU; the disks of `volumes` are among them. `network` is
    its document's; with `alone` that is for an agent that is no init. With `vsock` the line is a
    virtual socket. `change` makes other arguments of QEMU's.
    """
    key = secrets.token_bytes(32)
    guest = _Guest(root_uuid=disk.ROOT_UUID, hostname="guest", image={}, run=run)
    object.__setattr__(guest, "output", output or {})
    object.__setattr__(guest, "alone", alone)
    object.__setattr__(guest, "network", network)
    object.__setattr__(guest, "vsock", vsock)
    spec = MachineSpec(
        chain=(link,),
        capacity_bytes=capacity_bytes,
        boot=boot or prepared.usual_boot_image(),
        guest=guest,
        memory_mib=memory_mib,
        channel=channel,
    )
    machine_folder = work / f"machine-{os.getpid()}-{secrets.token_hex(4)}"
    machine_folder.mkdir(mode=0o700)
    make_scratch(machine_folder, spec)
    write_guest_document(machine_folder, spec, key, volumes)
    with private_directory() as folder, contextlib.ExitStack() as stack:
        path = folder / "line"
        arguments = machine_arguments(
            spec,
            Accelerator("tcg", qemu_version()),
            machine=secrets.token_hex(32),
            channel=path,
            temporary=False,
        )
        if initrd is not None:
            arguments[arguments.index("-initrd") + 1] = str(initrd)
        if vsock:
            stack.enter_context(vsock_device(folder / "vsock", {PORT: path}))
            arguments = _without_port(arguments) + vsock_arguments(folder / "vsock", memory_mib)
        arguments = change([*arguments, *devices])
        machine = QemuProcess(arguments, machine_folder, temporary=False)
        yield Booted(stack.enter_context(machine), machine_folder, key, path)


def _without_port(arguments: list[str]) -> list[str]:
    """Return a machine's arguments without its virtio-serial port."""
    (at,) = (number for number, word in enumerate(arguments) if word.startswith("socket,id=line"))
    words = arguments[at - 1 : at + 5]
    assert (words[0], words[3]) == ("-chardev", "virtio-serial-pci"), words
    return arguments[: at - 1] + arguments[at + 5 :]


@contextlib.contextmanager
def served(booted_machine: Booted, key: bytes | None = None) -> Iterator[GuestHost]:
    """Listen on a machine's line, with its key or another."""
    with UnixListener(booted_machine.path) as listener:
        host = GuestHost(listener, key or booted_machine.key)
        try:
            yield host
        finally:  # a socket that a failed test leaves open fails a later one
            host.close()


def ended(machine: Booted, host: GuestHost) -> None:
    """Go on as a host until the machine has switched itself off: it waits for our last word."""
    host.wait(lambda: not machine.machine.is_alive(), 30)
    assert machine.machine.wait(0) == 0
