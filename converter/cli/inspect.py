"""The verb `inspect`: a machine, an image as its registry has it, a bundle as it lies there."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import click

from converter.atomic import write_atomic
from converter.cli.drivers import Driver, driver_option
from converter.cli.images import image_of_bundle, open_image
from converter.cli.machine_rows import paragraph
from converter.cli.options import (
    format_option,
    source_options,
)
from converter.cli.output import Output
from converter.cli.reach import complete_machine
from converter.diskmap.html import encode_html
from converter.diskmap.model import DiskMap
from converter.diskmap.svg import encode_svg
from converter.errors import AuthError, NotFoundError, UnavailableError, UsageError
from converter.image.model import Image
from converter.image.reference import BundleReference, parse_source
from converter.image.source import Origin
from converter.machine.machines import NAME_RULE as MACHINE_NAME
from converter.machine.machines import MachineRecord
from converter.store.bundle import Bundle, read_bundle
from converter.store.bundle_boot import BundleBoot
from converter.survey import survey

_KINDS = ("machine", "image", "bundle")
_DRAWINGS = {".svg": encode_svg, ".html": encode_html}


@click.command("inspect")
@click.argument("source", shell_complete=complete_machine)
@click.option(
    "--type",
    "kind",
    type=click.Choice(_KINDS),
    help="Take SOURCE for nothing else; without it a machine comes first.",
)
@click.option(
    "--map",
    "map_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.svg|FILE.html",
    envvar="SALTFLAT_INSPECT_MAP",
    show_envvar=True,
    help="Also draw where each link of a bundle holds what, and name its heaviest files.",
)
@source_options
@driver_option
@format_option
@click.pass_obj
def command(
    output: Output,
    *,
    source: str,
    kind: str | None,
    map_file: Path | None,
    origin: Origin,
    driver: Driver,
) -> int:
    """Show the machine, image or bundle SOURCE: how it does, what it runs, its layers or links.

    A machine is found by its name or the beginning of its id, before an image of that name is. No
    secret is shown, but the environment is.

    \b
    Examples:
      saltflat inspect web
      saltflat inspect --format json 3f2a91
      saltflat inspect debian:12
      saltflat inspect --authfile ./auth.json registry.example/team/app:1
      pass show registry | saltflat inspect --username ali --password-stdin registry.example/app
      saltflat inspect docker-archive:saved.tar:app:1
      saltflat inspect ./bundle --format json
      saltflat inspect ./bundle --map bundle.html
    """
    draw = None if map_file is None else _drawing(map_file)
    if kind in {None, "machine"} and draw is None:
        record = _find_machine(output, driver, source, must=kind is not None)
        if record is not None:
            output.result(paragraph(record, time.time_ns()), record.to_json())
            return 0
    reference = parse_source(source)
    is_bundle = isinstance(reference, BundleReference)
    if kind is not None and is_bundle != (kind == "bundle"):
        raise UsageError(f"{source!r} is no {kind}.", expected=f"a source that is a {kind}")
    if isinstance(reference, BundleReference):
        bundle = read_bundle(reference.path)
        if map_file is not None and draw is not None:
            _draw_map(output, bundle, map_file, draw)
        _show_bundle(output, bundle)
        return 0
    if map_file is not None:
        raise UsageError(
            f"{source!r} is no bundle, and --map draws bundles alone.",
            expected="a bundle's folder",
            hint=f"Make one with: saltflat convert {source} -o DIR",
        )
    try:
        with open_image(source, origin, monitor=output.monitor) as (image, _):
            _show_image(output, image)
    except (AuthError, NotFoundError, UnavailableError) as error:
        if kind is None and MACHINE_NAME.fullmatch(source):
            error.add_context(f"No machine is called {source}; taken for an image's name")
        raise
    return 0


def _drawing(file: Path) -> Callable[[DiskMap], bytes]:
    """Return what makes a file of that name. Raises UsageError when its ending says nothing."""
    drawing = _DRAWINGS.get(file.suffix)
    if drawing is None:
        raise UsageError(
            f"--map {os.fspath(file)!r} says not what to draw.",
            expected="a name that ends with .svg or .html",
        )
    return drawing


def _draw_map(output: Output, bundle: Bundle, file: Path, draw: Callable[[DiskMap], bytes]) -> None:
    data = draw(survey(bundle, image_of_bundle(bundle), monitor=output.monitor))
    try:
        write_atomic(file, data)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise UsageError(
            f"{file} cannot be written: {error.strerror}.",
            expected="a path in a folder that is there",
        ) from error


def _find_machine(output: Output, driver: Driver, name: str, *, must: bool) -> MachineRecord | None:
    """Return the machine of that name; None when there is none, which is an error if it `must`."""
    if not must and MACHINE_NAME.fullmatch(name) is None:
        return None
    try:
        return driver.open(output.monitor).find(name)
    except NotFoundError:
        if must:
            raise
        return None


def _show_image(output: Output, image: Image) -> None:
    layers = [
        {
            "digest": str(layer.descriptor.digest),
            "diff_id": str(layer.diff_id),
            "media_type": layer.descriptor.media_type,
            "size": layer.descriptor.size_bytes,
        }
        for layer in image.layers
    ]
    rows = [f"{layer['digest']}  {layer['size']:>12,} bytes" for layer in layers]
    output.result(
        "\n".join(
            [
                f"{image.reference}  {image.digest}  {image.platform}",
                *_execution_lines(image.config.execution),
                *rows,
            ]
        ),
        {
            "schema": 1,
            "kind": "image",
            "reference": image.reference,
            "digest": str(image.digest),
            "platform": str(image.platform),
            "config": json.loads(image.config_raw),
            "layers": layers,
        },
    )


def _show_bundle(output: Output, bundle: Bundle) -> None:
    config = json.loads(bundle.config_raw)
    rows = [f"{link.link_id}  {link.size:>12,} bytes" for link in bundle.links]
    output.result(
        "\n".join(
            [
                f"{bundle.reference}  {bundle.digest}  {bundle.platform}",
                f"capacity: {bundle.parameters.capacity_bytes:,} bytes",
                *_boot_lines(bundle.boot),
                *_execution_lines(config.get("config") or {}),
                *rows,
            ]
        ),
        {
            "schema": 1,
            "kind": "bundle",
            "reference": bundle.reference,
            "digest": bundle.digest,
            "platform": bundle.platform,
            "capacity": bundle.parameters.capacity_bytes,
            "boot": None if bundle.boot is None else bundle.boot.to_json(),
            "config": config,
            "links": [
                {
                    "link_id": link.link_id,
                    "parent": link.parent,
                    "layers": list(link.layers),
                    "file": link.file,
                    "size": link.size,
                    "sha256": link.sha256,
                }
                for link in bundle.links
            ],
        },
    )


def _boot_lines(boot: BundleBoot | None) -> list[str]:
    if boot is None:
        return []
    return [f"boot image: {boot.id}  Linux {boot.kernel_version} ({boot.kernel})"]


def _execution_lines(execution: object) -> list[str]:
    if not isinstance(execution, dict):
        return []
    names = ("Entrypoint", "Cmd", "User", "WorkingDir", "Env")
    return [f"{name}: {json.dumps(execution[name])}" for name in names if execution.get(name)]
