"""What `run` takes of docker run's options about the process and its world, and what they mean.

Owns the options, docker's rules for their values, and their translation for the guest. Starts
nothing and asks nothing of the machine that it runs on but the caller's environment (-e KEY) and
the files that --env-file names.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from agent.tether.c_limits import CAPABILITIES, RESOURCES
from agent.tether.config import ImageConfig
from agent.tether.config import RunConfig as GuestRun
from agent.tether.errors import StartError
from agent.tether.host_config import ALL, SHM_BYTES, HostConfig
from agent.tether.resolve import resolve_stop_signal
from agent.tether.tmpfs import parse_tmpfs_options
from converter.cli.environment import read_environment
from converter.cli.health_options import HEALTH_OPTIONS, read_health, read_policy
from converter.cli.options import read_labels, size
from converter.errors import UsageError
from converter.machine.model import RunConfig

_Command = TypeVar("_Command", bound=Callable[..., Any])
# What of the kernel is each world's own, so that changing it changes nothing of the machine's:
# docker/cli, opts/opts.go, ValidateSysctl. The network is the machine's own in any case.
_SYSCTLS = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni")
) | {"kernel.shm_rmid_forced"}
_SYSCTL_PREFIXES = ("net.", "fs.mqueue.")
_OOM_SCORES = (-1000, 1000)
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options as they were given, checked. `labels` and `stop_seconds` are for the host, too.

    `stop_seconds` is None where nothing was said; -1 waits for ever.
    """

    interactive: bool
    tty: bool
    env: tuple[str, ...]
    user: str | None
    workdir: str | None
    entrypoint: str | None
    hostname: str | None
    labels: tuple[tuple[str, str], ...]
    stop_seconds: int | None
    host: HostConfig

    def run_config(
        self, command: Sequence[str], *, terminal_size: tuple[int, int] | None
    ) -> RunConfig:
        """Return what the guest is told; `terminal_size` is (rows, columns), None without one."""
        rows, columns = terminal_size or (None, None)
        return RunConfig(
            args=tuple(command) or None,
            entrypoint=None if self.entrypoint is None else tuple(filter(None, [self.entrypoint])),
            env=self.env,
            user=self.user,
            workdir=self.workdir,
            tty=self.tty,
            stdin=self.interactive,
            rows=rows,
            cols=columns,
            host_config=self.host,
        )


def _many(*names: str, metavar: str, text: str) -> Callable[[_Command], _Command]:
    return click.option(*names, multiple=True, metavar=metavar, help=text)


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("-i", "--interactive", is_flag=True, help="Pass standard input to the process."),
    click.option("-t", "--tty", is_flag=True, help="Give the process a terminal."),
    _many("-e", "--env", metavar="KEY[=VALUE]", text="Set a variable."),
    click.option(
        "--env-file",
        "env_files",
        multiple=True,
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Set the variables that a file has, one a line.",
    ),
    click.option("-u", "--user", metavar="USER[:GROUP]", help="Run as this user."),
    _many("--group-add", "groups", metavar="GROUP", text="Put the process in a group as well."),
    click.option("-w", "--workdir", metavar="DIR", help="Run in this folder."),
    click.option("--entrypoint", metavar="COMMAND", help="Replace the image's entrypoint."),
    click.option("-h", "--hostname", metavar="NAME", help="The machine's host name."),
    _many("--add-host", "hosts", metavar="NAME:ADDRESS", text="Add a line to /etc/hosts."),
    _many("--dns", "name_servers", metavar="ADDRESS", text="Ask this name server."),
    _many("--dns-search", "search_domains", metavar="DOMAIN", text="Look names up here, too."),
    _many("--dns-option", "--dns-opt", "resolver_options", metavar="OPTION",
          text="Set an option of the resolver."),
    _many("--cap-add", "add_capabilities", metavar="CAPABILITY",
          text="Let the process do more; ALL for everything."),
    _many("--cap-drop", "drop_capabilities", metavar="CAPABILITY",
          text="Let the process do less; ALL for nothing."),
    click.option("--privileged", is_flag=True,
                 help="Let the process do everything, to the machine and its agent as well."),
    _many("--security-opt", "security_options", metavar="OPTION",
          text="no-new-privileges, or systempaths=unconfined."),
    _many("--ulimit", "limits", metavar="NAME=SOFT[:HARD]", text="Set a resource limit."),
    click.option("--oom-score-adj", type=click.IntRange(*_OOM_SCORES), default=0, metavar="NUMBER",
                 help="How soon to kill the process when memory is short, -1000 to 1000."),
    click.option("--read-only", is_flag=True, help="Make the root file system read-only."),
    _many("--tmpfs", metavar="PATH[:OPTIONS]", text="Mount a file system in memory."),
    click.option("--shm-size", type=size, default="64m", show_default=True,
                 help="Size of /dev/shm."),
    _many("--sysctl", "sysctls", metavar="NAME=VALUE", text="Set a setting of the kernel."),
    click.option("--init", is_flag=True,
                 help="Run the process under an init that passes signals on and buries orphans."),
    click.option("--pid", metavar="host", help="host: let the process see the machine's own."),
    click.option("--restart", metavar="POLICY", default="no",
                 help="no, on-failure[:TIMES], always or unless-stopped: start the process again."),
    *HEALTH_OPTIONS,
    click.option("--stop-signal", metavar="SIGNAL", help="How to ask the process to end."),
    click.option("--stop-timeout", "stop_seconds", type=click.IntRange(min=-1), metavar="SECONDS",
                 help="How long to wait for that before it is killed; -1 for ever."),
    _many("-l", "--label", "labels", metavar="KEY[=VALUE]", text="Note something on the machine."),
)  # fmt: skip


