"""A message channel through VMware's backdoor: whole messages, either way.

Owns the order of calls that make a message, and its repetition when the machine was suspended or
moved in between. The hypervisor has at most 128 channels for a machine. Nothing here waits: a
message is there or not. `c_backdoor` has the numbers and their source.
"""

from __future__ import annotations

import errno

from agent.hints import Callable, Optional, TypeVar
from agent.tether.backdoor import Ports, Registers
from agent.tether.c_backdoor import (
    BDOOR_CMD_MESSAGE,
    BDOORHB_CMD_MESSAGE,
    GUESTMSG_FLAG_COOKIE,
    MESSAGE_STATUS_CPT,
    MESSAGE_STATUS_DORECV,
    MESSAGE_STATUS_HB,
    MESSAGE_STATUS_SUCCESS,
    MESSAGE_TYPE_CLOSE,
    MESSAGE_TYPE_OPEN,
    MESSAGE_TYPE_RECVPAYLOAD,
    MESSAGE_TYPE_RECVSIZE,
    MESSAGE_TYPE_RECVSTATUS,
    MESSAGE_TYPE_SENDPAYLOAD,
    MESSAGE_TYPE_SENDSIZE,
)
from agent.tether.c_rpci import REPLY_BYTES

_WORD = 4  # bytes of a message in one call
_TRIES = 8  # of one message, each ended by a checkpoint
Value = TypeVar("Value")
_BLOCK = MESSAGE_STATUS_SUCCESS << 16 | BDOORHB_CMD_MESSAGE


class _CheckpointError(Exception):
    """The hypervisor has forgotten what there was of a message."""


class BackdoorChannel:
    """An open channel. Raises ConnectionError when there is none to be had, or it is closed."""

    def __init__(self, ports: Ports, protocol: int) -> None:
        self._ports = ports
        self._number = 0
        self._cookie = (0, 0)  # high, low
        for flags in (GUESTMSG_FLAG_COOKIE, 0):  # old hypervisors know no cookies
            found = self._call(MESSAGE_TYPE_OPEN, protocol | flags)
            if _status(found) & MESSAGE_STATUS_SUCCESS:
                self._number = found[3] >> 16
                self._cookie = (found[4], found[5])
                return
        raise ConnectionRefusedError(errno.ECONNREFUSED, "the backdoor has no channel for us")

    def send(self, message: bytes) -> None:
        """Send a message, which may be empty. Raises ConnectionError."""
        self._again_after_checkpoints(lambda: self._send(message))

    def receive(self) -> Optional[bytes]:
        """Return the next message, None when there is none. Raises ConnectionError."""
        return self._again_after_checkpoints(self._receive)

    def close(self) -> None:
        """Give the channel back; one that is lost already does no harm."""
        self._call(MESSAGE_TYPE_CLOSE)

    def _again_after_checkpoints(self, step: Callable[[], Value]) -> Value:
        for _ in range(_TRIES):
            try:
                return step()
            except _CheckpointError:
                continue
        raise ConnectionResetError(errno.ECONNRESET, "the machine is moved again and again")

    def _send(self, message: bytes) -> None:
        status = self._expect(_status(self._call(MESSAGE_TYPE_SENDSIZE, len(message))))
        if message and status & MESSAGE_STATUS_HB:
            high, low = self._cookie
            edx = self._number << 16
            found = self._ports.block_out(message, ebx=_BLOCK, edx=edx, edi=low, ebp=high)
            self._expect(found[1] >> 16)
            return
        for at in range(0, len(message), _WORD):
            word = int.from_bytes(message[at : at + _WORD], "little")
            self._expect(_status(self._call(MESSAGE_TYPE_SENDPAYLOAD, word)))

    def _receive(self) -> Optional[bytes]:
        found = self._call(MESSAGE_TYPE_RECVSIZE)
        status = self._expect(_status(found))
        if not status & MESSAGE_STATUS_DORECV:
            return None
        size = found[1]
        if found[3] >> 16 != MESSAGE_TYPE_SENDSIZE or size > REPLY_BYTES:
            raise ConnectionAbortedError(errno.ECONNABORTED, "no message, or one that is too long")
        message = b""
        if size and status & MESSAGE_STATUS_HB:
            high, low = self._cookie
            edx = self._number << 16
            found, message = self._ports.block_in(size, ebx=_BLOCK, edx=edx, esi=high, ebp=low)
            self._expect(found[1] >> 16)
        while len(message) < size:
            found = self._call(MESSAGE_TYPE_RECVPAYLOAD, MESSAGE_STATUS_SUCCESS)
            self._expect(_status(found))
            if found[3] >> 16 != MESSAGE_TYPE_SENDPAYLOAD:
                raise ConnectionAbortedError(errno.ECONNABORTED, "a message that breaks off")
            message += found[1].to_bytes(_WORD, "little")
        self._expect(_status(self._call(MESSAGE_TYPE_RECVSTATUS, MESSAGE_STATUS_SUCCESS)))
        return message[:size]

    def _call(self, kind: int, ebx: int = 0) -> Registers:
        high, low = self._cookie
        command = kind << 16 | BDOOR_CMD_MESSAGE
        return self._ports.call(command, ebx=ebx, edx=self._number << 16, esi=high, edi=low)

    def _expect(self, status: int) -> int:
        """Return the status of what went well."""
        if status & MESSAGE_STATUS_SUCCESS:
            return status
        if status & MESSAGE_STATUS_CPT:
            raise _CheckpointError
        raise ConnectionResetError(errno.ECONNRESET, "the hypervisor has closed the channel")


def _status(registers: Registers) -> int:
    return registers[2] >> 16
