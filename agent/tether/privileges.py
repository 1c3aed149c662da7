"""What a process may do: its capabilities, limits, and whether it may gain more.

Owns Docker's defaults and their merging with a request, and the calls that give everything else
up, in the order that the kernel forces. Who the process is, `accounts` says.
"""

from __future__ import annotations

import errno
import os
import resource

from agent.hints import FrozenSet, Mapping, Optional, Tuple
from agent.tether import syscalls
from agent.tether.accounts import Identity
from agent.tether.c_limits import CAPABILITIES, RESOURCES
from agent.tether.host_config import ALL, HostConfig

# Docker's default set. Anything that reaches the machine itself (SYS_ADMIN, SYS_RAWIO, SYS_MODULE,
# SYS_BOOT, SYS_PTRACE) is not in it: that is what keeps the agent out of the process's reach.
DEFAULT_CAPABILITIES = frozenset(
    (
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SYS_CHROOT",
        "MKNOD",
        "AUDIT_WRITE",
        "SETFCAP",
    )
)
UNLIMITED = -1  # resource.RLIM_INFINITY
# Soft 1024 because select(2) breaks above it; hard as high as the kernel's default allows.
# Processes as Docker's packaged service has them: the machine is the process's own.
DEFAULT_LIMITS: Mapping[str, Tuple[int, int]] = {
    "nofile": (1024, 1048576),
    "nproc": (UNLIMITED, UNLIMITED),
}
_LAST_POSSIBLE_CAPABILITY = 63


def resolve_capabilities(host: HostConfig) -> FrozenSet[str]:
    """Return the names of what the process may have, as Docker merges a request.

    A privileged one has all; ALL that is added leaves out only what is dropped; ALL that is dropped
    leaves only what is added; else what is added wins.
    """
    every = frozenset(CAPABILITIES)
    added, dropped = frozenset(host.add_capabilities), frozenset(host.drop_capabilities)
    if host.privileged:
        return every
    if ALL in added:
        return every - dropped
    if ALL in dropped:
        return added
    return (DEFAULT_CAPABILITIES - dropped) | added


def resolve_limits(
    host: HostConfig, defaults: Mapping[str, Tuple[int, int]] = DEFAULT_LIMITS
) -> Mapping[str, Tuple[int, int]]:
    """Return (soft, hard) for each resource that is not left as it is."""
    limits = dict(defaults)
    limits.update({name: (soft, hard) for name, soft, hard in host.limits})
    return limits


def set_limits(limits: Mapping[str, Tuple[int, int]]) -> None:
    """Set this process's resource limits, while it may still raise them."""
    for name, pair in limits.items():
        resource.setrlimit(RESOURCES[name], pair)


def become(identity: Identity, capabilities: Optional[FrozenSet[str]]) -> None:
    """Give up what the process must not have; the order is forced by who may still do what.

    With None for its capabilities root keeps those that there are.
    """
    mask = None if capabilities is None else _bound(capabilities)
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    if identity.uid == 0 and mask is not None:  # from any other user the kernel has just taken them
        syscalls.set_capabilities(mask)


def _bound(capabilities: FrozenSet[str]) -> int:
    """Take all others out of the bounding set; return these as a mask."""
    mask = 0
    for number in range(_LAST_POSSIBLE_CAPABILITY + 1):
        if number < len(CAPABILITIES) and CAPABILITIES[number] in capabilities:
            mask |= 1 << number
            continue
        try:
            syscalls.drop_bounding_capability(number)
        except OSError as error:
            if error.errno == errno.EINVAL:
                break  # the kernel has no more
            raise
    return mask
