"""The verb `inspect`: an image as the registry has it, or a bundle as it lies on the disk."""

from __future__ import annotations

import json

import click

from converter.cli.images import open_image
from converter.cli.options import Origin, format_option, source_options
from converter.cli.output import Output
from converter.image.model import Image
from converter.image.reference import BundleReference, parse_source
from converter.store.bundle import Bundle, read_bundle


@click.command("inspect")
@click.argument("source")
@source_options
@format_option
@click.pass_obj
def command(
    output: Output,
    *,
    source: str,
    origin: Origin,
) -> int:
    """Show the image or bundle SOURCE: what it runs, its layers or its links.

    \b
    Examples:
      saltflat inspect debian:12
      saltflat inspect --authfile ./auth.json registry.example/team/app:1
      pass show registry | saltflat inspect --username ali --password-stdin registry.example/app
      saltflat inspect docker-archive:saved.tar:app:1
      saltflat inspect ./bundle --format json
    """
    reference = parse_source(source)
    if isinstance(reference, BundleReference):
        _show_bundle(output, read_bundle(reference.path))
        return 0
    with open_image(source, origin, monitor=output.monitor) as (image, _):
        _show_image(output, image)
    return 0


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


def _execution_lines(execution: object) -> list[str]:
    if not isinstance(execution, dict):
        return []
    names = ("Entrypoint", "Cmd", "User", "WorkingDir", "Env")
    return [f"{name}: {json.dumps(execution[name])}" for name in names if execution.get(name)]
