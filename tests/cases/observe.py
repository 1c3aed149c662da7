"""What the probe printed, as flat names and values that two worlds can be compared by.

Owns the reading of the probe's sections and what is left out of them: numbers of mounts, devices
and inodes, and what depends on the machine's size. Decides nothing about what is right.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # this is read in a guest as well, which has no typing: see agent.hints
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"),
    *("SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW"),
    *("IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT"),
    *("SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD"),
    *("LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG"),
    *("WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"),
)
_STATUS = {
    "Umask": "umask",
    "Uid": "uid",
    "Gid": "gid",
    "NoNewPrivs": "no_new_privileges",
    "SigBlk": "signals.blocked",
    "SigIgn": "signals.ignored",
}
_CAPABILITY_SETS = {
    "CapInh": "inheritable",
    "CapPrm": "permitted",
    "CapEff": "effective",
    "CapBnd": "bounding",
    "CapAmb": "ambient",
}
# Half of what the kernel allows in all, which is a matter of memory; only a flag makes them ours.
_MACHINE_LIMITS = ("Max pending signals",)

Sight = dict[str, object]


def observe(
    output: bytes, *, code: int, keep_machine_limits: bool = False, by_terminal: bool = False
) -> Sight:
    """Return everything that the probe's `output` tells, and the exit code.

    Output without a section is the process's own and stays as it is; the sections of what came
    `by_terminal` lose what that has made of line ends.
    """
    before, *sections = output.split(b"\0==")
    if by_terminal:
        sections = [section.replace(b"\r\n", b"\n") for section in sections]
    seen: Sight = {"code": code}
    if before:
        seen["output"] = before.decode()
    tried: list[str] = []
    for section in sections:
        head, _, body = section.partition(b"\n")
        name = head.decode()
        if name == "tried":
            tried.append(body.decode().rstrip("\n"))
        else:
            seen.update(_read(name, body, keep_machine_limits))
    if tried:
        seen["tried"] = tried
    return seen


def _read(name: str, body: bytes, keep_machine_limits: bool) -> Iterator[tuple[str, object]]:
    text = body.decode("utf-8", "surrogateescape")
    if name in ("argv", "env"):
        yield name, text.split("\0")[:-1]
    elif name == "status":
        yield from _read_status(text)
    elif name == "limits":
        for line in text.splitlines()[1:]:
            limit = line[:25].strip()
            if keep_machine_limits or limit not in _MACHINE_LIMITS:
                yield f"limits.{limit.removeprefix('Max ')}", " ".join(line[25:].split()[:2])
    elif name == "stat":
        fields = text.rpartition(")")[2].split()
        yield "session", f"pid {text.split()[0]} group {fields[2]} session {fields[3]}"
        if fields[4] != "0":  # proc(5): a device's number, and the group in the foreground
            device = int(fields[4])
            yield "terminal", f"{os.major(device)}:{os.minor(device)} foreground {fields[5]}"
    elif name == "mounts":
        yield from _read_mounts(text)
    elif name in ("hidden", "writable"):
        for line in text.splitlines():
            path, _, state = line.rpartition(" ")
            yield f"{name}.{path}", state
    elif name == "dev":
        for line in text.splitlines():
            path, _, kind = line.partition("|")
            link, arrow, target = path.partition(" -> ")
            yield f"dev.{link.strip(chr(39))}", f"-> {target.strip(chr(39))}" if arrow else kind
    elif name.startswith("file:"):
        yield f"file.{name[5:]}", text.splitlines()
    elif name.startswith("sysctl:"):
        yield f"sysctl.{name[7:]}", " ".join(text.split())
    else:
        yield name, text.rstrip("\n")


def _read_status(text: str) -> Iterator[tuple[str, object]]:
    for line in text.splitlines():
        key, _, value = line.partition(":\t")
        if key in _STATUS:
            yield _STATUS[key], " ".join(value.split())
        elif key == "Groups":
            yield "groups", sorted(int(group) for group in value.split())
        elif key in _CAPABILITY_SETS:
            yield f"capabilities.{_CAPABILITY_SETS[key]}", names_of(int(value, 16))


def _read_mounts(text: str) -> Iterator[tuple[str, object]]:
    """Yield each place with what is mounted there, topmost last; proc(5), mountinfo."""
    places: dict[str, list[str]] = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        root, place, options = left.split()[3:6]
        kind, _, super_options = right.split()[:3]
        if place == "/" or root == "/":
            shown = f"{kind} {options} {super_options}"
        elif place.startswith(("/dev/", "/proc/", "/sys/")):
            shown = f"{kind} {root} {options} {super_options}"
        else:  # a file of the run's, which everybody keeps elsewhere
            shown = f"file {options}"
        places.setdefault(place, []).append(shown)
    for place, mounts in places.items():
        yield f"mounts.{place}", mounts[0] if len(mounts) == 1 else mounts


def names_of(mask: int) -> str:
    """Return the capabilities in a mask by name, in the kernel's order; "all" for all of them."""
    if mask == (1 << len(CAPABILITIES)) - 1:
        return "all"
    return " ".join(name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1)


def difference(sight: Sight, base: Sight) -> Sight:
    """Return what of `sight` is not as in `base`; None for what only `base` has."""
    changed: Sight = {name: value for name, value in sight.items() if base.get(name) != value}
    changed.update({name: None for name in base if name not in sight})
    return changed


def apply(changed: Sight, base: Sight) -> Sight:
    """Return `base` with a `difference` made to it again."""
    merged = {**base, **changed}
    return {name: value for name, value in merged.items() if value is not None}


def without(sight: Sight, prefixes: Sequence[str]) -> Sight:
    """Return a sight without the names that begin with one of `prefixes`."""
    return {k: v for k, v in sight.items() if not k.startswith(tuple(prefixes))}
