"""The verb `doctor`: what is missing on this host."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from converter.cli.options import format_option, store_option
from converter.cli.output import Output
from converter.doctor import Verdict, examine


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
    findings = list(examine(store_root))
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict:<8} {finding.subject:<20} {finding.detail}")
        if finding.remedy:
            lines.append(f"{'':<29} -> {finding.remedy}")
    output.result(
        "\n".join(lines), {"schema": 1, "findings": [asdict(finding) for finding in findings]}
    )
    return int(any(finding.verdict is Verdict.MISSING for finding in findings))
