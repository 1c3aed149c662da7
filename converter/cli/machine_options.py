"""Options of the machine around an exported disk, for the types that are whole machines."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.core import ParameterSource

from converter.cli.options import size
from converter.export.options import read_machine_options
from converter.export.settings import Firmware

_Command = TypeVar("_Command", bound=Callable[..., Any])


def machine_options(command: _Command) -> _Command:
    """Add the options; the command gets them as `machine`."""
    return gathered(command, "machine", read_machine_options, _OPTIONS)


def gathered(
    command: _Command,
    name: str,
    into: Callable[..., object],
    options: tuple[Callable[[Any], Any], ...],
) -> _Command:
    """Add `options`; the command gets their values as one, `name`, which `into` makes of them.

    Which of them stand on the command line `into` gets as `given`.
    """
    names = [
        parameter.name
        for option in options
        for parameter in click.command()(option(lambda: None)).params
        if parameter.name is not None
    ]

    @functools.wraps(command)
    def with_one(*args: object, **given: Any) -> object:  # noqa: ANN401  # click's values
        own = {each: given.pop(each) for each in names}
        ctx = click.get_current_context()
        said = tuple(
            parameter.opts[-1]
            for parameter in ctx.command.params
            if parameter.name in names
            and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
        )
        return command(*args, **{name: into(given=said, **own)}, **given)

    wrapped = cast("_Command", with_one)
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--boot",
        "boot_name",
        metavar="ID|KERNEL",
        envvar="SALTFLAT_BOOT",
        show_envvar=True,
        help="The boot image of a machine, as boot list has it; it needs an ISO image.",
    ),
    click.option(
        "--memory",
        type=size,
        default="512m",
        envvar="SALTFLAT_MEMORY",
        show_envvar=True,
        show_default=True,
        help="A machine's memory.",
    ),
    click.option(
        "--cpus",
        type=click.IntRange(1, 128),
        default=1,
        envvar="SALTFLAT_EXPORT_CPUS",
        show_envvar=True,
        show_default=True,
        help="A machine's processors.",
    ),
    click.option(
        "--firmware",
        type=click.Choice([firmware.value for firmware in Firmware]),
        default=Firmware.EFI.value,
        envvar="SALTFLAT_FIRMWARE",
        show_envvar=True,
        show_default=True,
        help="What starts a machine.",
    ),
    click.option(
        "--serial",
        metavar="URI",
        default="",
        envvar="SALTFLAT_SERIAL",
        show_envvar=True,
        help="Where the line to a machine's agent leads: telnet://HOST:PORT or telnets://HOST:PORT "
        "of a concentrator (saltflat vspc serve), or pipe:NAME. Without it the port is there, and "
        "not connected.",
    ),
    click.option(
        "--serial-log",
        is_flag=True,
        envvar="SALTFLAT_SERIAL_LOG",
        show_envvar=True,
        help="Give a machine a second serial port, which writes what kernel and agent say to a "
        "file beside it.",
    ),
    click.option(
        "--key-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar="SALTFLAT_EXPORT_KEY_FILE",
        show_envvar=True,
        help="The key of the line to a machine's agent, 64 hexadecimal digits. It is in the export "
        "to be read. Without it no host can attach to the machine before it is given one.",
    ),
    click.option(
        "--hostname",
        metavar="NAME",
        envvar="SALTFLAT_HOSTNAME",
        show_envvar=True,
        help="A machine's host name; else the export's name.",
    ),
)
