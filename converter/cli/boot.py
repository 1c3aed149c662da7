"""The verbs of `boot`: build, list, verify, push and pull boot images."""

from __future__ import annotations

from pathlib import Path

import click

from converter.artifact.boot import pull_boot_image, push_boot_image
from converter.artifact.target import parse_target
from converter.cli.boot_verify import size_documents, size_lines, verify
from converter.cli.options import format_option, open_store, store_option
from converter.cli.output import Output
from converter.cli.registries import registry_options
from converter.errors import NotFoundError, UsageError
from converter.image.reference import RegistryReference, parse_source
from converter.image.source import SourceOptions
from converter.registry.artifacts import ArtifactRepository
from converter.registry.client import RegistryClient
from converter.store.bootimages import default_boot_image, list_boot_images, set_default
from converter.store.locks import using
from tinykernel.media.record import Kind, Medium
from tinykernel.media.sign import split_command
from tinykernel.record import BootImage
from tinykernel.verify.sizes import part_sizes


@click.group("boot")
def command() -> None:
    """Build and move boot images: the kernel and the agent that every machine starts with.

    \b
    Examples:
      saltflat boot build
      saltflat boot list --long
    """


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
@click.option(
    "--signed-modules",
    is_flag=True,
    envvar="SALTFLAT_SIGNED_MODULES",
    show_envvar=True,
    help="Keep the signatures of the distribution's modules, which Secure Boot wants: each start "
    "takes 0.1 s longer.",
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
    help="Sign the media's EFI executable for Secure Boot: a command with {in} and {out}. Implies "
    "--signed-modules.",
)
@click.option(
    "--debug",
    "with_shell",
    is_flag=True,
    help="Make a variant with a shell for who looks for a fault in a guest. Machines start with it "
    "only where they are told to: saltflat run --boot.",
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
    signed_modules: bool,
    kinds: tuple[str, ...],
    append: str,
    sign_cmd: str | None,
    with_shell: bool,
    store_root: Path,
) -> int:
    """Build a boot image from the distribution's own packages. Needs no root.

    \b
    Examples:
      saltflat boot build
      saltflat boot build --refresh
      saltflat boot build --kernel tiny
      saltflat boot build --kernel /boot/vmlinuz-6.1.0-1-amd64 --modules /lib/modules/6.1.0-1-amd64
      saltflat boot build --debug
      saltflat boot build --media iso --media stream
      saltflat boot build --media uki --sign-cmd 'sbsign --key k --cert c --output {out} {in}'
    """
    from tinykernel.build import build_boot_image  # noqa: PLC0415 - `boot list` does without
    from tinykernel.kernel.choice import choose_kernel  # noqa: PLC0415 - `boot list` does without
    from tinykernel.media.build import build_media  # noqa: PLC0415 - `boot list` does without
    from tinykernel.packages import open_package_set  # noqa: PLC0415 - `boot list` does without

    if (append or sign_cmd is not None) and not kinds:
        raise UsageError(
            "--append and --sign-cmd are about media, and none was asked for.",
            expected="--media with them",
        )
    signing_command = None if sign_cmd is None else split_command(sign_cmd)
    # Firmware that looks at signatures makes the kernel look at those of modules.
    signed = signed_modules or signing_command is not None
    kernel = choose_kernel(kernel_name, modules_folder, signed_modules=signed)
    store = open_store(store_root)
    cache = store.cache / "packages"
    media: tuple[Medium, ...] = ()
    with using(store, monitor=output.monitor):  # until it is the default, gc would take it
        image = build_boot_image(
            store.boot,
            cache_dir=cache,
            monitor=output.monitor,
            refresh=refresh,
            kernel=kernel,
            debug=with_shell,
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
        if not image.debug:
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
@click.option(
    "--long",
    is_flag=True,
    envvar="SALTFLAT_LONG",
    show_envvar=True,
    help="Also say how much of each image is there for what.",
)
@store_option
@format_option
@click.pass_obj
def list_images(output: Output, *, long: bool, store_root: Path) -> int:
    """List the boot images in the store; the one that `run` takes is marked.

    \b
    Examples:
      saltflat boot list
      saltflat boot list --long
      saltflat boot list --format json
    """
    store = open_store(store_root)
    images = list_boot_images(store)
    default = default_boot_image(store)
    lines = []
    documents = []
    for image in images:
        lines.append(_line(image) + ("  default" if image == default else ""))
        document = {**image.to_json(), "folder": str(image.folder), "default": image == default}
        if long:
            sizes = part_sizes(image.folder)
            for path in (image.kernel, image.initrd):
                lines.append(f"  {path.name:<17}{path.stat().st_size:>24,} bytes")
            lines += [f"    {line}" for line in size_lines(sizes)]
            document["parts"] = size_documents(sizes)
        documents.append(document)
    output.result(
        "\n".join(lines) or "no boot image; make one with: saltflat boot build",
        {"schema": 1, "boot_images": documents},
    )
    return 0


command.add_command(verify)


@command.command("push")
@click.argument("target")
@registry_options
@store_option
@format_option
@click.pass_obj
def push(output: Output, *, target: str, access: SourceOptions, store_root: Path) -> int:
    """Push the boot image that machines start with, and its media, to TARGET, HOST/REPO[:TAG].

    So hosts get one that cannot build it. What is in the repository already is not sent.

    \b
    Examples:
      saltflat boot push registry.example/saltflat/boot:stock
    """
    place = parse_target(target)
    store = open_store(store_root)
    with (
        using(store, monitor=output.monitor),
        RegistryClient(place.reference.api_host, access) as client,
    ):
        image = default_boot_image(store)
        if image is None:
            raise NotFoundError(
                "There is no boot image in the store.", hint="Make one with: saltflat boot build"
            )
        repository = ArtifactRepository(client, place.repository, host=place.reference.host)
        digest = push_boot_image(image, repository, place, monitor=output.monitor)
    name = f"{place.reference.host}/{place.repository}@{digest}"
    output.result(name, {"schema": 1, "reference": name, "tag": place.tag, "id": image.id})
    return 0


@command.command("pull")
@click.argument("source")
@registry_options
@store_option
@format_option
@click.pass_obj
def pull(output: Output, *, source: str, access: SourceOptions, store_root: Path) -> int:
    """Pull the boot image SOURCE, HOST/REPO:TAG or HOST/REPO@DIGEST; machines start with it then.

    Every byte is checked against the digests of the artifact; who made it is trusted for what is in
    it, which is the agent's code and the machine's kernel: name it by its digest.

    \b
    Examples:
      saltflat boot pull registry.example/saltflat/boot@sha256:...
    """
    reference = parse_source(source)
    if not isinstance(reference, RegistryReference):
        raise UsageError(
            f"{source} is not in a registry.", expected="HOST/REPO:TAG or HOST/REPO@DIGEST"
        )
    store = open_store(store_root)
    with (
        using(store, monitor=output.monitor),  # until it is the default, gc would take it
        RegistryClient(reference.api_host, access) as client,
    ):
        repository = ArtifactRepository(client, reference.repository, host=reference.host)
        image = pull_boot_image(repository, reference.identifier, store, monitor=output.monitor)
        if not image.debug:
            set_default(store, image)
    output.result(_line(image), {"schema": 1, **image.to_json(), "folder": str(image.folder)})
    return 0


def _line(image: BootImage) -> str:
    return (
        f"{image.id}  {image.arch}  Linux {image.kernel_version} ({image.name})  "
        f"Python {image.python}  protocol {image.protocol}"
    )
