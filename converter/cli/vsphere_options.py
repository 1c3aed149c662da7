"""Options that say which vSphere, as whom, and where in it, for every verb that goes there."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import click
from click.core import ParameterSource

from converter.cli.options import state_option
from converter.cli.stdin import claim_stdin
from converter.errors import UsageError
from converter.events import Monitor, Note
from converter.registry.options import MOST_TIMEOUT_SECONDS
from converter.vsphere.kept import KeptSessions
from converter.vsphere.settings import (
    DEFAULT_TIMEOUT_SECONDS,
    PASSWORD_VARIABLE,
    Given,
    Settings,
    Wishes,
    read_settings,
)
from converter.vsphere.trust import Trust, read_thumbprint

if TYPE_CHECKING:
    from converter.vsphere.projects import Project

_Command = TypeVar("_Command", bound=Callable[..., Any])
_PASSWORD_LIMIT_BYTES = 64 << 10
_PROJECTS_FILE = "saltflat/projects.yaml"
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def vsphere_options(command: _Command) -> _Command:
    """Add them; the command gets `settings` (Settings) and `kept` (KeptSessions or None)."""
    return _with_options(command, [*_reaching(), _projects_file(), _project(), *_placing()])


def project_options(command: _Command) -> _Command:
    """Add them to a command with an argument `project`; it gets also `known` (Project)."""
    options = [*_reaching(), _projects_file(), *_placing()]
    return _with_options(command, options, tells_project=True)


def projects_file(given: Path | None) -> Path:
    """Return the file that projects are read from, where `given` is None the usual one."""
    if given is not None:
        return given
    config = os.environ.get("XDG_CONFIG_HOME", "")
    # "If relative, consider the path invalid and ignore it" (XDG Base Directory Specification).
    base = Path(config) if config.startswith("/") else Path.home() / ".config"
    return base / _PROJECTS_FILE


def _with_options(
    command: _Command, options: list[Callable[[Any], Any]], *, tells_project: bool = False
) -> _Command:
    @functools.wraps(command)
    def with_settings(
        *args: object,
        vsphere_url: str | None,
        vsphere_username: str | None,
        vsphere_password_file: Path | None,
        vsphere_password_stdin: bool,
        vsphere_thumbprint: tuple[str, ...],
        vsphere_ca_file: tuple[Path, ...],
        vsphere_insecure: bool,
        vsphere_timeout: float,
        keep_session: bool,
        state_root: Path,
        datacenter: str | None,
        cluster: str | None,
        host: str | None,
        resource_pool: str | None,
        folder: str | None,
        datastore: str | None,
        network: str | None,
        storage_policy: str | None,
        projects: Path | None,
        project: str | None,
        **others: object,
    ) -> object:
        _refuse_password_in_arguments(vsphere_url)
        known = None if project is None else _find_project(projects, project)
        given = Given(
            url=vsphere_url or (None if known is None else known.url),
            username=vsphere_username,
            password=_password(vsphere_password_file, from_stdin=vsphere_password_stdin),
            trust=Trust(
                vsphere_ca_file, tuple(map(read_thumbprint, vsphere_thumbprint)), vsphere_insecure
            ),
            wishes=Wishes(
                datacenter=datacenter,
                datastore=datastore,
                resource_pool=resource_pool,
                folder=folder,
                cluster=cluster,
                host=host,
                network=network,
                storage_policy=storage_policy,
            ).over(Wishes() if known is None else known.wishes),
            timeout_seconds=vsphere_timeout,
        )
        settings: Settings = read_settings(given, os.environ)
        kept = KeptSessions(state_root) if keep_session else None
        if tells_project:
            others["known"] = known
        return command(*args, settings=settings, kept=kept, **others)

    wrapped = state_option(cast("_Command", with_settings))
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def warn_if_insecure(settings: Settings, monitor: Monitor) -> None:
    """Say aloud that nobody checks who the server is."""
    if not settings.trust.verifies:
        what = f"{settings.address.url} is not verified: whoever is in between gets the password."
        monitor(Note(what, warning=True))


def _reaching() -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "--vsphere-url",
            metavar="URL",
            envvar="SALTFLAT_VSPHERE_URL",
            show_envvar=True,
            help="vCenter or ESXi, https://[USER@]HOST[:PORT][/sdk]; else GOVC_URL. The other "
            "GOVC_* variables count for the server of GOVC_URL alone, behind ours.",
        ),
        click.option(
            "--vsphere-username",
            envvar="SALTFLAT_VSPHERE_USERNAME",
            show_envvar=True,
            help=f"Who to be there. The password is in {PASSWORD_VARIABLE}, a file, or standard "
            "input.",
        ),
        click.option(
            "--vsphere-password-file",
            type=_FILE,
            envvar="SALTFLAT_VSPHERE_PASSWORD_FILE",
            show_envvar=True,
            help="Read the password from a file.",
        ),
        click.option(
            "--vsphere-password-stdin",
            is_flag=True,
            envvar="SALTFLAT_VSPHERE_PASSWORD_STDIN",
            show_envvar=True,
            help="Read the password from standard input.",
        ),
        click.option(
            "--vsphere-thumbprint",
            multiple=True,
            metavar="HEX",
            envvar="SALTFLAT_VSPHERE_THUMBPRINT",
            show_envvar=True,
            help="Take the server whose certificate has this SHA-256 or SHA-1 thumbprint, and no "
            "other; repeatable.",
        ),
        click.option(
            "--vsphere-ca-file",
            multiple=True,
            type=_FILE,
            envvar="SALTFLAT_VSPHERE_CA_FILE",
            show_envvar=True,
            help="Certificates (PEM) to trust instead of the system's; repeatable.",
        ),
        click.option(
            "--vsphere-insecure",
            is_flag=True,
            envvar="SALTFLAT_VSPHERE_INSECURE",
            show_envvar=True,
            help="Take any certificate, and http; has no effect beside a thumbprint or CA file.",
        ),
        click.option(
            "--vsphere-timeout",
            type=click.FloatRange(min=0, min_open=True, max=MOST_TIMEOUT_SECONDS),
            default=DEFAULT_TIMEOUT_SECONDS,
            envvar="SALTFLAT_VSPHERE_TIMEOUT",
            show_envvar=True,
            show_default=True,
            metavar="SECONDS",
            help="How long to wait for each answer.",
        ),
        click.option(
            "--keep-session/--no-keep-session",
            default=True,
            envvar="SALTFLAT_VSPHERE_KEEP_SESSION",
            show_envvar=True,
            show_default=True,
            help="Stay logged in for the next command, by a file in the state folder.",
        ),
    ]


def _placing() -> list[Callable[[Any], Any]]:
    told = {
        "datacenter": "Datacenter of all that follows.",
        "cluster": "Cluster whose hosts run machines.",
        "host": "Host that runs machines.",
        "resource-pool": "Resource pool for machines.",
        "folder": "Folder for machines.",
        "datastore": "Datastore for disks.",
        "network": "Network that machines are connected to.",
        "storage-policy": "Storage policy that disks are made by; only datastores that keep it.",
    }
    untold = {
        "folder": "Without it, the datacenter's own.",
        "storage-policy": "Without it, the datastore's own.",
    }
    return [
        click.option(
            f"--{name}",
            metavar="NAME|PATH",
            envvar=f"SALTFLAT_VSPHERE_{name.upper().replace('-', '_')}",
            show_envvar=True,
            help=f"{text} {untold.get(name, 'Not needed where there is only one.')}",
        )
        for name, text in told.items()
    ]


def _projects_file() -> Callable[[Any], Any]:
    return click.option(
        "--projects",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="SALTFLAT_VSPHERE_PROJECTS",
        show_envvar=True,
        help=f"The file of projects; else $XDG_CONFIG_HOME/{_PROJECTS_FILE}.",
    )


def _project() -> Callable[[Any], Any]:
    return click.option(
        "--project",
        metavar="NAME",
        envvar="SALTFLAT_VSPHERE_PROJECT",
        show_envvar=True,
        help="A project, whose places and defaults count behind these options.",
    )


def _find_project(file: Path | None, name: str) -> Project:
    # YAML comes with it, which who names no project does not wait for.
    from converter.vsphere.projects import find_project, read_projects  # noqa: PLC0415 - as said

    path = projects_file(file)
    return find_project(read_projects(path), name, origin=str(path))


def _refuse_password_in_arguments(url: str | None) -> None:
    """Raise UsageError if the URL on the command line has a password, which all can read there."""
    source = click.get_current_context().get_parameter_source("vsphere_url")
    authority = (url or "").partition("://")[2] or (url or "")
    user, at, _host = authority.rpartition("@")
    if source is ParameterSource.COMMANDLINE and at and ":" in user:
        raise UsageError(
            "The URL on the command line has a password, which everybody on this host can read.",
            expected=f"the password in {PASSWORD_VARIABLE}, --vsphere-password-file or "
            "--vsphere-password-stdin",
            hint="Change the password: it may be in a history file, too.",
        )


def _password(file: Path | None, *, from_stdin: bool) -> str | None:
    if file is not None and from_stdin:
        raise UsageError(
            "--vsphere-password-file and --vsphere-password-stdin exclude each other.",
            expected="one of them",
        )
    if file is not None:
        with file.open("rb") as opened:
            return _read_password(opened, f"{file}")
    if from_stdin:
        claim_stdin("--vsphere-password-stdin")
        return _read_password(sys.stdin.buffer, "Standard input")
    return None


def _read_password(file: BinaryIO, where: str) -> str:
    raw = file.read(_PASSWORD_LIMIT_BYTES + 1)
    try:
        password = raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        password = ""
    if not password or len(raw) > _PASSWORD_LIMIT_BYTES:
        raise UsageError(
            f"{where} has no password.", expected="the password alone, on one line, in UTF-8"
        )
    return password
