"""The verb `vsphere check`: can this vSphere be used, and may this user use it? And its group."""

from __future__ import annotations

import click

from converter.cli import vsphere_gc, vsphere_import, vsphere_project
from converter.cli.findings import tell
from converter.cli.options import format_option
from converter.cli.output import Output
from converter.cli.vsphere_options import vsphere_options, warn_if_insecure
from converter.vsphere.kept import KeptSessions
from converter.vsphere.settings import Settings


@click.group("vsphere")
def command() -> None:
    """Look whether a vCenter or ESXi is ready, bring images there, make projects, clean up.

    \b
    Examples:
      saltflat vsphere check --vsphere-url https://vcenter.example --vsphere-username me
      saltflat vsphere import debian:12 --vsphere-url https://vcenter.example --cluster prod
      saltflat vsphere project create web --projects ./projects.yaml
      saltflat run --on vsphere debian:12 uname -a
      saltflat vsphere gc --relays /var/lib/vspc
    """


command.add_command(vsphere_import.command)
command.add_command(vsphere_gc.command)
command.add_command(vsphere_project.command)


@command.command("check")
@vsphere_options
@format_option
@click.pass_obj
def check(output: Output, *, settings: Settings, kept: KeptSessions | None) -> int:
    """Test settings, login, privileges and places, and say what is missing.

    Changes nothing there. Logs in anew where a password is known, so that it is tested too. The
    exit code is 1 if something is missing that import or run needs, and that of the error if the
    server cannot be asked at all.

    \b
    Examples:
      SALTFLAT_VSPHERE_PASSWORD=... saltflat vsphere check --vsphere-username root \\
          --vsphere-url https://esxi.example --vsphere-thumbprint 7F:83:B1:65:...:90
      GOVC_URL=me@vcenter.example saltflat vsphere check --cluster prod --datastore ssd \\
          --vsphere-password-file ~/.vcenter --format json
    """
    # pyvmomi, which most verbs can do without, comes with these.
    from converter.vsphere.check import examine  # noqa: PLC0415 - as said
    from converter.vsphere.connection import open_connection  # noqa: PLC0415 - as said

    warn_if_insecure(settings, output.monitor)
    with open_connection(settings, kept=kept, fresh=settings.password is not None) as connection:
        findings = list(examine(connection))
    return tell(output, findings, subject_columns=25)
