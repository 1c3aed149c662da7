"""The verbs `stop` and `restart`."""

from __future__ import annotations

import click

from agent.host import client
from converter.cli.each import for_each
from converter.cli.output import Output
from converter.cli.reach import Place, machines_argument, place_options, timeout_option
from converter.cli.relay_address import relay_errors
from converter.cli.signal_names import read_signal


@click.command("stop")
@machines_argument
@timeout_option
@click.option(
    "-s",
    "--signal",
    "signal_text",
    metavar="SIGNAL",
    help="Which signal to begin with, by name or number, in place of the stop signal.",
)
@place_options
@click.pass_obj
def command(
    output: Output,
    *,
    names: tuple[str, ...],
    timeout: float | None,
    signal_text: str | None,
    place: Place,
) -> int:
    """End machines: their processes get their stop signal, and SIGKILL after a time.

    That is the one of run --stop-signal, else the image's, else TERM. None is started again.

    A machine that has ended already is no error. A guest that does not answer has its power cut.
    Disks and logs stay; `start` goes on with them. Behind --relay, unless it is on vSphere, nobody
    can cut a machine's power: there a guest that does not answer is an error. Names are printed as
    machines end. With several machines the exit code is 1 if one could not be stopped; the others
    are.

    \b
    Examples:
      saltflat stop web
      saltflat stop -t 60 db web
      saltflat stop -s QUIT web
      saltflat stop $(saltflat ps -q)
    """
    number = None if signal_text is None else read_signal(signal_text)
    relay = place.relay
    if relay is not None:

        def stop_there(name: str) -> str:
            with relay_errors():
                client.stop_and_wait(relay.address(name), timeout, number)
            return name

        return for_each(output, names, stop_there, together=True)
    machines = place.machines

    def stop(name: str) -> str:
        machines.stop(machines.find(name).id, timeout, number)
        return name

    return for_each(output, names, stop, together=True)
