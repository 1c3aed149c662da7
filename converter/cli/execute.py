"""The verb `exec`: another process in a machine that runs. (`exec` is a function of Python's.)"""

from __future__ import annotations

from pathlib import Path

import click

from agent.host.client import Execution, execute, execute_detached
from agent.host.status import ExitStatus
from converter.cli.attaching import Seat, Seated, exit_code, relayed, terminal_size
from converter.cli.environment import read_environment
from converter.cli.options import detach_keys_option
from converter.cli.output import Output
from converter.cli.reach import Place, machine_argument, place_options
from converter.cli.stdin import claim_stdin
from converter.errors import UsageError


@click.command(
    "exec", context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False}
)
@machine_argument
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input to the process.")
@click.option("-t", "--tty", is_flag=True, help="Give the process a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Return once the process runs.")
@click.option("-e", "--env", multiple=True, metavar="KEY[=VALUE]", help="Set a variable.")
@click.option(
    "--env-file",
    "env_files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Set the variables in this file, one a line.",
)
@click.option("-u", "--user", metavar="USER[:GROUP]", help="Run as this user.")
@click.option("-w", "--workdir", metavar="DIR", help="Run in this folder.")
@detach_keys_option
@place_options
@click.pass_obj
def command(
    output: Output,
    *,
    machine: str,
    command: tuple[str, ...],
    interactive: bool,
    tty: bool,
    detach: bool,
    env: tuple[str, ...],
    env_files: tuple[Path, ...],
    user: str | None,
    workdir: str | None,
    detach_keys: bytes,
    place: Place,
) -> int:
    """Run COMMAND in the running machine MACHINE, beside its main process and with its environment.

    The exit code is the process's own; 126 and 127 as docker has them, 125 for every failure of
    saltflat itself. The process ends with the main one. Signals end this client, not the process;
    at a terminal (-it) Ctrl-C is a key that the process sees.

    \b
    Examples:
      saltflat exec web ps aux
      saltflat exec -it web sh
      echo 'select 1' | saltflat exec -i -u postgres db psql
      saltflat exec -d -e LEVEL=debug -w /srv web ./job
    """
    if detach and (interactive or tty):
        raise UsageError(
            "-d does not go with -i or -t: nobody would be at the process's terminal.",
            hint="Leave out -i and -t.",
        )
    seat = Seat(stdin=interactive, tty=tty, detach_keys=detach_keys, sig_proxy=False)
    seat.check()
    if interactive:
        claim_stdin("exec -i")
    execution = Execution(
        args=command,
        env=read_environment(env, env_files),
        user=user,
        workdir=workdir,
        tty=tty,
        stdin=interactive,
        size=terminal_size() if tty else None,
    )
    reached = place.running(machine)
    if not detach:

        def relay(seated: Seated) -> ExitStatus:
            with reached.errors(), seated as (stdio, manners):
                return execute(reached.address, execution, stdio, manners=manners)

        return relayed(output, seat, relay)
    with reached.errors():
        status = execute_detached(reached.address, execution)
    return 0 if status is None else exit_code(status)
