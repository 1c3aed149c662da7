"""The command line: the only room that prints, renders progress or exits."""

from __future__ import annotations


def main() -> None:
    """Run the `saltflat` command."""
    from converter.cli.app import run_command_line  # noqa: PLC0415 - keeps `import converter` light

    run_command_line()
