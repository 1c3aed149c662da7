"""The verb `attach`: the user's terminal at the main process of a machine that runs already."""

from __future__ import annotations

import click

from converter.cli.attaching import Seat, attach_seat
from converter.cli.options import detach_keys_option, sig_proxy_option
from converter.cli.output import Output
from converter.cli.reach import Place, machine_argument, place_options


@click.command("attach")
@machine_argument
@click.option("--no-stdin", is_flag=True, help="Do not pass standard input on.")
@click.option(
    "-t",
    "--tty",
    is_flag=True,
    help="With --relay: the process has a terminal. Machines of this host know it themselves.",
)
@sig_proxy_option
@detach_keys_option
@place_options
@click.pass_obj
def command(
    output: Output,
    *,
    machine: str,
    no_stdin: bool,
    tty: bool,
    sig_proxy: bool,
    detach_keys: bytes,
    place: Place,
) -> int:
    """Connect to the main process of MACHINE: see what it prints from now on, and type into it.

    Standard input goes to a process that was started with -i; any number of clients may attach. The
    end of our input is not the end of the process's. The exit code is the process's own once it
    ends, 0 after the detach keys (they need a process with a terminal), 125 for every failure of
    saltflat itself.

    \b
    Examples:
      saltflat attach web
      saltflat attach --no-stdin web
      saltflat attach --detach-keys ctrl-a,d shell
    """
    reached = place.running(machine)
    takes_stdin = True
    if reached.record is not None and reached.record.spec is not None:
        run = reached.record.spec.guest.run
        takes_stdin, tty = run.stdin, run.tty
    seat = Seat(
        stdin=takes_stdin and not no_stdin,
        tty=tty,
        detach_keys=detach_keys,
        sig_proxy=sig_proxy,
        end_stdin=False,
    )
    return attach_seat(output, reached.address, reached.errors, seat, replay="none")
