"""The verb `pull`: a chain out of a registry into the store, and a bundle on request."""

from __future__ import annotations

from pathlib import Path

import click

from converter.artifact.pull import FoundChain, Wanted, find_chain, pull_chain
from converter.cli.chains import chain_document, chain_lines
from converter.cli.options import (
    bundle_options,
    format_option,
    open_store,
    policy_option,
    size,
    source_options,
    store_option,
)
from converter.cli.output import Output
from converter.errors import UsageError
from converter.image.reference import RegistryReference, parse_source
from converter.image.registry_source import RegistrySource
from converter.image.source import Origin
from converter.policy import Policy
from converter.registry.artifacts import ArtifactRepository
from converter.registry.client import RegistryClient
from converter.store.bundle import refuse_occupied, write_bundle
from converter.store.bundle_boot import bundle_boot
from converter.store.links import disk_path
from converter.store.locks import using


@click.command("pull")
@click.argument("target")
@bundle_options
@click.option(
    "--capacity",
    type=size,
    envvar="SALTFLAT_CAPACITY",
    show_envvar=True,
    help="Of an image's chains take one with disks of this size.",
)
@click.option(
    "--journal/--no-journal",
    default=None,
    envvar="SALTFLAT_JOURNAL",
    show_envvar=True,
    help="Of an image's chains take one with a journal, or one without.",
)
@policy_option
@source_options
@store_option
@format_option
@click.pass_obj
def command(
    output: Output,
    *,
    target: str,
    bundle: Path | None,
    boot_name: str | None,
    force: bool,
    copy: bool,
    capacity: int | None,
    journal: bool | None,
    policy: Policy,
    origin: Origin,
    store_root: Path,
) -> int:
    """Pull the chain TARGET into the store, and with -o into a bundle.

    TARGET is a chain, HOST/REPO:TAG or HOST/REPO@DIGEST, or an image that a chain refers to. Every
    byte is checked against the digests of the artifact, and every link against its own hash and
    what a link of saltflat looks like; who made it is trusted for what is in it.

    \b
    Examples:
      saltflat pull registry.example/app:1 -o ./app
      saltflat pull registry.example/app:1-chain
      saltflat pull registry.example/app@sha256:... --format json
    """
    reference = parse_source(target)
    if not isinstance(reference, RegistryReference):
        raise UsageError(
            f"{target} is not in a registry.", expected="HOST/REPO:TAG or HOST/REPO@DIGEST"
        )
    policy.check_reference(reference)
    if bundle is not None:
        refuse_occupied(bundle, force=force)  # before anything is fetched
    store = open_store(store_root)
    with RegistryClient(reference.api_host, origin.access) as client:
        repository = ArtifactRepository(client, reference.repository, host=reference.host)
        source = RegistrySource(reference, client)
        found = find_chain(
            repository,
            reference.identifier,
            lambda: source.resolve(origin.platform),
            Wanted(capacity, journal),
            monitor=output.monitor,
        )
        policy.check_image(found.image)
        policy.check_disks(target, sum(link.size_bytes for link in found.record.disks))
        with using(store, monitor=output.monitor):
            boot = None if bundle is None else bundle_boot(store, boot_name)
            links = pull_chain(repository, found, store, monitor=output.monitor)
            disks = tuple(disk_path(store, link.link_id) for link in links)
            if bundle is not None:
                write_bundle(
                    bundle,
                    found.image,
                    found.record.parameters,
                    links,
                    disks,
                    boot=boot,
                    force=force,
                    copy=copy,
                )
    _show(output, found, disks, bundle)
    return 0


def _show(output: Output, found: FoundChain, disks: tuple[Path, ...], bundle: Path | None) -> None:
    image, links = found.image, found.record.disks
    document = chain_document(image, found.record.parameters, links, disks, bundle)
    output.result(
        "\n".join(chain_lines(image, links, bundle)),
        {"schema": 1, "artifact": str(found.digest), **document},
    )
