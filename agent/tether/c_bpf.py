"""BPF programs for devices of a control group: instructions, context and system call layouts.

Owns constants only. Sources: linux/bpf.h, linux/bpf_common.h; Documentation/bpf/standardization/
instruction-set.rst.
"""

from __future__ import annotations

import struct

# struct bpf_insn: opcode, registers (source in the high four bits), offset, immediate
INSTRUCTION = struct.Struct("=BBhi")

LOAD_WORD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
MOV = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K
MOV_REGISTER = 0xBF  # BPF_ALU64 | BPF_MOV | BPF_X
SHIFT_RIGHT = 0x77  # BPF_ALU64 | BPF_RSH | BPF_K
AND = 0x57  # BPF_ALU64 | BPF_AND | BPF_K
JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_NOT_EQUAL = 0x55  # BPF_JMP | BPF_JNE | BPF_K
EXIT = 0x95  # BPF_JMP | BPF_EXIT

# struct bpf_cgroup_dev_ctx; the access is in the high half of its first word, the kind in the low
CONTEXT_ACCESS_TYPE = 0
CONTEXT_MAJOR = 4
CONTEXT_MINOR = 8
DEVCG_ACC_MKNOD = 1
DEVCG_DEV_CHAR = 2

PROG_LOAD = 5
PROG_ATTACH = 8
PROG_TYPE_CGROUP_DEVICE = 15
CGROUP_DEVICE = 6  # enum bpf_attach_type
# union bpf_attr of BPF_PROG_LOAD: type, instructions, their address, the licence's, log level, size
# and address, kernel version, flags
LOAD = struct.Struct("=IIQQIIQII")
# and of BPF_PROG_ATTACH: the group, the program, the type, flags
ATTACH = struct.Struct("=IIII")
LICENSE = b"Apache-2.0\0"
