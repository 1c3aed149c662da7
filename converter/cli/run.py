"""The verb `run`: an image's process in a virtual machine, attached or in the background."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.host.status import ExitStatus
from converter.cli.attaching import Seat, Seated, relayed, terminal_size
from converter.cli.caching import Caching, cache_options
from converter.cli.drivers import Driver, driver_option, refuse_typed
from converter.cli.images import hold_bundle_to, image_of_bundle, parse_argument
from converter.cli.network_options import NetworkOptions, network_options
from converter.cli.options import (
    conversion_options,
    detach_keys_option,
    open_store,
    sig_proxy_option,
    size,
    source_options,
    store_option,
)
from converter.cli.output import Output
from converter.cli.pull_policy import PullPolicy, obtain_chain
from converter.cli.run_options import RunOptions, run_options
from converter.cli.stdin import claim_stdin
from converter.cli.volume_options import VolumeOptions, volume_options
from converter.convert_options import ConvertOptions
from converter.errors import SaltflatError, UsageError
from converter.image.reference import BundleReference
from converter.image.source import Origin
from converter.launch import machine_spec, root_of_bundle, root_of_chain
from converter.machine.foreground import run_in_foreground
from converter.machine.machines import MachineRequest, Machines
from converter.machine.model import Channel
from converter.pipeline import Chain
from converter.store.bootimages import boot_image_for
from converter.store.bundle import Bundle, read_bundle
from converter.store.bundle_boot import bundle_boot_image
from converter.store.layout import Store
from converter.store.locks import using
from converter.volume.volumes import Volumes

if TYPE_CHECKING:
    from converter.export.exportable import Exportable
    from converter.machine.vsphere import VsphereMachines

_NO_TERMINAL = (24, 80)  # rows and columns, as terminals have them that say nothing


@click.command(
    "run", context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False}
)
@click.argument("source")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@run_options
@click.option("-d", "--detach", is_flag=True, help="Leave it running and print the machine's id.")
@click.option("--name", metavar="NAME", help="The machine's name; without it, two words.")
@click.option("--rm", "auto_remove", is_flag=True, help="Remove the machine when it has ended.")
@click.option(
    "--cidfile",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the machine's id to this file, which must not exist.",
)
@click.option(
    "--pull",
    type=click.Choice([policy.value for policy in PullPolicy]),
    default=PullPolicy.MISSING.value,
    envvar="SALTFLAT_PULL",
    show_envvar=True,
    show_default=True,
    help="Ask the registry what the name stands for: always, if nothing of that name is converted "
    "here (missing), or never.",
)
@click.option(
    "-m",
    "--memory",
    type=size,
    default="512m",
    envvar="SALTFLAT_MEMORY",
    show_envvar=True,
    show_default=True,
    help="The machine's memory.",
)
@click.option(
    "--cpus",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    envvar="SALTFLAT_CPUS",
    show_envvar=True,
    show_default=True,
    help="Processors, rounded up to whole ones.",
)
@click.option(
    "--storage-opt",
    "storage_options",
    multiple=True,
    metavar="size=SIZE",
    envvar="SALTFLAT_STORAGE_OPT",
    show_envvar=True,
    help="Give the machine a disk of SIZE, more than the image has; its file system grows at boot.",
)
@click.option(
    "--channel",
    type=click.Choice([channel.value for channel in Channel]),
    default=Channel.VIRTIO_SERIAL.value,
    envvar="SALTFLAT_CHANNEL",
    show_envvar=True,
    show_default=True,
    help="The line that carries the process's input and output.",
)
@click.option(
    "--boot",
    "boot_name",
    metavar="ID|KERNEL",
    envvar="SALTFLAT_BOOT",
    show_envvar=True,
    help="The boot image to start with, as boot list has it; a debug image is stock-debug.",
)
@network_options
@volume_options
@conversion_options
@cache_options
@source_options
@detach_keys_option
@sig_proxy_option
@click.option(
    "--serial",
    metavar="URI",
    envvar="SALTFLAT_SERIAL",
    show_envvar=True,
    help="With --on vsphere: where the machine's line leads, telnet://HOST:PORT or "
    "telnets://HOST:PORT of a concentrator (saltflat vspc serve), as hosts reach it.",
)
@click.option(
    "--template",
    "template_name",
    metavar="NAME",
    envvar="SALTFLAT_VSPHERE_TEMPLATE",
    show_envvar=True,
    help="With --on vsphere: the template's name, imported if it is not there; else the image's "
    "with 12 digits of its digest.",
)
@driver_option
@store_option
@click.pass_obj
def command(
    output: Output,
    *,
    source: str,
    command: tuple[str, ...],
    options: RunOptions,
    detach: bool,
    name: str | None,
    auto_remove: bool,
    cidfile: Path | None,
    pull: str,
    memory: int,
    cpus: float,
    storage_options: tuple[str, ...],
    channel: str,
    boot_name: str | None,
    network: NetworkOptions,
    volumes: VolumeOptions,
    conversion: ConvertOptions,
    caching: Caching,
    origin: Origin,
    detach_keys: bytes,
    sig_proxy: bool,
    serial: str | None,
    template_name: str | None,
    driver: Driver,
    store_root: Path,
) -> int:
    """Run the image or bundle SOURCE in a virtual machine, as docker run would in a container.

    Everything after SOURCE is the process's command. The exit code is the process's own; 126 and
    127 as docker has them, 125 for every failure of saltflat itself. The machine stays, with its
    disk and its log, until it is removed: by --rm when it ends, or by saltflat rm.

    \b
    Examples:
      saltflat run debian:12 sh -c 'echo hello; exit 7'
      echo hi | saltflat run -i debian:12 cat
      docker save app:1 | saltflat run docker-archive:-
      saltflat run -it -e LANG=C.UTF-8 -u nobody ./bundle
      saltflat run -d --name web -p 8080:80 nginx
      saltflat run --rm --storage-opt size=200G debian:12 df -h /
      saltflat run -d --restart on-failure:5 --health-cmd 'curl -fs localhost' web:1
      saltflat run -d --name db -v data:/var/lib/postgresql/data registry.example/team/postgres:16
    """
    seat = Seat(
        stdin=options.interactive, tty=options.tty, detach_keys=detach_keys, sig_proxy=sig_proxy
    )
    if not detach:
        seat.check()  # before anything is made
    if options.interactive and not detach:
        claim_stdin("run -i")
    if auto_remove and options.host.restart.restarts:
        raise UsageError(
            "--restart and --rm exclude each other.",
            hint="Leave out --rm, and remove the machine with saltflat rm when it has ended.",
        )
    disk_bytes = _disk_bytes(storage_options)
    volumes.check()
    network.check()
    if cidfile is not None and cidfile.exists():
        raise UsageError(
            f"{cidfile} exists; another machine may be using it.",
            hint="Remove the file, or name another one with --cidfile.",
        )
    _check_driver(driver, Channel(channel), template_name)
    store = open_store(store_root)
    remote = None if driver.is_here else driver.vsphere(output.monitor, serial=serial)
    machines: Machines = driver.open(output.monitor) if remote is None else remote
    if remote is not None:
        _refuse_disks(volumes, disk_bytes)
        remote.check_ready(to_attach=not detach)
    if name is not None:
        machines.check_name(name)  # before anything is fetched
    reference = parse_argument(source)
    size_at_start = (terminal_size() or _NO_TERMINAL) if options.tty else None
    with using(store, monitor=output.monitor):
        found: Bundle | None
        chain: Chain | None
        if isinstance(reference, BundleReference):
            hold_bundle_to(conversion.policy, reference)
            found = read_bundle(reference.path)
            root, chain = root_of_bundle(found), None
            if boot_name is None and found.boot is not None:
                boot = bundle_boot_image(store, root.platform, found.boot)
            else:
                boot = boot_image_for(store, root.platform, boot_name)
        else:
            boot = boot_image_for(store, origin.platform, boot_name)
            chain = obtain_chain(
                source,
                store,
                PullPolicy(pull),
                origin=origin,
                conversion=conversion,
                caching=caching,
                monitor=output.monitor,
            )
            root, found = root_of_chain(chain), None
        spec = machine_spec(
            root,
            boot,
            options.run_config(command, terminal_size=size_at_start),
            memory_mib=memory >> 20,
            cpus=cpus,
            channel=Channel(channel),
            hostname=options.hostname,
            disk_bytes=disk_bytes,
        )
        spec = replace(spec, networking=network.networking(spec.guest.image))
        base = None
        if remote is None:
            wanted = volumes.requests(spec.guest.image)
            spec = replace(spec, volumes=Volumes(driver.state_root).prepare(wanted))
        else:
            remote.check_spec(spec)  # before anything that takes time
            base = _base(remote, _exportable(found, chain), store, template_name, output)
        # Before the store is let go of: from here on the machine holds what it stands on.
        machine = machines.create(
            MachineRequest(
                spec=spec,
                image=source,
                image_digest=root.digest,
                store=store.root,
                name=name,
                auto_remove=auto_remove,
                labels=dict(options.labels),
                base=base,
            )
        )
    if cidfile is not None:
        cidfile.write_text(machine.id)
    if detach:
        try:
            machines.start(machine.id)
        except SaltflatError:
            if auto_remove:
                with suppress(SaltflatError):  # why it did not start is what is to be told
                    machines.remove(machine.id, force=True, volumes=True)
            raise
        output.result(machine.id, {"schema": 1, "id": machine.id, "name": machine.name})
        return 0

    def relay(seated: Seated) -> ExitStatus:
        return run_in_foreground(machines, machine, seated, monitor=output.monitor)

    return relayed(output, seat, relay)


def _check_driver(driver: Driver, channel: Channel, template_name: str | None) -> None:
    """Raise UsageError for options that say nothing where the machine is to run."""
    if driver.is_here:
        refuse_typed(
            {"serial": "--serial", "template_name": "--template"},
            "the machine is to run on this host",
            expected="--on vsphere with it",
        )
        return
    from converter.export.template import check_template_name  # noqa: PLC0415 - as below

    if channel is not Channel.SERIAL:
        refuse_typed(
            {"channel": "--channel"},
            "a machine on vSphere has a serial line",
            expected="--serial, which says where it leads",
        )
    if template_name is not None:
        check_template_name(template_name)


def _refuse_disks(volumes: VolumeOptions, disk_bytes: int | None) -> None:
    """Raise UsageError for disks that a machine on vSphere cannot have."""
    if disk_bytes is not None:
        raise UsageError(
            "A machine on vSphere has the image's disk, which cannot be larger in a clone.",
            expected="no --storage-opt",
            hint="Convert the image with a larger --capacity.",
        )
    # What the image itself names is on the machine's own disk there.
    if volumes.requests({}):
        raise UsageError(
            "A volume is a disk of this host, which a machine on vSphere cannot have.",
            expected="neither -v nor --mount",
        )


def _base(
    remote: VsphereMachines, source: Exportable, store: Store, name: str | None, output: Output
) -> str:
    """Return the id of the template for a machine, which is imported if it is not there."""
    # pyvmomi, which runs here can do without, comes with these.
    from converter.template_import import Manner, bring  # noqa: PLC0415 - as said
    from converter.vsphere.placement import Provisioning  # noqa: PLC0415 - as said

    wished = remote.connection.settings.wishes.provisioning
    _called, made = bring(
        remote.connection,
        remote.place.placement(),
        source,
        name=name,
        manner=Manner() if wished is None else Manner(provisioning=Provisioning(wished)),
        folder=store.root,
        monitor=output.monitor,
    )
    return made.machine


def _exportable(bundle: Bundle | None, chain: Chain | None) -> Exportable:
    """Return the disk of the one that there is."""
    from converter.export.exportable import (  # noqa: PLC0415 - runs here do without
        exportable_of_bundle,
        exportable_of_image,
    )

    if bundle is not None:
        return exportable_of_bundle(bundle, image_of_bundle(bundle))
    assert chain is not None
    return exportable_of_image(chain.image, chain.parameters, chain.links, chain.disks)


def _disk_bytes(settings: tuple[str, ...]) -> int | None:
    """Read --storage-opt, of which docker's only one is `size`; the last one counts."""
    disk_bytes = None
    for setting in settings:
        key, _, value = setting.partition("=")
        if key != "size":
            raise UsageError(
                f"--storage-opt {setting!r} is not known.", expected="--storage-opt size=SIZE"
            )
        disk_bytes = size(value)
    return disk_bytes