def run_options(command: _Command) -> _Command:
    """Add the options; the command gets them as `options`, a RunOptions."""

    @functools.wraps(command)
    def with_options(*args: object, **given: Any) -> object:  # noqa: ANN401  # click's values
        own = {name: given.pop(name) for name in OPTION_NAMES}
        return command(*args, options=read_options(**own), **given)

    wrapped = cast("_Command", with_options)
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


OPTION_NAMES = tuple(
    parameter.name
    for option in _OPTIONS
    for parameter in click.command()(option(lambda: None)).params
    if parameter.name is not None
)


def read_options(
    *,
    interactive: bool,
    tty: bool,
    env: Sequence[str],
    env_files: Sequence[Path],
    user: str | None,
    groups: Sequence[str],
    workdir: str | None,
    entrypoint: str | None,
    hostname: str | None,
    hosts: Sequence[str],
    name_servers: Sequence[str],
    search_domains: Sequence[str],
    resolver_options: Sequence[str],
    add_capabilities: Sequence[str],
    drop_capabilities: Sequence[str],
    privileged: bool,
    security_options: Sequence[str],
    limits: Sequence[str],
    oom_score_adj: int,
    read_only: bool,
    tmpfs: Sequence[str],
    shm_size: int,
    sysctls: Sequence[str],
    init: bool,
    pid: str | None,
    stop_signal: str | None,
    stop_seconds: int | None,
    labels: Sequence[str],
    restart: str,
    **health: Any,  # noqa: ANN401  # the values of HEALTH_OPTIONS
) -> RunOptions:
    """Check the values as docker does. Raises UsageError that names the option."""
    if pid not in (None, "", "host"):
        raise UsageError(f"--pid {pid!r} is not possible.", expected="--pid host, or no --pid")
    no_new_privileges, open_system_paths, open_hypervisor = _security(security_options)
    host = HostConfig(
        groups=tuple(groups),
        limits=_limits(limits),
        add_capabilities=_capabilities("--cap-add", add_capabilities),
        drop_capabilities=_capabilities("--cap-drop", drop_capabilities),
        privileged=privileged,
        no_new_privileges=no_new_privileges,
        open_system_paths=open_system_paths,
        open_hypervisor=open_hypervisor,
        read_only=read_only,
        tmpfs=_tmpfs(tmpfs),
        shm_bytes=shm_size or SHM_BYTES,  # docker: 0 is the default
        sysctls=_sysctls(sysctls),
        init=init,
        machine_processes=pid == "host",
        hosts=tuple(_host(setting) for setting in hosts),
        name_servers=tuple(_address("--dns", address) for address in name_servers),
        search_domains=tuple(_word("--dns-search", word) for word in search_domains),
        resolver_options=tuple(_word("--dns-option", word) for word in resolver_options),
        oom_score_adj=oom_score_adj,
        stop_signal=_signal(stop_signal),
        stop_seconds=stop_seconds,
        restart=read_policy(restart),
        health=read_health(**health),
    )
    return RunOptions(
        interactive=interactive,
        tty=tty,
        env=read_environment(env, env_files),
        user=user,
        workdir=workdir,
        entrypoint=entrypoint,
        hostname=hostname,
        labels=read_labels(labels),
        stop_seconds=stop_seconds,
        host=host,
    )


