"""VMware's backdoor for ordinary processes: whose `in` the processor refuses is answered here.

    python -m tests.guests.backdoor PROGRAM ARGUMENT...  < scenario.json  > what-came-of-it.json

Owns the tracing (ptrace(2)) of a program and all that it starts, the registers, and the channels of
messages; what is said through them is `vmx`'s. Written from open-vm-tools, whose vmtoolsd was run
under it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import struct
import sys
from typing import Any

from tests.guests.vmx import Vmx

_MAGIC, _PORT, _BLOCK_PORT = 0x564D5868, 0x5658, 0x5659
_GET_VERSION, _MESSAGE, _GET_TIME = 10, 30, 46
_OPEN, _SEND_SIZE, _SEND_PAYLOAD, _RECEIVE_SIZE, _RECEIVE_PAYLOAD, _RECEIVE_STATUS, _CLOSE = range(
    7
)
_SUCCESS, _HAS_MESSAGE, _CLOSED, _CHECKPOINT, _BLOCKS = 1, 2, 4, 0x10, 0x80
_PROTOCOLS = {0x49435052: "rpci", 0x4F4C4354: "tclo"}
_COOKIE = 0x80000000
_MASK = 0xFFFFFFFF

_TRACE_ME, _CONTINUE, _GET_REGISTERS, _SET_REGISTERS, _SET_OPTIONS = 0, 7, 12, 13, 0x4200
_FORKS_AND_EXEC_KILL = 0x2 | 0x4 | 0x8 | 0x10 | 0x100000
_WALL = 0x40000000
_NAMES = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx"),
    *("rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base"),
    *("ds", "es", "fs", "gs"),
)
_REGISTERS = struct.Struct(f"={len(_NAMES)}Q")
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long

Registers = dict[str, int]


class Channel:
    """One of a guest's channels: what has come of a message, and what is to go out."""

    def __init__(self, kind: str, cookie: tuple[int, int]) -> None:
        self.kind = kind
        self.cookie = cookie
        self.wanted = 0
        self.coming = b""
        self.going: bytes | None = None
        self.gone = 0
        self.asked = False  # a request, whose answer has not come


