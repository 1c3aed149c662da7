"""tether.pyz: the agent alone, as one file that any Python from 3.8 on runs.

Owns what is in it, and that the same sources give the same bytes on any machine: sorted names, one
fixed time, nothing compressed, whose bytes would be a library's choice. Knows nothing of boot
images, and is none.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import agent
from converter.atomic import write_atomic
from converter.errors import NotFoundError, UsageError
from tinykernel.agent_sources import agent_sources

UNIT_FILE = "tether.service"
_OWN_FOLDER = Path(agent.__path__[0])
_INTERPRETER = b"#!/usr/bin/env python3\n"
_TIME = (1980, 1, 1, 0, 0, 0)  # the oldest that the format knows
_PERMISSIONS = 0o100644 << 16
_UNIX = 3  # the system whose permissions these are, APPNOTE.TXT 4.4.2
_OF_PID_1 = ("agent/tether/__main__.py", "agent/tether/debug.py")

_MAIN = """\
import sys

if sys.version_info < (3, 8):
    sys.exit("tether needs Python 3.8 or later; this is " + sys.version.split()[0])
from agent.tether.alone import main

sys.exit(main(sys.argv[1:]))
"""


def make_zipapp(agent_folder: Path | None = None) -> bytes:
    """Return the file's bytes; `agent_folder` is the `agent` package to take, the own one if None.

    Raises NotFoundError when its sources are not there.
    """
    folder = agent_folder or _OWN_FOLDER
    sources: dict[str, bytes] = {"__main__.py": _MAIN.encode()}
    # As it is in the guest but for PID 1's own entries, which would switch the machine off.
    sources.update(agent_sources(folder))
    for name in _OF_PID_1:
        del sources[name]
    made = io.BytesIO(_INTERPRETER)
    made.seek(0, io.SEEK_END)
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(sources):
            member = zipfile.ZipInfo(name, _TIME)
            member.create_system = _UNIX
            member.external_attr = _PERMISSIONS
            archive.writestr(member, sources[name])
    return made.getvalue()


def systemd_unit() -> str:
    """Return the unit that starts it as a service of systemd."""
    return _read(_OWN_FOLDER / UNIT_FILE).decode()


def write(path: Path, data: bytes) -> None:
    """Make `path` that file, executable. Raises UsageError when it cannot be written."""
    try:
        write_atomic(path, data, mode=0o755)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}",
            expected="a path in a folder that is there",
        ) from error


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(
            f"the agent's own file {file} is missing",
            expected="an installation with its sources",
            hint="Install saltflat anew.",
        ) from error
