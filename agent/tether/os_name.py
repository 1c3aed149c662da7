"""What the guest's system is called: for people, and by the short name that vSphere knows.

Owns the reading of os-release(5), which is the image's and may say anything, and the short names.
"""

from __future__ import annotations

import os
import stat

from agent.hints import Dict, Tuple
from agent.tether.c_rpci import MAX_VALUE_LEN

# The short names of open-vm-tools that stand for a system whatever its version, and those that
# take its major version behind them. What has none is "other6xlinux", by the kernel's version.
_PLAIN = {"ubuntu": "ubuntu", "fedora": "fedora", "opensuse-leap": "opensuse"}
_PLAIN.update({"photon": "vmware-photon", "rocky": "rockylinux", "almalinux": "almalinux"})
_VERSIONED = {"debian": "debian", "rhel": "rhel", "centos": "centos", "sles": "sles"}
_VERSIONED.update({"ol": "oraclelinux"})
_OLDEST_OTHER, _NEWEST_OTHER = 3, 6
# The first one is what the other one is a link to, where both are there.
_FILES = ("usr/lib/os-release", "etc/os-release")
_MAX_BYTES = 65536


def read_os_release(root: str) -> Dict[str, str]:
    """Return what the system in the folder `root` says of itself; nothing where it says nothing.

    No link is followed, which could lead out of it, and nothing but a file is read.
    """
    for name in _FILES:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(os.path.join(root, name), flags)
        except OSError:
            continue
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return parse_os_release(os.read(descriptor, _MAX_BYTES).decode("utf-8", "replace"))
        except OSError:
            continue
        finally:
            os.close(descriptor)
    return {}


def parse_os_release(text: str) -> Dict[str, str]:
    """Return the assignments of an os-release file; a line that is none is passed over."""
    found: Dict[str, str] = {}
    for line in text.splitlines():
        name, is_assignment, value = line.strip().partition("=")
        if is_assignment and not name.startswith("#"):
            value = value.strip()
            if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
                value = value[1:-1]
            found[name] = value
    return found


def describe_system(release: Dict[str, str], kernel: str) -> Tuple[str, str]:
    """Return the full and the short name of a system with this os-release and kernel version."""
    identity, version = release.get("ID", ""), release.get("VERSION_ID", "")
    major = version.partition(".")[0]
    if identity in _PLAIN:
        short = _PLAIN[identity]
    elif identity in _VERSIONED and major.isdigit():
        short = _VERSIONED[identity] + major
    else:
        number = kernel.partition(".")[0]
        newest = min(max(int(number) if number.isdigit() else 0, _OLDEST_OTHER), _NEWEST_OTHER)
        short = "other{}xlinux".format(newest)
    pretty = release.get("PRETTY_NAME") or "{} {}".format(identity, version).strip()
    full = "Linux {} {}".format(kernel, pretty).strip()
    return _short_text(full), _short_text(short + "-64")


def _short_text(text: str) -> str:
    """Return a text that fits into a variable of the hypervisor's, on one line."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text)
    return clean.encode("utf-8", "replace")[: MAX_VALUE_LEN - 1].decode("utf-8", "ignore")
