"""Run the programs that make file systems, partition tables and ISO images. Owns how they fail."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from converter.errors import NotFoundError, SaltflatError

# The 1st of January 1980, the earliest time that FAT has: no clock in any output.
EPOCH_SECONDS = 315532800
_TIMEOUT_SECONDS = 300
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
    try:
        done = subprocess.run(
            [program, *arguments],
            cwd=folder,
            env=environment,
            input=stdin,
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise NotFoundError(
            f"The program {program} is not installed.",
            hint=f"Install it: apt-get install {_PACKAGES.get(program, program)}",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SaltflatError(f"{program} did not finish in {_TIMEOUT_SECONDS} s.") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise SaltflatError(
            f"{program} failed with exit code {done.returncode}: {said[-1] if said else 'silently'}"
        )
