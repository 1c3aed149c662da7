"""Which devices the process may open: a program of the kernel's on its control group.

Owns the rules and their translation into BPF. Without it a process that may make device nodes,
as Docker lets it, could open the machine's disks and consoles through nodes of its own.
"""

from __future__ import annotations

from agent.hints import Optional, Sequence, Tuple
from agent.tether import c_bpf as bpf
from agent.tether import syscalls
from agent.tether.errors import StartError

# Major and minor, None for any, of character devices; runc's and Docker's defaults but for the
# machine's console, 5:1, which here is not the process's terminal. Nodes of all kinds may be made.
OPEN_DEVICES: Tuple[Tuple[int, Optional[int]], ...] = (
    (1, 3),  # null
    (1, 5),  # zero
    (1, 7),  # full
    (1, 8),  # random
    (1, 9),  # urandom
    (5, 0),  # tty
    (5, 2),  # ptmx
    (136, None),  # terminals
)

_KIND, _ACCESS, _MAJOR, _MINOR = 2, 3, 4, 5  # registers; 0 is the result, 1 points to the context


def build_program(devices: Sequence[Tuple[int, Optional[int]]]) -> bytes:
    """Return the program that allows making any node and opening these devices alone."""
    allow = [_instruction(bpf.MOV, 0, value=1), _instruction(bpf.EXIT)]
    deny = [_instruction(bpf.MOV, 0, value=0), _instruction(bpf.EXIT)]
    code = [
        _instruction(bpf.LOAD_WORD, _KIND, source=1, offset=bpf.CONTEXT_ACCESS_TYPE),
        _instruction(bpf.MOV_REGISTER, _ACCESS, source=_KIND),
        _instruction(bpf.SHIFT_RIGHT, _ACCESS, value=16),
        _instruction(bpf.AND, _KIND, value=0xFFFF),
        _instruction(bpf.LOAD_WORD, _MAJOR, source=1, offset=bpf.CONTEXT_MAJOR),
        _instruction(bpf.LOAD_WORD, _MINOR, source=1, offset=bpf.CONTEXT_MINOR),
        _instruction(bpf.JUMP_NOT_EQUAL, _ACCESS, offset=len(allow), value=bpf.DEVCG_ACC_MKNOD),
        *allow,
        _instruction(bpf.JUMP_EQUAL, _KIND, offset=len(deny), value=bpf.DEVCG_DEV_CHAR),
        *deny,
    ]
    for major, minor in devices:
        rule = list(allow)
        if minor is not None:
            rule.insert(0, _instruction(bpf.JUMP_NOT_EQUAL, _MINOR, offset=len(allow), value=minor))
        code.append(_instruction(bpf.JUMP_NOT_EQUAL, _MAJOR, offset=len(rule), value=major))
        code += rule
    return b"".join([*code, *deny])


def restrict(group: int) -> None:
    """Keep the processes of the open control group from all other devices.

    Raises StartError("world") when the kernel cannot: then nothing would keep them from the disks.
    """
    try:
        syscalls.attach_device_program(group, build_program(OPEN_DEVICES))
    except OSError as error:
        raise StartError(
            "world",
            "devices cannot be kept from the process ({}): the kernel needs CONFIG_CGROUP_BPF, "
            "or run it privileged".format(error.strerror),
        ) from error


def _instruction(
    code: int, target: int = 0, *, source: int = 0, offset: int = 0, value: int = 0
) -> bytes:
    return bpf.INSTRUCTION.pack(code, source << 4 | target, offset, value)
