"""Run the programs that make file systems, partition tables and ISO images.

Owns whose packages they are, and the time, zone and language that they run in.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from converter.errors import SaltflatError
from converter.programs import lines_of, run_to_end

# The 1st of January 1980, the earliest time that FAT has: no clock in any output.
EPOCH_SECONDS = 315532800
_SYSTEM_PATH = ":/usr/sbin:/sbin"  # where ordinary users do not look
_PACKAGES = {
    "mkfs.fat": "dosfstools",
    "mmd": "mtools",
    "mcopy": "mtools",
    "sfdisk": "fdisk",
    "xorriso": "xorriso",
}


def run_program(program: str, arguments: Sequence[str], *, folder: Path, stdin: str = "") -> None:
    """Run `program` in `folder` with a fixed time, zone and language.

    Raises NotFoundError when it is not installed, SaltflatError when it fails or takes too long.
    """
    environment = {
        **os.environ,
        "PATH": os.environ.get("PATH", os.defpath) + _SYSTEM_PATH,
        "SOURCE_DATE_EPOCH": str(EPOCH_SECONDS),
        "TZ": "UTC",
        "LC_ALL": "C",
        "MTOOLSRC": os.devnull,  # the user's could rename drives
    }
    done = run_to_end(
        program,
        arguments,
        package=_PACKAGES.get(program, program),
        stdin=stdin.encode(),
        folder=folder,
        environment=environment,
    )
    if done.returncode != 0:
        said = lines_of(done.stderr or done.stdout)
        raise SaltflatError(
            f"{program} failed with exit code {done.returncode}: {said[-1] if said else 'silently'}"
        )
