"""The verbs `stop` and `restart`."""

from __future__ import annotations

from pathlib import Path

import click

from converter.cli.each import for_each
from converter.cli.options import open_machines, state_option
from converter.cli.output import Output
from converter.cli.reach import machines_argument, timeout_option
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
@state_option
@click.pass_obj
def command(
    output: Output,
    *,
    names: tuple[str, ...],
    timeout: float | None,
    signal_text: str | None,
    state_root: Path,
) -> int:
    """End machines: their processes get their stop signal, and SIGKILL after a time.

    That is the one of run --stop-signal, else the image's, else TERM. None is started again.

    A machine that has ended already is no error. A guest that does not answer has its power cut.
    Disks and logs stay; `start` goes on with them. Names are printed as machines end. With several
    machines the exit code is 1 if one could not be stopped; the others are.

    \b
    Examples:
      saltflat stop web
      saltflat stop -t 60 db web
      saltflat stop -s QUIT web
      saltflat stop $(saltflat ps -q)
    """
    machines = open_machines(state_root, output.monitor)
    number = None if signal_text is None else read_signal(signal_text)

    def stop(name: str) -> str:
        machines.stop(machines.find(name).id, timeout, number)
        return name

    return for_each(output, names, stop, together=True)
