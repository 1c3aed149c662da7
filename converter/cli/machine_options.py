"""Options of the machine around an exported disk, for the types that are whole machines."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.core import ParameterSource

from converter.cli.options import size
from converter.errors import NotFoundError, UsageError
from converter.export.exportable import Exportable
from converter.export.settings import Firmware, MachineSettings
from converter.image.platform import Platform
from converter.store.bootimages import boot_image_for
from converter.store.bundle_boot import BundleBoot, bundle_boot_image
from converter.store.layout import Store
from tinykernel.media.record import Kind, load_media

_Command = TypeVar("_Command", bound=Callable[..., Any])
_LEAST_MEMORY_BYTES = 128 << 20
_KEY_FILE_BYTES = 1 << 12
_MEDIA = {Kind.ISO: "ISO image", Kind.STREAM: "streamOptimized disk"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineOptions:
    """The options as they were given. `given` names those of the command line."""

    given: tuple[str, ...]
    boot_name: str | None
    memory: int
    cpus: int
    firmware: str
    serial: str
    serial_log: bool
    key: bytes | None
    hostname: str | None

    def check(self, kind: str, *, is_machine: bool) -> None:
        """Raise UsageError for what the type of export has no use for, and for wrong values."""
        if self.given and not is_machine:
            raise UsageError(
                f"{self.given[0]} says nothing of a disk, which is all that --type {kind} makes.",
                expected="it beside a type that is a machine, such as vmx or ova",
            )
        if self.serial:
            from converter.package.vmx import check_serial  # noqa: PLC0415 - as in settings

            check_serial(self.serial)
        if self.memory < _LEAST_MEMORY_BYTES:
            raise UsageError(
                f"--memory {self.memory} cannot boot a machine.",
                expected=f"at least {_LEAST_MEMORY_BYTES >> 20}m",
            )

    def settings(
        self, source: Exportable, store: Store, name: str, medium: Kind = Kind.ISO
    ) -> MachineSettings:
        """Return what the exporter is told of the machine called `name`.

        Raises as `boot_medium`.
        """
        # Only who makes machines waits for what is about them.
        from converter.export.guest import (  # noqa: PLC0415 - see above
            guest_document,
            host_name,
            mac_address,
        )

        mac, hostname = mac_address(source), self.hostname or host_name(name)
        return MachineSettings(
            boot_medium=self.boot_medium(store, source.image.platform, source.boot, medium),
            boots_from_disk=medium is not Kind.ISO,
            document=guest_document(source, key=self.key, mac=mac, hostname=hostname),
            has_key=self.key is not None,
            mac=mac,
            memory_mib=self.memory >> 20,
            processors=self.cpus,
            firmware=Firmware(self.firmware),
            serial=self.serial,
            serial_log=self.serial_log,
        )

    def boot_medium(
        self, store: Store, platform: Platform, wanted: BundleBoot | None, kind: Kind = Kind.ISO
    ) -> Path:
        """Return the medium that a machine starts from; `wanted` is what its bundle names.

        Raises NotFoundError when there is no boot image or it has none, and as the store does.
        """
        if self.boot_name is None and wanted is not None:
            boot = bundle_boot_image(store, platform, wanted)
        else:
            boot = boot_image_for(store, platform, self.boot_name)
        media = load_media(boot)
        for medium in () if media is None else media.media:
            if medium.kind is kind:
                return medium.path
        raise NotFoundError(
            f"The boot image {boot.id[:12]} has no {_MEDIA[kind]} for a machine to start from.",
            hint=f"Make it with: saltflat boot build --media {kind.value}",
        )


def machine_options(command: _Command) -> _Command:
    """Add the options; the command gets them as `machine`."""
    return gathered(command, "machine", _read_options, _OPTIONS)


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


def _read_options(*, key_file: Path | None, hostname: str | None, **own: Any) -> MachineOptions:  # noqa: ANN401  # click's values
    if hostname is not None:
        from converter.export.guest import host_name  # noqa: PLC0415 - as in settings

        if host_name(hostname) != hostname:
            raise UsageError(
                f"--hostname {hostname!r} is no host name.",
                expected="1 to 63 letters, digits, dots and dashes, a letter or digit at both ends",
            )
    key = None if key_file is None else _read_key(key_file)
    return MachineOptions(key=key, hostname=hostname, **own)


def _read_key(path: Path) -> bytes:
    from converter.machine.model import KEY_BYTES  # noqa: PLC0415 - as in settings

    with path.open("rb") as file:
        text = file.read(_KEY_FILE_BYTES)
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        # The content is a secret: say what is expected, never what was there.
        raise UsageError(f"{path} has no key.", expected=f"{2 * KEY_BYTES} hexadecimal digits")
    return key
