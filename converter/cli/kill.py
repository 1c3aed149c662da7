"""The verb `kill`."""

from __future__ import annotations

import click

from agent.host import client
from converter.cli.each import for_each
from converter.cli.output import Output
from converter.cli.reach import Place, machines_argument, place_options, require_running
from converter.cli.relay_address import relay_errors
from converter.cli.signal_names import read_signal


@click.command("kill")
@machines_argument
@click.option(
    "-s",
    "--signal",
    "signal_text",
    default="KILL",
    metavar="SIGNAL",
    show_default=True,
    help="Which signal, by name or number.",
)
@place_options
@click.pass_obj
def command(output: Output, *, names: tuple[str, ...], signal_text: str, place: Place) -> int:
    """Send the main processes of running machines a signal.

    After KILL a machine has ended when the command returns; a guest that does not answer has its
    power cut, but behind --relay, where that is an error. Other signals are only sent. With several
    machines the exit code is 1 if one got no signal, as when it does not run; the others get
    theirs.

    \b
    Examples:
      saltflat kill web
      saltflat kill -s HUP web
      saltflat kill -s SIGRTMIN+3 web db
    """
    number = read_signal(signal_text)
    relay = place.relay
    if relay is not None:

        def kill_there(name: str) -> str:
            with relay_errors():
                client.kill(relay.address(name), number)
            return name

        return for_each(output, names, kill_there)
    machines = place.machines

    def kill(name: str) -> str:
        record = machines.find(name)
        require_running(record)
        machines.kill(record.id, number)
        return name

    return for_each(output, names, kill)
