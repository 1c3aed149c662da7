"""The verbs `boot build` and `boot list`."""

from __future__ import annotations

from pathlib import Path

import click

from converter.cli.options import format_option, open_store, store_option
from converter.cli.output import Output
from converter.store.bootimages import default_boot_image, list_boot_images, set_default
from converter.store.locks import using
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
    "--kernel",
    "kernel_name",
    metavar="stock|generic|tiny|PATH",
    default="stock",
    show_default=True,
    envvar="SALTFLAT_KERNEL",
    show_envvar=True,
    help="stock and generic are the distribution's, tiny is built here once (some minutes), PATH "
    "is a kernel of your own.",
)
@click.option(
    "--modules",
    "modules_folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="SALTFLAT_MODULES",
    show_envvar=True,
    help="The folder /lib/modules/VERSION of the kernel PATH. Without it, all is built in.",
)
@store_option
@format_option
@click.pass_obj
def build(
    output: Output,
    *,
    refresh: bool,
    kernel_name: str,
    modules_folder: Path | None,
    store_root: Path,
) -> int:
    """Build a boot image from the distribution's own packages. Needs no root.

    \b
    Examples:
      saltflat boot build
      saltflat boot build --refresh
      saltflat boot build --kernel tiny
      saltflat boot build --kernel /boot/vmlinuz-6.1.0-1-amd64 --modules /lib/modules/6.1.0-1-amd64
    """
    from tinykernel.build import build_boot_image  # noqa: PLC0415 - `boot list` does without
    from tinykernel.kernel.choice import choose_kernel  # noqa: PLC0415 - as above

    kernel = choose_kernel(kernel_name, modules_folder)
    store = open_store(store_root)
    with using(store, monitor=output.monitor):  # until it is the default, gc would take it
        image = build_boot_image(
            store.boot,
            cache_dir=store.cache / "packages",
            monitor=output.monitor,
            refresh=refresh,
            kernel=kernel,
        )
        set_default(store, image)
    output.result(_line(image), {"schema": 1, **image.to_json(), "folder": str(image.folder)})
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
        f"{image.id}  {image.arch}  Linux {image.kernel_version} ({image.kernel_flavour})  "
        f"Python {image.python}  protocol {image.protocol}"
    )
