"""VMware's backdoor from a program: two ports that the hypervisor answers, by code of our own.

Owns the machine code and the registers; what is said through them is `backdoor_channel`'s. No I/O
privilege is asked for: the hypervisor answers in any ring, and what a process may do with ports its
children may. Where nobody answers, the processor stops whoever tries: so a child tries first.
"""

from __future__ import annotations

import os
import struct

from agent import bare_ctypes as ctypes
from agent import bare_signal as signal
from agent.hints import Callable, Dict, Optional, Protocol, Tuple
from agent.tether import syscalls
from agent.tether.c_backdoor import (
    BDOOR_CMD_GETTIMEFULL,
    BDOOR_CMD_GETVERSION,
    BDOOR_MAGIC,
    BDOOR_PORT,
    BDOORHB_PORT,
)

# rax rbx rcx rdx rsi rdi rbp
Registers = Tuple[int, int, int, int, int, int, int]
_REGISTERS = struct.Struct("=7Q")
_SECOND_NS = 10**9
_MASK = 0xFFFFFFFF

# Called with the address of seven registers: they are loaded, used, and stored. System V ABI.
_LOAD = bytes.fromhex(
    "53 55 57"  # push rbx, rbp, rdi
    "488b07 488b5f08 488b4f10 488b5718 488b7720 488b6f30 488b7f28"  # mov rax, [rdi]; the others
)
_STORE = bytes.fromhex(
    "48873c24"  # xchg rdi, [rsp]: the address comes back
    "488907 48895f08 48894f10 48895718 48897720 48896f30"  # mov [rdi], rax; the others
    "8f4728"  # pop [rdi + 40]
    "5d 5b c3"  # pop rbp, rbx; ret
)
_IN = bytes.fromhex("ed")  # in eax, dx
_BLOCK_OUT = bytes.fromhex("fc f36e")  # cld; rep outsb
_BLOCK_IN = bytes.fromhex("fc f36c")  # cld; rep insb


class Ports(Protocol):
    """The two ports. Each method returns the registers as the hypervisor leaves them."""

    def call(
        self, command: int, *, ebx: int = 0, edx: int = 0, esi: int = 0, edi: int = 0
    ) -> Registers:
        """Make a call. `command` is ECX; the low half of EDX is the port's own."""

    def block_out(self, data: bytes, *, ebx: int, edx: int, edi: int, ebp: int) -> Registers:
        """Hand over a block."""

    def block_in(
        self, count: int, *, ebx: int, edx: int, esi: int, ebp: int
    ) -> Tuple[Registers, bytes]:
        """Take a block of `count` bytes, which are zeros where the hypervisor refuses."""


class Backdoor:
    """The ports, by machine code. Raises OSError where the system lets no program make code."""

    def __init__(self) -> None:
        self._codes: Dict[bytes, Callable[[object], None]] = {}
        place, at = b"", {}
        for instruction in (_IN, _BLOCK_OUT, _BLOCK_IN):
            at[instruction] = len(place)
            place += _LOAD + instruction + _STORE
        address = syscalls.map_code(place)
        kind = ctypes.CFUNCTYPE(None, ctypes.c_ulong)
        for instruction, offset in at.items():
            self._codes[instruction] = kind(address + offset)

    def call(
        self, command: int, *, ebx: int = 0, edx: int = 0, esi: int = 0, edi: int = 0
    ) -> Registers:
        """Make a call, as `Ports` says."""
        registers = (BDOOR_MAGIC, ebx, command, edx | BDOOR_PORT, esi, edi, 0)
        return self._run(_IN, registers)

    def block_out(self, data: bytes, *, ebx: int, edx: int, edi: int, ebp: int) -> Registers:
        """Hand over a block, as `Ports` says."""
        kept = ctypes.create_string_buffer(data)
        at = ctypes.addressof(kept)
        registers = (BDOOR_MAGIC, ebx, len(data), edx | BDOORHB_PORT, at, edi, ebp)
        return self._run(_BLOCK_OUT, registers)

    def block_in(
        self, count: int, *, ebx: int, edx: int, esi: int, ebp: int
    ) -> Tuple[Registers, bytes]:
        """Take a block, as `Ports` says."""
        kept = ctypes.create_string_buffer(bytes(count))
        at = ctypes.addressof(kept)
        registers = (BDOOR_MAGIC, ebx, count, edx | BDOORHB_PORT, esi, at, ebp)
        return self._run(_BLOCK_IN, registers), bytes(kept)[:count]

    def _run(self, instruction: bytes, registers: Registers) -> Registers:
        kept = ctypes.create_string_buffer(_REGISTERS.pack(*registers))
        self._codes[instruction](ctypes.addressof(kept))
        values = _REGISTERS.unpack_from(bytes(kept))
        rax, rbx, rcx, rdx, rsi, rdi, rbp = (value & _MASK for value in values)
        return rax, rbx, rcx, rdx, rsi, rdi, rbp


def open_backdoor() -> Optional[Backdoor]:
    """Return the backdoor, None where no hypervisor answers.

    A child finds out, in which the processor's refusal does no harm.
    """
    if os.uname().machine != "x86_64":
        return None
    try:
        found = Backdoor()
        child = os.fork()
    except OSError:
        return None
    if not child:
        code = 1
        try:
            syscalls.forbid_tracing()  # our memory has a key: no core of it
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            registers = found.call(BDOOR_CMD_GETVERSION, ebx=_MASK & ~BDOOR_MAGIC)
            code = 0 if registers[1] == BDOOR_MAGIC else 1
        finally:
            os._exit(code)
    return found if os.waitpid(child, 0)[1] == 0 else None


def read_host_time(ports: Ports) -> Optional[int]:
    """Return the host's time, nanoseconds since 1970; None when it does not tell."""
    rax, rbx, _, rdx, rsi, _, _ = ports.call(BDOOR_CMD_GETTIMEFULL)
    if rax != BDOOR_MAGIC:
        return None
    return (rsi << 32 | rdx) * _SECOND_NS + rbx * 1000