class Hypervisor:
    """Answers calls of the backdoor.

    The scenario: `variables` of guestinfo and the `requests` made over TCLO; `blocks`, `cookies`
    and `answers` say what it can; `checkpoint_every` so many payloads it forgets the message, and
    `lose_at` a message, counted from 1, all channels. `unix_ns` is its time. With `until_answered`
    the program is killed when all requests were answered.
    """

    def __init__(self, scenario: dict[str, Any]) -> None:
        self.vmx = Vmx({name: text.encode() for name, text in scenario["variables"].items()})
        self.requests = [text.encode() for text in scenario.get("requests", ())]
        self.blocks = scenario.get("blocks", True)
        self.cookies = scenario.get("cookies", True)
        self.checkpoint_every = scenario.get("checkpoint_every", 0)
        self.lose_at = scenario.get("lose_at", 0)
        self.unix_ns = scenario.get("unix_ns", 0)
        self.until_answered = len(self.requests) if scenario.get("until_answered") else 0
        self.answers: list[bytes] = []
        self.channels: dict[int, Channel] = {}
        self.counts = {"calls": 0, "blocks": 0, "checkpoints": 0, "opened": 0, "messages": 0}
        self._payloads = 0

    def call(self, registers: Registers) -> None:
        """Answer an `in`: change the registers."""
        self.counts["calls"] += 1
        assert registers["rax"] & _MASK == _MAGIC
        command = registers["rcx"] & 0xFFFF
        if command == _GET_VERSION:
            registers.update(rax=6, rbx=_MAGIC)
        elif command == _GET_TIME and self.unix_ns:
            seconds, rest = divmod(self.unix_ns, 10**9)
            registers.update(rsi=seconds >> 32, rdx=seconds & _MASK, rbx=rest // 1000)
        elif command == _MESSAGE:
            self._message(registers, registers["rcx"] >> 16 & 0xFFFF)
        else:
            registers["rax"] = _MASK

    def _message(self, registers: Registers, kind: int) -> None:
        ebx = registers["rbx"] & _MASK
        if kind == _OPEN:
            flags = ebx & _COOKIE
            found = _PROTOCOLS.get(ebx & ~_COOKIE)
            if found is None or (flags and not self.cookies):
                return _reply(registers, 0)
            self.counts["opened"] += 1
            number = self.counts["opened"]
            cookie = (0xC0FFEE00 + number, 0xBEEF0000 + number) if flags else (0, 0)
            self.channels[number] = Channel(found, cookie)
            registers.update(rsi=cookie[0], rdi=cookie[1], rdx=number << 16)
            return _reply(registers, _SUCCESS)
        cookie = (registers["rsi"] & _MASK, registers["rdi"] & _MASK)
        number = registers["rdx"] >> 16 & 0xFFFF
        channel = self.channels.get(number)
        if channel is None or channel.cookie != cookie:
            return _reply(registers, _CLOSED)
        if kind == _CLOSE:
            del self.channels[number]
            return _reply(registers, _SUCCESS)
        return _reply(registers, self._step(channel, kind, ebx, registers))

    def _step(self, channel: Channel, kind: int, ebx: int, registers: Registers) -> int:
        blocks = _BLOCKS if self.blocks else 0
        if kind == _SEND_SIZE:
            channel.wanted, channel.coming = ebx, b""
            if not ebx:
                self._take(channel, b"")
            return _SUCCESS | blocks
        if kind == _SEND_PAYLOAD:
            if self._checkpoint():
                return _CHECKPOINT
            return self._receive(channel, ebx.to_bytes(4, "little"))
        if kind == _RECEIVE_SIZE:
            channel.gone = 0
            if channel.going is None:
                return _SUCCESS
            registers.update(rbx=len(channel.going), rdx=_SEND_SIZE << 16)
            return _SUCCESS | _HAS_MESSAGE | blocks
        if channel.going is None:
            return _CLOSED
        if kind == _RECEIVE_PAYLOAD:
            if self._checkpoint():
                return _CHECKPOINT
            word = channel.going[channel.gone : channel.gone + 4].ljust(4, b"\xee")
            channel.gone += 4
            registers.update(rbx=int.from_bytes(word, "little"), rdx=_SEND_PAYLOAD << 16)
            return _SUCCESS
        assert kind == _RECEIVE_STATUS, kind
        assert ebx & _SUCCESS
        assert channel.gone >= len(channel.going)
        channel.going = None
        return _SUCCESS

    def block_out(self, registers: Registers, memory: int) -> None:
        """Answer a `rep outsb`: take a block of the guest's memory."""
        channel = self._channel_of(registers, high="rbp", low="rdi")
        count = registers["rcx"]
        data = os.pread(memory, count, registers["rsi"])
        registers.update(rcx=0, rsi=registers["rsi"] + count)
        self._end_block(registers, self._receive(channel, data) if channel else _CLOSED)

    def block_in(self, registers: Registers, memory: int) -> None:
        """Answer a `rep insb`: put a block into the guest's memory."""
        channel = self._channel_of(registers, high="rsi", low="rbp")
        count = registers["rcx"]
        if channel is not None:
            assert channel.going is not None
            assert count == len(channel.going)
            os.pwrite(memory, channel.going, registers["rdi"])
            channel.gone = count
        registers.update(rcx=0, rdi=registers["rdi"] + count)
        self._end_block(registers, _SUCCESS if channel else _CLOSED)

    def _channel_of(self, registers: Registers, *, high: str, low: str) -> Channel | None:
        self.counts["blocks"] += 1
        assert registers["rbx"] & _MASK == _SUCCESS << 16, hex(registers["rbx"])
        assert not registers["eflags"] & 0x400, "the direction flag is set"
        channel = self.channels.get(registers["rdx"] >> 16 & 0xFFFF)
        cookie = (registers[high] & _MASK, registers[low] & _MASK)
        return channel if channel is not None and channel.cookie == cookie else None

    def _end_block(self, registers: Registers, status: int) -> None:
        registers["rbx"] = (_CHECKPOINT if self._checkpoint() else status) << 16

    def _checkpoint(self) -> bool:
        self._payloads += 1
        if not self.checkpoint_every or self._payloads % self.checkpoint_every:
            return False
        self.counts["checkpoints"] += 1
        return True

    def _receive(self, channel: Channel, data: bytes) -> int:
        channel.coming += data
        if len(channel.coming) >= channel.wanted:
            self._take(channel, channel.coming[: channel.wanted])
        return _SUCCESS

    def _take(self, channel: Channel, message: bytes) -> None:
        """A message is whole."""
        self.counts["messages"] += 1
        if channel.kind == "rpci":
            channel.going = self.vmx.answer(message)
        else:
            if channel.asked:
                self.answers.append(message)
            else:
                assert not message, message
            channel.asked = bool(self.requests)
            channel.going = self.requests.pop(0) if self.requests else None
        if self.counts["messages"] == self.lose_at:
            self.channels.clear()


def _reply(registers: Registers, status: int) -> None:
    registers["rcx"] = status << 16


def run(command: list[str], hypervisor: Hypervisor) -> int:
    """Run a program under a hypervisor; return its exit code, 128 + N after a signal."""
    first = os.fork()
    if not first:
        _libc.ptrace(_TRACE_ME, 0, None, None)
        os.execvp(command[0], command)
    os.waitpid(first, _WALL)
    _ptrace(_SET_OPTIONS, first, data=_FORKS_AND_EXEC_KILL)
    _ptrace(_CONTINUE, first)
    known = {first}
    while True:
        pid, status = os.waitpid(-1, _WALL)
        if os.WIFSTOPPED(status):
            number = os.WSTOPSIG(status)
            starts = pid not in known  # its first stop is the tracing's own
            known.add(pid)
            is_ours = status >> 16 or (starts and number == signal.SIGSTOP)
            if number == signal.SIGSEGV and _answer(pid, hypervisor):
                is_ours = True
            if hypervisor.until_answered and len(hypervisor.answers) == hypervisor.until_answered:
                os.kill(first, signal.SIGKILL)
                hypervisor.until_answered = 0
            with contextlib.suppress(ProcessLookupError):  # it was killed meanwhile
                _ptrace(_CONTINUE, pid, data=0 if is_ours else number)
        elif pid == first:
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _answer(pid: int, hypervisor: Hypervisor) -> bool:
    """Answer the instruction that a process was stopped at, if it is one of the backdoor's."""
    kept = ctypes.create_string_buffer(_REGISTERS.size)
    _ptrace(_GET_REGISTERS, pid, data=ctypes.addressof(kept))
    registers = dict(zip(_NAMES, _REGISTERS.unpack(kept.raw), strict=True))
    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
    try:
        try:
            code = os.pread(memory, 2, registers["rip"])
        except OSError:
            return False  # it was sent somewhere else
        port = registers["rdx"] & 0xFFFF
        if code[:1] == b"\xed" and port == _PORT:
            hypervisor.call(registers)
            registers["rip"] += 1
        elif code == b"\xf3\x6e" and port == _BLOCK_PORT:
            hypervisor.block_out(registers, memory)
            registers["rip"] += 2
        elif code == b"\xf3\x6c" and port == _BLOCK_PORT:
            hypervisor.block_in(registers, memory)
            registers["rip"] += 2
        else:
            return False
    finally:
        os.close(memory)
    kept.raw = _REGISTERS.pack(*registers.values())
    _ptrace(_SET_REGISTERS, pid, data=ctypes.addressof(kept))
    return True


def _ptrace(request: int, pid: int, *, data: int = 0) -> None:
    if _libc.ptrace(request, pid, None, data) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def main() -> None:
    hypervisor = Hypervisor(json.load(sys.stdin))
    code = run(sys.argv[1:], hypervisor)
    found = {
        "code": code,
        "calls": [call.decode("latin-1") for call in hypervisor.vmx.calls],
        "answers": [answer.decode("latin-1") for answer in hypervisor.answers],
        "variables": {
            name: value.decode("latin-1") for name, value in hypervisor.vmx.variables.items()
        },
        "counts": hypervisor.counts,
        "left_open": len(hypervisor.channels),
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
