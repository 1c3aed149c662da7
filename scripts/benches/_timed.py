"""A program that is timed from outside: started, and waited for without looking at a clock."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.images.cache import ROOT

_TIMEOUT_SECONDS = 600


def quietly(command: Sequence[str | Path]) -> None:
    """Run a program with this checkout's modules, and return the moment that it has ended.

    Raises CalledProcessError and TimeoutError.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    # Popen.wait with a timeout looks every 50 ms: that, and not the program, is what it measures.
    with process, open(os.pidfd_open(process.pid)) as end:
        if not select.select([end], [], [], _TIMEOUT_SECONDS)[0]:
            process.kill()
            raise TimeoutError(f"{command} ran for more than {_TIMEOUT_SECONDS} seconds")
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
