"""The verb `export`: a chain as one disk, or as a machine that other products open."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import click

from converter.cli.caching import Caching, cache_options
from converter.cli.exportables import find_exportable
from converter.cli.images import parse_argument
from converter.cli.interruption import interrupted_by_signals
from converter.cli.machine_options import machine_options
from converter.cli.options import (
    conversion_options,
    format_option,
    open_store,
    source_options,
    store_option,
)
from converter.cli.output import Output
from converter.cli.package_options import package_options
from converter.convert_options import ConvertOptions
from converter.errors import AuthError, UnavailableError, UsageError
from converter.export.exportable import Exportable
from converter.export.kinds import EXPORT_TYPES, make_export
from converter.export.options import MachineOptions, PackageOptions
from converter.export.request import AUTO, CODECS, ExportRequest, read_codec
from converter.export.settings import Attachment
from converter.image.reference import BundleReference, SourceReference
from converter.image.source import Origin
from converter.store.layout import Store
from converter.store.locks import using

_STANDARD_OUTPUT = Path("-")


@click.command("export")
@click.argument("source")
@click.option(
    "--type",
    "kind",
    type=click.Choice(list(EXPORT_TYPES)),
    required=True,
    envvar="SALTFLAT_EXPORT_TYPE",
    show_envvar=True,
    help="stream: one streamOptimized disk; flat: a descriptor and a raw file; sparse: one "
    "monolithicSparse disk; vmx: a folder for VMware's desktop products; "
    "ovf, ova: a package for vSphere, as a folder or as one file.",
)
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path),
    required=True,
    envvar="SALTFLAT_EXPORT_OUTPUT",
    show_envvar=True,
    help="The file or folder to make; - for standard output, where the type allows it.",
)
@click.option(
    "--force",
    is_flag=True,
    envvar="SALTFLAT_EXPORT_FORCE",
    show_envvar=True,
    help="Replace a file that is there, or a folder that an export of this type made.",
)
@click.option(
    "--codec",
    "library",
    type=click.Choice(CODECS),
    default=AUTO,
    envvar="SALTFLAT_CODEC",
    show_envvar=True,
    show_default=True,
    help="What deflates a compressed disk. auto is isal where it is installed, else zlib; one of "
    "them gives the same bytes on every machine.",
)
@click.option(
    "--compression-level",
    "level",
    type=int,
    envvar="SALTFLAT_COMPRESSION_LEVEL",
    show_envvar=True,
    help="0 to 3 for isal, 1 to 9 for zlib; else the codec's usual one.",
)
@click.option(
    "--provenance/--no-provenance",
    "provenance",
    default=None,
    envvar="SALTFLAT_PROVENANCE",
    show_envvar=True,
    help="Say in a file beside the disks what they were made of; flat does not unless it is asked "
    "to, for its disk would have to be read once more with all its zeros.",
)
@click.option(
    "--sbom/--no-sbom",
    "sbom",
    default=True,
    envvar="SALTFLAT_EXPORT_SBOM",
    show_envvar=True,
    show_default=True,
    help="Put the bills of materials that the image carries as referrers beside the disks, as they "
    "are; a bundle carries none.",
)
@machine_options
@package_options
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
    kind: str,
    out: Path,
    force: bool,
    library: str,
    level: int | None,
    provenance: bool | None,
    sbom: bool,
    machine: MachineOptions,
    package: PackageOptions,
    conversion: ConvertOptions,
    caching: Caching,
    origin: Origin,
    store_root: Path,
) -> int:
    """Write the image or bundle SOURCE as a disk, or as a machine, that others take.

    An image is converted into the store first if it has to be. OUT appears whole or not at all. The
    same image, options and codec give the same bytes.

    \b
    Examples:
      saltflat export debian:12 --type stream -o debian.vmdk
      saltflat export ./bundle --type sparse -o disk.vmdk --force
      saltflat export debian:12 --type stream -o - | ssh host 'cat > debian.vmdk'
      saltflat export ./bundle --type vmx -o ./web --serial-log
      saltflat export nginx:1.27 --type ova -o nginx.ova --sign key.pem --cert chain.pem
      saltflat export oci:./layout:1.0 --type flat -o disk.vmdk --format json
    """
    made = EXPORT_TYPES[kind]
    pipe = _standard_output(kind) if out == _STANDARD_OUTPUT else None
    request = ExportRequest(
        kind=kind,
        out=None if pipe else out,
        force=force,
        codec=read_codec(library, level),
        machine=machine,
        package=package,
        provenance=provenance,
    )
    request.check()
    reference = parse_argument(source)
    store = open_store(store_root)
    with using(store, monitor=output.monitor):
        if made.is_machine and not isinstance(reference, BundleReference):
            machine.boot_medium(store, origin.platform, None, request.medium)  # before any fetch
        found = find_exportable(
            source,
            reference,
            store,
            origin=origin,
            conversion=conversion,
            caching=caching,
            output=output,
        )
        bills = () if pipe or not sbom else _bills(reference, found, origin, store, output)
        export = request.export_of(found, store, bills)
        if pipe is not None and made.pipe is not None:
            made.pipe(export, pipe, output.monitor)
            return 0
        with interrupted_by_signals():
            files = make_export(export, out, force=force, monitor=output.monitor)
    codec = request.codec
    sizes = {file: file.stat().st_size for file in files}
    output.result(
        "\n".join(f"{file}  {size:>12,} bytes" for file, size in sizes.items()),
        {
            "schema": 1,
            "reference": found.image.reference,
            "digest": str(found.image.digest),
            "platform": str(found.image.platform),
            "type": kind,
            "output": str(out),
            "capacity": found.capacity_bytes,
            "codec": {
                "library": codec.library,
                "version": codec.version,
                "level": codec.level,
            }
            if made.is_compressed
            else None,
            "files": [{"file": str(file), "size": size} for file, size in sizes.items()],
        },
    )
    return 0


def _bills(
    reference: SourceReference, found: Exportable, origin: Origin, store: Store, output: Output
) -> tuple[Attachment, ...]:
    if isinstance(reference, BundleReference):
        return ()
    # Half of what this loads is for artifacts in registries; who exports a bundle need not wait.
    from converter.artifact.sbom_source import sboms_of  # noqa: PLC0415 - see above

    try:
        bills = sboms_of(reference, found.image, origin, store, monitor=output.monitor)
    except (AuthError, UnavailableError) as error:  # of a registry whose mirror had the image
        error.hint = error.hint or "--no-sbom does not ask for what else the image carries."
        raise
    return tuple(Attachment(bill.ending, bill.data) for bill in bills)


def _standard_output(kind: str) -> BinaryIO:
    """Return standard output, unbuffered. Raises UsageError if the export cannot go there."""
    if EXPORT_TYPES[kind].pipe is None:
        able = ", ".join(name for name, made in EXPORT_TYPES.items() if made.pipe is not None)
        raise UsageError(
            f"--type {kind} cannot be written to standard output: it is not one stream of bytes.",
            expected=f"a file or folder with -o, or one of the types {able}",
        )
    if sys.stdout.isatty():
        raise UsageError(
            "Standard output is a terminal, and a disk is no text.",
            expected="a pipe or a file behind -o -",
        )
    return open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)
