"""What every hypervisor driver offers. Owns the interface; starts nothing itself."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from converter.machine.model import MachineSpec


class Machine(Protocol):
    """A machine that was started; use it as a context manager, leaving kills and cleans up."""

    def is_alive(self) -> bool:
        """Say whether the machine still runs."""

    def wait(self, timeout_seconds: float) -> int | None:
        """Wait for the machine's own end; None when it still runs after `timeout_seconds`."""

    def kill(self) -> None:
        """Cut the power, and wait until the machine is gone. Does nothing to one that ended."""

    def console(self) -> str:
        """Return the last part of the guest's console."""

    def log(self) -> str:
        """Return the last part of what the hypervisor itself complained about."""

    def __enter__(self) -> Machine:
        """Return the machine itself."""

    def __exit__(self, *exception: object) -> None:
        """Kill the machine and remove what was temporary of it."""


class Driver(Protocol):
    """A way to start machines."""

    def start(self, spec: MachineSpec, *, channel: Path) -> Machine:
        """Start a machine whose line connects to the unix socket `channel`, and does so again.

        Raises HypervisorError, or NotFoundError when a program is missing.
        """
