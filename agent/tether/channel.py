"""The line to the host as a non-blocking byte transport: virtio-serial, a 16550, or vsock.

Owns finding and opening them, and the devices' peculiarities; sockets are `sockets`. Nothing here
says whether the host is there or has received anything: a serial line has no carrier, and a virtio
port takes bytes that it may discard. That is `agent.wire`'s work, and the host speaks first.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import termios

from agent import bare_socket as socket
from agent.hints import List, Optional, Protocol, Tuple, Union
from agent.tether import c_linux, log
from agent.tether.config import Serial, VirtioSerial, Vsock
from agent.tether.errors import StartError
from agent.tether.sockets import Connecting, Listening
from agent.tether.uevents import UeventListener
from agent.values import dataclass

VIRTIO_PORTS = "/sys/class/virtio-ports"
PORT_WAIT_SECONDS = 10.0

Buffer = Union[bytes, memoryview]


@dataclass(frozen=True)
class Limits:
    """How much goes on a line at once: per frame, in flight each way, and handed to the kernel."""

    max_payload_bytes: int
    window_bytes: int
    write_bytes: int


VIRTIO_LIMITS = Limits(131072, 524288, 262144)
# What the driver moves in one call: a buffer of a page, and at most so much of what is written.
_PORT_READ_BYTES = 4096
_PORT_WRITE_BYTES = 32768
_PORT_TURN_BYTES = 262144
# Whatever is in flight stands before a control message: 32 KiB is 80 ms of a good serial line.
# The receive side must stay far below the 1.3 MB after which the tty layer drops bytes.
SERIAL_LIMITS = Limits(8192, 32768, 8192)


VSOCK_LIMITS = Limits(32768, 131072, 65536)


class Transport(Protocol):
    """A line, whatever it is made of. Nothing blocks."""

    limits: Limits
    descriptors: Tuple[int, ...]  # to wait on by edges: an unconnected port always polls HUP

    def close_old(self) -> None:
        """Close what was replaced in `descriptors`."""

    def deadline(self) -> Optional[float]:
        """Return when `revive` is to be called though nothing has come."""

    def revive(self, now: float) -> None:
        """Do what is due for there to be a connection."""

    def read(self) -> Optional[Buffer]:
        """Return what has come, nothing when the host is not connected, None when nothing waits.

        It is good until the next call.
        """

    def write(self, data: Buffer) -> int:
        """Hand over bytes and return how many were taken; 0 when there is no room."""


class Device:
    """An open character device.

    Opened once and never closed before power-off: closing discards what the host has sent.
    """

    def __init__(self, descriptor: int, *, limits: Limits, read_bytes: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptors: Tuple[int, ...] = (descriptor,)
        self.limits = limits
        self._descriptor = descriptor
        self._read_bytes = read_bytes

    def close_old(self) -> None:
        """Do nothing."""

    def deadline(self) -> Optional[float]:
        """Return None: a device is there."""

    def revive(self, now: float) -> None:
        """Do nothing."""

    def read(self) -> Optional[Buffer]:
        """Read at most what one call of the driver gives."""
        try:
            return os.read(self._descriptor, self._read_bytes)
        except BlockingIOError:
            return None

    def write(self, data: Buffer) -> int:
        """Write as much as goes."""
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0


class VirtioPort(Device):
    """A virtio-serial port, whose driver takes and gives little in each call: so many in one.

    readv(2) and writev(2) go round in the kernel, once for each piece, and return what they have
    come to.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, limits=VIRTIO_LIMITS, read_bytes=_PORT_READ_BYTES)
        self._buffer = memoryview(bytearray(_PORT_TURN_BYTES))
        self._pieces = _split(self._buffer, _PORT_READ_BYTES)

    def read(self) -> Optional[memoryview]:
        """Read at most a turn's bytes; what is returned is good until the next call."""
        try:
            return self._buffer[: os.readv(self._descriptor, self._pieces)]
        except BlockingIOError:
            return None

    def write(self, data: Buffer) -> int:
        """Write as much as goes."""
        try:
            return os.writev(self._descriptor, _split(memoryview(data), _PORT_WRITE_BYTES))
        except BlockingIOError:
            return 0


