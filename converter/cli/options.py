"""Options that several verbs share, and the types of their values."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from converter.cli.output import Output
from converter.cli.registries import registry_options
from converter.convert_options import ConvertOptions
from converter.errors import UsageError
from converter.events import Monitor
from converter.groups import DEFAULT_MAX_LINKS
from converter.image.fetch import PARALLEL_FETCHES
from converter.image.platform import Platform
from converter.image.source import Origin, SourceOptions
from converter.layer.limits import DEFAULT_LIMITS, RATIO_FREE_BYTES, Limits
from converter.machine.state_root import default_state_root
from converter.policy import ANYTHING, Policy
from converter.sizes import parse_size
from converter.store.layout import Store, default_store
from converter.store.links import ChainParameters

if TYPE_CHECKING:
    from converter.machine.machines import Machines

_Command = TypeVar("_Command", bound=Callable[..., Any])


def size(text: str) -> int:
    """Read a size in bytes with Docker's suffixes, which are binary: 512m, 16G."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def platform_name(text: str) -> Platform:
    """Read a platform: os/arch[/variant]. Raises UsageError."""
    return Platform.parse(text)


def read_labels(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Read the values of --label, KEY[=VALUE]. Raises UsageError."""
    pairs = tuple((key, value) for key, _, value in (text.partition("=") for text in texts))
    if any(not key for key, _ in pairs):
        raise UsageError("A --label has no name.", expected="KEY or KEY=VALUE")
    return pairs


def store_option(command: _Command) -> _Command:
    """Add --store."""
    return click.option(
        "--store",
        "store_root",
        type=click.Path(file_okay=False, path_type=Path),
        default=default_store,
        envvar="SALTFLAT_STORE",
        show_envvar=True,
        show_default="$XDG_DATA_HOME/saltflat",
        help="Folder that keeps blobs, links and boot images.",
    )(command)


def state_option(command: _Command) -> _Command:
    """Add --state; the command gets it as `state_root`, for `open_machines`."""
    return click.option(
        "--state",
        "state_root",
        type=click.Path(file_okay=False, path_type=Path),
        default=default_state_root,
        envvar="SALTFLAT_STATE",
        show_envvar=True,
        show_default="$XDG_STATE_HOME/saltflat",
        help="Folder that keeps machines and volumes.",
    )(command)


def detach_keys_option(command: _Command) -> _Command:
    """Add --detach-keys; the command gets the bytes as `detach_keys`."""
    # It brings all of a machine's line along, and most verbs have no machine.
    from agent.host.client.keys import DEFAULT_DETACH_KEYS, read_keys  # noqa: PLC0415 - see above

    def read(_ctx: click.Context, _param: click.Parameter, value: str) -> bytes:
        try:
            return read_keys(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return click.option(
        "--detach-keys",
        default=DEFAULT_DETACH_KEYS,
        envvar="SALTFLAT_DETACH_KEYS",
        show_envvar=True,
        show_default=True,
        metavar="KEYS",
        callback=read,
        help="Keys that leave the process running and the client ended; empty for none.",
    )(command)


def sig_proxy_option(command: _Command) -> _Command:
    """Add --sig-proxy; the command gets it as `sig_proxy`."""
    return click.option(
        "--sig-proxy",
        type=bool,
        default=True,
        envvar="SALTFLAT_SIG_PROXY",
        show_envvar=True,
        show_default=True,
        metavar="BOOLEAN",
        help="Pass signals on to the process; false leaves it alone when a signal ends the client.",
    )(command)


def format_option(command: _Command) -> _Command:
    """Add --format, which the output object takes; the command does not see it."""

    def remember(ctx: click.Context, _param: click.Parameter, value: str) -> None:
        output: Output = ctx.obj
        output.format = value

    return click.option(
        "--format",
        "output_format",
        type=click.Choice(["text", "json"]),
        default="text",
        envvar="SALTFLAT_FORMAT",
        show_envvar=True,
        show_default=True,
        expose_value=False,
        is_eager=True,
        callback=remember,
        help="Form of the result on stdout, and of errors on stderr.",
    )(command)


def source_options(command: _Command) -> _Command:
    """Add what is needed to read images; the command gets it as `origin`."""

    @functools.wraps(command)
    def with_origin(
        *args: object,
        platform: Platform,
        access: SourceOptions,
        foreign_layers: bool,
        **others: object,
    ) -> object:
        return command(*args, origin=Origin(platform, access, foreign_layers), **others)

    options = [
        click.option(
            "--platform",
            type=platform_name,
            metavar="OS/ARCH[/VARIANT]",
            default="linux/amd64",
            envvar="SALTFLAT_PLATFORM",
            show_envvar=True,
            show_default=True,
            help="Which image of an index to take.",
        ),
        click.option(
            "--foreign-layers",
            is_flag=True,
            envvar="SALTFLAT_FOREIGN_LAYERS",
            show_envvar=True,
            help="Fetch layers that the source lacks because they may not be distributed from the "
            "addresses that the image names, over https and without credentials.",
        ),
    ]
    wrapped = registry_options(cast("_Command", with_origin))
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def conversion_options(command: _Command) -> _Command:
    """Add how a chain is made; the command gets it as `conversion`."""

    @functools.wraps(command)
    def with_conversion(
        *args: object,
        capacity: int,
        journal: bool,
        max_links: int,
        parallel_fetches: int,
        limits: Limits,
        policy: Policy,
        **others: object,
    ) -> object:
        parameters = ChainParameters(capacity_bytes=capacity, journal=journal)
        conversion = ConvertOptions(parameters, max_links, limits, parallel_fetches, policy)
        conversion.check()  # before a registry is asked for anything
        return command(*args, conversion=conversion, **others)

    options = [
        click.option(
            "--capacity",
            type=size,
            default="16G",
            envvar="SALTFLAT_CAPACITY",
            show_envvar=True,
            show_default=True,
            help="Size of the disk as the guest sees it; unused space costs nothing.",
        ),
        click.option(
            "--journal/--no-journal",
            default=True,
            envvar="SALTFLAT_JOURNAL",
            show_envvar=True,
            show_default=True,
            help="Give the file system a journal.",
        ),
        click.option(
            "--max-links",
            type=int,
            default=DEFAULT_MAX_LINKS,
            envvar="SALTFLAT_MAX_LINKS",
            show_envvar=True,
            show_default=True,
            help="The most disks of a chain; upper layers share links beyond half of them.",
        ),
        click.option(
            "--parallel-fetches",
            type=click.IntRange(1, 32),
            default=PARALLEL_FETCHES,
            envvar="SALTFLAT_PARALLEL_FETCHES",
            show_envvar=True,
            show_default=True,
            help="How many layers are fetched at a time.",
        ),
    ]
    wrapped = policy_option(limit_options(cast("_Command", with_conversion)))
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def policy_option(command: _Command) -> _Command:
    """Add --policy; the command gets it as `policy`."""

    def read(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Policy:
        if path is None:
            return ANYTHING
        # YAML takes a while to load, and most commands have no policy.
        from converter.policy_file import read_policy  # noqa: PLC0415 - see above

        return read_policy(path)

    return click.option(
        "--policy",
        type=click.Path(path_type=Path),
        envvar="SALTFLAT_POLICY",
        show_envvar=True,
        metavar="FILE",
        callback=read,
        help="Refuse with exit code 7 what the rules in FILE do not allow: registries, digests, "
        "sizes, layers, users.",
    )(command)


def bundle_options(command: _Command) -> _Command:
    """Add -o, --boot, --force and --copy; as `bundle`, `boot_name`, `force` and `copy`."""
    options = [
        click.option(
            "-o",
            "--output",
            "bundle",
            type=click.Path(path_type=Path),
            envvar="SALTFLAT_OUTPUT",
            show_envvar=True,
            help="Also make a bundle in this folder.",
        ),
        click.option(
            "--boot",
            "boot_name",
            metavar="ID|KERNEL",
            envvar="SALTFLAT_BUNDLE_BOOT",
            show_envvar=True,
            help="Name in the bundle the boot image that it is meant for, one of the store's; "
            "run starts the bundle with that one.",
        ),
        click.option(
            "--force",
            is_flag=True,
            envvar="SALTFLAT_FORCE",
            show_envvar=True,
            help="Replace the bundle if there is one.",
        ),
        click.option(
            "--copy",
            is_flag=True,
            envvar="SALTFLAT_COPY",
            show_envvar=True,
            help="Copy the bundle's disks; else they share the store's blocks where that is "
            "possible.",
        ),
    ]
    wrapped = command
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def limit_options(command: _Command) -> _Command:
    """Add how much a layer may have; the command gets it as `limits`."""

    @functools.wraps(command)
    def with_limits(
        *args: object, max_entries: int, max_layer_size: int, max_ratio: int, **others: object
    ) -> object:
        limits = Limits(max_entries, max_layer_size, max_ratio)
        return command(*args, limits=limits, **others)

    options = [
        click.option(
            "--max-entries",
            type=click.IntRange(min=1),
            default=DEFAULT_LIMITS.max_entries,
            envvar="SALTFLAT_MAX_ENTRIES",
            show_envvar=True,
            show_default=True,
            help="Refuse a layer with more members.",
        ),
        click.option(
            "--max-layer-size",
            type=size,
            default=f"{DEFAULT_LIMITS.max_layer_bytes >> 30}G",
            envvar="SALTFLAT_MAX_LAYER_SIZE",
            show_envvar=True,
            show_default=True,
            help="Refuse a layer that unpacks to more.",
        ),
        click.option(
            "--max-ratio",
            type=click.IntRange(min=1),
            default=DEFAULT_LIMITS.max_ratio,
            envvar="SALTFLAT_MAX_RATIO",
            show_envvar=True,
            show_default=True,
            help="Refuse a layer that unpacks to more than so many times its size and to more than "
            f"{RATIO_FREE_BYTES >> 30}G. gzip stays below 1032, zstd can exceed it with zeros.",
        ),
    ]
    wrapped = cast("_Command", with_limits)
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def open_machines(state_root: Path, monitor: Monitor) -> Machines:
    """Open the machines that --state names."""
    from converter.machine.local import LocalMachines  # noqa: PLC0415 - most verbs have no machine

    return LocalMachines(state_root, monitor=monitor)


def open_store(root: Path) -> Store:
    """Open the store that --store names."""
    return Store(root)
