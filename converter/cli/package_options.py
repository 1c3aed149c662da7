"""Options of a package around an exported machine: OVF and OVA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from converter.cli.machine_options import gathered
from converter.export.options import BOOT_MEDIA, PackageOptions

_Command = TypeVar("_Command", bound=Callable[..., Any])


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
        type=click.Choice(list(BOOT_MEDIA)),
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
