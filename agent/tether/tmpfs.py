"""Options of a tmpfs as `docker run --tmpfs` takes them, as mount(2) wants them.

Owns which options there are and which defaults stand. Pure; sources: the Docker documentation on
tmpfs mounts, mount(8), Linux Documentation/filesystems/tmpfs.rst.
"""

from __future__ import annotations

from agent.hints import Mapping, Tuple
from agent.tether import c_linux

DEFAULT_FLAGS = c_linux.MS_NOSUID | c_linux.MS_NODEV | c_linux.MS_NOEXEC
# What an option sets, and what it takes away.
_FLAGS: Mapping[str, Tuple[int, int]] = {
    "defaults": (0, 0),
    "rw": (0, c_linux.MS_RDONLY),
    "ro": (c_linux.MS_RDONLY, 0),
    "suid": (0, c_linux.MS_NOSUID),
    "nosuid": (c_linux.MS_NOSUID, 0),
    "dev": (0, c_linux.MS_NODEV),
    "nodev": (c_linux.MS_NODEV, 0),
    "exec": (0, c_linux.MS_NOEXEC),
    "noexec": (c_linux.MS_NOEXEC, 0),
    "sync": (c_linux.MS_SYNCHRONOUS, 0),
    "async": (0, c_linux.MS_SYNCHRONOUS),
    "dirsync": (c_linux.MS_DIRSYNC, 0),
    "atime": (0, c_linux.MS_NOATIME),
    "noatime": (c_linux.MS_NOATIME, 0),
    "diratime": (0, c_linux.MS_NODIRATIME),
    "nodiratime": (c_linux.MS_NODIRATIME, 0),
    "relatime": (c_linux.MS_RELATIME, 0),
    "norelatime": (0, c_linux.MS_RELATIME),
    "strictatime": (c_linux.MS_STRICTATIME, 0),
    "nostrictatime": (0, c_linux.MS_STRICTATIME),
}
_WITH_VALUE = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol")


def parse_tmpfs_options(text: str) -> Tuple[int, str]:
    """Return the flags and the data for mount(2); of two options that contradict the last counts.

    Raises ValueError that names an option which there is not.
    """
    flags, data = DEFAULT_FLAGS, {}
    for option in filter(None, text.split(",")):
        key, equals, value = option.partition("=")
        if option in _FLAGS:
            added, removed = _FLAGS[option]
            flags = flags & ~removed | added
        elif key in _WITH_VALUE and equals and value:
            data[key] = value
        else:
            raise ValueError("{!r} is no option of a tmpfs".format(option))
    return flags, ",".join("{}={}".format(key, value) for key, value in data.items())
