"""The verb `restart`."""

from __future__ import annotations

import click

from converter.cli.drivers import Driver, driver_option
from converter.cli.each import for_each
from converter.cli.output import Output
from converter.cli.reach import machines_argument, timeout_option
from converter.errors import UsageError
from converter.machine.machines import Status


@click.command("restart")
@machines_argument
@timeout_option
@driver_option
@click.pass_obj
def command(
    output: Output, *, names: tuple[str, ...], timeout: float | None, driver: Driver
) -> int:
    """Stop machines as `stop` does, and start them again on their own disks.

    A machine that does not run is only started; one of run --rm would remove itself and is refused.
    With several machines the exit code is 1 if one
    could not be restarted; the others are.

    \b
    Examples:
      saltflat restart web
      saltflat restart -t 0 db web
    """
    machines = driver.open(output.monitor)

    def restart(name: str) -> str:
        record = machines.find(name)
        if record.status is not Status.RUNNING:
            machines.start(record.id)
            return name
        if record.auto_remove:
            raise UsageError(
                f"The machine {record.name} removes itself when it is stopped.",
                expected="a machine that was run without --rm",
            )
        machines.stop(record.id, timeout)
        machines.start(record.id)
        return name

    return for_each(output, names, restart, together=True)
