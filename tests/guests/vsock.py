"""A virtual socket device whose host side is this process: QEMU's vhost-user-vsock and its backend.

Where the host's kernel has no vhost-vsock, a guest's virtio-vsock driver, its sockets and the
agent's use of them can run all the same. Owns the two queues in the guest's memory and the dialogue
with QEMU (its docs/interop/vhost-user.rst); `vsock_streams` has what travels in the queues. One
guest, one thread.
"""

from __future__ import annotations

import array
import contextlib
import mmap
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.host.transport import UnixListener
from tests.guests.vsock_streams import HEADER_BYTES, Streams

GUEST_CID = 42
_TURN_SECONDS = 0.05
_ENDS_SECONDS = 10

# vhost-user: struct vhost_user_msg's head, and requests by their numbers.
_HEAD = struct.Struct("=III")  # request, flags, size
_VERSION, _IS_REPLY = 1, 4
_GET_FEATURES, _SET_MEM_TABLE, _SET_VRING_NUM, _SET_VRING_ADDR = 1, 5, 8, 9
_SET_VRING_BASE, _GET_VRING_BASE, _SET_VRING_KICK, _SET_VRING_CALL = 10, 11, 12, 13
_GET_PROTOCOL_FEATURES, _GET_CONFIG = 15, 24
_NO_DESCRIPTOR = 0x100  # in a SET_VRING_KICK or _CALL
# VHOST_USER_F_PROTOCOL_FEATURES, VIRTIO_F_VERSION_1; VHOST_USER_PROTOCOL_F_CONFIG.
_FEATURES = 1 << 30 | 1 << 32
_PROTOCOL_FEATURES = 1 << 9
_REGION = struct.Struct("=QQQQ")  # address in the guest, size, address in QEMU, offset in the file
_RX, _TX = 0, 1

# virtio 1.2, 2.7: a split queue.
_DESCRIPTOR = struct.Struct("<QIHH")  # address, length, flags, next
_USED = struct.Struct("<II")  # head of the chain, bytes written
_HAS_NEXT, _IS_WRITABLE = 1, 2


@dataclass
class _Region:
    guest: int
    size: int
    qemu: int
    offset: int
    memory: mmap.mmap

    def view(self, base: int, address: int, count: int) -> memoryview | None:
        at = address - base
        if not 0 <= at <= self.size - count:
            return None
        return memoryview(self.memory)[self.offset + at : self.offset + at + count]


@dataclass
class _Queue:
    """A split queue: where its parts are, and how far it has come."""

    size: int = 0
    descriptors: int = 0
    used: int = 0
    available: int = 0
    next: int = 0
    kick: int = -1
    call: int = -1


class _Memory:
    """The guest's memory, by the guest's addresses and by QEMU's."""

    def __init__(self) -> None:
        self._regions: list[_Region] = []

    def take(self, payload: bytes, descriptors: list[int]) -> None:
        for number, descriptor in enumerate(descriptors):
            guest, size, qemu, offset = _REGION.unpack_from(payload, 8 + number * _REGION.size)
            memory = mmap.mmap(descriptor, size + offset)
            os.close(descriptor)
            self._regions.append(_Region(guest, size, qemu, offset, memory))

    def at_guest(self, address: int, count: int) -> memoryview:
        return self._find((one.view(one.guest, address, count) for one in self._regions), address)

    def at_qemu(self, address: int, count: int) -> memoryview:
        return self._find((one.view(one.qemu, address, count) for one in self._regions), address)

    @staticmethod
    def _find(views: Iterator[memoryview | None], address: int) -> memoryview:
        for view in views:
            if view is not None:
                return view
        raise ValueError(f"the guest has no memory at {address:#x}")


