"""The verb `rm`."""

from __future__ import annotations

import click

from converter.cli.drivers import Driver, driver_option
from converter.cli.each import for_each
from converter.cli.output import Output
from converter.cli.reach import machines_argument
from converter.errors import NotFoundError, UsageError
from converter.events import Note
from converter.machine.machines import Status


@click.command("rm")
@machines_argument
@click.option("-f", "--force", is_flag=True, help="Also machines that run: their power is cut.")
@click.option("-v", "--volumes", is_flag=True, help="Remove their anonymous volumes, too.")
@driver_option
@click.pass_obj
def command(
    output: Output, *, names: tuple[str, ...], force: bool, volumes: bool, driver: Driver
) -> int:
    """Remove machines with their disks and logs; images and named volumes stay.

    A machine that runs is refused without -f; with it, one that is not there is no error. With
    several machines the exit code is 1 if one could not be removed; the others are.

    \b
    Examples:
      saltflat rm job
      saltflat rm -f -v web
      saltflat rm $(saltflat ps -aq --filter status=exited)
    """
    machines = driver.open(output.monitor)

    def remove(name: str) -> str | None:
        try:
            record = machines.find(name)
        except NotFoundError as error:
            if not force:
                raise
            output.monitor(Note(error.what, warning=True))
            return None
        if record.status is Status.RUNNING and not force:
            raise UsageError(
                f"The machine {record.name} runs.",
                expected="a machine that has ended, or -f",
                hint=f"Stop it first: saltflat stop {record.name}",
            )
        machines.remove(record.id, force=force, volumes=volumes)
        return name

    return for_each(output, names, remove, together=True)
