"""Which sockets the process may make on VMware's machines: none to the hypervisor.

Owns the rule and its translation into a filter of the kernel's (seccomp). Through a virtual socket
any root of a guest is privileged to its hypervisor: it could take the agent's requests, answer for
it, and read what only root is to read. Docker's own profile refuses that family, too.

Two more ways lead to a socket, and a filter sees no family there, so they are refused whole: the
old call of 32-bit programs, socketcall, which glibc's use, and io_uring, as Docker refuses it.
"""

from __future__ import annotations

import errno

from agent import bare_socket as socket
from agent.hints import Sequence, Tuple
from agent.tether import c_seccomp as seccomp

Rule = Tuple[int, Sequence[bytes]]  # a value, and what is done when it is that one


def build_program() -> bytes:
    """Return the filter."""
    allow = [_instruction(seccomp.RETURN, value=seccomp.SECCOMP_RET_ALLOW)]
    refuse = [_instruction(seccomp.RETURN, value=seccomp.SECCOMP_RET_ERRNO | errno.EPERM)]
    by_family = [
        _load(seccomp.DATA_FIRST_ARGUMENT),
        *_when([(socket.AF_VSOCK, refuse)]),
        *allow,
    ]
    by_call = [
        _load(seccomp.DATA_FIRST_ARGUMENT),
        *_when([(seccomp.SYS_SOCKET, refuse)]),
        *allow,
    ]
    number = _load(seccomp.DATA_NUMBER)
    usual = [
        number,
        _instruction(seccomp.AND, value=0xFFFFFFFF ^ seccomp.X32_SYSCALL_BIT),
        *_when([(seccomp.NR_socket, by_family), (seccomp.NR_io_uring_setup, refuse)]),
        *allow,
    ]
    old = [
        number,
        *_when([(seccomp.NR_i386_socket, by_family), (seccomp.NR_i386_socketcall, by_call)]),
        *_when([(seccomp.NR_io_uring_setup, refuse)]),
        *allow,
    ]
    kinds = [(seccomp.AUDIT_ARCH_X86_64, usual), (seccomp.AUDIT_ARCH_I386, old)]
    return b"".join([_load(seccomp.DATA_ARCHITECTURE), *_when(kinds), *refuse])


def _when(rules: Sequence[Rule]) -> Sequence[bytes]:
    """Return what does the first thing whose value is in the register; each of them ends it."""
    code = []
    for value, then in rules:
        code.append(_instruction(seccomp.JUMP_EQUAL, if_false=len(then), value=value))
        code += then
    return code


def _load(offset: int) -> bytes:
    return _instruction(seccomp.LOAD_WORD, value=offset)


def _instruction(code: int, *, if_false: int = 0, value: int = 0) -> bytes:
    return seccomp.INSTRUCTION.pack(code, 0, if_false, value)
