"""Where machines run: under QEMU here, or on vSphere. The options that say so, for every verb.

Owns --on and --relays, and how a verb comes to the machines that are meant. Which vSphere, and
where in it, is said by the variables of `saltflat vsphere check`'s options, read as that does.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from converter.cli.options import open_machines, state_option
from converter.cli.relay_address import RelayPlace
from converter.errors import UsageError
from converter.events import Monitor
from converter.machine.machines import Machines

if TYPE_CHECKING:
    from converter.machine.vsphere import VsphereMachines
    from converter.vsphere.kept import KeptSessions
    from converter.vsphere.settings import Settings

_Command = TypeVar("_Command", bound=Callable[..., Any])
HERE = "qemu"
VSPHERE = "vsphere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """Which machines are meant. `relays` and `relay` are how those on vSphere are reached."""

    name: str
    state_root: Path
    relays: Path | None = None
    relay: RelayPlace | None = None

    @property
    def is_here(self) -> bool:
        """Whether they run on this host."""
        return self.name == HERE

    def open(self, monitor: Monitor) -> Machines:
        """Return the machines; a session that is opened for them ends with the command."""
        if self.is_here:
            return open_machines(self.state_root, monitor)
        return self.vsphere(monitor)

    def vsphere(
        self,
        monitor: Monitor,
        *,
        serial: str | None = None,
        session: tuple[Settings, KeptSessions | None] | None = None,
    ) -> VsphereMachines:
        """Return the machines of a vCenter; `serial` is where the lines of new ones lead.

        `session` is which vCenter, where that is not said by variables alone.
        """
        # pyvmomi, which verbs here can do without, comes with these.
        from converter.cli.vsphere_options import warn_if_insecure  # noqa: PLC0415 - as said
        from converter.machine.relays import Relays  # noqa: PLC0415 - as said
        from converter.machine.vsphere import VsphereMachines  # noqa: PLC0415 - as said
        from converter.template_import import find_place  # noqa: PLC0415 - as said
        from converter.vsphere.connection import Connection, open_connection  # noqa: PLC0415 - as said

        settings, kept = session or _settings(self.state_root)
        context = click.get_current_context(silent=True)

        def connect() -> Connection:
            warn_if_insecure(settings, monitor)
            connection = open_connection(settings, kept=kept)
            if context is not None:
                context.call_on_close(connection.close)
            return connection

        elsewhere = None if self.relay is None else self.relay.address
        return VsphereMachines(
            connect, find_place, Relays(self.relays, elsewhere), serial=serial, monitor=monitor
        )


def _settings(state_root: Path) -> tuple[Settings, KeptSessions | None]:
    """Read the variables of the vSphere options, by those options themselves."""

    from converter.cli.vsphere_options import vsphere_options  # noqa: PLC0415 - as above

    @click.command("vsphere-settings")
    @vsphere_options
    def read(
        *, settings: Settings, kept: KeptSessions | None
    ) -> tuple[Settings, KeptSessions | None]:
        return settings, kept

    found: tuple[Settings, KeptSessions | None] = read.main(
        ["--state", os.fspath(state_root)], standalone_mode=False
    )
    return found


def driver_option(command: _Command) -> _Command:
    """Add --state, --on and --relays; the command gets `driver`."""

    @functools.wraps(command)
    def with_driver(
        *args: object, state_root: Path, driver_name: str, relays: Path | None, **others: object
    ) -> object:
        if driver_name == HERE:
            refuse_typed(
                {"relays": "--relays"},
                "machines of this host have their relays themselves",
                expected="--on vsphere with it",
            )
        driver = Driver(name=driver_name, state_root=state_root, relays=relays)
        return command(*args, driver=driver, **others)

    options: list[Callable[[Any], Any]] = [
        click.option(
            "--on",
            "driver_name",
            type=click.Choice([HERE, VSPHERE]),
            default=HERE,
            envvar="SALTFLAT_ON",
            show_envvar=True,
            show_default=True,
            help="Where machines run: under QEMU on this host, or on the vSphere that the "
            "SALTFLAT_VSPHERE_* variables name, as for vsphere check.",
        ),
        click.option(
            "--relays",
            type=click.Path(file_okay=False, path_type=Path),
            envvar="SALTFLAT_VSPC_RELAYS",
            show_envvar=True,
            help="With --on vsphere: the folder of the machines' keys and logs, which vspc serve "
            "has. Who starts or removes machines needs it.",
        ),
    ]
    wrapped = state_option(cast("_Command", with_driver))
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def refuse_typed(options: Mapping[str, str], why: str, *, expected: str) -> None:
    """Raise UsageError if one of the options, by parameter, was typed. A variable may be for later.

    `why` goes on after "OPTION was given, but".
    """
    context = click.get_current_context()
    for parameter, option in options.items():
        if context.get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"{option} was given, but {why}.", expected=expected)