def _split(view: memoryview, size: int) -> List[memoryview]:
    return [view[start : start + size] for start in range(0, len(view), size)]


def open_transport(
    channel: Union[VirtioSerial, Serial, Vsock], events: UeventListener
) -> Transport:
    """Open the configured line; StartError("channel") when the machine does not have it.

    The drivers must have been loaded, after `events` was opened.
    """
    try:
        if isinstance(channel, VirtioSerial):
            return _open_virtio(channel.name, events)
        if isinstance(channel, Vsock):
            return _open_vsock(channel)
        return _open_serial(channel.device)
    except OSError as error:
        raise StartError("channel", "the channel cannot be opened: {}".format(error)) from error


def _open_vsock(channel: Vsock) -> Transport:
    if not channel.listen:
        return Connecting(socket.AF_VSOCK, (channel.cid, channel.port), limits=VSOCK_LIMITS)
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    listener.bind((socket.VMADDR_CID_ANY, channel.port))
    # The image's own processes could connect as well, and throw the host out each time.
    return Listening(listener, limits=VSOCK_LIMITS, admits=lambda peer: peer[0] == channel.cid)


def _open_virtio(name: str, events: UeventListener) -> Transport:
    port = events.wait_until(lambda: _find_port(name), PORT_WAIT_SECONDS)
    if port is None:
        raise StartError("channel", "the machine has no virtio-serial port named {}".format(name))
    descriptor = os.open("/dev/" + port, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    return VirtioPort(descriptor)


def _find_port(name: str) -> str | None:
    for port in sorted(os.listdir(VIRTIO_PORTS)) if os.path.isdir(VIRTIO_PORTS) else ():
        try:
            with open(os.path.join(VIRTIO_PORTS, port, "name"), encoding="utf-8") as file:
                found = file.read().strip()
        except OSError as error:
            # The name arrives after the port, with an event of its own.
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            continue
        if found == name and os.path.exists("/dev/" + port):
            return port
    return None


def open_device(path: str) -> Transport:
    """Open a serial line or a virtio-serial port by its path; StartError("channel") if it cannot.

    What is no terminal is taken for a port.
    """
    try:
        if not stat.S_ISCHR(os.stat(path).st_mode):
            raise StartError("channel", "{} is no character device".format(path))
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not os.isatty(descriptor):
            return VirtioPort(descriptor)
        os.close(descriptor)
        return _open_serial(path)
    except OSError as error:
        raise StartError("channel", "the channel cannot be opened: {}".format(error)) from error


def _open_serial(device: str) -> Transport:
    descriptor = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    make_raw(descriptor)
    # Nobody without CAP_SYS_ADMIN opens it a second time, whatever device nodes it can make.
    fcntl.ioctl(descriptor, c_linux.TIOCEXCL)
    trigger = "/sys/class/tty/{}/rx_trig_bytes".format(os.path.basename(device))
    try:
        with open(trigger, "w", encoding="utf-8") as file:
            file.write("14")  # the 16550's highest: fewer interrupts, 1.6 times the speed
    except OSError as error:
        log.info("{}: {}".format(trigger, error.strerror))
    return Device(descriptor, limits=SERIAL_LIMITS, read_bytes=65536)


def make_raw(descriptor: int) -> None:
    """Make a tty pass all bytes as they are, eight bits, with no modem control and no flow control.

    Raises termios.error when it is no tty.
    """
    control = termios.tcgetattr(descriptor)[6]
    control[termios.VMIN], control[termios.VTIME] = 1, 0
    flags = termios.CS8 | termios.CREAD | termios.CLOCAL
    termios.tcsetattr(
        descriptor,
        termios.TCSANOW,
        [0, 0, flags, 0, termios.B115200, termios.B115200, control],
    )
