"""The verbs `boot build` and `boot list`."""

from __future__ import annotations

from pathlib import Path

import click

from converter.cli.options import format_option, open_store, store_option
from converter.cli.output import Output
from converter.errors import UsageError
from converter.store.bootimages import default_boot_image, list_boot_images, set_default
from converter.store.locks import using
from tinykernel.media.record import Kind, Medium
from tinykernel.media.sign import split_command
from tinykernel.record import BootImage


@click.group("boot")
def command() -> None:
    """Build and list boot images: the kernel and the agent that every machine starts with."""


@command.command("build")
@click.option(
    "--refresh",
    is_flag=True,
    envvar="SALTFLAT_REFRESH",
    show_envvar=True,
    help="Fetch the newest packages instead of using the cached ones.",
)
@click.option(
    "--media",
    "kinds",
    multiple=True,
    type=click.Choice([kind.value for kind in Kind]),
    help="Also make what a machine boots from: an EFI executable (uki), an ISO image, a disk as "
    "monolithicSparse (vmdk) or streamOptimized (stream); repeatable.",
)
@click.option(
    "--append",
    default="",
    metavar="ARGUMENTS",
    help="Add these to the kernel's command line on the media.",
)
@click.option(
    "--sign-cmd",
    metavar="COMMAND",
    help="Sign the media's EFI executable for Secure Boot: a command with {in} and {out}.",
)
@store_option
@format_option
@click.pass_obj
def build(
    output: Output,
    *,
    refresh: bool,
    kinds: tuple[str, ...],
    append: str,
    sign_cmd: str | None,
    store_root: Path,
) -> int:
    """Build a boot image from the distribution's own packages. Needs no root.

    \b
    Examples:
      saltflat boot build
      saltflat boot build --refresh
      saltflat boot build --media iso --media stream
      saltflat boot build --media uki --sign-cmd 'sbsign --key k --cert c --output {out} {in}'
    """
    from tinykernel.build import build_boot_image  # noqa: PLC0415 - `boot list` does without
    from tinykernel.media.build import build_media  # noqa: PLC0415 - `boot list` does without
    from tinykernel.packages import open_package_set  # noqa: PLC0415 - `boot list` does without

    if (append or sign_cmd is not None) and not kinds:
        raise UsageError(
            "--append and --sign-cmd are about media, and none was asked for.",
            expected="--media with them",
        )
    signing_command = None if sign_cmd is None else split_command(sign_cmd)
    store = open_store(store_root)
    cache = store.cache / "packages"
    media: tuple[Medium, ...] = ()
    with using(store, monitor=output.monitor):  # until it is the default, gc would take it
        image = build_boot_image(
            store.boot, cache_dir=cache, monitor=output.monitor, refresh=refresh
        )
        if kinds:
            with open_package_set(cache, monitor=output.monitor) as packages:
                media = build_media(
                    image,
                    [Kind(kind) for kind in kinds],
                    packages,
                    monitor=output.monitor,
                    extra_arguments=append,
                    signing_command=signing_command,
                )
        set_default(store, image)
    output.result(
        "\n".join([_line(image), *(f"{medium.kind}  {medium.path}" for medium in media)]),
        {
            "schema": 1,
            **image.to_json(),
            "folder": str(image.folder),
            "media": [medium.to_json() for medium in media],
        },
    )
    return 0


@command.command("list")
@store_option
@format_option
@click.pass_obj
def list_images(output: Output, *, store_root: Path) -> int:
    """List the boot images in the store; the one that `run` takes is marked.

    \b
    Examples:
      saltflat boot list
      saltflat boot list --format json
    """
    store = open_store(store_root)
    images = list_boot_images(store)
    default = default_boot_image(store)
    lines = [_line(image) + ("  default" if image == default else "") for image in images]
    output.result(
        "\n".join(lines) or "no boot image; make one with: saltflat boot build",
        {
            "schema": 1,
            "boot_images": [
                {**image.to_json(), "folder": str(image.folder), "default": image == default}
                for image in images
            ],
        },
    )
    return 0


def _line(image: BootImage) -> str:
    return (
        f"{image.id}  {image.arch}  Linux {image.kernel_version}  Python {image.python}  "
        f"protocol {image.protocol}"
    )
