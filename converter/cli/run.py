"""The verb `run`: an image's process in a virtual machine, in the foreground."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from agent.host.errors import AbortedError
from converter.cli.caching import Caching, cache_options
from converter.cli.images import convert_source, parse_argument
from converter.cli.options import (
    Origin,
    conversion_options,
    open_store,
    size,
    source_options,
    store_option,
)
from converter.cli.output import Output
from converter.cli.run_options import RunOptions, run_options
from converter.cli.stdin import claim_stdin
from converter.errors import UsageError
from converter.events import Event, StepFinished
from converter.image.reference import BundleReference
from converter.launch import machine_spec, root_of_bundle, root_of_chain
from converter.machine.model import Channel
from converter.machine.qemu import QemuDriver
from converter.machine.run import Stdio, run_machine
from converter.pipeline import ConvertOptions
from converter.store.bootimages import boot_image_for
from converter.store.bundle import read_bundle
from converter.store.locks import pinned, using

SIGNALLED = 128  # plus the signal's number: how shells tell it


@click.command(
    "run", context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False}
)
@click.argument("source")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@run_options
@click.option(
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
@conversion_options
@cache_options
@source_options
@store_option
@click.pass_obj
def command(
    output: Output,
    *,
    source: str,
    command: tuple[str, ...],
    options: RunOptions,
    memory: int,
    cpus: float,
    storage_options: tuple[str, ...],
    channel: str,
    conversion: ConvertOptions,
    caching: Caching,
    origin: Origin,
    store_root: Path,
) -> int:
    """Run the image or bundle SOURCE in a virtual machine, as docker run would in a container.

    Everything after SOURCE is the process's command. The exit code is the process's own; 126 and
    127 as docker has them, 125 for every failure of saltflat itself.

    \b
    Examples:
      saltflat run debian:12 sh -c 'echo hello; exit 7'
      echo hi | saltflat run -i debian:12 cat
      docker save app:1 | saltflat run docker-archive:-
      saltflat run -it -e LANG=C.UTF-8 -u nobody ./bundle
      saltflat run --storage-opt size=200G debian:12 df -h /
    """
    if options.tty and not (sys.stdin.isatty() or not options.interactive):
        raise UsageError(
            "Standard input is not a terminal.",
            expected="a terminal with -i and -t together, as docker wants it",
            hint="Leave out -t when input comes from a pipe or a file.",
        )
    if options.interactive:
        claim_stdin("run -i")
    disk_bytes = _disk_bytes(storage_options)
    store = open_store(store_root)
    reference = parse_argument(source)
    with using(store, monitor=output.monitor):
        if isinstance(reference, BundleReference):
            root = root_of_bundle(read_bundle(reference.path))
            boot = boot_image_for(store, root.platform)
        else:
            boot = boot_image_for(store, origin.platform)
            root = root_of_chain(
                convert_source(
                    source,
                    store,
                    origin=origin,
                    conversion=conversion,
                    caching=caching,
                    monitor=output.monitor,
                )
            )
        # Let go of the store, but not of what the machine stands on, until the command ends.
        pin = pinned(store, [boot.id, *(disk.stem for disk in root.disks)])
        click.get_current_context().with_resource(pin)
    spec = machine_spec(
        root,
        boot,
        options.run_config(command, terminal_size=_terminal_size() if options.tty else None),
        memory_mib=memory >> 20,
        cpus=cpus,
        channel=Channel(channel),
        hostname=options.hostname,
        disk_bytes=disk_bytes,
    )

    def until_running(event: Event) -> None:
        output.monitor(event)
        if isinstance(event, StepFinished):
            output.close()  # from here on the terminal is the guest's

    driver = QemuDriver(kvm_record=store.cache / "kvm.json", monitor=output.monitor)
    stdio = Stdio(stdin=sys.stdin.fileno() if options.interactive else None)
    try:
        status = run_machine(spec, driver=driver, stdio=stdio, monitor=until_running)
    except AbortedError as error:
        output.close()
        click.echo(f"Error: {error.what}", err=True)
        return SIGNALLED + error.signal
    if status.failure is not None:
        click.echo(f"Error: {status.failure.message}", err=True)
    return status.code


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


def _terminal_size() -> tuple[int, int]:
    for descriptor in (0, 1, 2):
        try:
            size = os.get_terminal_size(descriptor)
        except OSError:
            continue
        return size.lines, size.columns
    return 24, 80
