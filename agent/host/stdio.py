"""The descriptors that a process in the guest is connected to here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stdio:
    """The host's descriptors; `stdin` is None when the guest's process is to have none."""

    stdin: int | None = None
    stdout: int = 1
    stderr: int = 2
