"""The options -v and --mount of `run`: which volumes a machine shall have."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import click

from converter.cli.options import size
from converter.errors import UsageError
from converter.volume.request import VolumeRequest, volume_requests

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class VolumeOptions:
    """What the command line says about volumes."""

    specifications: tuple[str, ...]
    mounts: tuple[str, ...]

    def check(self) -> None:
        """Raise UsageError for what is wrong whatever the image says."""
        self.requests({})

    def requests(self, image: Mapping[str, Any]) -> tuple[VolumeRequest, ...]:
        """Return what is asked for, with what the image's own `config` object adds.

        Raises UsageError for what Docker would refuse, and for folders of this host.
        """
        volumes = image.get("Volumes") or {}
        if not isinstance(volumes, dict):
            raise UsageError("The image's Volumes are no JSON object.")
        return volume_requests(self.specifications, self.mounts, volumes, read_size=size)


def volume_options(command: _Command) -> _Command:
    """Add -v and --mount; the command gets them as `volumes`."""

    @functools.wraps(command)
    def with_volumes(
        *args: object, volume: tuple[str, ...], mount: tuple[str, ...], **others: object
    ) -> object:
        return command(*args, volumes=VolumeOptions(volume, mount), **others)

    options = [
        click.option(
            "-v",
            "--volume",
            multiple=True,
            metavar="[NAME:]PATH[:ro][,nocopy]",
            help="Mount a volume, made if it is missing; without a NAME a new one for this machine "
            "alone. Folders of this host cannot be mounted.",
        ),
        click.option(
            "--mount",
            multiple=True,
            metavar="KEY=VALUE,...",
            help="As -v, in words: type=volume,source=NAME,target=PATH[,readonly][,volume-nocopy]"
            "[,volume-label=KEY=VALUE][,volume-opt=size=SIZE].",
        ),
    ]
    wrapped = cast("_Command", with_volumes)
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped
