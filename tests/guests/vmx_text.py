"""Read a .vmx file as VMware's own code does, which is told in open-vm-tools, lib/dict/dictll.c.

A line is: blanks, a name without blanks, = or #, blanks, =, blanks, a value, blanks, and perhaps a
comment. In double quotes a value may hold all but a double quote; a bar and two hexadecimal digits
stand for a byte. A line that is none of that, and not empty, is one that VMware would not know.
"""

from __future__ import annotations

import re

_LINE = re.compile(rb'[ \t]*([^ \t#=\0]+)[ \t]*=[ \t]*(?:"([^"\0]*)"|([^ \t#\0]*))[ \t]*(?:#.*)?')
_NOTHING = re.compile(rb"[ \t]*(?:#.*)?")
_ESCAPE = re.compile(rb"\|([0-9A-Fa-f]{2})")


def read_vmx(raw: bytes) -> dict[str, str]:
    """Return the file's settings in its order. Raises ValueError for a line that is none.

    Names are compared without case, so none may be there twice.
    """
    found: dict[str, str] = {}
    for line in raw.split(b"\n"):
        match = _LINE.fullmatch(line)
        if match is None:
            if _NOTHING.fullmatch(line) is None:
                raise ValueError(f"not a setting: {line!r}")
            continue
        name = match[1].decode("ascii")
        if name.lower() in {other.lower() for other in found}:
            raise ValueError(f"{name} is there twice")
        value = match[3] if match[2] is None else match[2]
        found[name] = _ESCAPE.sub(lambda each: bytes([int(each[1], 16)]), value).decode()
    if found.get(".encoding") != "UTF-8":
        raise ValueError("its encoding is another one than that it was read in")
    return found