def _limits(settings: Sequence[str]) -> tuple[tuple[str, int, int], ...]:
    """Read NAME=SOFT[:HARD] as go-units does; the last one of a name counts."""
    limits = {}
    for setting in settings:
        name, equals, values = setting.partition("=")
        soft_text, colon, hard_text = values.partition(":")
        try:
            soft = int(soft_text)
            hard = int(hard_text) if colon else soft
        except ValueError:
            equals = ""
            soft = hard = 0
        if not equals or name not in RESOURCES or min(soft, hard) < -1:
            raise UsageError(
                f"--ulimit {setting!r} is no limit.",
                expected=f"NAME=SOFT[:HARD], NAME one of {', '.join(sorted(RESOURCES))}",
            )
        if hard != -1 and (soft == -1 or soft > hard):
            raise UsageError(f"--ulimit {setting!r}: the soft limit is above the hard one.")
        limits[name] = (name, soft, hard)
    return tuple(limits.values())


def _capabilities(option: str, names: Sequence[str]) -> tuple[str, ...]:
    wanted = tuple(name.upper().removeprefix("CAP_") for name in names)
    for given, name in zip(names, wanted, strict=True):
        if name not in CAPABILITIES and given.upper() != ALL:
            raise UsageError(
                f"{option} {given!r} is no capability.",
                expected="a name of capabilities(7) such as NET_ADMIN, or ALL",
            )
    return wanted


def _security(settings: Sequence[str]) -> tuple[bool, bool, bool]:
    """Return whether new privileges are forbidden, and system paths and the hypervisor open."""
    no_new_privileges = open_system_paths = open_hypervisor = False
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator:
            key, separator, value = setting.partition(":")  # docker's older spelling
        if key == "no-new-privileges" and value.lower() in ("", "true", "false"):
            no_new_privileges = value.lower() != "false"
        elif (key, value) == ("systempaths", "unconfined"):
            open_system_paths = True
        elif (key, value) == ("seccomp", "unconfined"):
            open_hypervisor = True
        elif (key, value) not in _ALREADY_SO:
            raise UsageError(
                f"--security-opt {setting!r} is not possible.",
                expected="no-new-privileges[=true|false] or systempaths=unconfined; there are no "
                "profiles of seccomp, AppArmor or SELinux in the machine",
            )
    return no_new_privileges, open_system_paths, open_hypervisor


_ALREADY_SO = {("apparmor", "unconfined"), ("label", "disable")}


def _tmpfs(settings: Sequence[str]) -> tuple[tuple[str, str], ...]:
    wanted = {}
    for setting in settings:
        path, _, options = setting.partition(":")
        if not path.startswith("/") or not path.strip("/"):
            raise UsageError(
                f"--tmpfs {setting!r} names no place.",
                expected="an absolute path other than /, and its options: PATH[:OPTIONS]",
            )
        try:
            parse_tmpfs_options(options)
        except ValueError as error:
            raise UsageError(f"--tmpfs {setting!r}: {error}.") from error
        wanted["/" + path.strip("/")] = options
    return tuple(wanted.items())


def _sysctls(settings: Sequence[str]) -> tuple[tuple[str, str], ...]:
    wanted = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not (name in _SYSCTLS or name.startswith(_SYSCTL_PREFIXES)):
            raise UsageError(
                f"--sysctl {setting!r} is not possible.",
                expected=f"NAME=VALUE, NAME beginning with {' or '.join(_SYSCTL_PREFIXES)} or one "
                f"of {', '.join(sorted(_SYSCTLS))}",
            )
        wanted[name] = value
    return tuple(wanted.items())


def _host(setting: str) -> tuple[str, str]:
    """Read NAME:ADDRESS or NAME=ADDRESS; an IPv6 address may be in brackets."""
    name, separator, address = setting.partition("=")
    if not separator:
        name, separator, address = setting.partition(":")
    if not separator or not _WORD.fullmatch(name):
        raise UsageError(f"--add-host {setting!r} names no host.", expected="NAME:ADDRESS")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    return name, _address("--add-host", address)


def _address(option: str, text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        raise UsageError(f"{option}: {text!r} is no IP address.") from error
    return text


def _word(option: str, text: str) -> str:
    if not _WORD.fullmatch(text):
        raise UsageError(f"{option} {text!r} is not a single word.")
    return text


def _signal(name: str | None) -> str:
    if name:
        try:
            resolve_stop_signal(ImageConfig(), GuestRun(host=HostConfig(stop_signal=name)))
        except StartError as error:
            raise UsageError(
                f"--stop-signal {name!r} is no signal.", expected="for example SIGTERM or 15"
            ) from error
    return name or ""
