"""Options of a package around an exported machine: OVF and OVA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from converter.cli.machine_options import gathered
from converter.errors import UsageError
from converter.export.settings import PackageSettings
from tinykernel.media.record import Kind

_MEDIA = {"iso": Kind.ISO, "disk": Kind.STREAM}
_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageOptions:
    """The options as they were given. `given` names those of the command line."""

    given: tuple[str, ...]
    is_delta: bool
    variables: tuple[str, ...]
    network: str
    medium_name: str
    key: Path | None
    certificate: Path | None

    @property
    def medium(self) -> Kind:
        """The kind of boot medium that the package's machine starts from."""
        return _MEDIA[self.medium_name]

    def check(self, kind: str, *, is_package: bool) -> None:
        """Raise UsageError for what the type of export has no use for."""
        if self.given and not is_package:
            raise UsageError(
                f"{self.given[0]} says nothing of what --type {kind} makes.",
                expected="it beside --type ovf or ova",
            )
        if self.certificate is not None and self.key is None:
            raise UsageError("--cert is for a signature.", expected="--sign KEY beside it")

    def settings(self, serial: str) -> PackageSettings:
        """Return what the exporter is told of the package of a machine with the line `serial`.

        Raises UsageError for a line that no server has and for what cannot be a property, and as
        the signer does.
        """
        # Only who makes packages waits for what is about them.
        from converter.package.properties import property_sections  # noqa: PLC0415 - see above
        from converter.package.signing import load_signer  # noqa: PLC0415 - see above

        property_sections({}, asked=self.variables)
        if not self.network.strip():
            raise UsageError("--network-name is empty.", expected="the name of a network")
        if serial.startswith("pipe:"):
            raise UsageError(
                f"--serial {serial} is of VMware's desktop products.",
                expected="telnet://HOST:PORT or telnets://HOST:PORT of a concentrator in a package",
            )
        return PackageSettings(
            is_delta=self.is_delta,
            network=self.network,
            variables=self.variables,
            signer=None if self.key is None else load_signer(self.key, self.certificate),
        )


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--delta",
        "is_delta",
        is_flag=True,
        envvar="SALTFLAT_EXPORT_DELTA",
        show_envvar=True,
        help="One disk for each link in a package, each with what it changes of the one below "
        "(ovf:parentRef); else one disk with all.",
    ),
    click.option(
        "--property",
        "variables",
        metavar="NAME[=VALUE]",
        multiple=True,
        envvar="SALTFLAT_EXPORT_PROPERTY",
        show_envvar=True,
        help="A further variable of the process's environment that can be set when a package is "
        "deployed, as those of the image can; may be repeated.",
    ),
    click.option(
        "--network-name",
        "network",
        default="VM Network",
        envvar="SALTFLAT_EXPORT_NETWORK_NAME",
        show_envvar=True,
        show_default=True,
        help="The network of a package's machine, which whoever deploys it maps to one of theirs.",
    ),
    click.option(
        "--boot-medium",
        "medium_name",
        type=click.Choice(["iso", "disk"]),
        default="iso",
        envvar="SALTFLAT_EXPORT_BOOT_MEDIUM",
        show_envvar=True,
        show_default=True,
        help="What a package's machine starts from: an ISO image in a CD drive, or a disk before "
        "the image's.",
    ),
    click.option(
        "--sign",
        "key",
        metavar="KEY",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="SALTFLAT_EXPORT_SIGN",
        show_envvar=True,
        help="Sign a package's manifest with this RSA key, in PEM, by the openssl program.",
    ),
    click.option(
        "--cert",
        "certificate",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="SALTFLAT_EXPORT_CERT",
        show_envvar=True,
        help="The certificate of that key, and those above it, in PEM; else they are in KEY.",
    ),
)


def package_options(command: _Command) -> _Command:
    """Add the options; the command gets them as `package`."""
    return gathered(command, "package", PackageOptions, _OPTIONS)
