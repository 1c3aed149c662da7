"""From a machine's name on the command line to its relay, on this host or behind --relay.

Owns finding the machine, that it runs where it must, and whose words its errors get.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from agent.host.client import Address
from agent.host.errors import AbortedError, CopyError, DetachedError, RelayError
from converter.cli.drivers import Driver, driver_option
from converter.cli.options import open_machines
from converter.cli.output import Output
from converter.cli.relay_address import RelayPlace, relay_errors, relay_options
from converter.errors import SaltflatError, UsageError
from converter.machine.machines import MachineRecord, Machines, Status
from converter.machine.state_root import default_state_root

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Place:
    """Where machines are looked for: a driver's, or one `relay`'s, which only knows addresses."""

    open: Callable[[], Machines]
    relay: RelayPlace | None

    @functools.cached_property
    def machines(self) -> Machines:
        """The driver's machines."""
        return self.open()

    def running(self, name: str) -> Reached:
        """Return the machine of that name, which must run. Raises NotFoundError, UsageError."""
        if self.relay is not None:
            return Reached(self.relay.address(name), None, relay_errors)
        machines = self.machines
        record = machines.find(name)
        require_running(record)
        if record.restarting:
            raise UsageError(
                f"The process of {record.name} is restarting: it ended {_how(record)}.",
                expected="a process that runs",
                hint=f"Wait until it does, or see why it ends: saltflat logs {record.name}",
            )
        address = machines.address(record.id)
        return Reached(address, record, functools.partial(explained, machines, record.id))


@dataclass(frozen=True)
class Reached:
    """A machine's relay; `record` is None for one of another host. `errors` translates errors."""

    address: Address
    record: MachineRecord | None
    errors: Callable[[], contextlib.AbstractContextManager[None]]


def _how(record: MachineRecord) -> str:
    return "before" if record.end is None else f"with code {record.end.code}"


def require_running(record: MachineRecord) -> None:
    """Raise UsageError for a machine that does not run."""
    if record.status is not Status.RUNNING:
        raise UsageError(
            f"The machine {record.name} does not run: it is {record.status}.",
            expected="a running machine",
            hint=f"Start it: saltflat start {record.name}",
        )


@contextlib.contextmanager
def explained(machines: Machines, machine: str) -> Iterator[None]:
    """Turn what a relay's client raises into the tool's errors, with what the machine left behind.

    A signal or detach keys, which are no errors, pass.
    """
    try:
        yield
    except (AbortedError, DetachedError):
        raise
    except CopyError as error:
        raise SaltflatError(error.what, expected=error.expected, hint=error.hint) from error
    except RelayError as error:
        raise machines.explain(machine, error) from error


def place_options(command: _Command) -> _Command:
    """Add --state, --on, --relay and their kin; the command gets them as `place`.

    A relay is all that there is, unless the machines are on vSphere: then it is where their lines
    lead.
    """

    @functools.wraps(command)
    def with_place(
        *args: object, driver: Driver, relay: RelayPlace | None, **others: object
    ) -> object:
        output: Output = click.get_current_context().obj
        if not driver.is_here:
            driver, relay = replace(driver, relay=relay), None
        place = Place(functools.partial(driver.open, output.monitor), relay)
        return command(*args, place=place, **others)

    return relay_options(driver_option(cast("_Command", with_place)))


def machine_argument(command: _Command) -> _Command:
    """Add MACHINE, which completes to those that there are; the command gets it as `machine`."""
    return click.argument("machine", shell_complete=complete_machine)(command)


def machines_argument(command: _Command) -> _Command:
    """Add one MACHINE or several; the command gets them as `names`."""
    return click.argument(
        "names",
        nargs=-1,
        required=True,
        metavar="MACHINE...",
        shell_complete=complete_machine,
    )(command)


def timeout_option(command: _Command) -> _Command:
    """Add -t for verbs that stop machines; the command gets it as `timeout`, in seconds."""
    return click.option(
        "-t",
        "--timeout",
        "--time",
        type=click.FloatRange(min=-1),
        metavar="SECONDS",
        help="How long a process has before SIGKILL; 10 if not given, -1 for ever.",
    )(command)


def complete_machine(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the machines whose name begins so, for the shell."""
    root = ctx.params.get("state_root") or default_state_root()
    try:
        records = open_machines(Path(root), lambda _event: None).list()
    except SaltflatError:
        return []  # a shell has nobody to tell
    return [
        CompletionItem(record.name, help=f"{record.image}, {record.status}")
        for record in records
        if record.name.startswith(incomplete)
    ]
