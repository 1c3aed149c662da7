"""The verb `verify`: hold a converted image to everything that is known of it."""

from __future__ import annotations

from pathlib import Path

import click

from converter import library
from converter.cli.images import parse_argument
from converter.cli.options import (
    format_option,
    limit_options,
    source_options,
    store_option,
)
from converter.cli.output import Output
from converter.image.source import Origin
from converter.layer.limits import Limits
from converter.verification import Check

_BUNDLE_PREFIX = "bundle:"


@click.command("verify")
@click.argument("target", metavar="BUNDLE|VMDK")
@click.option(
    "--image",
    "source",
    metavar="SOURCE",
    envvar="SALTFLAT_IMAGE",
    show_envvar=True,
    help="Also compare every file with the layers of this image.",
)
@limit_options
@source_options
@store_option
@format_option
@click.pass_obj
def command(
    output: Output,
    *,
    target: str,
    source: str | None,
    origin: Origin,
    store_root: Path,
    limits: Limits,
) -> int:
    """Check a bundle, or a chain by its topmost VMDK link, down to the last sector.

    Digests, identities, grain tables, the chain and the file system in it are checked; nothing is
    asked of any network. With --image, the tree is compared with the image's layers as well: names,
    attributes and content. Exit code 5 means that something is wrong; the first fault is named.

    \b
    Examples:
      saltflat verify ./bundle
      saltflat verify ./bundle --image oci:./layout:1.0
      saltflat verify ./bundle/disk/TOP.vmdk --format json
    """
    path = Path(target.removeprefix(_BUNDLE_PREFIX))
    if source is not None:
        parse_argument(source)
    checks = library.verify(
        path,
        image=source,
        store=store_root,
        origin=origin,
        limits=limits,
        monitor=output.monitor,
    )
    _show(output, path, checks)
    return 0


def _show(output: Output, target: Path, checks: tuple[Check, ...]) -> None:
    output.result(
        "\n".join(f"{check.subject}: {check.summary}" for check in checks),
        {
            "schema": 1,
            "target": str(target),
            "checks": [{"subject": check.subject, "summary": check.summary} for check in checks],
        },
    )
