"""The verb `convert`: an image's chain into the store, and a bundle on request."""

from __future__ import annotations

from pathlib import Path

import click

from converter.cli.caching import Caching, cache_options
from converter.cli.chains import chain_document, chain_lines
from converter.cli.images import convert_source
from converter.cli.options import (
    bundle_options,
    conversion_options,
    format_option,
    open_store,
    source_options,
    store_option,
)
from converter.cli.output import Output
from converter.convert_options import ConvertOptions
from converter.image.source import Origin
from converter.library import BundleTarget
from converter.store.bundle_boot import bundle_boot
from converter.store.locks import using


@click.command("convert")
@click.argument("source")
@bundle_options
@click.option(
    "--if-changed",
    is_flag=True,
    envvar="SALTFLAT_IF_CHANGED",
    show_envvar=True,
    help="Do nothing where this very image is converted with these options, and the bundle is of "
    "it; one of another image still needs --force.",
)
@conversion_options
@cache_options
@source_options
@store_option
@format_option
@click.pass_obj
def command(
    output: Output,
    *,
    source: str,
    bundle: Path | None,
    boot_name: str | None,
    force: bool,
    copy: bool,
    if_changed: bool,
    conversion: ConvertOptions,
    caching: Caching,
    origin: Origin,
    store_root: Path,
) -> int:
    """Turn the image SOURCE into a chain of VMDK disks: links for its layers, base first.

    SOURCE is [docker://]HOST/REPO[:TAG][@DIGEST] as docker reads it, oci:DIR[:TAG],
    oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME[:TAG] or :@NUMBER], where FILE may be
    compressed, or - for standard input. Layers that are already in the store are not converted
    again.

    \b
    Examples:
      saltflat convert debian:12
      saltflat convert --plain-http localhost:5000/app:1 -o ./app
      saltflat convert --mirror mirror.example/hub --parallel-fetches 8 debian:12
      saltflat convert debian:12 -o /media/usb/debian --copy
      saltflat convert oci:./layout:1.0 --format json
      saltflat convert --if-changed --policy policy.yaml registry.example/app:1 -o ./app --force
      saltflat convert oci-archive:app.tar.zst --platform linux/arm64
      docker save app:1 | saltflat convert docker-archive:-
    """
    store = open_store(store_root)
    with using(store, monitor=output.monitor):  # for the boot image that the bundle names
        target = None
        if bundle is not None:
            target = BundleTarget(bundle, bundle_boot(store, boot_name), force=force, copy=copy)
        converted = convert_source(
            source,
            store,
            origin=origin,
            conversion=conversion,
            caching=caching,
            bundle=target,
            if_changed=if_changed,
            monitor=output.monitor,
        )
    chain = converted.chain
    lines = chain_lines(chain.image, chain.links, bundle)
    if not converted.changed:
        lines.append("unchanged: it was converted before")
    document = chain_document(chain.image, chain.parameters, chain.links, chain.disks, bundle)
    output.result("\n".join(lines), {"schema": 1, **document, "changed": converted.changed})
    return 0
