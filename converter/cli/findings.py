"""What a look found, shown: a table with remedies, the JSON of the same, and the exit code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from agent.host.status import printable
from converter.cli.output import Output
from converter.finding import Finding


def tell(output: Output, findings: Iterable[Finding], *, subject_columns: int) -> int:
    """Print all findings as the verb's result; return 1 if one of them stops a verb, else 0."""
    findings = list(findings)
    lines = []
    for finding in findings:
        subject = f"{finding.subject:<{subject_columns}}"
        lines.append(f"{finding.verdict:<8} {subject} {printable(finding.detail)}")
        if finding.remedy:
            lines.append(f"{'':<{9 + subject_columns}} -> {printable(finding.remedy)}")
    output.result(
        "\n".join(lines), {"schema": 1, "findings": [asdict(finding) for finding in findings]}
    )
    return int(any(finding.verdict.stops for finding in findings))
