"""The verb `doctor`: what is missing on this host."""

from __future__ import annotations

from pathlib import Path

import click

from converter.cli.findings import tell
from converter.cli.options import format_option, store_option
from converter.cli.output import Output
from converter.doctor import examine


@click.command("doctor")
@store_option
@format_option
@click.pass_obj
def command(output: Output, *, store_root: Path) -> int:
    """Say what is missing on this host, and the command that mends it.

    The exit code is 1 if something is missing that a verb needs.

    \b
    Examples:
      saltflat doctor
      saltflat doctor --format json
    """
    return tell(output, examine(store_root), subject_columns=20)
