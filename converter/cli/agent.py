"""The verbs `agent build` and `agent unit`: the agent for guests that somebody else makes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from converter.cli.options import format_option
from converter.cli.output import Output
from tinykernel import zipapp


@click.group("agent")
def command() -> None:
    """Make the agent alone, for guest images of your own. docs/agent.md says how to use it.

    \b
    Examples:
      saltflat agent build -o image/usr/local/lib/saltflat/tether.pyz
      saltflat agent unit > image/etc/systemd/system/tether.service
    """


@command.command("build")
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default="tether.pyz",
    show_default=True,
    help="The file to write.",
)
@format_option
@click.pass_obj
def build(output: Output, *, path: Path) -> int:
    """Write tether.pyz, which any Python from 3.8 on runs. The same version gives the same bytes.

    \b
    Examples:
      saltflat agent build
      saltflat agent build -o image/usr/local/lib/saltflat/tether.pyz
    """
    data = zipapp.make_zipapp()
    zipapp.write(path, data)
    digest = hashlib.sha256(data).hexdigest()
    document = {"schema": 1, "file": str(path), "size": len(data), "sha256": digest}
    output.result(f"{path}  {len(data)} bytes  sha256:{digest}", document)
    return 0


@command.command("unit")
@click.pass_obj
def unit(output: Output) -> int:
    """Print the systemd unit that starts it.

    \b
    Examples:
      saltflat agent unit > image/etc/systemd/system/tether.service
    """
    text = zipapp.systemd_unit()
    output.result(text.rstrip("\n"), {"schema": 1, "unit": text})
    return 0