class _Device:
    """One connection of QEMU's, which is one machine."""

    def __init__(self, qemu: socket.socket, targets: Mapping[int, Path]) -> None:
        self._qemu = qemu
        self._memory = _Memory()
        self._queues = (_Queue(), _Queue())
        self.streams = Streams(GUEST_CID, targets)

    def serve(self, ends: threading.Event) -> None:
        while not ends.is_set():
            kicks = [queue.kick for queue in self._queues if queue.kick >= 0]
            watched = [self._qemu.fileno(), *kicks, *self.streams.descriptors()]
            ready, _, _ = select.select(watched, [], [], _TURN_SECONDS)
            if self._qemu.fileno() in ready and not self._take_request():
                return
            for kick in kicks:
                if kick in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(kick, 8)
            self._send_and_receive()

    def close(self) -> None:
        self.streams.close()
        for queue in self._queues:
            for descriptor in (queue.kick, queue.call):
                if descriptor >= 0:
                    os.close(descriptor)

    # --- QEMU ------------------------------------------------------------------------------------

    def _take_request(self) -> bool:
        """Take a message of QEMU's; return False when there will be none."""
        descriptors = array.array("i")
        space = socket.CMSG_SPACE(8 * descriptors.itemsize)
        head, ancillary, _, _ = self._qemu.recvmsg(_HEAD.size, space)
        if len(head) < _HEAD.size:
            return False
        for _level, _kind, data in ancillary:
            descriptors.frombytes(data)
        request, _flags, size = _HEAD.unpack(head)
        payload = b""
        while len(payload) < size:
            payload += self._qemu.recv(size - len(payload))
        answer = self._obey(request, payload, list(descriptors))
        if answer is not None:
            self._qemu.sendall(_HEAD.pack(request, _VERSION | _IS_REPLY, len(answer)) + answer)
        return True

    def _obey(self, request: int, payload: bytes, descriptors: list[int]) -> bytes | None:
        if request == _GET_FEATURES:
            return struct.pack("=Q", _FEATURES)
        if request == _GET_PROTOCOL_FEATURES:
            return struct.pack("=Q", _PROTOCOL_FEATURES)
        if request == _GET_CONFIG:  # offset, size, flags; then as much of the configuration
            offset, size, _ = struct.unpack_from("=III", payload)
            config = struct.pack("<Q", GUEST_CID)[offset : offset + size]
            return payload[:12] + config.ljust(size, b"\0")
        if request == _SET_MEM_TABLE:
            self._memory.take(payload, descriptors)
        elif request in (_SET_VRING_KICK, _SET_VRING_CALL):
            (number,) = struct.unpack("=Q", payload)
            descriptor = -1 if number & _NO_DESCRIPTOR else descriptors[0]
            name = "kick" if request == _SET_VRING_KICK else "call"
            queue = self._queues[number & 0xFF]
            if getattr(queue, name) >= 0:
                os.close(getattr(queue, name))
            setattr(queue, name, descriptor)
            if name == "kick" and descriptor >= 0:
                os.set_blocking(descriptor, False)
        elif request in (_SET_VRING_NUM, _SET_VRING_BASE, _GET_VRING_BASE):
            index, number = struct.unpack_from("=II", payload)
            queue = self._queues[index]
            if request == _SET_VRING_NUM:
                queue.size = number
            elif request == _SET_VRING_BASE:
                queue.next = number
            else:  # the queue stops
                if queue.kick >= 0:
                    os.close(queue.kick)
                queue.kick = -1
                return struct.pack("=II", index, queue.next)
        elif request == _SET_VRING_ADDR:
            index, _, descriptor_table, used, available, _ = struct.unpack_from("=IIQQQQ", payload)
            queue = self._queues[index]
            queue.descriptors, queue.used, queue.available = descriptor_table, used, available
        return None

    # --- the queues ------------------------------------------------------------------------------

    def _send_and_receive(self) -> None:
        """Take what the guest sends, and give it what waits for it."""
        if any(queue.kick < 0 or not queue.descriptors for queue in self._queues):
            return
        sent = list(self._chains(self._queues[_TX]))
        for head, parts in sent:
            packet = b"".join(bytes(part) for part, _ in parts)
            self._use(self._queues[_TX], head, 0)
            self.streams.receive(packet[:HEADER_BYTES], packet[HEADER_BYTES:])
        if sent:
            self._interrupt(self._queues[_TX])
        self._give()

    def _give(self) -> None:
        queue = self._queues[_RX]
        given = False
        for head, parts in self._chains(queue, self.streams.has_packet):
            room = sum(len(part) for part, writable in parts if writable)
            packet = self.streams.next_packet(room - HEADER_BYTES)
            at = 0
            for part, _ in parts:
                piece = packet[at : at + len(part)]
                part[: len(piece)] = piece
                at += len(piece)
            self._use(queue, head, len(packet))
            given = True
        if given:
            self._interrupt(queue)

    def _chains(
        self, queue: _Queue, wanted: Callable[[], bool] = lambda: True
    ) -> Iterator[tuple[int, list[tuple[memoryview, bool]]]]:
        """Yield the chains that the guest has made available, as long as they are `wanted`."""
        ring = self._memory.at_qemu(queue.available, 4 + 2 * queue.size)
        while wanted():
            (made,) = struct.unpack_from("<H", ring, 2)
            if made == queue.next:
                return
            (head,) = struct.unpack_from("<H", ring, 4 + 2 * (queue.next % queue.size))
            queue.next = (queue.next + 1) & 0xFFFF
            yield head, list(self._parts(queue, head))

    def _parts(self, queue: _Queue, index: int) -> Iterator[tuple[memoryview, bool]]:
        table = self._memory.at_qemu(queue.descriptors, _DESCRIPTOR.size * queue.size)
        while True:
            address, length, flags, after = _DESCRIPTOR.unpack_from(table, index * _DESCRIPTOR.size)
            yield self._memory.at_guest(address, length), bool(flags & _IS_WRITABLE)
            if not flags & _HAS_NEXT:
                return
            index = after

    def _use(self, queue: _Queue, head: int, written: int) -> None:
        ring = self._memory.at_qemu(queue.used, 4 + _USED.size * queue.size)
        (count,) = struct.unpack_from("<H", ring, 2)
        _USED.pack_into(ring, 4 + _USED.size * (count % queue.size), head, written)
        struct.pack_into("<H", ring, 2, (count + 1) & 0xFFFF)  # last: then the guest may look

    def _interrupt(self, queue: _Queue) -> None:
        if queue.call >= 0:
            os.write(queue.call, struct.pack("=Q", 1))


@contextlib.contextmanager
def vsock_device(path: Path, targets: Mapping[int, Path]) -> Iterator[None]:
    """Be the host side of the device whose chardev is at `path`; the guest reaches `targets`."""
    ends = threading.Event()

    def run(listener: UnixListener) -> None:
        while not ends.is_set():
            select.select([listener], [], [], _TURN_SECONDS)
            accepted = listener.accept()
            if accepted is None:
                continue
            with contextlib.closing(accepted):
                qemu = socket.socket(fileno=os.dup(accepted.fileno()))
                qemu.setblocking(True)
                with qemu, contextlib.closing(_Device(qemu, targets)) as device:
                    device.serve(ends)

    with UnixListener(path) as listener:
        thread = threading.Thread(target=run, args=(listener,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join(_ENDS_SECONDS)


def vsock_arguments(path: Path, memory_mib: int) -> list[str]:
    """Return what of QEMU's arguments makes the device; the guest's memory is shared with it."""
    return [
        *("-object", f"memory-backend-memfd,id=memory,size={memory_mib}M,share=on"),
        *("-machine", "memory-backend=memory"),
        *("-chardev", f"socket,id=vsock,path={path}"),
        *("-device", "vhost-user-vsock-pci,chardev=vsock"),
    ]
