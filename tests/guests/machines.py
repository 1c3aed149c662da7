"""Machines from specifications, run to their end, and what they wrote."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from agent.host.client import UNANSWERED, Manners
from agent.host.status import ExitStatus
from agent.host.stdio import Stdio
from converter import events
from converter.machine.foreground import run_in_foreground
from converter.machine.local import LocalMachines
from converter.machine.machines import MachineRequest
from converter.machine.model import MachineSpec


@dataclass(frozen=True)
class Outcome:
    """How a machine's process ended, what it wrote, and the machine's folder."""

    status: ExitStatus
    stdout: bytes
    stderr: bytes
    folder: Path


def local_machines(work: Path) -> LocalMachines:
    """Return the machines of a test, which are emulated whatever the host can."""
    return LocalMachines(work / "state", accelerator="tcg")


def request(spec: MachineSpec, work: Path, **options: object) -> MachineRequest:
    """Return what creates a machine; its store is empty but for the pin."""
    values: dict[str, object] = {
        "spec": spec,
        "image": "test",
        "image_digest": "sha256:" + "0" * 64,
        "store": work / "store",
        **options,
    }
    return MachineRequest(**values)  # type: ignore[arg-type]  # a test names what it changes


def seat(stdio: Stdio) -> AbstractContextManager[tuple[Stdio, Manners]]:
    """Return the end of a user without a terminal, as `run` gives it to a machine."""
    return nullcontext((stdio, Manners(fatal=UNANSWERED)))


def run_to_end(
    spec: MachineSpec, work: Path, *, stdin: int | None = None, auto_remove: bool = False
) -> Outcome:
    """Run a machine as `saltflat run` does. Raises what that raises."""
    machines = local_machines(work)
    record = machines.create(request(spec, work, auto_remove=auto_remove))
    out, err = work / "stdout", work / "stderr"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        stdio = Stdio(stdin, stdout.fileno(), stderr.fileno())
        status = run_in_foreground(machines, record, seat(stdio), monitor=events.ignore)
    folder = work / "state" / "machines" / record.id
    return Outcome(status, out.read_bytes(), err.read_bytes(), folder)
