"""The verbs `stop` and `restart`."""

from __future__ import annotations

from pathlib import Path

import click

from converter.cli.each import for_each
from converter.cli.options import open_machines, state_option
from converter.cli.output import Output
from converter.cli.reach import machines_argument, timeout_option


@click.command("stop")
@machines_argument
@timeout_option
@state_option
@click.pass_obj
def command(
    output: Output, *, names: tuple[str, ...], timeout: float | None, state_root: Path
) -> int:
    """End machines: their processes get the image's stop signal, and SIGKILL after a time.

    A machine that has ended already is no error. A guest that does not answer has its power cut.
    Disks and logs stay; `start` goes on with them. Names are printed as machines end. With several
    machines the exit code is 1 if one could not be stopped; the others are.

    \b
    Examples:
      saltflat stop web
      saltflat stop -t 60 db web
      saltflat stop $(saltflat ps -q)
    """
    machines = open_machines(state_root, output.monitor)

    def stop(name: str) -> str:
        machines.stop(machines.find(name).id, timeout)
        return name

    return for_each(output, names, stop, together=True)
