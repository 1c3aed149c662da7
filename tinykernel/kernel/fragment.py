"""Kernel configuration fragments: reading one, and holding the kernel's answer against it. Pure.

A fragment is lines `CONFIG_X=value` and `# CONFIG_X is not set`, as in a kernel's .config; all
other lines are for people.
"""

from __future__ import annotations

import re

from converter.errors import IntegrityError

_LINE = re.compile(r"(?:(CONFIG_\w+)=(.+)|# (CONFIG_\w+) is not set)")


def read_fragment(text: str) -> dict[str, str]:
    """Return option -> its line, in the order of the file. Raises IntegrityError for one twice."""
    wanted: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None:
            continue
        name = match[1] or match[3]
        if name in wanted:
            raise IntegrityError(f"the fragment of the kernel's configuration has {name} twice")
        wanted[name] = match[0]
    return wanted


def check_resolved(wanted: dict[str, str], config: str) -> None:
    """Raise IntegrityError unless each option came out in `config` as it is wanted.

    One that is not wanted may be missing: then the kernel has no such thing at all.
    """
    got = {}
    for line in config.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is not None:
            got[match[1] or match[3]] = match[0]
    wrong = [
        f"{line} (got {got.get(name, 'nothing')})"
        for name, line in wanted.items()
        if got.get(name, f"# {name} is not set") != line
    ]
    if wrong:
        raise IntegrityError(
            f"this kernel's source will not have {', '.join(wrong)}",
            expected="the kernel source of Debian 12",
            hint="the distribution's kernel needs no build: --kernel stock",
        )
