"""The verbs `vsphere project create|ls|rm`: what a team has of a vSphere, made and removed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.host.status import printable
from converter.cli.options import format_option
from converter.cli.output import Output
from converter.cli.vsphere_options import project_options, projects_file, warn_if_insecure
from converter.vsphere.kept import KeptSessions
from converter.vsphere.settings import Settings

if TYPE_CHECKING:
    from converter.vsphere.projects import Project


@click.group("project")
def command() -> None:
    """Make, list and remove projects: a resource pool with limits, a folder, and defaults.

    What a project is stands in a file (docs/formats.md). Other verbs take its name with --project.

    \b
    Examples:
      saltflat vsphere project create web
      saltflat vsphere import debian:12 --project web
    """


@command.command("create")
@click.argument("project")
@project_options
@format_option
@click.pass_obj
def create(output: Output, *, known: Project, settings: Settings, kept: KeptSessions | None) -> int:
    """Make PROJECT's resource pool and folder where they are not, and set the pool's limits.

    What is there already is left as it is, but for limits that the file says otherwise.

    \b
    Examples:
      saltflat vsphere project create web --projects ./projects.yaml
    """
    # pyvmomi, which most verbs can do without, comes with these.
    from converter.vsphere.connection import open_connection  # noqa: PLC0415 - as said
    from converter.vsphere.pools import create_project  # noqa: PLC0415 - as said

    warn_if_insecure(settings, output.monitor)
    with open_connection(settings, kept=kept) as connection:
        changed = create_project(connection, known)
    output.result("\n".join(changed), _document([known], changed))
    return 0


@command.command("rm")
@click.argument("project")
@project_options
@format_option
@click.pass_obj
def remove(output: Output, *, known: Project, settings: Settings, kept: KeptSessions | None) -> int:
    """Remove PROJECT's folder and resource pool, if nothing is in them. The file stays as it is.

    \b
    Examples:
      saltflat vsphere project rm web
    """
    # pyvmomi, which most verbs can do without, comes with these.
    from converter.vsphere.connection import open_connection  # noqa: PLC0415 - as said
    from converter.vsphere.pools import remove_project  # noqa: PLC0415 - as said

    warn_if_insecure(settings, output.monitor)
    with open_connection(settings, kept=kept) as connection:
        changed = remove_project(connection, known)
    output.result("\n".join(changed), _document([known], changed))
    return 0


@command.command("ls")
@click.option(
    "--projects",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="SALTFLAT_VSPHERE_PROJECTS",
    show_envvar=True,
    help="The file of projects; else $XDG_CONFIG_HOME/saltflat/projects.yaml.",
)
@format_option
@click.pass_obj
def list_projects(output: Output, *, projects: Path | None) -> int:
    """List the projects of the file. Asks no server.

    \b
    Examples:
      saltflat vsphere project ls --format json
    """
    from converter.vsphere.projects import read_projects  # noqa: PLC0415 - YAML comes with it

    found = [*read_projects(projects_file(projects)).values()]
    lines = []
    for project in found:
        wishes = project.wishes
        told = f"pool {wishes.resource_pool or '-'}, folder {wishes.folder or '-'}"
        if project.limits.cpu_mhz is not None:
            told += f", {project.limits.cpu_mhz} MHz"
        if project.limits.memory_bytes is not None:
            told += f", {project.limits.memory_bytes >> 20} MiB"
        lines.append(f"{printable(project.name):<20} {printable(told)}")
    output.result("\n".join(lines), _document(found, None))
    return 0


def _document(projects: list[Project], changed: list[str] | None) -> dict[str, Any]:
    listed = [
        {
            "name": one.name,
            "url": one.url,
            "defaults": {name: value for name, value in asdict(one.wishes).items() if value},
            "limits": asdict(one.limits),
        }
        for one in projects
    ]
    document: dict[str, Any] = {"schema": 1, "projects": listed}
    return document if changed is None else {**document, "changed": changed}
