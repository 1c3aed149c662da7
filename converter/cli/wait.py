"""The verb `wait`."""

from __future__ import annotations

import click

from agent.host import client
from converter.cli.each import for_each
from converter.cli.output import Output
from converter.cli.reach import Place, machines_argument, place_options
from converter.cli.relay_address import relay_errors


@click.command("wait")
@machines_argument
@place_options
@click.pass_obj
def command(output: Output, *, names: tuple[str, ...], place: Place) -> int:
    """Wait until machines have ended, and print their exit codes, each on a line.

    The codes come in the order of the names. Of a machine that has ended already it is that of its
    last run; 255 says that nobody saw the end. The command's own exit code is 0, or with several
    machines 1 if one could not be waited for.

    \b
    Examples:
      saltflat wait job
      saltflat wait one two three
    """
    relay = place.relay
    if relay is not None:

        def wait(name: str) -> str:
            with relay_errors():
                return str(client.wait(relay.address(name)).code)

        return for_each(output, names, wait, together=True)
    machines = place.machines

    def wait_here(name: str) -> str:
        return str(machines.wait(machines.find(name).id).code)

    # All at once: one that removes itself could be gone when its turn came.
    return for_each(output, names, wait_here, together=True)
