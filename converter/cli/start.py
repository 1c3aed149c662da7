"""The verb `start`."""

from __future__ import annotations

import functools

import click

from converter.cli.attaching import Seat, attach_seat
from converter.cli.drivers import Driver, driver_option
from converter.cli.each import for_each
from converter.cli.options import detach_keys_option, sig_proxy_option
from converter.cli.output import Output
from converter.cli.reach import explained, machines_argument
from converter.errors import UsageError
from converter.machine.machines import Machines, Status


@click.command("start")
@machines_argument
@click.option("-a", "--attach", "attached", is_flag=True, help="Attach, and pass signals on.")
@click.option("-i", "--interactive", is_flag=True, help="Attach, and pass standard input on.")
@sig_proxy_option
@detach_keys_option
@driver_option
@click.pass_obj
def command(
    output: Output,
    *,
    names: tuple[str, ...],
    attached: bool,
    interactive: bool,
    sig_proxy: bool,
    detach_keys: bytes,
    driver: Driver,
) -> int:
    """Start machines that were created or have ended; each boots on its own disk, as it left it.

    Names are printed as machines start; one that runs already is no error. With several machines
    the exit code is 1 if one could not be started; the others are.

    With -a or -i, for one machine, the command stays with its process and ends with its exit code,
    as `run` does: 126, 127 and 125 as there.

    \b
    Examples:
      saltflat start web
      saltflat start -ai shell
      saltflat start db cache web
    """
    machines = driver.open(output.monitor)
    if attached or interactive:
        output.passes_exit_code = True
        if len(names) != 1:
            raise UsageError(
                "You cannot start and attach several machines at once.",
                expected="one MACHINE with -a or -i",
            )
        seat = Seat(stdin=interactive, tty=False, detach_keys=detach_keys, sig_proxy=sig_proxy)
        return _start_attached(output, machines, names[0], seat)

    def start(name: str) -> str:
        machines.start(machines.find(name).id)
        return name

    return for_each(output, names, start)


def _start_attached(output: Output, machines: Machines, name: str, asked: Seat) -> int:
    record = machines.find(name)
    if record.spec is None:
        machines.start(record.id)  # which says what is wrong with it
        return 0
    run = record.spec.guest.run
    seat = Seat(
        stdin=asked.stdin and run.stdin,
        tty=run.tty,
        detach_keys=asked.detach_keys,
        sig_proxy=asked.sig_proxy,
    )
    seat.check()  # before anything runs
    # Of a process that runs already what it will print, of one that we start all of it.
    replay = "none" if record.status is Status.RUNNING else "all"
    with machines.started(record.id):
        errors = functools.partial(explained, machines, record.id)
        return attach_seat(output, machines.address(record.id), errors, seat, replay=replay)
