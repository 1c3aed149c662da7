"""Numbers of filters for system calls: classic BPF, and what it is given of a call.

Sources: linux/filter.h, linux/bpf_common.h, linux/seccomp.h, linux/audit.h, asm/unistd.h.
"""

from __future__ import annotations

import struct

# struct sock_filter: code, how many instructions to skip if true, and if false, operand
INSTRUCTION = struct.Struct("=HBBI")

LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS: of struct seccomp_data, at the operand
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
RETURN = 0x06  # BPF_RET | BPF_K

# struct seccomp_data
DATA_NUMBER = 0
DATA_ARCHITECTURE = 4
DATA_FIRST_ARGUMENT = 16  # its low half

SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_RET_ERRNO = 0x00050000  # | errno

AUDIT_ARCH_X86_64 = 0xC000003E
AUDIT_ARCH_I386 = 0x40000003
X32_SYSCALL_BIT = 0x40000000

NR_socket = 41
NR_io_uring_setup = 425  # the same for i386
NR_i386_socket = 359
NR_i386_socketcall = 102
SYS_SOCKET = 1  # what socketcall is asked for
